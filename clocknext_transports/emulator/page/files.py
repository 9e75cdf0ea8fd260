"""The page's own files, and the headers that keep everything else out of it."""

from functools import cache
from importlib.resources import files

from clocknext_core.messages import Response
from clocknext_transports.emulator.books.envelopes import plain_response

_TYPES = {
    "index.html": "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    ("content-security-policy", _POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cache-control", "no-cache"),
)


def page_file(name: str, *, now: float) -> Response | None:
    """Return a file of the page, `""` being the page itself; `None`: there is none of this name."""
    name = name or "index.html"
    kind = _TYPES.get(name)
    if kind is None:
        return None
    return plain_response(200, kind, _content(name), now=now, headers=_HEADERS)


@cache
def _content(name: str) -> bytes:
    return (files("clocknext_transports.emulator.page") / "static" / name).read_bytes()
