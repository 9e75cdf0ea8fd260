"""Configuration: checked when the client is made, and never changed afterwards."""

import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import IPv6Address, ip_address
from typing import Literal, TypeAlias, get_args
from urllib.parse import quote, urlsplit

from clocknext_core.checks import check_bool, check_choice, check_instance, check_int, check_seconds, shown
from clocknext_core.concurrency import MOST
from clocknext_core.errors import invalid
from clocknext_core.messages import Header, Origin
from clocknext_core.values import Value

__version__ = "0.1.0"

DEFAULT_BASE_URL = "https://app.clocknext.com"
USER_AGENT = f"clocknext-sdk-python/{__version__}"
REDACTED = "cnk_[redacted]"
"""What replaces the API key in every text."""

Mode: TypeAlias = Literal["async", "sync"]
Overflow: TypeAlias = Literal["drop_newest", "drop_oldest", "block", "raise"]
Outage: TypeAlias = Literal["hold", "drop"]

# Compiled when they are first used: most programs have the default URL, or need few of them.
_LABEL = r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)"
_IPV6 = r"[0-9A-Fa-f:.]+"
_BRACKETED = r"\[[^]]*:[^]]*](:[0-9]*)?"
_NUMBER = r"[0-9]+|0[Xx][0-9A-Fa-f]*"
_PATH = r"(?:[!-$&-\[\]-~]|%[0-9A-Fa-f]{2})*"
_DOTS = r"/(?:\.|%2[Ee]){1,2}(?:/|$)"
"""A segment that browsers, and some transports, resolve."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class BatchPolicy(Value):
    """When buffered signals are sent, how many at a time, and how many may wait.

    There is no batch endpoint: a batch says when to wake up; each signal is a request of its own.

    Args:
        max_size: Sending starts when this many signals are buffered. Default: 20.
        max_interval: Sending starts this many seconds after the first signal was buffered, at the latest.
            Default: 2.
        max_concurrency: Most attempts in flight at once; `"auto"`: from 1 to 64, as many as the service can
            take. Default: 5.
        max_queue_size: Most signals held (buffered, in flight or waiting for their back-off) at once.
            Default: 10,000.
        overflow: What happens to a signal that comes when the queue is full: it is dropped (`"drop_newest"`,
            the default), the oldest one never attempted makes room for it (`"drop_oldest"`), its call waits
            for room (`"block"`), or its call raises `QueueFullError` (`"raise"`). Every drop is reported as
            `queue_full`.
        block_timeout: Under `"block"`: how long a call waits for room, in seconds, before its signal is
            dropped after all. Default: 10.
        max_queue_bytes: Most bytes that the bodies of the signals held may have together. Default: 64 MiB.
        outage: What happens to a signal whose attempts fail because the service does (no answer, 408, 429,
            5xx): it is held until the service is back (`"hold"`, the default), or given up after
            `max_attempts` as any other (`"drop"`).

    Raises:
        ValidationError: A value is out of range; it names the field.
    """

    max_size: int = 20
    max_interval: float = 2.0
    max_concurrency: int | Literal["auto"] = 5
    max_queue_size: int = 10_000
    overflow: Overflow = "drop_newest"
    block_timeout: float = 10.0
    max_queue_bytes: int = 64 * 1024 * 1024
    outage: Outage = "hold"

    def __post_init__(self) -> None:
        check_int("max_size", self.max_size, least=1)
        check_seconds("max_interval", self.max_interval)
        _check_concurrency(self.max_concurrency)
        check_int("max_queue_size", self.max_queue_size, least=1)
        check_int("max_queue_bytes", self.max_queue_bytes, least=1)
        check_choice("overflow", self.overflow, get_args(Overflow))
        check_seconds("block_timeout", self.block_timeout)
        check_choice("outage", self.outage, get_args(Outage))

    @property
    def most_concurrency(self) -> int:
        """Most attempts in flight at once, as a number: with `"auto"` it is 64."""
        return MOST if self.max_concurrency == "auto" else self.max_concurrency


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class RetryPolicy(Value):
    """How often and how soon a failed attempt is repeated; `backoff.backoff_delay` has the formula.

    Args:
        max_attempts: Most attempts of one request, the first included. For a buffered signal only those count
            that fail while the service works; see `BatchPolicy.outage`. Default: 5.
        base_delay: Ceiling of the wait after the first failure, in seconds; it doubles with each further one.
            Default: 0.2.
        max_delay: Ceiling of our own wait, in seconds. A server's Retry-After is honoured beyond it.
            Default: 10.

    Raises:
        ValidationError: A value is out of range; it names the field.
    """

    max_attempts: int = 5
    base_delay: float = 0.2
    max_delay: float = 10.0

    def __post_init__(self) -> None:
        check_int("max_attempts", self.max_attempts, least=1)
        check_seconds("base_delay", self.base_delay)
        check_seconds("max_delay", self.max_delay)


@dataclass(frozen=True, eq=False, repr=False)
class Config(Value):
    """All settings of a client, checked.

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
    disabled: bool = False
    """Send nothing: a signal's arguments are checked and it is dropped as `disabled`; a call that needs an
    answer is an error."""
    spool_window: float | None = None
    """Seconds for which a signal stored in a spool may be sent. `None`: there is no spool, and signals are
    held in memory alone."""
    is_spool_shared: bool = False
    """Whether other processes take signals from the same spool at the same time, as relays do. Then the looks
    for signals are frequent, what the server refuses is set aside in quarantine, what an outage keeps from
    being sent is given back, and a close looks for no more signals."""

    def __post_init__(self) -> None:
        _check_api_key(self.api_key)
        check_choice("mode", self.mode, get_args(Mode))
        check_seconds("timeout", self.timeout, positive=True)
        check_instance("batch", self.batch, BatchPolicy)
        check_instance("retry", self.retry, RetryPolicy)
        check_bool("allow_insecure_http", self.allow_insecure_http)
        check_bool("disabled", self.disabled)
        if self.spool_window is not None:
            check_seconds("spool_window", self.spool_window, positive=True)
        check_bool("is_spool_shared", self.is_spool_shared)
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
        """Default limit, in seconds, on how long a call or flush waits.

        For an awaited call it limits a server's Retry-After, for a flush or close an outage. It is the time
        that a call may take by its own policy: every attempt times out and has the longest back-off after it.
        """
        return self.retry.max_attempts * (self.timeout + self.retry.max_delay)

    def redact(self, text: str, *, limit: int | None = None) -> str:
        """Return `text` without the API key, which a server or proxy may have echoed.

        Args:
            text: Any text.
            limit: Where given, look only at as much as the first `limit` characters of the result need, so
                that the time does not grow with the text. The rest is left out.
        """
        if limit is None:
            return self.key_pattern.sub(REDACTED, text)
        pieces: list[str] = []
        at = length = 0
        while at < len(text) and length <= limit:
            # A match may begin at the last character that is shown.
            end = at + limit + 1 - length
            found = self.key_pattern.search(text, at, end + self._longest_spelling)
            if found is None or found.start() >= end:
                pieces.append(text[at:end])
                break
            pieces += text[at : found.start()], REDACTED
            length += found.start() - at + len(REDACTED)
            at = found.end()
        return "".join(pieces)

    @cached_property
    def key_pattern(self) -> re.Pattern[str]:
        r"""A pattern for the API key in a text, each character as it is or escaped, also more than once.

        Escapes are those of JSON, JavaScript and Python (`\u002f`, `\x2f`, `\/`), URLs (`%2f`), HTML
        (`&#47;`, `&sol;`) and quoted-printable (`=2F`, with its line breaks), in either case. Backslashes
        that the key begins with may be left out. The time is linear: repeats are possessive and limited.

        A key that looks like an escape itself (`a%25b`) is also looked for as what it would mean, since its
        escapes can't be told from the text's. The usual spellings come last, as they are: what an escape
        begins with may end the key, as in `a%252` the key `a%2`.
        """
        plain = re.sub(r"\\+", r"\\", self.api_key.lstrip("\\") or "\\")
        meant = re.sub(r"\\" + _spellings("\\"), r"\\", plain)
        meant = re.sub(f"([%]){_PERCENTS}|(&){_AMPERSANDS}|(=){_EQUALS}", r"\1\2\3", meant)
        usual = (quote(self.api_key, safe=""), json.dumps(self.api_key)[1:-1], self.api_key)
        each = [_escaped(characters) for characters in dict.fromkeys((plain, meant))]
        return re.compile("|".join((*each, *map(re.escape, dict.fromkeys(usual)))))

    @property
    def _longest_spelling(self) -> int:
        return 64 * len(self.api_key)


_SOFT_BREAK = r"(?:=\r?\n)?+"
"""A line break of quoted-printable, which may be between any two characters."""
_ESCAPING = r"\\{0,32}+"
"""Backslashes of an escape, more than one where it was escaped again."""
_PERCENTS, _AMPERSANDS, _EQUALS = "(?:25){0,8}+", "(?:amp;){0,8}+", "(?:3[dD]){0,8}+"
"""What follows the sign of an escape that was escaped again."""
_HTML_NAMES = {
    "!": "excl",
    '"': "quot",
    "#": "num",
    "$": "dollar",
    "%": "percnt",
    "&": "amp",
    "'": "apos",
    "(": "lpar",
    ")": "rpar",
    "*": "ast",
    "+": "plus",
    ",": "comma",
    ".": "period",
    "/": "sol",
    ":": "colon",
    ";": "semi",
    "<": "lt",
    "=": "equals",
    ">": "gt",
    "?": "quest",
    "@": "commat",
    "[": "lsqb",
    "\\": "bsol",
    "]": "rsqb",
    "^": "Hat",
    "_": "lowbar",
    "`": "grave",
    "{": "lcub",
    "|": "verbar",
    "}": "rcub",
}
"""The usual names of characters in HTML."""


def _escaped(characters: str) -> str:
    """Return the pattern for a key without backslashes in a row, each character escaped or not."""
    # No backslashes of an escape before the first: they would be tried at every start.
    others = (_SOFT_BREAK + (_ESCAPING if each != "\\" else "") + _spellings(each) for each in characters[1:])
    return "".join((_spellings(characters[0]), *others))


def _spellings(character: str) -> str:
    """Return the pattern for a character of the API key, without the backslashes of an escape before it."""
    code = ord(character)
    digits = f"{code:02x}"
    hexadecimal = "".join(f"[{digit}{digit.upper()}]" if digit.isalpha() else digit for digit in digits)
    name = f"|{_HTML_NAMES[character]};" if character in _HTML_NAMES else ""
    escaped = (
        rf"[uUxX]\{{?0{{0,8}}+{hexadecimal}\}}?",
        rf"%{_PERCENTS}{hexadecimal}",
        rf"&{_AMPERSANDS}(?:#(?:[xX]0{{0,8}}+{hexadecimal}|0{{0,8}}+{code})(?!\d);?{name})",
        rf"={_EQUALS}{hexadecimal}",
    )
    if character == "\\":  # a run of them: the pattern's characters are without repeats
        return rf"(?:(?:\\|{'|'.join(escaped)}){_SOFT_BREAK}){{1,32}}+"
    again = {"%": _PERCENTS, "&": _AMPERSANDS, "=": _EQUALS}.get(character, "")
    return rf"(?:{'|'.join(escaped)}|{re.escape(character)}{again})"


def _check_concurrency(value: object) -> None:
    if isinstance(value, str):
        if value != "auto":
            raise invalid("max_concurrency", f'must be an integer or "auto", not {shown(value)}')
    else:
        check_int("max_concurrency", value, least=1)


def _check_api_key(value: object) -> None:
    if not isinstance(value, str):
        raise invalid("api_key", f"must be a string, not {type(value).__name__}")
    if not value:
        raise invalid("api_key", "must not be empty")
    if not all("!" <= character <= "~" for character in value):
        raise invalid("api_key", "must consist of visible ASCII characters, without spaces or line ends")
    if "://" in value:
        raise invalid("api_key", "is an address: that is base_url")


def _parse_base_url(value: object, *, allow_insecure_http: bool) -> tuple[Origin, str]:
    if not isinstance(value, str):
        raise invalid("base_url", f"must be a string, not {type(value).__name__}")
    if any(character <= " " or character == "\x7f" for character in value):
        raise invalid("base_url", "must not hold blanks, tabs, line ends or other control characters")
    try:
        parts = urlsplit(value)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise invalid("base_url", f"is not a URL: {error}") from None
    if "://" not in value:
        raise invalid("base_url", "has no scheme: begin with https://, or with http:// for this machine")
    if value[0] in "\"'":
        raise invalid("base_url", "begins with a quotation mark")
    if parts.scheme not in ("https", "http") or not host:
        raise invalid("base_url", "must be an absolute https:// URL, such as https://app.clocknext.com")
    if port == 0:
        raise invalid("base_url", "must not have port 0")
    if "@" in parts.netloc:
        raise invalid("base_url", "must not hold a user name or password")
    if parts.netloc.startswith("[") and not re.fullmatch(_BRACKETED, parts.netloc):
        raise invalid("base_url", "must have an IPv6 address in its brackets, and nothing but a port behind")
    if parts.query or parts.fragment or value.endswith(("?", "#")):
        raise invalid("base_url", "must not have a query or fragment")
    if not re.fullmatch(_PATH, parts.path):
        raise invalid("base_url", "must have its path percent-encoded")
    if re.search(_DOTS, parts.path):
        raise invalid("base_url", "must not have a segment . or .. in its path")
    host = _ascii_host(host)
    if parts.scheme == "http":
        if not allow_insecure_http and not is_loopback(host):
            raise invalid(
                "base_url",
                "must use https: plain http would send the API key in the clear "
                "(it is allowed to loopback addresses, elsewhere with allow_insecure_http=True or "
                "CLOCKNEXT_ALLOW_INSECURE_HTTP=1)",
            )
        return Origin("http", host, 80 if port is None else port), parts.path.rstrip("/")
    return Origin("https", host, 443 if port is None else port), parts.path.rstrip("/")


def is_loopback(host: str) -> bool:
    """Return whether a host, a name or an address without brackets, is this machine."""
    try:
        address = ip_address(host)
    except ValueError:
        return host.lower() == "localhost"
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


def _ascii_host(host: str) -> str:
    if ":" in host:
        if not re.fullmatch(_IPV6, host):
            raise invalid("base_url", "has no valid IPv6 address")
        return host
    if not host.isascii():
        host = _encoded_host(host)
    labels = host.removesuffix(".").split(".")
    if not all(re.fullmatch(_LABEL, label) for label in labels):
        raise invalid("base_url", "has no valid host name")
    if re.fullmatch(_NUMBER, labels[-1]) and not _is_address(host):
        raise invalid("base_url", "has no valid IPv4 address: four numbers of 0 to 255")
    return host


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _encoded_host(host: str) -> str:
    """Encode an international name, where Python does it as browsers do.

    Python knows IDNA 2003 only, which takes some characters for others: `faß.de` is `fass.de` there and
    `xn--fa-hia.de` for browsers, another owner's host. So the name must come back as it was.
    """
    try:
        encoded = host.encode("idna").decode("ascii")
        is_same = encoded.encode("ascii").decode("idna") == host.lower()
    except UnicodeError:
        raise invalid("base_url", "has no valid host name") from None
    if not is_same:
        raise invalid("base_url", "must have its host name in ASCII (xn--…): IDNA 2003 and 2008 differ on it")
    return encoded
