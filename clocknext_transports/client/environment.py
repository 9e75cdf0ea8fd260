"""What a client takes from its surroundings: key, address and proxy from the environment, and randomness."""

import logging
import os
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit

from clocknext_core import ClockNextError, Origin, ValidationError
from clocknext_core.checks import shown
from clocknext_core.config import DEFAULT_BASE_URL, is_loopback
from clocknext_core.errors import invalid
from clocknext_transports.process.log import logger

API_KEY = "CLOCKNEXT_API_KEY"
BASE_URL = "CLOCKNEXT_BASE_URL"
DISABLED = "CLOCKNEXT_DISABLED"
ALLOW_INSECURE_HTTP = "CLOCKNEXT_ALLOW_INSECURE_HTTP"
LOG = "CLOCKNEXT_LOG"
NO_KEY = "cnk_disabled"
"""Takes the place of the API key of a client that is disabled and has none."""

_FLAGS = {
    "": False,
    **dict.fromkeys(("0", "false", "no", "off"), False),
    **dict.fromkeys(("1", "true", "yes", "on"), True),
}
_LOG_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_AROUND = "must not begin or end with a quote, a blank or a line end"


def flag(variable: str) -> bool:
    """Return whether a variable is set to 1, true, yes or on.

    Raises:
        ValidationError: It has another value than those and 0, false, no, off and nothing.
    """
    value = os.environ.get(variable, "")
    if value.lower() not in _FLAGS:
        raise invalid(
            variable,
            "must be 1, true, yes or on, or else 0, false, no or off, in the environment, not "
            f"{shown(value)}",
        )
    return _FLAGS[value.lower()]


def log_level() -> int | None:
    """Return the level of `logging` that `CLOCKNEXT_LOG` names; `None` where it names none.

    Another word is reported in the log, once, and is no error: no application should end over its log.
    """
    value = os.environ.get(LOG, "")
    return _level_of(value) if value else None


@cache
def _level_of(word: str) -> int | None:
    level = _LOG_LEVELS.get(word.lower())
    if level is None:
        problem = "is ignored: it must be debug, info, warning or error, not"
        logger.warning("%s: %s %s", LOG, problem, shown(word))
    return level


def api_key_or_default(api_key: str | None, *, disabled: bool = False) -> str:
    """Return the argument, or the value of `CLOCKNEXT_API_KEY` where it is `None`.

    A client that is disabled needs none.

    Raises:
        ValidationError: There is neither, or there are quotes, blanks or line ends around it.
    """
    found = _bare(API_KEY) if api_key is None else api_key
    if _is_wrapped(found):
        raise invalid("api_key", _AROUND)
    if not found and disabled:
        return NO_KEY
    if not found and api_key is None:
        raise ValidationError(
            f"api_key: is required: give api_key, or set {API_KEY} in the environment. To run without one, "
            f"set {DISABLED}=1: nothing is sent then."
        )
    return found


def base_url_or_default(base_url: str | None) -> str:
    """Return the argument, or the value of `CLOCKNEXT_BASE_URL`, or the service's own address.

    Raises:
        ValidationError: The variable has quotes, blanks or line ends around its value.
    """
    return _bare(BASE_URL) or DEFAULT_BASE_URL if base_url is None else base_url


def _bare(variable: str) -> str:
    """Return the value of a variable, without quotes, blanks or line ends around it."""
    value = os.environ.get(variable, "")
    if _is_wrapped(value):
        raise invalid(
            variable,
            f"{_AROUND} in the environment: Docker's --env-file keeps quotes, and a secret read from a file "
            "its line end",
        )
    return value


def _is_wrapped(value: object) -> bool:
    return isinstance(value, str) and value != value.strip().strip("'\"")


@contextmanager
def named(**given: object) -> Generator[None, None, None]:
    """Name a variable in place of an argument, in an error over a value that was taken from it.

    Args:
        given: The arguments `api_key` and `base_url`, as they were given.
    """
    try:
        yield
    except ValidationError as error:
        argument, _, problem = error.message.partition(": ")
        variable = {"api_key": API_KEY, "base_url": BASE_URL}.get(argument)
        if variable is None or given[argument] is not None or not os.environ.get(variable):
            raise
        raise invalid(variable, problem) from None


def new_key() -> str:
    """Return a new idempotency key: 128 random bits from the system, so that a forked child makes others."""
    return os.urandom(16).hex()


def proxy_for(origin: Origin) -> str | None:
    """Return the URL of the proxy that the environment names for an origin, or `None`.

    `HTTPS_PROXY` (or `HTTP_PROXY`) and `ALL_PROXY` name it. The lower-case name wins, also with an empty
    value, which switches the upper-case one off. Hosts in `NO_PROXY` (names, domains, addresses and networks,
    each with a port if need be) are reached directly, and so is plain http to a loopback address: it would
    hand the API key over to the proxy in the clear.

    Raises:
        ClockNextError: The value can't be used as a proxy; the message names the variable, and does not show
            the value, which may hold a password.
    """
    if origin.scheme == "http" and is_loopback(origin.host):
        return None
    for name in (f"{origin.scheme}_proxy", "all_proxy"):
        # Under CGI, HTTP_PROXY may come from a request's Proxy header: there only the lower-case name counts.
        is_forgeable = name == "http_proxy" and "REQUEST_METHOD" in os.environ
        variable = name if name in os.environ or is_forgeable else name.upper()
        if value := os.environ.get(variable):
            return None if _is_exempt(origin) else _checked(variable, value)
    return None


def httpx_is_missing() -> ClockNextError:
    """Return the error for a proxy that can't be used because neither httpx nor httpx2 is installed."""
    return ClockNextError(
        "The environment names a proxy for this host, and connecting around it would be wrong. "
        "Proxies need httpx or httpx2: pip install 'clocknext[httpx]' or 'clocknext[httpx2]', or name "
        "the host in NO_PROXY."
    )


_LONGEST_PROXY: Final = 4096
"""Most characters of a proxy's URL: httpx refuses a part of 65,536."""


def _checked(variable: str, value: str) -> str:
    """Return the value as the URL of a proxy; without a scheme it is `http`."""

    def unusable(problem: str) -> ClockNextError:
        return ClockNextError(
            f"The environment variable {variable} can't be used as a proxy: {problem}. Correct it, or name "
            "the host in NO_PROXY."
        )

    if len(value) > _LONGEST_PROXY:
        raise unusable("it is too long")
    if not value.isascii() or not value.isprintable() or any(character in " \"'<>\\" for character in value):
        raise unusable("it holds blanks, quotes or other characters that no URL may hold")
    url = value if "://" in value else f"http://{value}"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        if "[" in parts.netloc:
            ip_address(host or "")  # brackets are for IPv6; httpx takes nothing else in them
    except ValueError:
        raise unusable("it is not a URL") from None
    if parts.scheme not in ("http", "https", "socks5", "socks5h"):
        raise unusable(f"its scheme must be http, https, socks5 or socks5h, not {parts.scheme!r}")
    if not host or port == 0 or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise unusable("it must be scheme://host:port, with user:password@ before the host if need be")
    if parts.scheme.startswith("socks5") and find_spec("socksio") is None:
        raise unusable("SOCKS needs socksio: pip install 'httpx[socks]' or 'httpx2[socks]'")
    return url


def _is_exempt(origin: Origin) -> bool:
    entries = os.environ.get("no_proxy", os.environ.get("NO_PROXY", ""))
    return any(_matches(entry.strip().lower(), origin) for entry in entries.split(",") if entry.strip())


def _matches(entry: str, origin: Origin) -> bool:
    host = origin.server_name.lower()
    address = _address(host)
    if entry == "*":
        return True
    if "/" in entry:
        return address is not None and _is_in(address, entry)
    name, colon, port = entry.rpartition(":")
    if colon and _is_port(port) and (name.count(":") == 0 or name.startswith("[")):
        if int(port) != origin.port:
            return False
        entry = name
    entry = entry.strip("[]").removeprefix("*").removeprefix(".").removesuffix(".")
    return host == entry or (host.endswith(f".{entry}") and address is None)


def _is_in(address: IPv4Address | IPv6Address, network: str) -> bool:
    try:
        return address in ip_network(network, strict=False)
    except ValueError:
        return False


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None
