"""A ClockNext client for Twisted; docs/writing-a-driver.md explains it step by step."""

# Twisted's own Failure is not typed:
# mypy: allow-untyped-calls
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownLambdaType=false

from collections.abc import Callable
from contextlib import closing
from typing import Any, cast, final

from twisted.internet import error, interfaces, protocol, ssl, task
from twisted.internet import reactor as installed_reactor
from twisted.internet.base import DelayedCall, ReactorBase
from twisted.internet.defer import CancelledError, Deferred, DeferredQueue, succeed
from twisted.internet.endpoints import HostnameEndpoint
from twisted.python.failure import Failure

from clocknext_core import Answer, ClockNextError, Engine, Origin, Request, Transmit, Wait
from clocknext_transports.client.serving import Serving
from clocknext_transports.http11 import Age, Connect, Connection, Exchange, Pool, Receive, Send
from clocknext_transports.http11.sockets import Poller
from clocknext_transports.loops.calls import Calls
from clocknext_transports.loops.calls import Transport as AnyTransport
from clocknext_transports.loops.client import LoopClient
from clocknext_transports.loops.tasks import Tasks

reactor = cast(ReactorBase, installed_reactor)
clock = cast(interfaces.IReactorTime, installed_reactor)


class Stream(protocol.Protocol):
    """A connection and its HTTP state."""

    transport: Any  # its type in Twisted says too little

    def connectionMade(self) -> None:  # noqa: N802 - Twisted's name
        self.connection = Connection()
        self.age = Age(reactor.seconds(), reactor.seconds())
        self.received: DeferredQueue[bytes | Failure] = DeferredQueue()
        self.poller = Poller(self.transport.getHandle())

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        self.age.used_at = reactor.seconds()
        self.received.put(data)
        if self.received.pending:  # nobody waits for it: read no more than this
            self.transport.pauseProducing()

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:  # noqa: N802
        self.received.put(b"" if reason.check(error.ConnectionDone) else Failure(OSError(str(reason.value))))

    def is_stale(self) -> bool:
        is_old = self.age.is_over(reactor.seconds(), self.connection)
        return is_old or bool(self.received.pending) or self.poller.is_readable()

    def abort(self) -> None:
        self.transport.abortConnection()


class Transport:
    """HTTP/1.1 over the reactor, for one host: `tls` is for that, and trusts whom the system trusts."""

    def __init__(self, max_idle: int, tls: interfaces.IOpenSSLClientConnectionCreator | None = None) -> None:
        self._pool: Pool[Stream] = Pool(max_idle)
        self._tls = tls

    async def exchange(self, request: Request, *, deadline_at: float) -> Answer:
        left = max(0.0, deadline_at - reactor.seconds())
        with closing(Exchange(request, self._pool)) as exchange:
            driving = Deferred.fromCoroutine(exchange.drive(self._take))
            return await driving.addTimeout(left, clock, lambda *_: exchange.expire())

    async def aclose(self) -> None:
        self._pool.clear()
        await task.deferLater(clock, 0)  # then the reactor has let go of them

    def _take(self, step: Connect | Send[Stream] | Receive[Stream]) -> Deferred[Any]:
        match step:
            case Connect(origin):
                return self._connect(origin)
            case Send(stream, data):
                return succeed(stream.transport.write(bytes(data)))
            case Receive(stream):
                stream.transport.resumeProducing()
                # A turn later, all that TLS had in the same segment is there, and a surplus shows.
                return stream.received.get().addCallback(lambda data: task.deferLater(clock, 0, lambda: data))

    def _connect(self, origin: Origin) -> Deferred[Stream]:
        factory = cast(interfaces.IProtocolFactory, protocol.Factory.forProtocol(Stream))
        connecting = HostnameEndpoint(reactor, origin.host, origin.port).connect(factory)

        def cancel(connected: Deferred[Any]) -> None:
            connected.errback(CancelledError())  # cancelled in a look-up, the endpoint says that it failed
            connecting.cancel()

        def settle(result: object) -> None:
            if isinstance(result, Failure):
                result = Failure(OSError(result.getErrorMessage()))  # as which the exchange knows errors
            elif isinstance(result, Stream) and origin.scheme == "https":
                self._tls = self._tls or ssl.optionsForClientTLS(origin.server_name)
                result.transport.startTLS(self._tls)
            if not connected.called:
                connected.callback(result)

        connected = Deferred[Any](cancel)
        connecting.addBoth(settle)
        return connected


class Event(Deferred[None]):
    """Wakes the one coroutine that waits for it. Any thread may set it, and the driver's lock may be held."""

    def set(self) -> None:
        reactor.callFromThread(lambda: None if self.called else self.callback(None))

    async def wait(self, until: float | None = None) -> None:  # noqa: ARG002 - the outbox has the deadline
        await self


class Background(Tasks):
    """Serves when it is called, and when time is up."""

    timer: DelayedCall | None = None
    attempts: tuple[Deferred[None], ...] = ()

    @property
    def is_working(self) -> bool:
        return self.timer is not None and self.timer.active()

    def wake(self) -> None:
        self.work_at(reactor.seconds())

    def work_at(self, at: float | None) -> None:
        if self.timer is not None and self.timer.active():
            self.timer.cancel()
        if at is not None:
            self.timer = reactor.callLater(max(0.0, at - reactor.seconds()), self.work)

    def work(self) -> None:
        output = self.serve_all(self.start)
        self.work_at(output.until if isinstance(output, Wait) else None)

    async def cancel(self) -> None:
        for attempt in self.attempts:
            attempt.cancel()
        self.work_at(None)

    def start(self, transmit: Transmit) -> None:
        attempt = Deferred.fromCoroutine(self.send(transmit))
        attempt.addErrback(Failure.trap, CancelledError)
        self.attempts = (*(each for each in self.attempts if not each.called), attempt)


class Driver(Calls[Background]):
    """Carries calls out in the caller's coroutine."""

    cancellations = (CancelledError,)

    def _now(self) -> float:
        return reactor.seconds()

    def _make_event(self) -> Event:
        return Event()

    def _make_background(self, serving: Serving) -> Background:
        return Background(serving, self._exchange, Event)

    def _reach(self, call: Callable[[], object]) -> bool:
        if is_running := reactor.running:
            reactor.callFromThread(call)
        return is_running

    async def _sleep_until(self, at: float) -> None:
        await task.deferLater(clock, max(0.0, at - reactor.seconds()))


@final
class TwistedClockNext(LoopClient[Driver]):
    """A client of ClockNext for the reactor's thread: its methods are coroutine functions."""

    def _make_driver(self, engine: Engine, transport: AnyTransport) -> Driver:
        return Driver(engine, transport, self._hooks)

    def _native_transport(self) -> Transport:
        return Transport(self.config.batch.most_concurrency)

    def _proxied_transport(self, proxy: str) -> Transport:
        raise ClockNextError(f"The environment names a proxy, {proxy}, which this client can't use.")
