"""A signal as one line of a terminal: the twin of the page's ledger."""

from datetime import UTC, datetime

from clocknext_core.text import printable, shortened
from clocknext_transports.emulator.page.entries import Attempt, Entry, count_of, text_of

_WIDTH = 24
_MESSAGE = 120


def line_of(entry: Entry, attempt: Attempt) -> str:
    """Return an attempt of a signal as one printable line: when, how it ended, what it was, and its price."""
    body, booked = entry.body, entry.booked
    at = datetime.fromtimestamp(attempt.record.at, UTC).strftime("%H:%M:%S")
    tokens = "/".join(
        str(count_of(body.get(name))) for name in ("inputTokens", "outputTokens", "cacheTokens")
    )
    what = [
        body.get("customerId"),
        body.get("type"),
        body.get("model"),
        body.get("agentKey") or body.get("key"),
    ]
    parts = [at, f"{attempt.state:<8}", *(_shown(value) for value in what if value is not None), tokens]
    if attempt.state == "billed" and booked is not None:
        parts.append(f"{booked.customer_cost.normalize():f} USD")
    elif attempt.state == "repeat":
        parts.append("billed before, not again")
    else:
        parts.append(shortened(printable(attempt.message), _MESSAGE))
    return "  ".join(parts)


def _shown(value: object) -> str:
    return shortened(printable(text_of(value) or ""), _WIDTH)
