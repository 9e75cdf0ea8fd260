"""Run the emulator: in a background thread for a test, or in the foreground for the command line.

trio is imported when a server is started: ledger, faults and catalogue work without it.
"""

import os
import socket
import sys
import threading
from collections.abc import Callable, Collection, Generator
from concurrent.futures import Future
from contextlib import contextmanager
from ssl import SSLContext
from typing import TYPE_CHECKING

from clocknext_transports.emulator.api.exchange import Received, Reply, Responder
from clocknext_transports.emulator.api.ingest import AcceptOnly
from clocknext_transports.emulator.api.ledger import Ledger
from clocknext_transports.emulator.books.checks import check_kind, shown, with_article
from clocknext_transports.emulator.server.faults import Faults
from clocknext_transports.emulator.server.service import CONTROL, Service

if TYPE_CHECKING:
    import trio

    from clocknext_transports.emulator.server.http_server import HttpServer

LOOPBACK = "127.0.0.1"
_MAX_PORT = 65_535
_OF_MODELS = ("/v1/", "/v1beta/", "/v1alpha/")


class LoopbackServer:
    """A running server. Its figures can be read from any thread."""

    def __init__(self, http: "HttpServer", url: str) -> None:
        self._http = http
        self.url = url
        """`http://127.0.0.1:PORT`, or `https` with an `ssl_context`."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}>"

    @property
    def port(self) -> int:
        """The TCP port it listens on."""
        return int(self.url.rpartition(":")[2])

    @property
    def connections(self) -> int:
        """The number of connections accepted so far."""
        return self._http.connections

    @property
    def in_service(self) -> int:
        """The number of requests read and not yet answered."""
        return self._http.in_service

    @property
    def max_in_service(self) -> int:
        """The highest number of requests in service at once."""
        return self._http.max_in_service


class EmulatorServer(LoopbackServer):
    """A running emulator. Its ledger and faults can be read and changed while it runs."""

    def __init__(self, http: "HttpServer", url: str, service: Service) -> None:
        super().__init__(http, url)
        self.ledger: Ledger = service.ledger
        self.faults: Faults = service.faults

    @property
    def page_url(self) -> str:
        """Where a browser shows the ledger."""
        return self.url + CONTROL

    @property
    def api_key(self) -> str:
        """The API key that it lets in."""
        return self.ledger.api_key


@contextmanager
def emulator(
    ledger: Ledger | None = None,
    faults: Faults | None = None,
    *,
    accept_only: AcceptOnly | None = None,
    port: int = 0,
    host: str = LOOPBACK,
    ssl_context: SSLContext | None = None,
    allow_hosts: Collection[str] = (),
) -> Generator[EmulatorServer, None, None]:
    """Run a ClockNext in a background thread for as long as the `with` block lasts.

    Args:
        ledger: The ledger that answers. Default: a new one with the default catalogue.
        faults: The faults. Default: none; add some with `server.faults`.
        accept_only: The state of the ingest that a new ledger imitates; see `Ledger`.
        port: TCP port; 0: any free one.
        host: Address to listen on. The emulator is not made for a network: keep it to loopback.
        ssl_context: Serve https with this server-side context.
        allow_hosts: Names with a dot by which a browser may open the page, such as that of a container. The
            API itself answers under any name.

    Yields:
        The running server: `.url`, `.api_key`, `.ledger`, `.faults`.

    Raises:
        ImportError: trio is not installed.
        OSError: The port is taken.
        ValueError: A `ledger`, `faults`, `port` or `host` of the wrong type, an unknown `accept_only`, or one
            beside a `ledger`, which states its own.
    """
    service = _shared(ledger, faults, accept_only, allow_hosts)
    with background(service, port=port, host=host, ssl_context=ssl_context) as (http, url):
        yield EmulatorServer(http, url, service)


async def serve(
    ledger: Ledger | None = None,
    faults: Faults | None = None,
    *,
    port: int = 0,
    host: str = LOOPBACK,
    ssl_context: SSLContext | None = None,
    accept_only: AcceptOnly | None = None,
    task_status: "trio.TaskStatus[EmulatorServer] | None" = None,
) -> None:
    """Run a ClockNext as a trio task until it is cancelled: `server = await nursery.start(serve)`.

    The arguments and errors are those of `emulator`.
    """
    service = _shared(ledger, faults, accept_only)
    http, listening, url = _prepare(service, port=port, host=host, ssl_context=ssl_context)
    if task_status is not None:
        task_status.started(EmulatorServer(http, url, service))
    await http.serve(listening)


def run(
    ledger: Ledger | None = None,
    faults: Faults | None = None,
    *,
    port: int = 8787,
    host: str = LOOPBACK,
    ssl_context: SSLContext | None = None,
    accept_only: AcceptOnly | None = None,
    allow_hosts: Collection[str] = (),
    models: Responder | None = None,
    on_listening: Callable[[EmulatorServer], object] | None = None,
    on_signal: Callable[[str], object] | None = None,
) -> None:
    """Run a ClockNext in the foreground until SIGINT (Ctrl-C) or SIGTERM, then return. Main thread only.

    The arguments and errors are those of `emulator`.

    Args:
        ledger: The ledger that answers.
        faults: The faults.
        port: TCP port.
        host: Address to listen on.
        ssl_context: Serve https with this.
        accept_only: The state of the ingest that a new ledger imitates.
        allow_hosts: As for `emulator`.
        models: Answers the paths of model providers, `/v1/…` and `/v1beta/…`, such as a `ModelService`.
        on_listening: Called once, when the server listens.
        on_signal: Called with one printable line for each signal that was answered.

    Raises:
        RuntimeError: At the end, if the responder raised.
    """
    service = _shared(ledger, faults, accept_only, allow_hosts, on_signal)
    responder = service if models is None else _Both(service, models)
    http, listening, url = _prepare(responder, port=port, host=host, ssl_context=ssl_context)

    def started() -> None:
        if on_listening is not None:
            on_listening(EmulatorServer(http, url, service))

    http.run_until_signalled(listening, started)
    _report(http)


@contextmanager
def background(
    responder: Responder, *, port: int, host: str, ssl_context: SSLContext | None
) -> "Generator[tuple[HttpServer, str], None, None]":
    """Serve any responder from a background thread; yields the server and its URL.

    A block that is never left, as of a context entered by hand in a REPL, keeps no process alive.

    Raises:
        RuntimeError: At the end of the block, if the responder raised. The connection of that request was
            closed without an answer, and the server went on.
    """
    http, listening, url = _prepare(responder, port=port, host=host, ssl_context=ssl_context)
    stopper: Future[Callable[[], None]] = Future()
    failure: Future[None] = Future()

    def main() -> None:
        try:
            http.run_until_stopped(listening, stopper.set_result)
        except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
            (failure if stopper.done() else stopper).set_exception(error)
        else:
            failure.set_result(None)

    thread = threading.Thread(target=main, name=f"emulator at {url}", daemon=True)
    thread.start()
    stop = stopper.result()
    try:
        yield http, url
    finally:
        # A block that nobody left ends with the interpreter, when its threads no longer run: to wait for the
        # server would take for ever. The system closes its sockets.
        if not sys.is_finalizing():
            stop()
            thread.join()
            if (error := failure.exception()) is not None:
                raise RuntimeError("The emulator's server failed.") from error
            _report(http)


class _Both:
    """Answer the paths of model providers by one responder, and all others by another."""

    def __init__(self, service: Service, models: Responder) -> None:
        self._service = service
        self._models = models

    def respond(self, request: Received, *, now: float) -> Reply:
        is_models = request.path.startswith(_OF_MODELS)
        return (self._models if is_models else self._service).respond(request, now=now)


def _report(http: "HttpServer") -> None:
    if http.failure is not None:
        raise RuntimeError("The emulator failed to answer a request.") from http.failure


def _shared(
    ledger: Ledger | None,
    faults: Faults | None,
    accept_only: AcceptOnly | None,
    allow_hosts: Collection[str] = (),
    on_signal: Callable[[str], object] | None = None,
) -> Service:
    _check_ledger(ledger)
    if faults is not None:
        check_kind("The faults of an emulator", faults, Faults)
    if ledger is not None and accept_only is not None:
        raise ValueError("Give accept_only to the Ledger, not beside it.")
    service = Service(
        ledger or Ledger(accept_only=accept_only),
        faults or Faults(),
        server_id=os.urandom(8).hex(),
        allow_hosts=allow_hosts,
        on_signal=on_signal,
    )
    service.ledger.guard = service.faults.guard = threading.RLock()
    return service


def _check_ledger(ledger: object) -> None:
    if ledger is not None and not isinstance(ledger, Ledger):
        # Only the type: a string may be an API key.
        got = with_article(type(ledger))
        raise ValueError(f"emulator() takes a Ledger: emulator(Ledger(catalogue)); it got {got}.")


def _check_port(port: object) -> None:
    if not isinstance(port, int) or isinstance(port, bool) or not 0 <= port <= _MAX_PORT:
        raise ValueError(f"The port must be an integer from 0 to {_MAX_PORT}; not {shown(port)}.")


def _prepare(
    responder: Responder, *, port: int, host: str, ssl_context: SSLContext | None
) -> "tuple[HttpServer, socket.socket, str]":
    _check_port(port)
    check_kind("The host", host, str)  # an empty one listens on every address
    try:
        from clocknext_transports.emulator.server.http_server import HttpServer
    except ModuleNotFoundError as error:
        if error.name != "trio":
            raise
        raise ImportError("The emulator's server needs trio: pip install 'clocknext[cli]'") from error
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.create_server((host, port), family=family, backlog=1024)
    scheme = "http" if ssl_context is None else "https"
    authority = f"[{host}]" if family is socket.AF_INET6 else host
    if not host or _is_number(host):
        authority = listening.getsockname()[0]
    return (
        HttpServer(responder, ssl_context),
        listening,
        f"{scheme}://{authority}:{listening.getsockname()[1]}",
    )


def _is_number(host: str) -> bool:
    """Return whether a host is an IPv4 address, perhaps in a form that no URL may have, such as `127.1`."""
    try:
        socket.inet_aton(host)
    except OSError:
        return False
    return True
