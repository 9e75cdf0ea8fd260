"""HTTP/1.1 over trio and h11: read a request, ask the responder, obey its reply. No decisions here."""

import json
import math
import re
import signal
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from ssl import SSLContext
from typing import Final

import h11
import trio

from clocknext_core.messages import Response
from clocknext_transports.emulator.api.exchange import Feed, Hold, Received, Reply, Responder

_READ: Final = 65_536
_MAX_KEPT: Final = 1024 * 1024
"""The most bytes of a request body that are kept; the rest is read and discarded. The API takes less."""
_MAX_HEAD: Final = 16 * 1024
"""The most bytes of a target, header names and values, as Node counts them; more is refused with 431."""
_FIRST_COUNTS: Final = frozenset({"authorization", "content-type", "host", "user-agent"})
"""Headers of which Node drops a repeat."""
_MAX_INCOMPLETE: Final = 64 * 1024
_MAX_LINE: Final = 1024
"""The most bytes of a line that frames a chunk, and of the trailers."""
_HEAD_END: Final = re.compile(rb"\n\r?\n")
_FORBIDDEN: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n|$)")
"""What no head may hold."""
_MAX_DRAINED: Final = 4 * 1024 * 1024
_DRAIN_SECONDS: Final = 1.0
_IDLE: Final = re.compile(r"timeout=([0-9]{1,6})")
_NO_BODY: Final = frozenset({204, 304})
_LINGER_RESET: Final = struct.pack("ii", 1, 0)
_DRIPS_PER_SECOND: Final = 20
_FEED_FRAME: Final = 1 / 30
"""Seconds between two pieces of a feed."""
_FEED_GLANCE: Final = 0.5
"""Seconds after which a feed is looked at though no request came."""


class HttpServer:
    """Serve one listening socket until cancelled.

    Args:
        responder: Decides the answers; called from the trio thread only.
        ssl_context: Serve TLS with this.
    """

    def __init__(self, responder: Responder, ssl_context: SSLContext | None) -> None:
        self._responder = responder
        self._ssl_context = ssl_context
        self.connections: int = 0
        """The number of connections accepted so far."""
        self.in_service = 0
        """The number of requests that were read and whose answers are not sent, except for the last bytes."""
        self.max_in_service = 0
        """The highest number of them at once."""
        self._request_came = trio.Event()
        self.failure: Exception | None = None
        """The first exception that the responder raised, or that its reply caused. The connection was closed
        without an answer, and the server went on."""

    async def serve(
        self,
        listening: socket.socket,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Accept connections from a listening socket, and close it at the end."""
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening))
        async with listener:
            task_status.started()
            await trio.serve_listeners(self._serve_connection, [listener])

    def run_until_stopped(
        self, listening: socket.socket, on_started: Callable[[Callable[[], None]], object]
    ) -> None:
        """Serve until stopped. `on_started` gets a function that stops the server from any thread."""

        async def main() -> None:
            token = trio.lowlevel.current_trio_token()
            with trio.CancelScope() as scope:

                def stop() -> None:
                    with suppress(trio.RunFinishedError):
                        token.run_sync_soon(scope.cancel)

                on_started(stop)
                await self.serve(listening)

        trio.run(main)

    def run_until_signalled(self, listening: socket.socket, on_started: Callable[[], object]) -> None:
        """Serve until SIGINT or SIGTERM."""

        async def main() -> None:
            with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                async with trio.open_nursery() as nursery:
                    await nursery.start(self.serve, listening)
                    on_started()
                    await anext(signals)
                    nursery.cancel_scope.cancel()

        trio.run(main)

    def note_request(self) -> None:
        """Wake the feeds: a request was answered."""
        self._request_came.set()
        self._request_came = trio.Event()

    async def next_request(self) -> None:
        """Wait until a request is answered, but only for a while: a test may change the ledger itself."""
        with trio.move_on_after(_FEED_GLANCE):
            await self._request_came.wait()

    async def _serve_connection(self, transport: trio.SocketStream) -> None:
        self.connections += 1
        stream: trio.abc.Stream = transport
        if self._ssl_context is not None:
            stream = trio.SSLStream(transport, self._ssl_context, server_side=True, https_compatible=True)
        connection = Conversation(self, stream, transport, self.connections)
        try:
            with suppress(trio.BrokenResourceError):  # the peer went away
                await connection.converse(self._responder)
        except Exception as error:  # noqa: BLE001 - one request must not end the server; reported at its end
            self.failure = self.failure or error
        finally:
            await trio.aclose_forcefully(transport)


class Conversation:
    """Requests and replies on one connection.

    Args:
        server: Where its requests in service are counted.
        stream: What is read and written.
        transport: The socket below the stream; the same where there is no TLS.
        number: The number of the connection.
    """

    def __init__(
        self, server: HttpServer, stream: trio.abc.Stream, transport: trio.SocketStream, number: int
    ) -> None:
        self._server = server
        self._stream = stream
        self._transport = transport
        self._number = number
        self._http = h11.Connection(h11.SERVER)
        self._unfed = b""
        """Bytes received that h11 was not given yet."""
        self._in_service = False
        self._idle = math.inf
        """Seconds to wait for the next request, as the last answer announced."""

    def _enter_service(self) -> None:
        self._in_service = True
        self._server.in_service += 1
        self._server.max_in_service = max(self._server.max_in_service, self._server.in_service)

    def _leave_service(self) -> None:
        # Called before the last bytes are sent: a client that has its answer and sends the next request must
        # not be counted twice.
        if self._in_service:
            self._in_service = False
            self._server.in_service -= 1

    async def converse(self, responder: Responder) -> None:
        """Answer requests until either side closes the connection."""
        while True:
            try:
                request = await self._receive()
            except h11.RemoteProtocolError as error:
                await self._refuse(is_too_large=error.error_status_hint == 431)
                return
            if request is None:
                return
            self._enter_service()
            try:
                reply = responder.respond(request, now=time.time())
                self._server.note_request()
                goes_on = await self._obey(reply, request)
            finally:
                self._leave_service()
            if not goes_on:
                return

    async def _receive(self) -> Received | None:
        """Read the next request whole; `None` if the client has closed, or sends nothing for too long."""
        head: h11.Request | None = None
        body = bytearray()
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                if not await self._feed(head):
                    return None
            elif isinstance(event, h11.Request):
                head = event
                _check_head(head)
            elif isinstance(event, h11.Data):
                if len(body) <= _MAX_KEPT:
                    body += event.data
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                return self._received(head, bytes(body))
            else:
                return None

    async def _feed(self, head: h11.Request | None) -> bool:
        """Give h11 the next bytes: a whole head, or a part of the body. `False` if none come for too long.

        Raises:
            h11.RemoteProtocolError: No request begins like this.
        """
        while not (piece := self._next_piece(head)):
            if self._http.they_are_waiting_for_100_continue:
                go_ahead = h11.InformationalResponse(status_code=100, headers=[])
                await self._stream.send_all(self._http.send(go_ahead) or b"")
            is_idle = head is None and not self._unfed
            with trio.move_on_after(self._idle if is_idle else math.inf) as waiting:
                data = bytes(await self._stream.receive_some(_READ))
            if waiting.cancelled_caught:
                return False
            if not data:
                if self._unfed:
                    self._http.receive_data(self._unfed)
                self._http.receive_data(b"")
                return True
            self._unfed += data
        self._http.receive_data(piece)
        return True

    def _next_piece(self, head: h11.Request | None) -> bytes:
        """Take bytes that h11 may have: it needs minutes for a long line of blanks that ends badly."""
        end = len(self._unfed)
        if head is None:
            found = _HEAD_END.search(self._unfed)
            if _FORBIDDEN.search(self._unfed, 0, end if found is None else found.end()):
                raise h11.RemoteProtocolError("a control character in the head")
            if found is None and end > _MAX_INCOMPLETE:
                raise h11.RemoteProtocolError("head too large", error_status_hint=431)
            end = 0 if found is None else found.end()
        elif any(name == b"transfer-encoding" for name, _ in head.headers):
            if len(self._http.trailing_data[0]) > _MAX_LINE:
                raise h11.RemoteProtocolError("a line of framing too long")
            end = min(end, _MAX_LINE)
        piece, self._unfed = self._unfed[:end], self._unfed[end:]
        return piece

    def _received(self, head: h11.Request, body: bytes) -> Received:
        headers = dict[str, str]()
        for raw_name, raw_value in head.headers:
            name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
            if name not in headers:
                headers[name] = value
            elif name not in _FIRST_COUNTS:
                headers[name] += f", {value}"
        return Received(head.method.decode(), head.target.decode("latin-1"), headers, body, self._number)

    async def _obey(self, reply: Reply, request: Received) -> bool:
        """Obey the reply, and return whether the connection can serve another request."""
        if reply.feed is not None and reply.response is not None:
            self._leave_service()
            await self._follow(reply.response, reply.feed)
            return False
        if (reply.delay or reply.hold is not None) and not await self._wait(reply):
            return False
        payload = reply.surplus
        if reply.raw is not None:
            payload = reply.raw + payload
            # The bytes may be no HTTP at all: start anew with the bytes the client has sent meanwhile.
            self._start_over()
        elif reply.response is not None:
            announced = _IDLE.fullmatch(reply.response.header("keep-alive") or "")
            self._idle = math.inf if announced is None else float(announced[1])
            payload = self._encode(reply.response, request, cut=reply.cut) + payload
        if reply.bytes_per_second is not None:
            payload = await self._drip(payload, reply.bytes_per_second)
        self._leave_service()
        if payload:
            await self._stream.send_all(payload)
        if reply.ending == "reset":
            self._transport.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
        if reply.ending != "keep":
            return False
        if reply.raw is not None:
            return True
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._start_over()
        return True

    async def _follow(self, response: Response, feed: Feed) -> None:
        """Send what the feed has, in chunks, until the client leaves."""
        raw = [(name.encode(), value.encode()) for name, value in response.headers]
        raw.append((b"transfer-encoding", b"chunked"))
        await self._stream.send_all(
            self._http.send(h11.Response(status_code=response.status, headers=raw)) or b""
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_for_hangup, nursery.cancel_scope)
            while True:
                if data := feed.take():
                    await self._stream.send_all(self._http.send(h11.Data(data=data)) or b"")
                await self._server.next_request()
                await trio.sleep(_FEED_FRAME)  # what comes meanwhile goes out together

    def _start_over(self) -> None:
        """Prepare for the next request, part of which h11 may hold already."""
        self._unfed = self._http.trailing_data[0] + self._unfed
        self._http = h11.Connection(h11.SERVER)

    def _encode(self, response: Response, request: Received, *, cut: bool) -> bytes:
        headers = [(name.lower(), value) for name, value in response.headers]
        names = {name for name, _ in headers}
        bodiless = request.method == "HEAD" or response.status in _NO_BODY
        if response.status not in _NO_BODY and not names & {"content-length", "transfer-encoding"}:
            headers.append(("content-length", str(len(response.body))))
        raw = [(name.encode(), value.encode()) for name, value in headers]
        encoded = self._http.send(h11.Response(status_code=response.status, headers=raw)) or b""
        body = response.body[: len(response.body) // 2] if cut else response.body
        if body and not bodiless:
            encoded += self._http.send(h11.Data(data=body)) or b""
        if not cut:
            encoded += self._http.send(h11.EndOfMessage()) or b""
        return encoded

    async def _refuse(self, *, is_too_large: bool) -> None:
        """Refuse what is not HTTP, or has too large a head, in no envelope, as the service's server does."""
        status, phrase, message = 400, "Bad Request", "Client Error"
        if is_too_large:
            status, phrase = 431, "Request Header Fields Too Large"
            message = "Exceeded maximum allowed HTTP header size"
        content = {"error": phrase, "message": message, "statusCode": status}
        body = json.dumps(content, separators=(",", ":"))
        head = f"HTTP/1.1 {status} {phrase}\r\nContent-Length: {len(body)}\r\nContent-Type: application/json"
        await self._stream.send_all(f"{head}\r\n\r\n{body}".encode())
        await self._drain()

    async def _drain(self) -> None:
        """Read what the client still sends, for a while: closing at once would reset the connection."""
        if self._stream is self._transport:
            await self._transport.send_eof()
        unread = _MAX_DRAINED
        with trio.move_on_after(_DRAIN_SECONDS):
            while unread > 0 and (data := await self._stream.receive_some(_READ)):
                unread -= len(data)

    async def _wait(self, reply: Reply) -> bool:
        """Wait as the reply says; `False` if the client went away meanwhile."""
        held = False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_for_hangup, nursery.cancel_scope)
            if reply.delay:
                await trio.sleep(reply.delay)
            if reply.hold is not None:
                await _released(reply.hold)
            held = True
            nursery.cancel_scope.cancel()
        return held

    async def _watch_for_hangup(self, scope: trio.CancelScope) -> None:
        try:
            await trio.lowlevel.wait_readable(self._transport.socket)
            if await self._transport.socket.recv(1, socket.MSG_PEEK):
                return  # the next request, sent ahead
        except OSError:
            pass  # reset
        scope.cancel()

    async def _drip(self, payload: bytes, bytes_per_second: float) -> bytes:
        """Send all but the last bytes, slowly; return these."""
        step = max(1, int(bytes_per_second / _DRIPS_PER_SECOND))
        while len(payload) > step:
            await self._stream.send_all(payload[:step])
            await trio.sleep(step / bytes_per_second)
            payload = payload[step:]
        return payload


def _check_head(head: h11.Request) -> None:
    """Refuse a head that Node's parser refuses.

    Raises:
        h11.RemoteProtocolError: It is too large, gives two framings, or is of another version.
    """
    if head.http_version not in {b"1.0", b"1.1"}:
        raise h11.RemoteProtocolError("another version")
    names = {name for name, _ in head.headers}
    if {b"transfer-encoding", b"content-length"} <= names:
        raise h11.RemoteProtocolError("two framings")
    size = len(head.target) + sum(len(name) + len(value) for name, value in head.headers)
    if size >= _MAX_HEAD:
        raise h11.RemoteProtocolError("head too large", error_status_hint=431)


async def _released(hold: Hold) -> None:
    released = trio.Event()
    token = trio.lowlevel.current_trio_token()

    def wake() -> None:
        with suppress(trio.RunFinishedError):  # the server has ended meanwhile
            token.run_sync_soon(released.set)

    hold.arrive(wake)
    await released.wait()
