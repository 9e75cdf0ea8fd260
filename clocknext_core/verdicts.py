"""What an answer says of the service, as opposed to the signal it answers.

A signal must not pay for what is not its fault: while the service is down or busy, a held signal uses up none
of its attempts. So every answer is judged twice: `errors` says what it means for the request, this table
what it means for the host.
"""

from collections.abc import Mapping
from enum import StrEnum

from clocknext_core.errors import ClockNextError


class Verdict(StrEnum):
    """What an answer says of the service."""

    WORKS = "works"
    """It read this request and decided on it: a delivery, a refusal, or a 409 (it has the key in work)."""
    BUSY = "busy"
    """It works, but not for this client now."""
    DOWN = "down"
    """It, or the way to it, does not work. Nothing is said of the signal."""
    UNCLEAR = "unclear"
    """It, or what it makes of this one signal, is broken. What other signals meet tells which."""


VERDICTS: Mapping[int | None, Verdict] = {
    None: Verdict.DOWN,  # refused, reset, DNS, TLS, time-out, or not HTTP: no server spoke
    408: Verdict.DOWN,  # the request did not arrive in time
    429: Verdict.BUSY,
    502: Verdict.DOWN,  # a proxy speaks, and reached no server
    503: Verdict.DOWN,
    504: Verdict.DOWN,
}
"""By status; `None` is no answer. Other 5xx, and a 2xx that is not the API's, are `UNCLEAR`: a bug that one
signal meets looks like an outage that all meet. Anything else `WORKS`."""


def judge(error: ClockNextError | None) -> Verdict:
    """Judge the service by what an attempt came to; `None`: a delivery."""
    if error is None:
        return Verdict.WORKS
    verdict = VERDICTS.get(error.status)
    if verdict is not None:
        return verdict
    # 409 is retryable too, but it comes from a server that has the request in work.
    return Verdict.UNCLEAR if error.retryable and error.status != 409 else Verdict.WORKS
