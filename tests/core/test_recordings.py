"""Every recorded exchange, replayed through the core alone: a scripted peer, virtual time, no I/O."""

from dataclasses import replace
from random import Random
from typing import Any, assert_never

import pytest

from clocknext_core import (
    Call,
    ClockNextError,
    Closed,
    Config,
    Delivered,
    Dropped,
    Emptied,
    EncodedSignal,
    Engine,
    FallingBehind,
    FlushReport,
    GivenUp,
    HookEvent,
    KeyRefused,
    Mending,
    Misdirected,
    Operation,
    Outbox,
    Rejected,
    Request,
    Response,
    Retrying,
    Settled,
    TrackResult,
    Transmit,
    Wait,
)
from clocknext_core.delivery import signal_operation
from clocknext_core.resources.binding import Blocking
from clocknext_core.resources.credits import Credits
from clocknext_core.resources.customers import Customers
from clocknext_core.resources.invoices import Invoices
from clocknext_core.resources.outcomes import Outcomes
from clocknext_core.resources.payments import Payments
from clocknext_core.resources.plans import Plans
from clocknext_core.resources.portal import Portal
from clocknext_core.resources.purchases import Purchases
from clocknext_core.resources.signals import Signals
from clocknext_core.resources.units import Units
from clocknext_core.resources.webhooks import Webhooks
from clocknext_core.resources.workspace import Workspace
from tests.core.support import KEY, counting_keys
from tests.recordings import Exchange, HookLog, SeenRequest, bound_call, load_exchanges

EXCHANGES = load_exchanges()


class Peer:
    """The recorded server: answers request after request, and writes down what it saw."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.seen: list[SeenRequest] = []

    def accept(self, request: Request) -> Response:
        """Take a request and return its answer."""
        headers = {name.lower(): value for name, value in request.headers}
        scripted = self.exchange.answer(len(self.seen))
        self.seen.append(SeenRequest(request.method, request.target, headers, request.body))
        return Response(scripted.status, list(scripted.headers.items()), scripted.body.encode())


class CoreClient(Blocking):
    """The least there is to a client: the pure core, the recorded peer, and a clock that jumps."""

    is_async = False
    cancellations: tuple[type[BaseException], ...] = ()

    def __init__(self, exchange: Exchange, base_url: str = "https://app.clocknext.com") -> None:
        config = Config(KEY, base_url, batch=exchange.batch, retry=exchange.retry)
        self.engine = Engine(config, rng=Random(0), make_key=counting_keys())
        self.peer = Peer(exchange)
        self.hooks = HookLog()
        self.now = 0.0
        self.most_in_flight = 0
        self.signals: Signals[Blocking] = Signals(self)
        self.customers: Customers[Blocking] = Customers(self)
        self.portal: Portal[Blocking] = Portal(self)
        self.plans: Plans[Blocking] = Plans(self)
        self.credits: Credits[Blocking] = Credits(self)
        self.outcomes: Outcomes[Blocking] = Outcomes(self)
        self.units: Units[Blocking] = Units(self)
        self.purchases: Purchases[Blocking] = Purchases(self)
        self.invoices: Invoices[Blocking] = Invoices(self)
        self.payments: Payments[Blocking] = Payments(self)
        self.webhooks: Webhooks[Blocking] = Webhooks(self)
        self.workspace: Workspace[Blocking] = Workspace(self)

    def run(self, operation: Operation[Any], /) -> Any:
        """Carry an operation out."""
        return self._drive(self.engine.call(operation))

    def record(self, encoded: EncodedSignal, wait: bool | None = None, /) -> TrackResult:
        """Buffer a signal, or send it and wait."""
        if self.engine.is_awaited(wait):
            result: TrackResult = self._drive(self.engine.call(signal_operation(encoded)))
            return result
        return self.engine.outbox.record(encoded, now=self.now).result

    def hold(self, encoded: EncodedSignal, /) -> None:
        """Buffer a signal."""
        self.engine.outbox.record(encoded, now=self.now)

    def make_key(self) -> str:
        """Make a key."""
        return self.engine.make_key()

    def _drive(self, call: Call[Any]) -> Any:
        while True:
            match output := call.poll(now=self.now):
                case Transmit():
                    call.handle_answer(output.ticket, self.peer.accept(output.request), now=self.now)
                case Retrying():
                    self.hooks.on_retry(output)
                case Settled():
                    return call.result(output)
                case Wait():
                    assert output.until is not None
                    self.now = output.until
                case Closed():
                    raise AssertionError("closed before it settled")
                case _:
                    assert_never(output)

    def flush_and_close(self) -> FlushReport:
        """Deliver what is buffered: answers come only when everything that may be in flight is."""
        outbox = self.engine.outbox
        assert isinstance(outbox, Outbox)  # there is no spool
        ticket = outbox.flush(now=self.now)
        report: FlushReport | None = None
        in_flight: list[tuple[int, Response]] = []
        while True:
            match output := outbox.poll(now=self.now):
                case Transmit():
                    in_flight.append((output.ticket, self.peer.accept(output.request)))
                    self.most_in_flight = max(self.most_in_flight, len(in_flight))
                case Settled():
                    value = output.unwrap()
                    if output.ticket == ticket:
                        assert isinstance(value, FlushReport)
                        report = value
                        outbox.close(now=self.now)
                case Wait():
                    if in_flight:
                        answered, response = in_flight.pop(0)
                        outbox.handle_answer(answered, response, now=self.now)
                    else:
                        assert output.until is not None
                        self.now = output.until
                case Closed():
                    assert report is not None
                    return report
                case _:
                    self._run_hook(output)

    def _run_hook(self, event: HookEvent) -> None:
        match event:
            case Rejected() | GivenUp():
                self.hooks.on_error(event.error, event.signal)
                self.hooks.on_drop(event.signal, "send_failed")
            case Mending() | KeyRefused() | Misdirected():
                self.hooks.on_error(event.error, event.signal)
            case Dropped():
                self.hooks.on_drop(event.signal, event.reason)
            case Retrying():
                self.hooks.on_retry(event)
            case Emptied():
                self.hooks.on_flush(event.count)
            case Delivered() | FallingBehind():
                pass
            case _:
                assert_never(event)


def outcome_of(client: object, exchange: Exchange) -> object:
    """Make the call of an exchange: what it returns (all items of an iterator), or the error it raises."""
    method, positional, arguments = bound_call(client, exchange)
    try:
        result = method(*positional, **arguments)
        return list(result) if exchange.method.endswith(".iterate") else result
    except ClockNextError as error:
        return error


@pytest.mark.parametrize("exchange", [each for each in EXCHANGES if not each.buffered], ids=str)
def test_a_recorded_call(exchange: Exchange) -> None:
    client = CoreClient(exchange)
    outcome = outcome_of(client, exchange)
    exchange.check_outcome(outcome)
    exchange.check_requests(client.peer.seen, KEY)
    assert client.hooks.seen == exchange.hooks
    assert len({request.body for request in client.peer.seen if request.method == "POST"}) <= 1
    if isinstance(outcome, TrackResult):
        assert outcome.raw.get("usageLog") == exchange.outcome["value"]["usage_log"]


@pytest.mark.parametrize("exchange", [each for each in EXCHANGES if each.buffered], ids=str)
def test_recorded_buffered_signals(exchange: Exchange) -> None:
    client = CoreClient(exchange)
    method, _, _ = bound_call(client, exchange)
    results = [method(**arguments) for arguments in exchange.buffered]
    assert all(result.queued and result.usage_log is None for result in results)
    assert client.peer.seen == []
    held = client.engine.outbox.held
    exchange.check_report(client.flush_and_close())
    exchange.check_requests(client.peer.seen, KEY)
    assert held == len(exchange.requests)
    assert client.hooks.seen == exchange.hooks
    assert client.most_in_flight == exchange.max_in_flight


def test_a_base_url_with_a_path_is_put_before_every_target() -> None:
    exchange = next(each for each in EXCHANGES if each.name == "customers.get")
    client = CoreClient(exchange, "https://proxy.example/billing/")
    exchange.check_outcome(outcome_of(client, exchange))
    prefixed = [replace(request, target=f"/billing{request.target}") for request in exchange.requests]
    replace(exchange, requests=prefixed).check_requests(client.peer.seen, KEY)


def test_pages_are_followed_by_the_runner_of_the_client() -> None:
    exchange = next(each for each in EXCHANGES if each.method == "customers.iterate")
    client = CoreClient(exchange)
    method, _, _ = bound_call(client, exchange)
    pages = iter(method())
    assert client.peer.seen == []
    assert next(pages).id == "cus_123"
    assert len(client.peer.seen) == 1
    assert [customer.id for customer in pages] == ["cus_2", "cus_3"]


def test_the_recordings_are_all_there_and_hold_no_key() -> None:
    assert len(EXCHANGES) == 114
    assert len({each.name for each in EXCHANGES}) == 114
    assert len({each.method for each in EXCHANGES}) >= 45
    assert {request.authorization for each in EXCHANGES for request in each.requests} == {"Bearer"}
    assert any(each.hooks for each in EXCHANGES)
