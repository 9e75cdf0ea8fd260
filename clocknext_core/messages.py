"""The values that pass between the core and a transport: a request, and one of two answers.

A transport turns a `Request` into bytes and bytes into a `Response`; when no complete answer came, it
returns a `Failure`. Neither side raises: a failure of the API is a value.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from clocknext_core.values import Value

Header: TypeAlias = tuple[str, str]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Origin(Value):
    """Where requests go: the scheme, host and port that a transport connects to."""

    scheme: Literal["https", "http"]
    """`https`, or `http` to a loopback address (elsewhere only with `allow_insecure_http`)."""
    host: str
    """A host name in ASCII form or an IP address; IPv6 without brackets."""
    port: int
    """TCP port; the scheme's default is filled in."""

    @property
    def authority(self) -> str:
        """The value of the `Host` header: the port is left out where it is the scheme's default."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = 443 if self.scheme == "https" else 80
        return host if self.port == default else f"{host}:{self.port}"

    @property
    def server_name(self) -> str:
        """The name that TLS sends (SNI) and checks the certificate for: the host without a final dot."""
        return self.host.removesuffix(".")

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Request(Value):
    """One HTTP request, complete but for framing: a transport adds `Host` and `Content-Length`.

    The headers carry the API key, so they are left out of the repr.
    """

    method: str
    target: str
    """Path and query as sent on the request line, with the base URL's prefix, already encoded. It begins with
    `/`: anything else behind the origin could name another host, so transports refuse it."""
    origin: Origin
    headers: tuple[Header, ...] = field(repr=False)
    body: bytes | None = field(default=None, repr=False)
    replay_safe: bool = False
    """Whether a repeat is harmless. A request that is not must never go out on a reused connection: if a
    stale connection breaks, it is unknown whether the server processed it."""

    @property
    def url(self) -> str:
        """The absolute URL, for transports that want one."""
        return f"{self.origin}{self.target}"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Response(Value):
    """One complete HTTP response."""

    status: int
    headers: Sequence[Header]
    """As received; names compare without case (see `header`)."""
    body: bytes
    received_at: float | None = None
    """Wall clock on arrival, seconds since 1970. An HTTP date in Retry-After is measured from it when the
    server sent no Date."""

    def header(self, name: str) -> str | None:
        """Return the first value of a header, or `None`. `name` is given in lower case."""
        for key, value in self.headers:
            if key.lower() == name:
                return value
        return None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Failure(Value):
    """No complete answer came: refused, reset, DNS, TLS, time-out, or bytes that are not HTTP."""

    message: str
    """Plain English, without the API key."""
    processed: bool = True
    """Whether the server may have processed the request. `False` only when it is certain that it did not:
    the connection was never established, or no byte of the request left."""


Answer: TypeAlias = Response | Failure
