"""What an answer says about the service, as opposed to the signal it answers.

A signal must not pay for what is not its fault: while the service is down or busy, a held signal uses up none
of its attempts. So every answer is judged twice: `errors` says what it means for the request, this table
what it means for the host.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from clocknext_core.errors import ClockNextError


class Verdict(StrEnum):
    """What an answer says about the service."""

    WORKS = "works"
    """It read this request and decided: a delivery, a refusal, or a 409 (this key is being processed)."""
    BUSY = "busy"
    """It works, but not for this client now."""
    DOWN = "down"
    """It does not work, or can't be reached. This says nothing about the signal."""
    MISDIRECTED = "misdirected"
    """A router, proxy or firewall answered in its place. This says nothing about the signal."""
    UNCLEAR = "unclear"
    """It is broken, or broken for this signal alone: how other signals do shows which."""


VERDICTS: Mapping[int | None, Verdict] = {
    None: Verdict.DOWN,  # refused, reset, DNS, TLS, time-out, or not HTTP: no server spoke
    408: Verdict.DOWN,  # the request did not arrive in time
    429: Verdict.BUSY,
}
"""By status, for an answer of the API or of a proxy; `None` is no answer."""

API_VERDICTS: Mapping[int, Verdict] = {
    502: Verdict.DOWN,  # it reached no server
    503: Verdict.DOWN,
    504: Verdict.DOWN,
}
"""By status, where the API speaks. Other 5xx are `UNCLEAR`: a bug that one signal meets looks like an outage
that all meet. Anything else `WORKS`."""


DOUBTFUL_FROM: Final = 500
"""The status from which on an answer is a reason not to use its connection again.

Behind a balancer of connections all requests over one of them reach one server: where that is broken, the
next connection may lead to another.
"""


def judge(error: ClockNextError | None) -> Verdict:
    """Judge the service by the error of an attempt; `None`: the signal was delivered."""
    if error is None:
        return Verdict.WORKS
    status = error.status
    if (verdict := VERDICTS.get(status)) is not None:
        return verdict
    assert status is not None  # which is in the table
    if error.hint is not None:
        # A page under a 2xx, of a captive portal or of a server that is starting, is an outage in disguise.
        return Verdict.DOWN if 200 <= status <= 299 else Verdict.MISDIRECTED
    if (verdict := API_VERDICTS.get(status)) is not None:
        return verdict
    # 409 is retryable too, but it comes from a server that is processing the request.
    return Verdict.UNCLEAR if error.retryable and status != 409 else Verdict.WORKS
