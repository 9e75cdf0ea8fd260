"""What a client takes from its surroundings: settings and proxies from the environment, keys, randomness."""

import os
from ipaddress import ip_address

from clocknext_core import ClockNextError, Origin, ValidationError
from clocknext_core.config import DEFAULT_BASE_URL

API_KEY = "CLOCKNEXT_API_KEY"
BASE_URL = "CLOCKNEXT_BASE_URL"


def api_key_or_default(api_key: str | None) -> str:
    """Return the argument, else what `CLOCKNEXT_API_KEY` says.

    Raises:
        ValidationError: Neither is there.
    """
    found = os.environ.get(API_KEY, "") if api_key is None else api_key
    if not found and api_key is None:
        raise ValidationError(f"api_key: is required: give api_key, or set {API_KEY} in the environment")
    return found


def base_url_or_default(base_url: str | None) -> str:
    """Return the argument, else what `CLOCKNEXT_BASE_URL` says, else the service's own address."""
    return os.environ.get(BASE_URL) or DEFAULT_BASE_URL if base_url is None else base_url


def new_key() -> str:
    """Make an idempotency key: 128 random bits from the system, which a fork does not repeat."""
    return os.urandom(16).hex()


def proxy_for(origin: Origin) -> str | None:
    """Return the proxy the environment names for an origin, or `None`.

    `HTTPS_PROXY` (or `HTTP_PROXY`) and `ALL_PROXY` name it, in either case; hosts in `NO_PROXY` are
    reached directly. Loopback addresses are no exception: the environment can make them one.
    """
    # Under CGI, HTTP_PROXY may come from a request's Proxy header: there only the lower-case name counts.
    upper = (
        ()
        if origin.scheme == "http" and "REQUEST_METHOD" in os.environ
        else (f"{origin.scheme}_PROXY".upper(),)
    )
    names = (f"{origin.scheme}_proxy", *upper, "all_proxy", "ALL_PROXY")
    proxy = next((value for name in names if (value := os.environ.get(name))), None)
    if proxy is None or _is_exempt(origin):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def httpx_is_missing() -> ClockNextError:
    """Make the error for a proxy that can't be used because httpx is not installed."""
    return ClockNextError(
        "The environment names a proxy for this host, and connecting around it would be wrong. "
        "Proxies need httpx: pip install 'clocknext[httpx]', or name the host in NO_PROXY."
    )


def _is_exempt(origin: Origin) -> bool:
    entries = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    return any(_matches(entry.strip().lower(), origin) for entry in entries.split(",") if entry.strip())


def _matches(entry: str, origin: Origin) -> bool:
    host = origin.host.lower()
    if entry == "*":
        return True
    name, colon, port = entry.rpartition(":")
    if colon and _is_port(port) and (name.count(":") == 0 or name.startswith("[")):
        if int(port) != origin.port:
            return False
        entry = name
    entry = entry.strip("[]").removeprefix("*").removeprefix(".")
    return host == entry or (host.endswith(f".{entry}") and not _is_address(host))


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
