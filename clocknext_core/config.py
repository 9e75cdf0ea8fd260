"""Configuration: checked once, when the client is made, and never changed afterwards."""

import re
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import ip_address
from typing import Literal, TypeAlias, get_args
from urllib.parse import urlsplit

from clocknext_core.checks import check_bool, check_choice, check_instance, check_int, check_seconds
from clocknext_core.errors import invalid
from clocknext_core.messages import Header, Origin

__version__ = "0.1.0"

DEFAULT_BASE_URL = "https://app.clocknext.com"
USER_AGENT = f"clocknext-sdk-python/{__version__}"
REDACTED = "cnk_[redacted]"
"""What stands in every text where the API key would have stood."""

Mode: TypeAlias = Literal["async", "sync"]
Overflow: TypeAlias = Literal["drop_newest", "drop_oldest", "block", "raise"]
Outage: TypeAlias = Literal["hold", "drop"]

_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*\.?", re.IGNORECASE)
_IPV6 = re.compile(r"[0-9a-f:.]+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """When buffered signals are sent, how many at a time, and how many may wait.

    There is no batch endpoint: a batch says when to wake up; each signal is a request of its own.

    Raises:
        ValidationError: A value is out of range; it names the field.
    """

    max_size: int = 20
    """Sending starts when this many signals are buffered."""
    max_interval: float = 2.0
    """Sending starts this many seconds after the first signal was buffered, at the latest."""
    max_concurrency: int = 5
    """Most attempts in flight at once."""
    max_queue_size: int = 10_000
    """Most signals held (buffered, in flight or waiting for their back-off) at once."""
    overflow: Overflow = "drop_newest"
    """What happens to a signal that comes when the queue is full: it is dropped (`drop_newest`), the oldest
    one never attempted makes room for it (`drop_oldest`), its call waits for room (`block`), or its call
    raises `QueueFullError` (`raise`). Every drop is reported as `queue_full`."""
    block_timeout: float = 10.0
    """Under `block`: how long a call waits for room, in seconds, before its signal is dropped after all."""
    max_queue_bytes: int = 64 * 1024 * 1024
    """Most bytes that the bodies of the signals held may have together."""
    outage: Outage = "hold"
    """What happens to a signal whose attempts fail because the service does (no answer, 408, 429, 5xx): it is
    held until the service is back (`hold`), or given up after `max_attempts` as any other (`drop`)."""

    def __post_init__(self) -> None:
        check_int("max_size", self.max_size, least=1)
        check_seconds("max_interval", self.max_interval)
        check_int("max_concurrency", self.max_concurrency, least=1)
        check_int("max_queue_size", self.max_queue_size, least=1)
        check_int("max_queue_bytes", self.max_queue_bytes, least=1)
        check_choice("overflow", self.overflow, get_args(Overflow))
        check_seconds("block_timeout", self.block_timeout)
        check_choice("outage", self.outage, get_args(Outage))


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how soon a failed attempt is repeated; see `backoff.backoff_delay`.

    Raises:
        ValidationError: A value is out of range; it names the field.
    """

    max_attempts: int = 5
    """Most attempts of one request, the first included. For a buffered signal only those count that fail
    while the service works; see `BatchPolicy.outage`."""
    base_delay: float = 0.2
    """Ceiling of the wait after the first failure, seconds; it doubles with each further one."""
    max_delay: float = 10.0
    """Ceiling of our own wait, seconds. A server's Retry-After is honoured beyond it."""

    def __post_init__(self) -> None:
        check_int("max_attempts", self.max_attempts, least=1)
        check_seconds("base_delay", self.base_delay)
        check_seconds("max_delay", self.max_delay)


@dataclass(frozen=True)
class Config:
    """Everything a client was told, checked.

    Raises:
        ValidationError: A value is out of range or of the wrong type; it names the argument, and never
            shows the key.
    """

    api_key: str = field(repr=False)
    base_url: str = DEFAULT_BASE_URL
    mode: Mode = "async"
    timeout: float = 10.0
    """Seconds for one whole attempt: connect, TLS, send, and the last byte of the answer."""
    batch: BatchPolicy = field(default_factory=BatchPolicy)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    allow_insecure_http: bool = False
    """Allow plain http to other hosts than this one. The key then crosses the network in the clear."""
    spool_window: float | None = None
    """Where buffered signals are stored before they are accepted: for how many seconds after that they may be
    sent. `None`: they are held in memory alone."""

    def __post_init__(self) -> None:
        _check_api_key(self.api_key)
        check_choice("mode", self.mode, get_args(Mode))
        check_seconds("timeout", self.timeout, positive=True)
        check_instance("batch", self.batch, BatchPolicy)
        check_instance("retry", self.retry, RetryPolicy)
        check_bool("allow_insecure_http", self.allow_insecure_http)
        if self.spool_window is not None:
            check_seconds("spool_window", self.spool_window, positive=True)
        _ = self._parsed  # a bad URL is an error now, not at the first request

    @property
    def origin(self) -> Origin:
        """Where requests go."""
        return self._parsed[0]

    @property
    def path_prefix(self) -> str:
        """The base URL's path without a trailing slash: `""`, or such as `/billing`."""
        return self._parsed[1]

    @cached_property
    def _parsed(self) -> tuple[Origin, str]:
        return _parse_base_url(self.base_url, allow_insecure_http=self.allow_insecure_http)

    @cached_property
    def headers(self) -> tuple[Header, ...]:
        """Headers of every request. Compressed answers are not asked for: they could be bombs."""
        return (
            ("Authorization", f"Bearer {self.api_key}"),
            ("Accept", "application/json"),
            ("Accept-Encoding", "identity"),
            ("User-Agent", USER_AGENT),
        )

    @cached_property
    def json_headers(self) -> tuple[Header, ...]:
        """Headers of a request with a body: the server answers 415 without the content type."""
        return (*self.headers, ("Content-Type", "application/json"))

    @property
    def patience(self) -> float:
        """Longest wait, in seconds, that a caller sits through who named none.

        For an awaited call: a server's Retry-After. For a flush or close: an outage. It is what a call
        might take by its own policy, all attempts timing out, with the longest back-off after each. A
        caller who would wait for longer than that is better served by an answer.
        """
        return self.retry.max_attempts * (self.timeout + self.retry.max_delay)

    def redact(self, text: str) -> str:
        """Return `text` without the API key, which a server or proxy may have echoed."""
        return self.key_pattern.sub(REDACTED, text)

    @cached_property
    def key_pattern(self) -> re.Pattern[str]:
        """How the API key may be spelt in a text: as it is, or escaped as in JSON or a URL, however often."""
        return re.compile("".join(map(_spellings, self.api_key)))


def _spellings(character: str) -> str:
    """Make the pattern for a character of the API key: as it is, or escaped, also more than once."""
    if character.isalnum():
        return character
    code = f"{ord(character):x}"
    digits = f"{code[0]}[{code[1]}{code[1].upper()}]"
    return rf"(?:\\*{re.escape(character)}|\\+u00{digits}|%(?:25)*{digits})"


def _check_api_key(value: object) -> None:
    if not isinstance(value, str):
        raise invalid("api_key", f"must be a string, not {type(value).__name__}")
    if not value:
        raise invalid("api_key", "must not be empty")
    if not all("!" <= character <= "~" for character in value):
        raise invalid("api_key", "must consist of visible ASCII characters, without spaces or line ends")


def _parse_base_url(value: object, *, allow_insecure_http: bool) -> tuple[Origin, str]:
    if not isinstance(value, str):
        raise invalid("base_url", f"must be a string, not {type(value).__name__}")
    try:
        parts = urlsplit(value)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise invalid("base_url", f"is not a URL: {error}") from None
    if parts.scheme not in ("https", "http") or not host:
        raise invalid("base_url", "must be an absolute https:// URL")
    if port == 0:
        raise invalid("base_url", "must not have port 0")
    if "@" in parts.netloc:
        raise invalid("base_url", "must not hold a user name or password")
    if parts.query or parts.fragment or value.endswith(("?", "#")):
        raise invalid("base_url", "must not have a query or fragment")
    if not all("!" <= character <= "~" for character in parts.path):
        raise invalid("base_url", "must have its path percent-encoded")
    host = _ascii_host(host)
    if parts.scheme == "http":
        if not allow_insecure_http and not _is_loopback(host):
            raise invalid(
                "base_url",
                "must use https: plain http would send the API key in the clear "
                "(it is allowed to loopback addresses, elsewhere with allow_insecure_http=True)",
            )
        return Origin("http", host, 80 if port is None else port), parts.path.rstrip("/")
    return Origin("https", host, 443 if port is None else port), parts.path.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _ascii_host(host: str) -> str:
    if ":" in host:
        if not _IPV6.fullmatch(host):
            raise invalid("base_url", "has no valid IPv6 address")
        return host
    try:
        ascii_host = host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError:
        raise invalid("base_url", "has no valid host name") from None
    if not _HOST_NAME.fullmatch(ascii_host):
        raise invalid("base_url", "has no valid host name")
    return ascii_host
