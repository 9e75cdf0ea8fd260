"""Whether one signal's failures can be chance, by how the attempts of other signals did meanwhile.

A 502, a reset, a time-out or a firewall's page says nothing about the signal that meets it: it looks like an
outage. One that meets nothing else while others are delivered is a poison signal, and must end, or a flush
waits for ever. Others' attempts tell the two apart.

The question is: if all attempts since the signal's first failure had been equally likely to fail, how likely
is it that all `k` of its own are among the failures? With `m` failures among the `n` attempts of others:

    (m+1)/(n+1) · (m+2)/(n+2) · … · (m+k)/(n+k)

(Fisher's exact test). It is close to f^k, f being the share of others that failed, but does not take a few
lucky attempts of others for a proof: three of three say no more than that f may be small.

It is asked twice: of all attempts, and of the first attempts of others alone. Poison signals are asked again
and again, so that several of them are a large share of all attempts, and would excuse each other; of first
attempts each signal has one.

Two things would make failures that are chance look like proof, since attempts do not fail independently of
each other. Of a signal's failures only those count between which another signal was served: in bad times it
is asked again and again, which says nothing. And every outage begins the count anew, since few attempts are
made in one, so that the good times around it would outweigh it. What confirms an outage is a probe that fails
at its first attempt: one that has failed before may be a poison signal itself.
"""

from dataclasses import dataclass
from typing import NamedTuple

CHANCE = 1e-6
"""Failures less likely than this are not put down to chance."""


class Tally(NamedTuple):
    """Attempts that were counted."""

    attempts: int = 0
    failures: int = 0

    def add(self, *, failed: bool) -> "Tally":
        """Return it with one more."""
        return Tally(self.attempts + 1, self.failures + failed)


@dataclass(slots=True, eq=False, repr=False)
class Suspect:
    """A signal that has failed, and what had happened by then."""

    outages: int
    """Confirmations of outages by then."""
    all: Tally
    """Attempts of all signals by then, this one included."""
    first: Tally
    """First attempts of all signals by then."""
    count: int = 1
    """Its failures that count."""
    own: int = 0
    """Its failures since the first one."""
    served: int = 0
    """How many attempts had been served when it failed last."""


class Evidence:
    """What the attempts of all signals have shown, and what that says of one of them."""

    def __init__(self) -> None:
        self._all = self._first = Tally()

    def serve(self, *, attempts: int) -> None:
        """Take note of an attempt that showed the service working.

        Args:
            attempts: How many the signal has had, this one included.
        """
        self._add(failed=False, is_first=attempts == 1)

    def fail(self, suspect: Suspect | None, *, attempts: int, outages: int) -> Suspect:
        """Take note of an attempt that failed.

        Args:
            suspect: What this returned for the signal's last failure; `None`: it is the first one.
            attempts: How many the signal has had, this one included.
            outages: How often an outage was confirmed so far.
        """
        self._add(failed=True, is_first=attempts == 1)
        served = self._all.attempts - self._all.failures
        if suspect is None or suspect.outages != outages:
            return Suspect(outages, self._all, self._first, served=served)
        suspect.own += 1
        suspect.count += suspect.served < served
        suspect.served = served
        return suspect

    def is_conclusive(self, suspect: Suspect, *, more: int = 0) -> bool:
        """Return whether chance can't explain that the signal failed each time.

        Args:
            suspect: The signal.
            more: So many more failures of it are assumed.
        """
        count = suspect.count + more
        return _is_proof(count, suspect.all, self._all, own=suspect.own) or _is_proof(
            count, suspect.first, self._first
        )

    def _add(self, *, failed: bool, is_first: bool) -> None:
        self._all = self._all.add(failed=failed)
        if is_first:
            self._first = self._first.add(failed=failed)


def _is_proof(count: int, before: Tally, now: Tally, own: int = 0) -> bool:
    """Return whether so many failures are no chance, by what was counted meanwhile without `own` failures."""
    others = now.attempts - before.attempts - own
    failed = now.failures - before.failures - own
    chance = 1.0
    for number in range(1, count + 1):
        chance *= (failed + number) / (others + number)
    return chance < CHANCE
