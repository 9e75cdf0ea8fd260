"""httpx, or httpx2, as the transport: for proxies, client certificates, HTTP/2, or your own client.

The client is used as it is, with five exceptions: redirects are not followed; its default headers, cookies
and authentication are not sent; a compressed or overlong answer is refused; this transport keeps the
deadline; an HTTP/1.1 connection is used once.

httpx2 is the successor of httpx, with the same interface under another name. A client's class says which of
the two it is from; the other is not imported.
"""

import importlib
import queue
import sys
import threading
import time
import weakref
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from typing import Any, Protocol, cast

from clocknext_core import Answer, Failure, Origin, Request, Response
from clocknext_core.errors import invalid
from clocknext_transports.http11 import MAX_ANSWER_BYTES
from clocknext_transports.http11.sockets import SocketLike, end
from clocknext_transports.http11.tls import default_context, explained
from clocknext_transports.process.clock import MAX_WAIT, monotonic

try:
    import anyio  # which both packages depend on
except ModuleNotFoundError as _missing:
    hint = "this transport needs httpx or httpx2: pip install 'clocknext[httpx]' or 'clocknext[httpx2]'"
    raise ModuleNotFoundError(hint, name="httpx") from _missing

PACKAGES = ("httpx", "httpx2")
"""The packages whose clients can be used; for proxies, the first that is installed."""


class HttpxClient(Protocol):
    """What the transport calls of a `Client` of httpx or httpx2."""

    def send(self, request: Any, /, *, stream: bool, auth: None, follow_redirects: bool) -> Any:
        """Send a request of the same package, and return its response."""
        ...

    def close(self) -> None:
        """Close the connections."""
        ...

    @property
    def is_closed(self) -> bool:
        """Whether it can't be used any more."""
        ...


class AsyncHttpxClient(Protocol):
    """What the transport calls of an `AsyncClient` of httpx or httpx2."""

    async def send(self, request: Any, /, *, stream: bool, auth: None, follow_redirects: bool) -> Any:
        """Send a request of the same package, and return its response."""
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...

    @property
    def is_closed(self) -> bool:
        """Whether it can't be used any more."""
        ...


class HttpxTransport:
    """Carries requests for `ClockNext` over a `Client` of httpx or httpx2.

    httpx has no deadline for a whole exchange, only time-outs for its parts. Each exchange runs in a thread
    of its own, and its socket is shut down when the deadline comes.

    Args:
        client: Your client, configured as you like.
        max_answer_bytes: Most bytes of an answer's body; a longer answer is a failure.
        owns_client: Whether closing the transport closes the client; otherwise closing it is up to you. Such
            a transport is for one client of ClockNext only: the first one to close would end the others'.
    """

    def __init__(
        self,
        client: HttpxClient,
        *,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        owns_client: bool = False,
    ) -> None:
        self._package = _package_of(client, "Client")
        self._client = client
        self._max_answer_bytes = max_answer_bytes
        self._owns_client = owns_client
        self._owner = _Owner()
        self._exchanges: dict[queue.SimpleQueue[Answer | Exception], _Progress] = {}

    def exchange(self, request: Request, *, deadline_at: float) -> Answer:
        """Send a request and return its answer, or the failure to get one, before the deadline."""
        timeout = min(deadline_at - monotonic(), MAX_WAIT)
        if timeout <= 0:
            return _TOO_LATE
        progress = _Progress(self._package, request.origin)
        outcomes: queue.SimpleQueue[Answer | Exception] = queue.SimpleQueue()

        def carry() -> None:
            try:
                outcomes.put(self._exchange(request, timeout, progress))
            except Exception as error:  # noqa: BLE001 - raised again in the caller's thread
                outcomes.put(error)

        self._exchanges[outcomes] = progress
        try:
            try:
                threading.Thread(target=carry, name="clocknext httpx", daemon=True).start()
            except RuntimeError:  # the interpreter is shutting down and starts no thread
                carry()
            outcome = outcomes.get(timeout=timeout)
        except queue.Empty:
            progress.interrupt()
            return progress.timed_out()
        finally:
            del self._exchanges[outcomes]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def claim(self, user: object) -> None:
        """Note which client of ClockNext uses the transport.

        Raises:
            ValidationError: Another one does, and closing that closes the httpx client too.
        """
        if self._owns_client:
            self._owner.set(user, is_closed=self._client.is_closed)

    def close(self) -> None:
        """Fail the exchanges in flight, and close the client if the transport owns it."""
        for outcomes, progress in list(self._exchanges.items()):
            outcomes.put(Failure("The client was closed."))
            progress.interrupt()
        if self._owns_client:
            self._client.close()

    def _exchange(self, request: Request, timeout: float, progress: "_Progress") -> Answer:
        reading = _Reading(self._max_answer_bytes)
        try:
            response = self._client.send(
                _prepared(self._package, request, timeout, progress.note),
                stream=True,
                auth=None,
                follow_redirects=False,
            )
            try:
                if (refused := reading.start(response)) is not None:
                    return refused
                if response.is_stream_consumed:  # by a hook of the client's
                    return reading.add(response.content) or reading.finish(response)
                stream: Iterable[bytes] = response.stream
                for chunk in stream:
                    if (refused := reading.add(chunk)) is not None:
                        return refused
            finally:
                _retire(response)
                response.close()
        except (self._package.HTTPError, OSError) as error:
            return progress.answer_of(error, reading)
        return reading.finish(response)


class AsyncHttpxTransport:
    """Carries requests for `AsyncClockNext` and `TrioClockNext` over an `AsyncClient` of httpx or httpx2.

    Args:
        client: Your client, configured as you like.
        max_answer_bytes: Most bytes of an answer's body; a longer answer is a failure.
        owns_client: Whether closing the transport closes the client; otherwise closing it is up to you. Such
            a transport is for one client of ClockNext only: the first one to close would end the others'.
    """

    def __init__(
        self,
        client: AsyncHttpxClient,
        *,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        owns_client: bool = False,
    ) -> None:
        self._package = _package_of(client, "AsyncClient")
        self._client = client
        self._max_answer_bytes = max_answer_bytes
        self._owns_client = owns_client
        self._owner = _Owner()

    async def exchange(self, request: Request, *, deadline_at: float) -> Answer:
        """Send a request and return its answer, or the failure to get one, before the deadline."""
        timeout = min(deadline_at - anyio.current_time(), MAX_WAIT)
        if timeout <= 0:
            return _TOO_LATE
        progress = _Progress(self._package, request.origin)
        try:
            with anyio.fail_after(timeout):
                return await self._exchange(request, timeout, progress)
        except TimeoutError:
            return progress.timed_out()
        finally:
            # httpx leaves a connection open that is cancelled while it is being made.
            progress.interrupt()

    def claim(self, user: object) -> None:
        """Note which client of ClockNext uses the transport.

        Raises:
            ValidationError: Another one does, and closing that closes the httpx client too.
        """
        if self._owns_client:
            self._owner.set(user, is_closed=self._client.is_closed)

    async def aclose(self) -> None:
        """Close the client if the transport owns it."""
        if self._owns_client:
            await self._client.aclose()

    async def _exchange(self, request: Request, timeout: float, progress: "_Progress") -> Answer:
        reading = _Reading(self._max_answer_bytes)
        try:
            response = await self._client.send(
                _prepared(self._package, request, timeout, progress.note_async),
                stream=True,
                auth=None,
                follow_redirects=False,
            )
            try:
                if (refused := reading.start(response)) is not None:
                    return refused
                if response.is_stream_consumed:  # by a hook of the client's
                    return reading.add(response.content) or reading.finish(response)
                stream: AsyncIterable[bytes] = response.stream
                async for chunk in stream:
                    if (refused := reading.add(chunk)) is not None:
                        return refused
            finally:
                _retire(response)
                await response.aclose()
        except (self._package.HTTPError, OSError) as error:
            return progress.answer_of(error, reading)
        return reading.finish(response)


class _Proxied(HttpxTransport):
    def __init__(self, proxy: str) -> None:
        self._proxy = proxy
        super().__init__(_client_for(proxy, "Client"), owns_client=True)

    def restart(self) -> None:
        """Start again after a fork, in the child. The inherited client is left alone."""
        self._inherited = self._client
        self._client = _client_for(self._proxy, "Client")
        self._exchanges.clear()


class _AsyncProxied(AsyncHttpxTransport):
    def __init__(self, proxy: str) -> None:
        self._proxy = proxy
        super().__init__(_client_for(proxy, "AsyncClient"), owns_client=True)

    def for_threads(self) -> HttpxTransport:
        """Return a transport for threads through the same proxy, for when the event loop has ended."""
        return proxied(self._proxy)

    def restart(self) -> None:
        """Start again after a fork, in the child. The inherited client is left alone."""
        self._inherited = self._client
        self._client = _client_for(self._proxy, "AsyncClient")


def proxied(proxy: str) -> HttpxTransport:
    """Make a transport that goes through a proxy, with the system's trust store."""
    return _Proxied(proxy)


def async_proxied(proxy: str) -> AsyncHttpxTransport:
    """Make a transport that goes through a proxy, with the system's trust store."""
    return _AsyncProxied(proxy)


def _client_for(proxy: str, kind: str) -> Any:
    """Make a client that goes through a proxy, of whichever package is installed."""
    return getattr(_installed(), kind)(proxy=proxy, verify=default_context(), trust_env=False)


def _installed() -> "_Package":
    for name in PACKAGES:
        try:
            return cast("_Package", importlib.import_module(name))
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
    raise ModuleNotFoundError("neither httpx nor httpx2 is installed", name=PACKAGES[0])


def _package_of(client: object, kind: str) -> "_Package":
    """Return the package that a client is from: it is imported, or there were no client.

    Raises:
        ValidationError: It is no client of that kind.
    """
    for name in PACKAGES:
        package = sys.modules.get(name)
        if package is not None and isinstance(client, getattr(package, kind, ())):
            return cast("_Package", package)
    found = f"{type(client).__module__}.{type(client).__qualname__}"
    article = "an" if kind.startswith("A") else "a"
    raise invalid(
        "client", f"must be {article} {kind} of httpx or httpx2, not {found.removeprefix('builtins.')}"
    )


class _Package(Protocol):
    """What this module uses of httpx or httpx2."""

    Request: Callable[..., Any]
    HTTPError: type[Exception]
    HTTPStatusError: type[Exception]
    TimeoutException: type[Exception]
    ConnectError: type[Exception]
    ConnectTimeout: type[Exception]
    PoolTimeout: type[Exception]
    ProxyError: type[Exception]
    RemoteProtocolError: type[Exception]


class _HeadOfResponse(Protocol):
    """What is read of a response before its body."""

    status_code: int
    headers: Any
    extensions: Mapping[str, Any]
    http_version: str


class _Owner:
    """The one client of ClockNext that uses a transport."""

    def __init__(self) -> None:
        self._user: weakref.ref[object] | None = None

    def set(self, user: object, *, is_closed: bool) -> None:
        """Note the user, where there is no other and the httpx client is still open."""
        other = None if self._user is None else self._user()
        if is_closed or (other is not None and other is not user):
            raise invalid(
                "transport",
                "was made with owns_client=True for another client, which closes it: "
                "make one transport for each, or leave owns_client out",
            )
        self._user = weakref.ref(user)


class _Reading:
    """Reads one answer, and refuses it where it is compressed or too long."""

    def __init__(self, max_answer_bytes: int) -> None:
        self._max_answer_bytes = max_answer_bytes
        self._body = bytearray()

    def start(self, response: _HeadOfResponse) -> Failure | None:
        encoding = response.headers.get("content-encoding", "").strip().lower()
        if encoding not in ("", "identity"):
            return Failure("The answer is compressed, which was not asked for.")
        return None

    def add(self, chunk: bytes) -> Failure | None:
        self._body += chunk
        if len(self._body) > self._max_answer_bytes:
            return Failure(f"The answer is longer than {self._max_answer_bytes} bytes.")
        return None

    def finish(self, response: _HeadOfResponse) -> Response:
        headers = response.headers.multi_items()
        return Response(response.status_code, headers, bytes(self._body), time.time())


class _Progress:
    """How far an exchange has come, according to the client's trace."""

    def __init__(self, package: _Package, origin: Origin) -> None:
        self._package = package
        self._origin = origin
        self._host: str | None = None
        """What was connected to last; a reused connection is not noted."""
        self._is_traced = False
        """Whether the client's transport reports events at all; a user's own may not."""
        self._is_sent = False
        """Whether a request may have left. A proxy's CONNECT counts too, which errs on the safe side."""
        self._socket: SocketLike | None = None

    def note(self, event: str, info: Mapping[str, Any]) -> None:
        """Take an event of the trace."""
        self._is_traced = True
        if event.endswith("connect_tcp.started"):
            self._host = str(info["host"])
        if event.startswith("http2."):
            self._socket = None  # others use it too
        if event.endswith("send_request_headers.started"):
            self._is_sent = True
        elif event.endswith(("connect_tcp.complete", "start_tls.complete")):
            self._socket = info["return_value"].get_extra_info("socket")

    async def note_async(self, event: str, info: Mapping[str, Any]) -> None:
        """Take an event of the trace."""
        self.note(event, info)

    def interrupt(self) -> None:
        """Shut the socket down, so that a thread that still waits for it ends."""
        if self._socket is not None:
            end(self._socket)

    def timed_out(self) -> Failure:
        """Return the failure of an exchange whose deadline has come."""
        return Failure("Timed out waiting for the answer.", processed=self._may_be_processed())

    def answer_of(self, error: Exception, reading: _Reading) -> Answer:
        """Return the answer of an exchange that raised."""
        package = self._package
        if isinstance(error, package.HTTPStatusError):  # a hook of the client's raised for status
            response: Any = cast("Any", error).response
            return reading.start(response) or reading.add(_read_by_hook(response)) or reading.finish(response)
        unconnected = (package.ConnectError, package.ConnectTimeout, package.PoolTimeout, package.ProxyError)
        if isinstance(error, unconnected):
            return Failure(f"Could not connect to {self._peer()}: {_text(error)}", processed=False)
        if isinstance(error, (package.TimeoutException, TimeoutError)):
            return self.timed_out()
        return Failure(self._why_broken(error), processed=self._may_be_processed())

    def _why_broken(self, error: Exception) -> str:
        if not isinstance(error, self._package.RemoteProtocolError):
            return f"The connection broke: {_text(error)}"
        # Only known texts: others show what the server sent.
        for text, why in _ENDINGS.items():
            if str(error).startswith(text):
                return why
        return "The connection broke: no answer in HTTP"

    def _peer(self) -> str:
        """Name what could not be connected to: the service, or the proxy before it."""
        if self._host is None or self._host == self._origin.host:
            return str(self._origin)
        return f"{self._host}, the proxy for {self._origin}"

    def _may_be_processed(self) -> bool:
        return self._is_sent or not self._is_traced


_ENDINGS = {
    "Server disconnected without": "The connection was closed before an answer came.",
    "peer closed connection without": "The connection was closed in the middle of the answer.",
}
"""How httpx says that the server closed, and how the native transports do."""

_TOO_LATE = Failure("Timed out before the exchange began.", processed=False)


def _read_by_hook(response: Any) -> bytes:
    """Return the body of an answer that a hook rejected: nothing if it had not read it, as it is closed."""
    try:
        return cast("bytes", response.content)
    except RuntimeError:  # as httpx's ResponseNotRead is
        return b""


def _text(error: Exception) -> str:
    return explained(error) or type(error).__name__


def _retire(response: _HeadOfResponse) -> None:
    """End the connection of an HTTP/1.1 answer before httpx takes it back for the next request.

    httpx does not show whether bytes came after the answer; they would be read as the next request's answer.
    """
    stream = response.extensions.get("network_stream")
    if response.http_version != "HTTP/2" and stream is not None:
        sock: SocketLike | None = stream.get_extra_info("socket")
        if sock is not None:
            end(sock)


def _prepared(
    package: _Package, request: Request, timeout: float, trace: Callable[[str, Mapping[str, Any]], object]
) -> Any:
    if not request.target.startswith("/"):
        raise ValueError(
            "The request's target must begin with /: behind the origin it could name another host."
        )
    timeouts = dict.fromkeys(("connect", "read", "write", "pool"), timeout)
    extensions: dict[str, Any] = {"timeout": timeouts, "trace": trace}
    if request.origin.server_name != request.origin.host:
        extensions["sni_hostname"] = request.origin.server_name
    return package.Request(
        request.method,
        request.url,
        headers=list(request.headers),
        content=request.body,
        extensions=extensions,
    )
