"""What a log record says of an error: the facts, and what to do. Nothing personal, no text of a server."""

import re

from clocknext_core import AllowanceError, ClockNextError, NetworkError
from clocknext_core.signals import BODY_FIELDS

_REASON = r"[A-Z][A-Z0-9_]{0,63}"
"""What an `errorReason` of the API looks like; anything else may be some other text."""
_RESOURCE = r".*/api/v1/[a-z-]*"  # the last, where base_url has it too
"""The part of a path before ids, which may name a customer."""
_MOST_FIELDS = 5

_ADVICE = {
    202: "Look for the signal in ClockNext, and correct it there",
    400: "Correct the signal's fields",
    401: "Check api_key, or CLOCKNEXT_API_KEY: the service does not know this key",
    403: "Check the rights of the API key",
    404: "Check the customer's id, and that the key is of the workspace that the customer is in",
    413: "Make the signal smaller: its custom data, for example",
    422: "Check the customer's plan, the model (`clocknext models` lists them) and the key of the credit, "
    "outcome or unit",
}
"""What to do about a refusal, by status."""


def path_shown(error: ClockNextError) -> str | None:
    """Return the path of the request up to its resource; `None` where there was none, or it is another's."""
    found = None if error.request is None else re.match(_RESOURCE, error.request.path)
    return None if found is None else found[0]


def facts(error: ClockNextError) -> str:
    """Return the class, the status, the reason, the method and the path."""
    parts = [type(error).__name__]
    if error.status is not None:
        parts.append(f"status {error.status}")
    if error.reason is not None and re.fullmatch(_REASON, error.reason):
        parts.append(error.reason)
    if isinstance(error, NetworkError):
        parts.append(error.message.rstrip("."))
    if error.request is not None:
        parts.append(f"{error.request.method} {path_shown(error) or '…'}")
    return ", ".join(parts)


def advice(error: ClockNextError, told_by: str) -> str:
    """Return what to do about an error, in one or two sentences.

    Args:
        error: The error.
        told_by: What has the server's own words, such as `on_error has`.
    """
    words = f"{told_by} the server's own words."
    if error.hint is not None:
        return error.hint
    if isinstance(error, NetworkError):
        return "Check base_url, or CLOCKNEXT_BASE_URL, the network and the proxies."
    if error.retryable or error.status is None:
        return "If it lasts, look at the state of the service."
    if isinstance(error, AllowanceError):
        return f"The customer's balance or allowance is used up: top it up. {words}"
    known = [issue.field for issue in error.issues if issue.field in BODY_FIELDS]
    fields = f" ({', '.join(known[:_MOST_FIELDS])})" if known else ""
    return f"{_ADVICE.get(error.status, 'Look at the error')}{fields}. {words}"
