"""A transport as somebody else would write one, over h11; and the mistakes that they may make in it."""

import json
import socket
import threading
import time
from typing import Final
from urllib.parse import unquote

import h11

from clocknext_core import Answer, Failure, Request, Response

MISTAKES: Final = (
    "repeats",
    "keeps its connection",
    "doubts every failure",
    "trusts every failure",
    "follows redirects",
    "waits for each piece",
    "reads on and on",
    "raises",
    "drops a header",
    "adds a cookie",
    "encodes again",
    "decodes the target",
    "takes any target",
    "notes no time",
    "takes an interim answer",
    "takes half an answer",
    "shows the key",
    "ignores the past",
    "one at a time",
    "mixes answers up",
)
LIMIT: Final = 1024 * 1024


class Homemade:
    """A connection for each exchange.

    Args:
        mistake: One of `MISTAKES`. Default: it makes none.
    """

    def __init__(self, mistake: str | None = None) -> None:
        self._mistake = mistake
        self._lock = threading.Lock()
        self._kept: tuple[socket.socket, h11.Connection] | None = None
        self._last: Answer | None = None

    def exchange(self, request: Request, *, deadline_at: float) -> Answer:
        """Send a request and return its answer."""
        if self._mistake == "one at a time":
            with self._lock:
                return self._exchange(request, deadline_at)
        answer = self._exchange(request, deadline_at)
        if self._mistake == "repeats" and isinstance(answer, Failure):
            answer = self._exchange(request, deadline_at)
        if self._mistake == "mixes answers up":
            earlier, self._last = self._last, answer
            return answer if earlier is None else earlier
        return answer

    def close(self) -> None:
        """Close the connection that was kept."""
        if self._kept is not None:
            self._kept[0].close()

    def _exchange(self, request: Request, deadline_at: float) -> Answer:
        mistake = self._mistake
        if not request.target.startswith("/") and mistake != "takes any target":
            return Failure("The target would lead to another host.", processed=False)
        if mistake == "ignores the past":
            deadline_at = max(deadline_at, time.monotonic() + 0.3)
        taken = self._kept
        self._kept = None
        if taken is None:
            try:
                place = (request.origin.host, request.origin.port)
                taken = (socket.create_connection(place, _left(deadline_at)), h11.Connection(h11.CLIENT))
            except OSError as error:
                if mistake == "raises":
                    raise
                shown = f" {request.headers}" if mistake == "shows the key" else ""
                return Failure(
                    f"Could not connect: {error}{shown}", processed=mistake == "doubts every failure"
                )
        stream, connection = taken
        try:
            answer = self._speak(stream, connection, request, deadline_at)
        except (OSError, h11.ProtocolError) as error:
            stream.close()
            return Failure(f"The exchange broke: {error}", processed=mistake != "trusts every failure")
        if mistake == "keeps its connection" and connection.our_state is connection.their_state is h11.DONE:
            connection.start_next_cycle()
            self._kept = (stream, connection)
        else:
            stream.close()
        if mistake == "follows redirects" and isinstance(answer, Response) and answer.status == 302:
            return self._exchange(request, deadline_at)
        return answer

    def _speak(
        self, stream: socket.socket, connection: h11.Connection, request: Request, deadline_at: float
    ) -> Answer:
        mistake = self._mistake
        body = request.body or b""
        if mistake == "encodes again" and body:
            body = json.dumps(json.loads(body)).encode()
        headers = [("Host", request.origin.authority), *request.headers, ("Content-Length", str(len(body)))]
        if mistake == "drops a header":
            headers = [each for each in headers if each[0].lower() != "authorization"]
        if mistake == "adds a cookie":
            headers.append(("Cookie", "a=b"))
        target = unquote(request.target) if mistake == "decodes the target" else request.target
        head = h11.Request(method=request.method, target=target.encode(), headers=headers)
        stream.settimeout(_left(deadline_at))
        for part in (head, h11.Data(data=body), h11.EndOfMessage()):
            stream.sendall(connection.send(part) or b"")
        status, answered, read = 0, list[tuple[str, str]](), b""
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                if mistake != "waits for each piece":
                    stream.settimeout(_left(deadline_at))
                piece = stream.recv(65_536)
                if not piece and mistake == "takes half an answer" and status:
                    break
                connection.receive_data(piece)
            elif isinstance(event, h11.InformationalResponse) and mistake != "takes an interim answer":
                continue
            elif isinstance(event, (h11.Response, h11.InformationalResponse)):
                status = event.status_code
                answered = [(name.decode(), value.decode("latin-1")) for name, value in event.headers]
                if isinstance(event, h11.InformationalResponse):
                    break
            elif isinstance(event, h11.Data):
                read += event.data
                if len(read) > LIMIT and mistake != "reads on and on":
                    raise OSError("the answer is too long")
            elif isinstance(event, h11.EndOfMessage):
                break
            else:
                raise OSError("the connection was closed")
        return Response(status, answered, read, None if mistake == "notes no time" else time.time())


def _left(deadline_at: float) -> float:
    left = deadline_at - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left
