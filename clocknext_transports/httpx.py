"""httpx as the transport: for proxies, client certificates, HTTP/2, or whatever your own client is made for.

The client is used as it is, with five exceptions: redirects are not followed; its default headers, cookies
and authentication are not sent; a compressed or overlong answer is refused; this transport keeps the
deadline; an HTTP/1.1 connection is used once.
"""

import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

try:
    import anyio
    import httpx
except ModuleNotFoundError as _missing:
    hint = "this transport needs httpx: pip install 'clocknext[httpx]'"
    raise ModuleNotFoundError(hint, name="httpx") from _missing

from clocknext_core import Answer, Failure, Origin, Request, Response
from clocknext_core.checks import check_instance
from clocknext_transports.http11 import MAX_ANSWER_BYTES
from clocknext_transports.http11.sockets import MAX_WAIT, SocketLike, end
from clocknext_transports.http11.tls import default_context, explained


class HttpxTransport:
    """Carries requests for `ClockNext` over an `httpx.Client`.

    httpx has no deadline for a whole exchange, only time-outs for its parts. Each exchange runs in a thread
    of its own, and its socket is shut down when the deadline comes.

    Args:
        client: Your client, configured as you like.
        max_answer_bytes: Most bytes of an answer's body; a longer answer is a failure.
        owns_client: Whether closing the transport closes the client; otherwise closing it is up to you.
    """

    def __init__(
        self,
        client: httpx.Client,
        *,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        owns_client: bool = False,
    ) -> None:
        check_instance("client", client, httpx.Client)
        self._client = client
        self._max_answer_bytes = max_answer_bytes
        self._owns_client = owns_client
        self._exchanges: dict[queue.SimpleQueue[Answer | Exception], _Progress] = {}

    def exchange(self, request: Request, *, deadline_at: float) -> Answer:
        """Send a request and return its answer, or the failure to get one, before the deadline."""
        timeout = min(deadline_at - time.monotonic(), MAX_WAIT)
        if timeout <= 0:
            return _TOO_LATE
        progress = _Progress(request.origin)
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
                _prepared(request, timeout, progress.note), stream=True, auth=None, follow_redirects=False
            )
            try:
                if (refused := reading.start(response)) is not None:
                    return refused
                if response.is_stream_consumed:  # by a hook of the client's
                    return reading.add(response.content) or reading.finish(response)
                assert isinstance(response.stream, httpx.SyncByteStream)  # as a Client's are
                for chunk in response.stream:
                    if (refused := reading.add(chunk)) is not None:
                        return refused
            finally:
                _retire(response)
                response.close()
        except (httpx.HTTPError, OSError) as error:
            return progress.answer_of(error)
        return reading.finish(response)


class AsyncHttpxTransport:
    """Carries requests for `AsyncClockNext` and `TrioClockNext` over an `httpx.AsyncClient`.

    Args:
        client: Your client, configured as you like.
        max_answer_bytes: Most bytes of an answer's body; a longer answer is a failure.
        owns_client: Whether closing the transport closes the client; otherwise closing it is up to you.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        *,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        owns_client: bool = False,
    ) -> None:
        check_instance("client", client, httpx.AsyncClient)
        self._client = client
        self._max_answer_bytes = max_answer_bytes
        self._owns_client = owns_client

    async def exchange(self, request: Request, *, deadline_at: float) -> Answer:
        """Send a request and return its answer, or the failure to get one, before the deadline."""
        timeout = min(deadline_at - anyio.current_time(), MAX_WAIT)
        if timeout <= 0:
            return _TOO_LATE
        progress = _Progress(request.origin)
        try:
            with anyio.fail_after(timeout):
                return await self._exchange(request, timeout, progress)
        except TimeoutError:
            return progress.timed_out()
        finally:
            # httpx leaves a connection open that is cancelled while it is being made.
            progress.interrupt()

    async def aclose(self) -> None:
        """Close the client if the transport owns it."""
        if self._owns_client:
            await self._client.aclose()

    async def _exchange(self, request: Request, timeout: float, progress: "_Progress") -> Answer:
        reading = _Reading(self._max_answer_bytes)
        try:
            response = await self._client.send(
                _prepared(request, timeout, progress.note_async),
                stream=True,
                auth=None,
                follow_redirects=False,
            )
            try:
                if (refused := reading.start(response)) is not None:
                    return refused
                if response.is_stream_consumed:  # by a hook of the client's
                    return reading.add(response.content) or reading.finish(response)
                assert isinstance(response.stream, httpx.AsyncByteStream)  # as an AsyncClient's are
                async for chunk in response.stream:
                    if (refused := reading.add(chunk)) is not None:
                        return refused
            finally:
                _retire(response)
                await response.aclose()
        except (httpx.HTTPError, OSError) as error:
            return progress.answer_of(error)
        return reading.finish(response)


class _Proxied(HttpxTransport):
    def __init__(self, proxy: str) -> None:
        self._proxy = proxy
        super().__init__(_client(proxy), owns_client=True)

    def restart(self) -> None:
        """Start again after a fork, in the child. The inherited client is left alone."""
        self._inherited = self._client
        self._client = _client(self._proxy)
        self._exchanges.clear()


class _AsyncProxied(AsyncHttpxTransport):
    def __init__(self, proxy: str) -> None:
        self._proxy = proxy
        super().__init__(_async_client(proxy), owns_client=True)

    def for_threads(self) -> HttpxTransport:
        """Return a transport for threads through the same proxy, for when the event loop has ended."""
        return proxied(self._proxy)

    def restart(self) -> None:
        """Start again after a fork, in the child. The inherited client is left alone."""
        self._inherited = self._client
        self._client = _async_client(self._proxy)


def proxied(proxy: str) -> HttpxTransport:
    """Make a transport that goes through a proxy, with the system's trust store."""
    return _Proxied(proxy)


def async_proxied(proxy: str) -> AsyncHttpxTransport:
    """Make a transport that goes through a proxy, with the system's trust store."""
    return _AsyncProxied(proxy)


def _client(proxy: str) -> httpx.Client:
    return httpx.Client(proxy=proxy, verify=default_context(), trust_env=False)


def _async_client(proxy: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(proxy=proxy, verify=default_context(), trust_env=False)


class _Reading:
    """Reads one answer, and refuses it where it is compressed or too long."""

    def __init__(self, max_answer_bytes: int) -> None:
        self._max_answer_bytes = max_answer_bytes
        self._body = bytearray()

    def start(self, response: httpx.Response) -> Failure | None:
        encoding = response.headers.get("content-encoding", "").strip().lower()
        if encoding not in ("", "identity"):
            return Failure("The answer is compressed, which was not asked for.")
        return None

    def add(self, chunk: bytes) -> Failure | None:
        self._body += chunk
        if len(self._body) > self._max_answer_bytes:
            return Failure(f"The answer is longer than {self._max_answer_bytes} bytes.")
        return None

    def finish(self, response: httpx.Response) -> Response:
        headers = response.headers.multi_items()
        return Response(response.status_code, headers, bytes(self._body), time.time())


class _Progress:
    """How far an exchange has come, according to httpx's trace."""

    def __init__(self, origin: Origin) -> None:
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

    def answer_of(self, error: Exception) -> Answer:
        """Return the answer of an exchange that raised."""
        if isinstance(error, httpx.HTTPStatusError):  # a hook of the client's raised for status
            return Response(
                error.response.status_code, error.response.headers.multi_items(), b"", time.time()
            )
        if isinstance(
            error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout | httpx.ProxyError
        ):
            return Failure(f"Could not connect to {self._peer()}: {_text(error)}", processed=False)
        if isinstance(error, httpx.TimeoutException | TimeoutError):
            return self.timed_out()
        return Failure(f"The connection broke: {_text(error)}", processed=self._may_be_processed())

    def _peer(self) -> str:
        """Name what could not be connected to: the service, or the proxy before it."""
        if self._host is None or self._host == self._origin.host:
            return str(self._origin)
        return f"{self._host}, the proxy for {self._origin}"

    def _may_be_processed(self) -> bool:
        return self._is_sent or not self._is_traced


_TOO_LATE = Failure("Timed out before the exchange began.", processed=False)


def _text(error: Exception) -> str:
    return explained(error) or type(error).__name__


def _retire(response: httpx.Response) -> None:
    """End the connection of an HTTP/1.1 answer before httpx takes it back for the next request.

    httpx does not show whether bytes came after the answer; they would be read as the next request's answer.
    """
    stream = response.extensions.get("network_stream")
    if response.http_version != "HTTP/2" and stream is not None:
        sock: SocketLike | None = stream.get_extra_info("socket")
        if sock is not None:
            end(sock)


def _prepared(
    request: Request, timeout: float, trace: Callable[[str, Mapping[str, Any]], object]
) -> httpx.Request:
    if not request.target.startswith("/"):
        raise ValueError(
            "The request's target must begin with /: behind the origin it could name another host."
        )
    extensions: dict[str, Any] = {"timeout": httpx.Timeout(timeout).as_dict(), "trace": trace}
    if request.origin.server_name != request.origin.host:
        extensions["sni_hostname"] = request.origin.server_name
    return httpx.Request(
        request.method,
        request.url,
        headers=list(request.headers),
        content=request.body,
        extensions=extensions,
    )
