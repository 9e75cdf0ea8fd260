"""A server that answers from a list: to replay recorded exchanges, and for answers that no API gives."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from ssl import SSLContext
from threading import Lock
from typing import TYPE_CHECKING, TypeAlias

from clocknext_core.messages import Header, Response
from clocknext_transports.emulator.api.exchange import Hold, Received, Reply
from clocknext_transports.emulator.books.checks import check_members
from clocknext_transports.emulator.server.server import LOOPBACK, LoopbackServer, background

if TYPE_CHECKING:
    from clocknext_transports.emulator.server.http_server import HttpServer

Headers: TypeAlias = Mapping[str, str] | Sequence[Header]
PlainAnswer: TypeAlias = tuple[int, Headers, bytes] | bytes | Reply
"""Status, headers and body; or raw bytes, after which the connection is closed; or a `Reply` for everything
else (delays, resets, drips)."""


@dataclass(frozen=True, slots=True)
class OnHold:
    """An answer that waits until its hold is released."""

    hold: Hold
    answer: PlainAnswer


Answer: TypeAlias = PlainAnswer | OnHold | Callable[[Received], PlainAnswer | OnHold]
"""A function is called with the request, on the server's thread."""


class Script:
    """Answer requests from a list, in the order they arrive; the last answer repeats."""

    def __init__(self, answers: Sequence[Answer]) -> None:
        check_members("The answers of a scripted server", answers, object)
        if not answers:
            raise ValueError("A scripted server needs at least one answer.")
        self._answers = answers
        self._requests: list[Received] = []
        self._lock = Lock()

    @property
    def requests(self) -> tuple[Received, ...]:
        """Every request so far, in order of arrival."""
        with self._lock:
            return tuple(self._requests)

    def respond(self, request: Received, *, now: float) -> Reply:
        """Give the next answer."""
        del now
        with self._lock:
            answer = self._answers[min(len(self._requests), len(self._answers) - 1)]
            self._requests.append(request)
        if callable(answer):
            answer = answer(request)
        if isinstance(answer, OnHold):
            return replace(_reply(answer.answer), hold=answer.hold)
        return _reply(answer)


class ScriptedServer(LoopbackServer):
    """A running scripted server."""

    def __init__(self, http: "HttpServer", url: str, script: Script) -> None:
        super().__init__(http, url)
        self._script = script

    @property
    def requests(self) -> tuple[Received, ...]:
        """Every request so far, in order of arrival: method, target, headers, body, connection."""
        return self._script.requests


@contextmanager
def scripted(
    answers: Sequence[Answer],
    *,
    port: int = 0,
    host: str = LOOPBACK,
    ssl_context: SSLContext | None = None,
) -> Generator[ScriptedServer, None, None]:
    """Run a scripted server in a background thread for as long as the `with` block lasts.

    The headers of an answer are sent as given; the server only adds a Content-Length where they give no
    framing. Requests are answered in order of arrival over all connections.

    Args:
        answers: One or more; the last repeats.
        port: TCP port; 0: any free one.
        host: Address to listen on.
        ssl_context: Serve https with this server-side context.

    Yields:
        The running server: `.url`, `.requests`, `.max_in_service`, `.connections`.
    """
    script = Script(answers)
    with background(script, port=port, host=host, ssl_context=ssl_context) as (http, url):
        yield ScriptedServer(http, url, script)


def _reply(answer: PlainAnswer) -> Reply:
    if isinstance(answer, Reply):
        return answer
    if isinstance(answer, bytes):
        return Reply(raw=answer, ending="close")
    status, headers, body = answer
    pairs = tuple(headers.items()) if isinstance(headers, Mapping) else tuple(headers)
    return Reply(Response(status, pairs, body))
