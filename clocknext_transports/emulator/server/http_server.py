"""HTTP/1.1 over trio and h11: read a request, ask the responder, obey its reply. Nothing is decided here."""

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
from clocknext_transports.emulator.api.exchange import Hold, Received, Reply, Responder

_READ: Final = 65_536
_MAX_KEPT: Final = 1024 * 1024
"""Bytes of a request body that are kept. The rest is read and thrown away: far above what the API takes."""
_NO_BODY: Final = frozenset({204, 304})
_LINGER_RESET: Final = struct.pack("ii", 1, 0)
_DRIPS_PER_SECOND: Final = 20


class HttpServer:
    """Serve one listening socket until cancelled.

    Args:
        responder: Decides what to answer; called from the trio thread only.
        ssl_context: Serve TLS with this.
    """

    def __init__(self, responder: Responder, ssl_context: SSLContext | None) -> None:
        self._responder = responder
        self._ssl_context = ssl_context
        self.connections = 0
        """How many connections have been accepted so far."""
        self.in_service = 0
        """How many requests have been read and their answers not yet sent, but for the last bytes."""
        self.max_in_service = 0
        """The most there ever were at once."""
        self.failure: Exception | None = None
        """What the responder raised, if it did: the server ends there and then."""

    async def serve(
        self,
        listening: socket.socket,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Accept connections from a bound, listening socket, and close it in the end."""
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening))
        async with listener:
            task_status.started()
            await trio.serve_listeners(self._serve_connection, [listener])

    def run_until_stopped(
        self, listening: socket.socket, on_started: Callable[[Callable[[], None]], object]
    ) -> None:
        """Serve until stopped; `on_started` is given a function that does so, from any thread."""

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

    async def _serve_connection(self, transport: trio.SocketStream) -> None:
        self.connections += 1
        stream: trio.abc.Stream = transport
        if self._ssl_context is not None:
            stream = trio.SSLStream(transport, self._ssl_context, server_side=True, https_compatible=True)
        connection = _Connection(self, stream, transport, self.connections)
        try:
            with suppress(trio.BrokenResourceError):  # the peer went away: nobody is left to tell
                await connection.converse(self._responder)
        except Exception as error:
            # Kept besides being raised: a cancellation that comes meanwhile would take its place.
            self.failure = error
            raise
        finally:
            await trio.aclose_forcefully(transport)


class _Connection:
    def __init__(
        self, server: HttpServer, stream: trio.abc.Stream, transport: trio.SocketStream, number: int
    ) -> None:
        self._server = server
        self._stream = stream
        self._transport = transport
        self._number = number
        self._http = h11.Connection(h11.SERVER)
        self._in_service = False

    def _enter_service(self) -> None:
        self._in_service = True
        self._server.in_service += 1
        self._server.max_in_service = max(self._server.max_in_service, self._server.in_service)

    def _leave_service(self) -> None:
        # Called before the last bytes go out: a client that has its answer and sends the next request must
        # never be counted twice.
        if self._in_service:
            self._in_service = False
            self._server.in_service -= 1

    async def converse(self, responder: Responder) -> None:
        while True:
            try:
                request = await self._receive()
            except h11.RemoteProtocolError as error:
                await self._refuse(error)
                return
            if request is None:
                return
            self._enter_service()
            try:
                reply = responder.respond(request, now=time.time())
                goes_on = await self._obey(reply, request)
            finally:
                self._leave_service()
            if not goes_on:
                return

    async def _receive(self) -> Received | None:
        """Read the next request whole; `None` when the client has closed."""
        head: h11.Request | None = None
        body = bytearray()
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                if self._http.they_are_waiting_for_100_continue:
                    go_ahead = h11.InformationalResponse(status_code=100, headers=[])
                    await self._stream.send_all(self._http.send(go_ahead) or b"")
                self._http.receive_data(bytes(await self._stream.receive_some(_READ)))
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                if len(body) < _MAX_KEPT:
                    body += event.data
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                return self._received(head, bytes(body))
            else:
                return None

    def _received(self, head: h11.Request, body: bytes) -> Received:
        headers = dict[str, str]()
        for raw_name, raw_value in head.headers:
            name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return Received(head.method.decode(), head.target.decode("latin-1"), headers, body, self._number)

    async def _obey(self, reply: Reply, request: Received) -> bool:
        """Do what the reply says; whether the connection is good for another request."""
        if (reply.delay or reply.gate is not None) and not await self._hold(reply):
            return False
        payload = reply.surplus
        if reply.raw is not None:
            payload = reply.raw + payload
            # What was sent may be no HTTP at all: start over with whatever the client has sent since.
            self._http, ended = h11.Connection(h11.SERVER), self._http
            if sent_ahead := ended.trailing_data[0]:
                self._http.receive_data(sent_ahead)
        elif reply.response is not None:
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
        self._http.start_next_cycle()
        return True

    def _encode(self, response: Response, request: Received, *, cut: bool) -> bytes:
        headers = [(name.lower(), value) for name, value in response.headers]
        names = {name for name, _ in headers}
        bodiless = request.method == "HEAD" or response.status in _NO_BODY
        if not bodiless and not names & {"content-length", "transfer-encoding"}:
            headers.append(("content-length", str(len(response.body))))
        encoded = self._http.send(h11.Response(status_code=response.status, headers=headers)) or b""
        body = response.body[: len(response.body) // 2] if cut else response.body
        if body and not bodiless:
            encoded += self._http.send(h11.Data(data=body)) or b""
        if not cut:
            encoded += self._http.send(h11.EndOfMessage()) or b""
        return encoded

    async def _refuse(self, error: h11.RemoteProtocolError) -> None:
        if self._http.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            return
        text = f"{error}\n".encode()
        headers = [
            ("content-type", "text/plain"),
            ("content-length", str(len(text))),
            ("connection", "close"),
        ]
        response = h11.Response(status_code=error.error_status_hint, headers=headers)
        await self._stream.send_all(
            (self._http.send(response) or b"")
            + (self._http.send(h11.Data(data=text)) or b"")
            + (self._http.send(h11.EndOfMessage()) or b"")
        )

    async def _hold(self, reply: Reply) -> bool:
        """Wait as the reply says; `False` if the client went away meanwhile."""
        held = False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_for_hangup, nursery.cancel_scope)
            if reply.delay:
                await trio.sleep(reply.delay)
            if reply.gate is not None:
                await _pass(reply.gate)
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
        """Send all but the last drop, slowly; return that."""
        step = max(1, int(bytes_per_second / _DRIPS_PER_SECOND))
        while len(payload) > step:
            await self._stream.send_all(payload[:step])
            await trio.sleep(step / bytes_per_second)
            payload = payload[step:]
        return payload


async def _pass(gate: Hold) -> None:
    opened = trio.Event()
    token = trio.lowlevel.current_trio_token()

    def wake() -> None:
        with suppress(trio.RunFinishedError):  # released after the server had gone: nobody waits any more
            token.run_sync_soon(opened.set)

    gate.arrive(wake)
    await opened.wait()
