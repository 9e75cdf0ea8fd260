"""The contract of a transport and of a client, for authors of transports and drivers.

Subclass `TransportContract` or `ClientContract` in a test module, and give it the fixtures that it names:
pytest runs every test of it. A test whose fixture is missing is skipped, and says which one it wants. They
need the emulator's server, which needs trio.

Each test runs in a thread of its own and fails when it is not over after `limit` seconds, 60 by default: a
driver that never wakes up fails, and does not hang. A loop that runs in the main thread only needs
`limit = None` in the subclass, and then has no limit.
"""

import functools
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import pytest

from clocknext_core import (
    Answer,
    BatchPolicy,
    ClockNextError,
    Config,
    Failure,
    FlushReport,
    NetworkError,
    NotFoundError,
    QueueFullError,
    Request,
    Response,
    Retrying,
    RetryPolicy,
    Signal,
)
from clocknext_core.operations import Operation, json_body, path_of
from clocknext_transports.emulator import (
    DEFAULT_API_KEY,
    EmulatorServer,
    Fault,
    FaultKind,
    Hold,
    OnHold,
    emulator,
    scripted,
)
from clocknext_transports.emulator.api.exchange import Received
from clocknext_transports.emulator.server.server import LoopbackServer
from clocknext_transports.process import exit as process_exit

QUICK: RetryPolicy = RetryPolicy(max_attempts=5, base_delay=0.001, max_delay=0.004)
"""A policy that does not keep a test waiting."""
PATIENCE: float = 10.0
"""Seconds for what should take none."""
LIMIT: float = 60.0
"""Seconds after which a test that is not over fails."""


class Exchange(Protocol):
    """Send a request over the transport that is tested, always the same one, within some seconds."""

    def __call__(self, request: Request, seconds: float, /) -> Answer:
        """Return what the transport's `exchange` returns."""
        ...


class Together(Protocol):
    """Send requests over the transport that is tested, all at once, within some seconds."""

    def __call__(self, requests: Sequence[Request], seconds: float, /) -> Sequence[Answer]:
        """Return their answers, in the order of the requests."""
        ...


class RunClient(Protocol):
    """Run a scenario with a client of the driver that is tested, inside its block."""

    def __call__(self, url: str, scenario: Callable[[Any], Awaitable[None]], /, **options: Any) -> None:
        """Make a client with these options, enter its block, await the scenario, and leave the block."""
        ...


class Cancel(Protocol):
    """Start a coroutine in the world that is tested, and cancel it there."""

    async def __call__(self, scenario: Callable[[], Awaitable[None]], when: Callable[[], bool], /) -> None:
        """Start it, look again and again whether `when` is true, then cancel it and wait for its end."""
        ...


_ACCEPTED = b'{"statusDetail": {"status": "SUCCESS"}, "result": {}}'
_SIGNALS = "/api/v1/usage"
_JSON = {"content-type": "application/json"}
_SECRET = DEFAULT_API_KEY


def _numbered(number: int) -> dict[str, Any]:
    """Return the arguments of a signal with a key of its own."""
    tokens = {"input": number + 1}
    return {
        "customer_id": "cus_123",
        "model": "gpt-4o",
        "tokens": tokens,
        "idempotency_key": f"k{number}",
    }


def _config(server: LoopbackServer) -> Config:
    return Config(_SECRET, base_url=server.url)


def _read(server: LoopbackServer) -> Request:
    return Operation("GET", path_of("me"), dict[str, object]).request(_config(server))


def _write(server: LoopbackServer) -> Request:
    body = json_body({"name": "Wonka", "email": "ops@wonka.example"})
    return Operation("POST", path_of("customers"), dict[str, object], body).request(_config(server))


def _failed(answer: Answer) -> Failure:
    """Require that an exchange failed, and that the failure does not show the key."""
    assert isinstance(answer, Failure), answer
    assert _SECRET not in f"{answer!r} {answer.message}"
    return answer


T = TypeVar("T", bound="_Limited")


class _Limited:
    limit: float | None = LIMIT
    """Seconds after which a test fails if it is not over. `None`: never, and it runs in pytest's thread."""


def _limited(contract: type[T]) -> type[T]:
    """Have each test of a contract end in time, whatever hangs in it."""
    for name, test in [*vars(contract).items()]:
        if name.startswith("test_"):
            setattr(contract, name, _within_limit(test))
    return contract


def _within_limit(test: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(test)
    def limited(self: _Limited, **given: object) -> None:
        ended: list[BaseException | None] = []

        def work() -> None:
            try:
                test(self, **given)
            except BaseException as error:  # noqa: BLE001 - raised again, where pytest sees it
                ended.append(error)
            else:
                ended.append(None)

        if self.limit is None:
            return test(self, **given)
        # What never wakes can't be ended: its thread is left behind, and does not keep the process.
        thread = threading.Thread(target=work, name=test.__name__, daemon=True)
        thread.start()
        thread.join(self.limit)
        if not ended:
            pytest.fail(
                f"{test.__name__} was not over after {self.limit:g} s: something was waited for that never "
                "came. Does each input wake what polls, does Wait.until, and does each attempt end by its "
                "deadline? If it is only slow, give the class a longer `limit`."
            )
        error = ended.pop()
        if error is None:
            return None
        try:
            raise error
        finally:
            # In a cycle with its traceback, it would keep clients until the garbage collector comes.
            del error

    return limited


@_limited
class TransportContract(_Limited):
    """What every transport keeps to. Give the subclass a fixture `exchange`: an `Exchange`.

    The transport serves all exchanges of one test, so that connections are reused. For an event loop, run
    each exchange in the same loop: `asyncio.Runner().run(transport.exchange(request, deadline_at=…))`. A
    fixture `together`, a `Together`, has exchanges at once tested, too: it uses the same transport.
    """

    @pytest.fixture
    def together(self) -> Together:
        """Skip what needs it."""
        pytest.skip("give the fixture `together` to test exchanges at once")

    @pytest.fixture
    def server(self) -> Generator[EmulatorServer, None, None]:
        """A running emulator."""
        with emulator() as running:
            yield running

    def test_the_answer_comes_back_whole(self, exchange: Exchange, server: EmulatorServer) -> None:
        """Status, headers and body are the server's."""
        answer = exchange(_read(server), PATIENCE)
        assert isinstance(answer, Response), answer
        assert answer.status == 200
        assert answer.header("content-type") == "application/json"
        assert b"Emulated organisation" in answer.body
        assert answer.received_at is not None

    def test_an_error_of_the_api_is_an_answer(self, exchange: Exchange, server: EmulatorServer) -> None:
        """A status is for the core to judge: no exception, and no failure."""
        server.faults.script(Fault("status", status=503, retry_after="7"))
        answer = exchange(_read(server), PATIENCE)
        assert isinstance(answer, Response), answer
        assert (answer.status, answer.header("retry-after")) == (503, "7")

    def test_the_request_arrives_as_it_was_given(self, exchange: Exchange) -> None:
        """Method, target, headers and body, with `Host` and `Content-Length`; nothing of the user's own."""
        with scripted([(200, {}, b"{}")]) as server:
            request = _write(server)
            exchange(request, PATIENCE)
            (seen,) = server.requests
        assert (seen.method, seen.target, seen.body) == (request.method, request.target, request.body)
        for name, value in request.headers:
            assert seen.headers[name.lower()] == value
        assert seen.headers["host"] == request.origin.authority
        assert seen.headers["content-length"] == str(len(request.body or b""))
        assert "cookie" not in seen.headers

    def test_a_redirect_is_not_followed(self, exchange: Exchange) -> None:
        """The key must not go where an answer points."""
        with scripted([(302, {"Location": "/elsewhere"}, b""), (200, {}, b"{}")]) as server:
            answer = exchange(_read(server), PATIENCE)
            assert isinstance(answer, Response), answer
            assert answer.status == 302
            assert len(server.requests) == 1

    def test_a_connection_that_is_refused_is_a_failure(self, exchange: Exchange) -> None:
        """Nothing was processed, which the failure says: so a write may be repeated."""
        with scripted([(200, {}, b"{}")]) as server:
            request = _write(server)
        assert not _failed(exchange(request, PATIENCE)).processed

    @pytest.mark.parametrize("kind", ["lost", "truncated"])
    def test_an_answer_that_breaks_off_is_a_failure(
        self, exchange: Exchange, server: EmulatorServer, kind: FaultKind
    ) -> None:
        """It may have been processed, and a request that must not be repeated was sent once."""
        server.faults.script(Fault(kind))
        assert _failed(exchange(_write(server), PATIENCE)).processed
        assert server.ledger.counters.requests == 1

    def test_what_is_not_http_is_a_failure(self, exchange: Exchange) -> None:
        """No exception leaves the transport, whatever the peer sends."""
        with scripted([b"\x00\x01 this is no HTTP at all\r\n\r\n"]) as server:
            _failed(exchange(_write(server), PATIENCE))

    def test_the_deadline_is_kept(self, exchange: Exchange, server: EmulatorServer) -> None:
        """It limits the whole exchange, also one whose answer drips."""
        for fault in (Fault("latency", seconds=60), Fault("drip", bytes_per_second=20)):
            server.faults.script(fault)
            started_at = time.monotonic()
            _failed(exchange(_write(server), 0.3))
            assert time.monotonic() - started_at < PATIENCE

    def test_an_answer_without_end_is_a_failure(self, exchange: Exchange, server: EmulatorServer) -> None:
        """An answer is limited, by default to 1 MiB: a hostile server must not fill the memory."""
        server.faults.script(Fault("huge", size=8 * 1024 * 1024))
        _failed(exchange(_read(server), PATIENCE))

    def test_a_connection_that_was_closed_meanwhile_is_not_a_failure(
        self, exchange: Exchange, server: EmulatorServer
    ) -> None:
        """A request that is safe to repeat is sent again over a new connection."""
        server.faults.script(Fault("stale"))
        assert isinstance(exchange(_read(server), PATIENCE), Response)
        assert isinstance(exchange(_read(server), PATIENCE), Response)

    def test_bytes_that_no_request_asked_for_are_not_the_next_answer(
        self, exchange: Exchange, server: EmulatorServer
    ) -> None:
        """A connection with a surplus is not used again."""
        server.faults.script(Fault("surplus"))
        exchange(_read(server), PATIENCE)
        answer = exchange(_read(server), PATIENCE)
        assert isinstance(answer, Response), answer
        assert b"Emulated organisation" in answer.body

    def test_a_write_does_not_go_out_on_a_connection_that_was_closed_meanwhile(
        self, exchange: Exchange, server: EmulatorServer
    ) -> None:
        """It may not be repeated (`Request.replay_safe`): on a used connection it could fail for nothing."""
        server.faults.script(Fault("stale"))
        assert isinstance(exchange(_read(server), PATIENCE), Response)
        answer = exchange(_write(server), PATIENCE)
        assert isinstance(answer, Response), answer
        assert server.ledger.counters.requests == 2

    def test_a_deadline_that_is_past_sends_nothing(self, exchange: Exchange, server: EmulatorServer) -> None:
        """It is a failure at once."""
        _failed(exchange(_write(server), -1.0))
        assert server.ledger.counters.requests == 0

    def test_the_target_is_left_as_it_is(self, exchange: Exchange) -> None:
        """What is escaped stays so: decoded, an id would lead to another resource."""
        with scripted([(200, {}, b"{}")]) as server:
            for each in ("a/../b", "a b?c#d", "%2e%2e", "ü"):
                path = path_of("customers", each)
                request = Operation("GET", path, dict[str, object]).request(_config(server))
                exchange(request, PATIENCE)
                assert server.requests[-1].target == request.target

    def test_a_target_that_could_name_another_host_is_not_sent(
        self, exchange: Exchange, server: EmulatorServer
    ) -> None:
        """One that does not begin with `/` would take the key elsewhere."""
        for target in ("@evil.example/", ".evil.example/", ":1/"):
            try:
                answer = exchange(replace(_read(server), target=target), PATIENCE)
            except Exception as error:  # noqa: BLE001 - the core makes no such request: either will do
                answer = Failure(str(error), processed=False)
            assert not _failed(answer).processed
        assert server.ledger.counters.requests == 0

    def test_a_body_of_any_length_arrives_whole(self, exchange: Exchange) -> None:
        """Whether or not it goes out at once; a request without one has none."""
        with scripted([(200, {}, b"{}")]) as server:
            for length in (0, 1, 60_000, 500_000):
                body = json_body({"name": "x" * length})
                operation = Operation("POST", path_of("customers"), dict[str, object], body)
                exchange(operation.request(_config(server)), PATIENCE)
                assert server.requests[-1].body == body
            exchange(_read(server), PATIENCE)
            assert server.requests[-1].body == b""

    @pytest.mark.parametrize("framing", ["length", "chunks", "close", "interim"])
    def test_an_answer_is_whole_however_it_is_framed(self, exchange: Exchange, framing: str) -> None:
        """By its length, in chunks, by the end of the connection, after an interim answer."""
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        framed = {
            "length": head + b"Content-Length: 11\r\n\r\nhello world",
            "chunks": head + b"Transfer-Encoding: chunked\r\n\r\n"
            + b"6;x=y\r\nhello \r\n5\r\nworld\r\n0\r\nA: b\r\n\r\n",
            "close": head + b"Connection: close\r\n\r\nhello world",
            "interim": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + head
            + b"Content-Length: 11\r\n\r\nhello world",
        }  # fmt: skip
        with scripted([framed[framing]]) as server:
            answer = exchange(_read(server), PATIENCE)
        assert isinstance(answer, Response), answer
        assert (answer.status, answer.body) == (200, b"hello world")

    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b"HTTP/1.1 200 OK\r\nContent-Le",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhello \r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhello \r\n0\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        ],
    )
    def test_half_an_answer_is_a_failure(self, exchange: Exchange, raw: bytes) -> None:
        """Its end is missing, or can't be known; the server had the request, and had it once."""
        with scripted([raw]) as server:
            assert _failed(exchange(_write(server), PATIENCE)).processed
            assert len(server.requests) == 1

    def test_exchanges_at_once_do_not_wait_for_each_other_or_mix_up(self, together: Together) -> None:
        """All requests are under way before the first is answered, and each gets its own answer."""
        gate = Hold()

        def answer(received: Received) -> OnHold:
            return OnHold(gate, (200, _JSON, received.target.encode()))

        def release() -> None:
            gate.wait_arrived(PATIENCE, count=8)
            gate.release()

        with scripted([answer]) as server:
            config = _config(server)
            requests = [
                Operation("GET", path_of("customers", f"{number}"), dict[str, object]).request(config)
                for number in range(8)
            ]
            releasing = threading.Thread(target=release)
            releasing.start()
            answers = together(requests, PATIENCE)
            releasing.join()
            assert server.max_in_service == len(requests)
        bodies = [each.body if isinstance(each, Response) else each for each in answers]
        assert bodies == [request.target.encode() for request in requests]


def _soon(condition: Callable[[], bool]) -> Callable[[], bool]:
    """Return a condition that is true when this one is, or when it is certainly too late."""
    until = time.monotonic() + PATIENCE
    return lambda: condition() or time.monotonic() >= until


@_limited
class ClientContract(_Limited):
    """What every client keeps to, over any driver. Give the subclass a fixture `run`: a `RunClient`.

    The client's methods are awaited, as those of `AsyncClockNext`. Where coroutines can be cancelled, give a
    fixture `cancel`, too: a `Cancel`.
    """

    @pytest.fixture
    def cancel(self) -> Cancel:
        """Skip what needs it."""
        pytest.skip("give the fixture `cancel` to test cancellation")

    @pytest.fixture
    def server(self) -> Generator[EmulatorServer, None, None]:
        """A running emulator."""
        with emulator() as running:
            yield running

    def _run(
        self,
        run: RunClient,
        server: EmulatorServer,
        scenario: Callable[[Any], Awaitable[None]],
        **options: object,
    ) -> None:
        run(server.url, scenario, **{"api_key": server.api_key, "retry": QUICK, **options})

    def test_the_end_of_the_block_delivers(self, run: RunClient, server: EmulatorServer) -> None:
        """Nothing that was recorded is left, and each is billed once."""

        async def scenario(client: Any) -> None:
            for number in range(50):
                await client.signals.wallet(
                    customer_id="cus_123",
                    model="gpt-4o",
                    tokens={"input": number},
                    idempotency_key=f"k{number}",
                )

        self._run(run, server, scenario)
        assert [server.ledger.billed(f"k{number}") for number in range(50)] == [1] * 50

    def test_faults_cost_no_signal_and_bill_none_twice(self, run: RunClient, server: EmulatorServer) -> None:
        """Every attempt sends the same bytes under the same key."""
        server.faults.script(
            Fault("lost"),
            Fault("status", status=503),
            Fault("reset"),
            Fault("truncated"),
            path="/api/v1/usage",
        )

        async def scenario(client: Any) -> None:
            for number in range(10):
                await client.signals.wallet(
                    customer_id="cus_123", model="gpt-4o", tokens={"input": 1}, idempotency_key=f"k{number}"
                )
            report = await client.flush()
            assert (report.delivered, report.pending, len(report.failed)) == (10, 0, 0)

        self._run(run, server, scenario)
        assert [server.ledger.billed(f"k{number}") for number in range(10)] == [1] * 10
        bodies = [record.raw_body for record in server.ledger.requests]
        assert len(bodies) > len({*bodies}) == 10

    def test_a_refusal_is_reported_and_an_awaited_one_raised(
        self, run: RunClient, server: EmulatorServer
    ) -> None:
        """A buffered signal goes to `on_error` and `on_drop`; an awaited call raises and fires neither."""
        seen: list[str] = []

        def on_error(error: ClockNextError, signal: Signal) -> None:
            seen.append(f"{type(error).__name__} {signal.customer_id}")

        def on_drop(signal: Signal, reason: str) -> None:
            seen.append(f"{reason} {signal.customer_id}")

        async def scenario(client: Any) -> None:
            await client.signals.wallet(customer_id="nobody", model="gpt-4o")
            await client.flush()
            with pytest.raises(ClockNextError) as caught:
                await client.signals.wallet(customer_id="nobody", model="gpt-4o", wait=True)
            assert caught.value.status == 404

        self._run(run, server, scenario, on_error=on_error, on_drop=on_drop)
        assert seen == ["NotFoundError nobody", "send_failed nobody"]

    def test_a_hook_that_raises_stops_nothing(self, run: RunClient, server: EmulatorServer) -> None:
        """Not even with what is no `Exception`."""

        def on_retry(event: Retrying) -> None:
            raise KeyError(event.attempt)

        server.faults.script(Fault("status", status=503), path="/api/v1/usage")

        async def scenario(client: Any) -> None:
            await client.signals.wallet(
                customer_id="cus_123", model="gpt-4o", tokens={"input": 1}, idempotency_key="k"
            )
            report = await client.flush(timeout=PATIENCE)
            assert report.delivered == 1

        self._run(run, server, scenario, on_retry=on_retry)
        assert server.ledger.billed("k") == 1

    def test_never_more_attempts_at_once_than_allowed(self, run: RunClient, server: EmulatorServer) -> None:
        """`max_concurrency` limits those in flight."""
        server.faults.chance(1.0, Fault("latency", seconds=0.05), path="/api/v1/usage")

        async def scenario(client: Any) -> None:
            for _ in range(12):
                await client.signals.wallet(customer_id="cus_123", model="gpt-4o", tokens={"input": 1})

        self._run(run, server, scenario, batch=BatchPolicy(max_size=1, max_concurrency=3))
        assert server.ledger.bill().signals == 12
        assert 1 < server.max_in_service <= 3

    def test_a_closed_client_drops_and_says_so(self, run: RunClient, server: EmulatorServer) -> None:
        """What comes after `close` is `closed`, and no call begins."""

        async def scenario(client: Any) -> None:
            await client.close()
            dropped = await client.signals.wallet(customer_id="cus_123", model="gpt-4o")
            assert dropped.dropped == "closed"
            with pytest.raises(ClockNextError, match="closed"):
                await client.customers.get("cus_123")

        self._run(run, server, scenario)
        assert server.ledger.requests == ()

    def test_a_flush_ends_in_time(self, run: RunClient, server: EmulatorServer) -> None:
        """Also while the server does not answer; the signal is still held."""
        server.faults.script(Fault("latency", seconds=60), path="/api/v1/usage")

        async def scenario(client: Any) -> None:
            await client.signals.wallet(customer_id="cus_123", model="gpt-4o", tokens={"input": 1})
            started_at = time.monotonic()
            report = await client.flush(timeout=0.2)
            assert time.monotonic() - started_at < PATIENCE
            assert (report.delivered, report.pending) == (0, 1)
            assert client.pending == 1
            await client.close(timeout=0.1)

        self._run(run, server, scenario)

    def test_nothing_of_a_client_is_left(self, run: RunClient, server: EmulatorServer) -> None:
        """No thread outlives it."""
        before = {*threading.enumerate()}

        async def scenario(client: Any) -> None:
            await client.signals.wallet(customer_id="cus_123", model="gpt-4o", tokens={"input": 1})

        self._run(run, server, scenario)
        left = [each.name for each in {*threading.enumerate()} - before if each.name.startswith("clocknext")]
        assert left == []

    def test_what_is_recorded_never_changes(self, run: RunClient, server: EmulatorServer) -> None:
        """A signal is encoded when it is recorded: later changes of its objects are not sent."""
        custom: dict[str, Any] = {"step": {"number": 1}}

        async def scenario(client: Any) -> None:
            await client.signals.wallet(**_numbered(0), custom=custom)
            custom["step"]["number"] = 2
            await client.flush()

        self._run(run, server, scenario)
        (record,) = server.ledger.requests
        assert b'"custom":{"step":{"number":1}}' in record.raw_body

    def test_first_attempts_go_out_in_order(self, run: RunClient, server: EmulatorServer) -> None:
        """As they were recorded."""

        async def scenario(client: Any) -> None:
            for number in range(20):
                await client.signals.wallet(**_numbered(number))

        self._run(run, server, scenario, batch=BatchPolicy(max_concurrency=1))
        keys = [each.idempotency_key for each in server.ledger.signals]
        assert keys == [f"k{number}" for number in range(20)]

    def test_an_awaited_signal_returns_what_was_billed(self, run: RunClient, server: EmulatorServer) -> None:
        """With `wait=True`, and always in `sync` mode."""

        async def scenario(client: Any) -> None:
            for options in ({}, {"wait": True}):
                result = await client.signals.wallet(**_numbered(len(options)), **options)
                assert not result.queued
                assert result.usage_log.input_tokens == len(options) + 1

        self._run(run, server, scenario, mode="sync")

    def test_reads_are_repeated_and_writes_are_not(self, run: RunClient, server: EmulatorServer) -> None:
        """A write whose answer is lost may have been done: the caller has to look."""
        server.faults.script(Fault("lost"), Fault("lost"))

        async def scenario(client: Any) -> None:
            customer = await client.customers.get("cus_123")
            assert customer.id == "cus_123"
            server.faults.script(Fault("lost"))
            with pytest.raises(NetworkError):
                await client.customers.create(name="Wonka", email="ops@wonka.example")
            with pytest.raises(NotFoundError):
                await client.customers.get("nobody")

        self._run(run, server, scenario)
        methods = [record.method for record in server.ledger.requests]
        assert methods == ["GET", "GET", "GET", "POST", "GET"]

    def test_pages_are_followed(self, run: RunClient, server: EmulatorServer) -> None:
        """`iterate` is an asynchronous iterator over the items of all pages."""

        async def scenario(client: Any) -> None:
            ids = [each.id async for each in client.customers.iterate(limit=2)]
            whole = await client.customers.list(limit=100)
            assert ids == [each.id for each in whole.customers]
            assert len(ids) > 2

        self._run(run, server, scenario)

    def test_a_pause_of_the_server_is_kept(self, run: RunClient, server: EmulatorServer) -> None:
        """No attempt before the `Retry-After`, of whichever signal."""
        server.faults.script(Fault("status", status=429, retry_after="0.2"), path=_SIGNALS)

        async def scenario(client: Any) -> None:
            for number in range(3):
                await client.signals.wallet(**_numbered(number))

        self._run(run, server, scenario, batch=BatchPolicy(max_concurrency=1))
        first, *later = [record.at for record in server.ledger.requests]
        assert len(later) == 3
        assert min(later) >= first + 0.19

    def test_an_outage_costs_no_signal(self, run: RunClient, server: EmulatorServer) -> None:
        """Failures of the service are no failures of a signal: it is held until the service is back."""
        server.faults.script(*[Fault("status", status=503)] * (2 * QUICK.max_attempts), path=_SIGNALS)

        async def scenario(client: Any) -> None:
            for number in range(3):
                await client.signals.wallet(**_numbered(number))
            report = await client.flush(timeout=PATIENCE)
            assert (report.delivered, report.pending, len(report.failed)) == (3, 0, 0)

        self._run(run, server, scenario)
        assert [server.ledger.billed(f"k{number}") for number in range(3)] == [1] * 3

    def test_a_full_queue_drops_or_raises(self, run: RunClient) -> None:
        """As its policy says; what is dropped is reported."""
        for overflow in ("drop_newest", "raise"):
            gate = Hold()
            dropped: list[str] = []

            def on_drop(signal: Signal, reason: str, dropped: list[str] = dropped) -> None:
                dropped.append(f"{signal.idempotency_key} {reason}")

            async def scenario(client: Any, gate: Hold = gate, overflow: str = overflow) -> None:
                for number in range(2):
                    await client.signals.wallet(**_numbered(number))
                if overflow == "raise":
                    with pytest.raises(QueueFullError):
                        await client.signals.wallet(**_numbered(2))
                else:
                    result = await client.signals.wallet(**_numbered(2))
                    assert result.dropped == "queue_full"
                assert client.pending == 2
                gate.release()
                report = await client.flush(timeout=PATIENCE)
                assert (report.delivered, report.pending) == (2, 0)

            with scripted([OnHold(gate, (200, {"content-type": "application/json"}, _ACCEPTED))]) as server:
                batch = BatchPolicy(max_size=1, max_queue_size=2, overflow=cast("Any", overflow))
                run(server.url, scenario, api_key="cnk_test", retry=QUICK, batch=batch, on_drop=on_drop)
            assert dropped == ([] if overflow == "raise" else ["k2 queue_full"])

    def test_a_hook_and_a_thread_may_record(self, run: RunClient, server: EmulatorServer) -> None:
        """`nowait` records from anywhere, also while a hook runs."""
        clients: list[Any] = []

        def on_error(*_: object) -> None:
            clients[0].nowait.signals.wallet(**_numbered(1))

        async def scenario(client: Any) -> None:
            clients.append(client)
            await client.signals.wallet(**{**_numbered(0), "customer_id": "nobody"})
            await client.flush()
            thread = threading.Thread(
                target=client.nowait.signals.wallet, kwargs=_numbered(2), name="recorder"
            )
            thread.start()
            thread.join(PATIENCE)
            report = await client.flush(timeout=PATIENCE)
            assert report.pending == 0

        self._run(run, server, scenario, on_error=on_error)
        assert [server.ledger.billed(f"k{number}") for number in range(3)] == [0, 1, 1]

    def test_the_counts_add_up(self, run: RunClient, server: EmulatorServer) -> None:
        """Recorded is held, delivered, rejected, dropped and parked together, at any time."""

        async def scenario(client: Any) -> None:
            for number in range(10):
                customer = "nobody" if number % 3 == 0 else "cus_123"
                await client.signals.wallet(**{**_numbered(number), "customer_id": customer})
                counts = client.stats()
                ended = counts.delivered + counts.rejected + sum(counts.dropped.values()) + counts.parked
                assert counts.recorded == counts.held + ended == number + 1
            await client.flush()
            counts = client.stats()
            assert (counts.delivered, counts.rejected, counts.held) == (6, 4, 0)

        self._run(run, server, scenario)

    def test_a_client_that_is_switched_off_sends_nothing(self, run: RunClient) -> None:
        """It needs no key, checks its signals, and drops them as `disabled`."""

        async def scenario(client: Any) -> None:
            result = await client.signals.wallet(**_numbered(0), wait=True)
            assert result.dropped == "disabled"
            with pytest.raises(ClockNextError, match="disabled"):
                await client.customers.get("cus_123")

        with scripted([(200, {}, b"{}")]) as server:
            run(server.url, scenario, disabled=True)
            assert server.requests == ()

    @pytest.mark.parametrize("in_thread", [False, True])
    def test_it_sends_and_retries_unasked(self, run: RunClient, *, in_thread: bool) -> None:
        """After `max_interval`, and after a back-off: no flush, and no other call, has to begin."""
        gate = Hold()
        attempts: list[Received] = []

        def answer(received: Received) -> OnHold | tuple[int, dict[str, str], bytes]:
            if received.method == "GET":
                return OnHold(gate, (200, _JSON, b'{"statusDetail": {"status": "SUCCESS"}, "result": []}'))
            attempts.append(received)
            if b'"k0"' not in received.body:
                return (200, _JSON, _ACCEPTED)
            if len(attempts) == 1:
                return (503, _JSON, b"{}")
            gate.release()
            return (200, _JSON, _ACCEPTED)

        async def scenario(client: Any) -> None:
            if in_thread:
                await client.signals.wallet(**_numbered(1))  # so that it serves already
                await client.flush(timeout=PATIENCE)
                attempts.clear()
                record, signal = client.nowait.signals.wallet, _numbered(0)
                thread = threading.Thread(target=lambda: record(**signal))
                thread.start()
                thread.join()
            else:
                await client.signals.wallet(**_numbered(0))
            await client.workspace.models()  # is answered when the signal is

        with scripted([answer]) as server:
            batch = BatchPolicy(max_interval=0.05)
            run(server.url, scenario, api_key="cnk_test", retry=QUICK, batch=batch, timeout=3.0)
        first, second = attempts
        assert first.body == second.body

    def test_an_attempt_ends_in_time(self, run: RunClient, server: EmulatorServer) -> None:
        """`timeout` limits each attempt: a signal's is repeated, a write's raises."""

        async def scenario(client: Any) -> None:
            server.faults.script(Fault("latency", seconds=60), path=_SIGNALS)
            await client.signals.wallet(**_numbered(0))
            report = await client.flush(timeout=PATIENCE)
            assert (report.delivered, report.pending) == (1, 0)
            server.faults.script(Fault("latency", seconds=60))
            with pytest.raises(NetworkError):
                await client.customers.create(name="Wonka", email="ops@wonka.example")

        started_at = time.monotonic()
        self._run(run, server, scenario, timeout=0.3)
        assert time.monotonic() - started_at < PATIENCE
        assert server.ledger.billed("k0") == 1

    def test_each_hook_is_called_as_often_as_it_should(self, run: RunClient, server: EmulatorServer) -> None:
        """Once for a retry, once when the buffer is empty, and not for what was delivered."""
        seen: list[str] = []
        server.faults.script(Fault("status", status=503), path=_SIGNALS)

        def on_retry(event: Retrying) -> None:
            seen.append(f"retry {event.attempt}")

        def on_flush(count: int) -> None:
            seen.append(f"flush {count}")

        def on_end(*_: object) -> None:
            seen.append("ended")

        async def scenario(client: Any) -> None:
            for number in range(2):
                await client.signals.wallet(**_numbered(number))
            await client.flush()

        self._run(
            run,
            server,
            scenario,
            on_retry=on_retry,
            on_flush=on_flush,
            on_error=on_end,
            on_drop=on_end,
        )
        assert seen == ["retry 1", "flush 2"]

    def test_a_full_queue_makes_a_call_wait(self, run: RunClient) -> None:
        """With `overflow="block"`: until there is room, but no longer than `block_timeout`."""
        gate = Hold()

        async def scenario(client: Any) -> None:
            await client.signals.wallet(**_numbered(0))
            dropped = await client.signals.wallet(**_numbered(1))
            assert dropped.dropped == "queue_full"
            releasing = threading.Thread(target=gate.release)
            releasing.start()
            result = await client.signals.wallet(**_numbered(2))
            releasing.join()
            assert result.dropped is None
            report = await client.flush(timeout=PATIENCE)
            assert (report.delivered, report.pending) == (2, 0)

        with scripted([OnHold(gate, (200, _JSON, _ACCEPTED))]) as server:
            batch = BatchPolicy(max_size=1, max_queue_size=1, overflow="block", block_timeout=0.5)
            run(server.url, scenario, api_key="cnk_test", retry=QUICK, batch=batch)

    def test_a_close_that_runs_out_of_time_reports_what_is_left(self, run: RunClient) -> None:
        """What could not be delivered is dropped as `closed`; a second close has nothing to do."""
        gate = Hold()
        dropped: list[str] = []
        reports: list[FlushReport] = []

        def on_drop(signal: Signal, reason: str) -> None:
            dropped.append(f"{signal.idempotency_key} {reason}")

        async def scenario(client: Any) -> None:
            await client.signals.wallet(**_numbered(0))
            reports.append(await client.close(timeout=0.1))
            reports.append(await client.close())

        with scripted([OnHold(gate, (200, _JSON, _ACCEPTED))]) as server:
            run(server.url, scenario, api_key="cnk_test", retry=QUICK, on_drop=on_drop)
            gate.release()
        first, second = reports
        assert first.delivered == second.delivered == second.pending == 0
        assert (dropped, first.pending + len(first.failed)) == (["k0 closed"], 1)

    def test_an_exception_leaves_the_block_and_what_was_recorded_is_delivered(
        self, run: RunClient, server: EmulatorServer
    ) -> None:
        """It is the user's, and comes out as it is."""

        async def scenario(client: Any) -> None:
            await client.signals.wallet(**_numbered(0))
            raise ZeroDivisionError("the user's")

        with pytest.raises(BaseException) as caught:  # noqa: PT011 - it may be in a group
            self._run(run, server, scenario)
        error: BaseException = caught.value
        while isinstance(error, BaseExceptionGroup):
            (error,) = cast("BaseExceptionGroup[BaseException]", error).exceptions
        assert isinstance(error, ZeroDivisionError)
        assert server.ledger.billed("k0") == 1

    def test_the_key_is_shown_nowhere(
        self, run: RunClient, server: EmulatorServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Neither by the client, nor in an error, nor in the log."""
        server.faults.script(Fault("reset"), Fault("status", status=503), path=_SIGNALS)
        shown: list[str] = []

        async def scenario(client: Any) -> None:
            await client.signals.wallet(**_numbered(0))
            await client.flush()
            server.faults.script(Fault("reset"))
            with pytest.raises(NetworkError) as caught:
                await client.customers.create(name="Wonka", email="ops@wonka.example")
            shown.extend([repr(client), str(client), str(caught.value), repr(caught.value)])

        with caplog.at_level(logging.DEBUG):
            self._run(run, server, scenario)
        assert server.api_key not in " ".join([*shown, caplog.text])

    def test_the_exit_knows_who_holds_signals(self, run: RunClient, server: EmulatorServer) -> None:
        """A client that holds any is registered in `process.exit`, and one that was closed is not."""
        before = process_exit.registered()

        async def scenario(client: Any) -> None:
            await client.signals.wallet(**_numbered(0))
            assert process_exit.registered() == before + 1

        self._run(run, server, scenario)
        assert process_exit.registered() == before

    def test_a_spool_keeps_what_was_not_delivered(
        self, run: RunClient, server: EmulatorServer, tmp_path: Path
    ) -> None:
        """For the next client. A driver without support for it says so where the client is made."""
        spool = tmp_path / "spool"
        server.faults.chance(1.0, Fault("status", status=503), path=_SIGNALS)

        async def record(client: Any) -> None:
            await client.signals.wallet(**_numbered(0))
            report = await client.close(timeout=0.1)
            assert (report.delivered, report.pending) == (0, 1)

        async def deliver(client: Any) -> None:
            report = await client.flush(timeout=PATIENCE)
            assert (report.delivered, report.pending) == (1, 0)

        try:
            self._run(run, server, record, spool=str(spool))
        except ClockNextError as error:
            assert "spool" in error.message  # noqa: PT017 - either of the two
            pytest.skip(f"this client has no spool: {error.message}")
        server.faults.clear()
        self._run(run, server, deliver, spool=str(spool))
        assert server.ledger.billed("k0") == 1

    def test_a_cancelled_call_leaves_the_client_as_it_was(self, run: RunClient, cancel: Cancel) -> None:
        """The awaited call is over, a cancelled flush keeps its signals, and the next call goes on."""
        gate = Hold()

        async def scenario(client: Any) -> None:
            async def call() -> None:
                await client.signals.wallet(**_numbered(0), wait=True)

            async def flush() -> None:
                await client.flush()

            await cancel(call, _soon(lambda: gate.arrived == 1))
            assert (gate.arrived, client.pending) == (1, 0)
            await client.signals.wallet(**_numbered(1))
            await cancel(flush, _soon(lambda: gate.arrived == 2))
            assert (gate.arrived, client.pending) == (2, 1)
            gate.release()
            report = await client.flush(timeout=PATIENCE)
            assert (report.delivered, report.pending, len(report.failed)) == (1, 0, 0)

        with scripted([OnHold(gate, (200, _JSON, _ACCEPTED))]) as server:
            run(server.url, scenario, api_key="cnk_test", retry=QUICK)

    def test_a_cancelled_wait_for_room_records_nothing(self, run: RunClient, cancel: Cancel) -> None:
        """The caller has gone, and its signal with it."""
        gate = Hold()
        looks = iter(range(10))

        async def scenario(client: Any) -> None:
            await client.signals.wallet(**_numbered(0))

            async def call() -> None:
                await client.signals.wallet(**_numbered(1))

            await cancel(call, lambda: next(looks) == 3)
            gate.release()
            report = await client.flush(timeout=PATIENCE)
            assert (report.delivered, report.pending, len(report.failed)) == (1, 0, 0)

        with scripted([OnHold(gate, (200, _JSON, _ACCEPTED))]) as server:
            batch = BatchPolicy(max_size=1, max_queue_size=1, overflow="block")
            run(server.url, scenario, api_key="cnk_test", retry=QUICK, batch=batch)
