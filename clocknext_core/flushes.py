"""Flushes: what each one waits for, when it gives up, and what it reports.

A flush keeps no list of signals: only the last sequence number it covers and how many of these signals are
still held. So the work per signal does not grow with the number of signals held, only with the number of
flushes that wait at the same time.

With a spool a flush also covers what dead processes left there. It waits for the look into the spool that
begins after it, and for the signals which that look and its successors adopt, but no longer than its deadline
or, if it has none, the patience (`Config.patience`): however large the backlog is, no flush ends late.
"""

import math
from collections import deque
from dataclasses import dataclass

from clocknext_core.outputs import FailedSignal, FlushReport, Ticket
from clocknext_core.states import Entry


@dataclass(slots=True, eq=False, repr=False)
class Tally:
    """Ended signals that no report has covered yet."""

    failed: deque[FailedSignal]
    delivered: int = 0
    adopted: int = 0
    """Of those delivered, how many were adopted."""

    def add(self, failed: FailedSignal | None, *, is_adopted: bool) -> None:
        """Count an ended signal; `failed` is `None` if it was delivered."""
        if failed is not None:
            self.failed.append(failed)
        else:
            self.delivered += 1
            self.adopted += is_adopted


@dataclass(slots=True, eq=False, repr=False)
class Flush:
    """One waiting flush."""

    ticket: Ticket
    closes: bool
    last_sequence: int
    """The last of this process's own signals that it covers."""
    own: int
    """How many of these are still held."""
    adopted: int
    """How many adopted signals it covers that are still held."""
    look: int | None
    """The number of the look into the spool that it waits for; `None`: it waits for none any more."""
    tally: Tally
    began_at: float
    deadline_at: float | None
    adopts_until: float
    """How long it waits for adopted signals."""
    last_adopted: float = math.inf
    """The last adopted signal that it covers; infinite until its look has ended."""
    is_past_adoption: bool = False
    """Whether it waits for adopted signals no longer."""

    def covers(self, entry: Entry) -> bool:
        """Return whether a held signal counts in it."""
        return entry.sequence <= (self.last_adopted if entry.is_adopted else self.last_sequence)

    @property
    def waits_for_adoption(self) -> bool:
        """Whether it waits for the look, or for signals that were adopted."""
        return not self.is_past_adoption and (self.look is not None or self.adopted > 0)

    def report(self, left_behind: int) -> FlushReport:
        """Make the report, as things are now."""
        tally = self.tally
        pending = self.own + self.adopted
        return FlushReport(tally.delivered, list(tally.failed), pending, tally.adopted, left_behind)


class Flushes:
    """The flushes that wait, and the tally of what ended since the last report.

    Args:
        patience: Seconds that a flush without a deadline waits in an outage.
        memory: How many failures are kept for a report. Clients that never flush must not grow a list; the
            hooks run for every failure.
    """

    def __init__(self, patience: float, memory: int) -> None:
        self._patience = patience
        self._memory = memory
        self.waiting: list[Flush] = []
        """In the order they began."""
        self._unreported = self._new_tally()

    def _new_tally(self) -> Tally:
        return Tally(deque(maxlen=self._memory))

    def begin(
        self,
        ticket: Ticket,
        *,
        closes: bool,
        last_sequence: int,
        own: int,
        adopted: int,
        look: int | None,
        now: float,
        deadline_at: float | None,
    ) -> None:
        """Begin to wait for everything that is held."""
        tally, self._unreported = self._unreported, self._new_tally()
        if self.waiting:
            # An earlier flush still waits and has not reported its signals: this one covers them too.
            earlier = self.waiting[-1].tally
            tally.delivered += earlier.delivered
            tally.adopted += earlier.adopted
            tally.failed = deque([*earlier.failed, *tally.failed], tally.failed.maxlen)
        adopts_until = now + self._patience if deadline_at is None else deadline_at
        flush = Flush(
            ticket, closes, last_sequence, own, adopted, look, tally, now, deadline_at, adopts_until
        )
        if look is None:
            flush.last_adopted = last_sequence
        self.waiting.append(flush)

    def hold(self, entry: Entry) -> None:
        """Count a signal that is held from now on."""
        is_closing = False
        for flush in self.waiting:
            is_closing |= flush.closes
            if entry.is_adopted:
                flush.adopted += flush.covers(entry)
            elif is_closing:  # it was on its way into the spool when the close began
                flush.own += 1
                flush.last_sequence = entry.sequence

    def end(self, entry: Entry, failed: FailedSignal | None) -> None:
        """Count a signal that is held no longer, in every flush that covers it."""
        is_counted = False
        for flush in self.waiting:
            if flush.covers(entry):
                is_counted = True
                if entry.is_adopted:
                    flush.adopted -= 1
                else:
                    flush.own -= 1
                flush.tally.add(failed, is_adopted=entry.is_adopted)
        if not is_counted:
            self._unreported.add(failed, is_adopted=entry.is_adopted)

    def release(self, entry: Entry) -> None:
        """Take an adopted signal out of every flush that covers it: other processes send it."""
        for flush in self.waiting:
            flush.adopted -= flush.covers(entry)

    def refuse(self, failed: FailedSignal) -> None:
        """Count a signal that was dropped without having been held."""
        self._unreported.failed.append(failed)

    @property
    def wait_for_looks(self) -> bool:
        """Whether any waits for a look into the spool."""
        return any(flush.look is not None for flush in self.waiting)

    def end_looks(self, number: int, last_sequence: int) -> None:
        """Take note that every look up to `number` has ended: there is nothing left to adopt."""
        for flush in self.waiting:
            if flush.look is not None and flush.look <= number:
                flush.look = None
                flush.last_adopted = last_sequence

    # The end of a flush

    def first_finished(self, *, is_storing: bool) -> Flush | None:
        """Return a flush that waits for nothing any more.

        Args:
            is_storing: Whether signals are on their way into the spool: a close waits for these.
        """
        for flush in self.waiting:
            if not flush.own and not flush.waits_for_adoption and not (flush.closes and is_storing):
                return flush
        return None

    def first_overdue(self, served_at: float, now: float) -> Flush | None:
        """Return a flush that has waited for long enough.

        Args:
            served_at: When the service last delivered or refused a signal.
            now: The time.
        """
        for flush in self.waiting:
            if self._gives_up_at(flush, served_at) <= now:
                return flush
            if flush.adopts_until <= now:
                flush.is_past_adoption = True
        return None

    def settle(self, flush: Flush, left_behind: int) -> FlushReport:
        """End a flush and return its report."""
        self.waiting.remove(flush)
        return flush.report(left_behind)

    def wakes_at(self, served_at: float) -> float:
        """Return when the next flush gives up, on all or on adopted signals; infinite if none waits."""
        wake_at = math.inf
        for flush in self.waiting:
            wake_at = min(wake_at, self._gives_up_at(flush, served_at))
            if flush.waits_for_adoption:
                wake_at = min(wake_at, flush.adopts_until)
        return wake_at

    def _gives_up_at(self, flush: Flush, served_at: float) -> float:
        if flush.deadline_at is not None:
            return flush.deadline_at
        return max(flush.began_at, served_at) + self._patience
