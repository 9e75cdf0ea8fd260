"""One request and its answer, step by step, with streams that only take notes."""

import asyncio
import socket
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clocknext_core import Answer, Failure, Request, Response
from clocknext_transports.asyncio.transport import CHUNK
from clocknext_transports.asyncio.transport import Stream as AsyncioStream
from clocknext_transports.http11 import Age, Connect, Connection, Exchange, Pool, Receive, Send, Step
from tests.transports.support import JSON, KEY, PATIENCE, answer, request

URL = "https://api.example"
SIGNAL = request(URL)
ONCE = request(URL, safe=False)

ERRORS = [
    ConnectionResetError("reset"),
    BrokenPipeError("broken pipe"),
    ConnectionAbortedError("the client was closed"),
    OSError(113, "No route to host"),
]


class FakeStream:
    """A stream that is told whether it is stale and remembers whether it was closed."""

    def __init__(self, *, is_stale: bool = False) -> None:
        self.connection = Connection()
        self.stale = is_stale
        self.aborted = 0

    def is_stale(self) -> bool:
        return self.stale

    def abort(self) -> None:
        self.aborted += 1


FakePool = Pool[FakeStream]


def used_stream(*, is_stale: bool = False) -> FakeStream:
    """Make a stream that has had one exchange."""
    stream = FakeStream(is_stale=is_stale)
    stream.connection.send(SIGNAL)
    assert isinstance(stream.connection.receive(answer()), Response)
    assert stream.connection.is_reusable
    return stream


def pool_with(*streams: FakeStream, limit: int = 5) -> FakePool:
    pool: FakePool = Pool(limit)
    for stream in streams:
        pool.give(stream)
    return pool


def idle(pool: FakePool) -> list[FakeStream]:
    """Everything that is kept, without closing it."""
    streams: list[FakeStream] = []
    while (stream := pool.take(SIGNAL.origin)) is not None:
        streams.append(stream)
    for kept in streams:
        assert not kept.aborted
        assert kept.connection.is_reusable
    return streams


def sends(step: Step[FakeStream] | Answer, stream: FakeStream) -> None:
    assert isinstance(step, Send)
    assert step.stream is stream
    assert bytes(step.data).startswith(b"POST ")


def receives(step: Step[FakeStream] | Answer, stream: FakeStream) -> None:
    assert isinstance(step, Receive)
    assert step.stream is stream


def connects(step: Step[FakeStream] | Answer) -> None:
    assert step == Connect(SIGNAL.origin)


def is_failure(step: Step[FakeStream] | Answer, says: str, *, processed: bool) -> None:
    assert isinstance(step, Failure)
    assert says in step.message
    assert KEY not in step.message
    assert step.processed is processed


def to_send(of: Request, pool: FakePool) -> tuple[Exchange[FakeStream], FakeStream]:
    """Bring an exchange to where it sends over a fresh stream."""
    exchange = Exchange(of, pool)
    connects(exchange.start())
    stream = FakeStream()
    sends(exchange.resume(stream), stream)
    return exchange, stream


def to_receive(of: Request, pool: FakePool) -> tuple[Exchange[FakeStream], FakeStream]:
    """Bring an exchange to where it receives over a fresh stream."""
    exchange, stream = to_send(of, pool)
    receives(exchange.resume(None), stream)
    return exchange, stream


# A fresh connection


@pytest.mark.parametrize("of", [SIGNAL, ONCE])
def test_a_fresh_connection_is_kept_after_the_answer(of: Request) -> None:
    pool = pool_with()
    exchange, stream = to_receive(of, pool)
    receives(exchange.resume(answer()[:20]), stream)
    outcome = exchange.resume(answer()[20:])
    assert isinstance(outcome, Response)
    assert outcome.body == JSON
    exchange.close()
    assert idle(pool) == [stream]


@pytest.mark.parametrize(
    "data",
    [
        answer() + b"x",
        answer(version="1.0"),
        b"garbage\r\n\r\n",
        answer(JSON, "Content-Encoding: br"),
        answer(status="500 Internal Server Error"),
        answer(status="503 Service Unavailable"),
    ],
)
def test_a_connection_that_is_over_or_leads_to_a_broken_server_is_closed_once(data: bytes) -> None:
    pool = pool_with()
    exchange, stream = to_receive(SIGNAL, pool)
    assert isinstance(exchange.resume(data), Response | Failure)
    exchange.close()
    assert (stream.aborted, idle(pool)) == (1, [])


@pytest.mark.parametrize("error", ERRORS)
def test_no_connection_means_not_processed(error: OSError) -> None:
    exchange = Exchange(SIGNAL, pool_with())
    connects(exchange.start())
    is_failure(exchange.fail(error), "Could not connect to https://api.example", processed=False)
    exchange.close()


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("bring", [to_send, to_receive])
def test_a_fresh_connection_that_breaks_is_not_retried(
    error: OSError, bring: Callable[[Request, FakePool], tuple[Exchange[FakeStream], FakeStream]]
) -> None:
    pool = pool_with()
    exchange, stream = bring(SIGNAL, pool)
    is_failure(exchange.fail(error), "The connection broke", processed=True)
    exchange.close()
    assert (stream.aborted, idle(pool)) == (1, [])


def test_a_fresh_connection_that_ends_is_not_retried() -> None:
    pool = pool_with()
    exchange, stream = to_receive(SIGNAL, pool)
    is_failure(exchange.resume(b""), "", processed=True)
    assert (stream.aborted, idle(pool)) == (1, [])


# A kept connection


def test_the_connection_used_last_is_used_next() -> None:
    first, last = used_stream(), used_stream()
    pool = pool_with(first, last)
    exchange = Exchange(SIGNAL, pool)
    sends(exchange.start(), last)
    exchange.resume(None)
    exchange.resume(answer())
    assert idle(pool) == [last, first]


def test_a_request_that_is_not_replay_safe_leaves_kept_connections_alone() -> None:
    kept = used_stream()
    pool = pool_with(kept)
    exchange, stream = to_receive(ONCE, pool)
    exchange.resume(answer())
    assert idle(pool) == [stream, kept]


def test_stale_connections_are_closed_unused() -> None:
    stale = [used_stream(is_stale=True) for _ in range(3)]
    pool = pool_with(*stale)
    connects(Exchange(SIGNAL, pool).start())
    assert [stream.aborted for stream in stale] == [1, 1, 1]


def reuse(pool: FakePool, stream: FakeStream) -> Exchange[FakeStream]:
    exchange = Exchange(SIGNAL, pool)
    sends(exchange.start(), stream)
    return exchange


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("is_sent", [False, True])
def test_a_kept_connection_that_breaks_gets_one_fresh_retry(error: OSError, is_sent: bool) -> None:
    stale, other = used_stream(), used_stream()
    pool = pool_with(other, stale)
    exchange = reuse(pool, stale)
    if is_sent:
        receives(exchange.resume(None), stale)
    connects(exchange.fail(error))  # fresh, although another one is kept
    assert stale.aborted == 1
    fresh = FakeStream()
    sends(exchange.resume(fresh), fresh)
    receives(exchange.resume(None), fresh)
    is_failure(exchange.fail(error), "The connection broke", processed=True)  # and that is the last
    exchange.close()
    assert (fresh.aborted, stale.aborted, idle(pool)) == (1, 1, [other])


def test_a_kept_connection_that_ends_gets_one_fresh_retry() -> None:
    stale = used_stream()
    pool = pool_with(stale)
    exchange = reuse(pool, stale)
    receives(exchange.resume(None), stale)
    connects(exchange.resume(b""))
    fresh = FakeStream()
    sends(exchange.resume(fresh), fresh)
    receives(exchange.resume(None), fresh)
    assert isinstance(exchange.resume(answer()), Response)
    assert (stale.aborted, idle(pool)) == (1, [fresh])


def test_the_retry_sends_the_same_bytes() -> None:
    stale = used_stream()
    exchange = Exchange(SIGNAL, pool_with(stale))
    first = exchange.start()
    assert isinstance(first, Send)
    connects(exchange.fail(ConnectionResetError()))
    second = exchange.resume(FakeStream())
    assert isinstance(second, Send)
    assert second.data == first.data
    exchange.close()


@pytest.mark.parametrize("begun", [b"H", answer()[:-1], b"HTTP/1.1 100 Continue\r\n\r\n", b"\0"])
@pytest.mark.parametrize("end", [b"", None])
def test_no_retry_after_the_first_byte(begun: bytes, end: bytes | None) -> None:
    stream = used_stream()
    exchange = reuse(pool_with(stream), stream)
    exchange.resume(None)
    outcome = exchange.resume(begun)
    if not isinstance(outcome, Failure):
        outcome = exchange.resume(end) if end is not None else exchange.fail(ConnectionResetError())
    is_failure(outcome, "", processed=True)
    assert stream.aborted == 1


# The deadline


def test_a_time_out_connecting_means_not_processed() -> None:
    exchange = Exchange(SIGNAL, pool_with())
    exchange.start()
    is_failure(exchange.fail(TimeoutError()), "Timed out connecting", processed=False)


@pytest.mark.parametrize("bring", [to_send, to_receive])
def test_a_time_out_later_is_the_end(
    bring: Callable[[Request, FakePool], tuple[Exchange[FakeStream], FakeStream]],
) -> None:
    pool = pool_with()
    exchange, stream = bring(SIGNAL, pool)
    is_failure(exchange.fail(TimeoutError()), "Timed out waiting", processed=True)
    exchange.close()
    assert (stream.aborted, idle(pool)) == (1, [])


@pytest.mark.parametrize("is_sent", [False, True])
def test_a_time_out_on_a_kept_connection_is_not_retried(is_sent: bool) -> None:
    stream = used_stream()
    pool = pool_with(stream)
    exchange = reuse(pool, stream)
    if is_sent:
        exchange.resume(None)
    is_failure(exchange.fail(TimeoutError()), "Timed out waiting", processed=True)
    assert (stream.aborted, idle(pool)) == (1, [])


def test_a_time_out_in_the_retry_is_the_end() -> None:
    stream = used_stream()
    exchange = reuse(pool_with(stream), stream)
    connects(exchange.fail(ConnectionResetError()))
    outcome = exchange.fail(TimeoutError())
    is_failure(outcome, "Timed out connecting", processed=True)  # the first try may have been processed


@pytest.mark.parametrize("error", ERRORS)
def test_a_refused_retry_does_not_hide_that_the_first_try_was_sent(error: OSError) -> None:
    stream = used_stream()
    exchange = reuse(pool_with(stream), stream)
    receives(exchange.resume(None), stream)
    connects(exchange.resume(b""))
    is_failure(exchange.fail(error), "Could not connect", processed=True)


# Breaking off


def test_closing_before_the_start_does_nothing() -> None:
    kept = used_stream()
    pool = pool_with(kept)
    Exchange(SIGNAL, pool).close()
    assert idle(pool) == [kept]


def test_closing_while_connecting_has_nothing_to_close() -> None:
    exchange = Exchange(SIGNAL, pool_with())
    exchange.start()
    exchange.close()
    exchange.close()


@pytest.mark.parametrize("bring", [to_send, to_receive])
@pytest.mark.parametrize("of", [SIGNAL, ONCE])
def test_closing_midway_closes_the_connection(
    bring: Callable[[Request, FakePool], tuple[Exchange[FakeStream], FakeStream]], of: Request
) -> None:
    pool = pool_with()
    exchange, stream = bring(of, pool)
    exchange.close()
    exchange.close()
    assert (stream.aborted, idle(pool)) == (1, [])


@given(
    kept=st.lists(st.booleans(), max_size=3),
    limit=st.integers(1, 3),
    inputs=st.lists(
        st.sampled_from(
            [
                b"",
                answer(),
                answer()[:30],
                answer()[30:],
                answer() + b"x",
                b"\0",
                None,
                *ERRORS,
                TimeoutError(),
            ]
        ),
        max_size=8,
    ),
    safe=st.booleans(),
)
def test_no_stream_is_ever_leaked(
    kept: list[bool], limit: int, inputs: list[bytes | OSError | None], safe: bool
) -> None:
    """Every stream is closed once or kept once, whatever happens and whenever it is broken off."""
    streams = [used_stream(is_stale=is_stale) for is_stale in kept]
    pool = pool_with(*streams, limit=limit)
    exchange = Exchange(request(URL, safe=safe), pool)
    step = exchange.start()
    sent = 0
    for given_input in inputs:
        if isinstance(step, Response | Failure):
            break
        if isinstance(given_input, OSError):
            step = exchange.fail(given_input)
        elif isinstance(step, Connect):
            streams.append(FakeStream())
            step = exchange.resume(streams[-1])
        elif isinstance(step, Send):
            sent += 1
            step = exchange.resume(None)
        else:
            step = exchange.resume(given_input or b"")
    exchange.close()
    assert sent <= (2 if safe else 1)
    kept_now = pool.clear()
    assert len(kept_now) <= limit
    assert all(stream.aborted == 1 for stream in streams)


# The pool


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_the_pool_closes_what_is_too_much(limit: int) -> None:
    streams = [used_stream() for _ in range(4)]
    pool = pool_with(*streams, limit=limit)
    assert [stream.aborted for stream in streams] == [0] * limit + [1] * (4 - limit)
    assert idle(pool) == streams[:limit][::-1]


def test_clearing_closes_everything_once() -> None:
    streams = [used_stream() for _ in range(3)]
    pool = pool_with(*streams)
    assert pool.clear() == streams
    assert pool.clear() == []
    assert [stream.aborted for stream in streams] == [1, 1, 1]
    assert pool.take(SIGNAL.origin) is None


def test_the_pool_keeps_origins_apart() -> None:
    streams: list[FakeStream] = []
    for url in (URL, URL, "https://api.example:8443", "http://api.example", "https://other.example"):
        streams.append(FakeStream())
        streams[-1].connection.send(request(url))
        assert isinstance(streams[-1].connection.receive(answer()), Response)
    pool = pool_with(*streams, limit=1)
    assert [stream.aborted for stream in streams] == [0, 1, 0, 0, 0], "the limit is each origin's"
    assert pool.take(request("https://third.example").origin) is None
    for url, stream in ((URL, 0), ("https://api.example:8443", 2), ("http://api.example", 3)):
        assert pool.take(request(url).origin) is streams[stream]
        assert pool.take(request(url).origin) is None
    assert pool.clear() == [streams[4]]


def test_a_stream_that_carried_nothing_is_not_kept() -> None:
    stream = FakeStream()
    assert idle(pool_with(stream)) == []
    assert stream.aborted == 1


@pytest.mark.parametrize(
    ("used", "opened", "is_over"),
    [(0, 0, False), (60, 60, False), (60.1, 60.1, True), (1, 300, False), (1, 300.1, True)],
)
def test_a_connection_has_a_greatest_age(used: float, opened: float, is_over: bool) -> None:
    now = 1000.0
    assert Age(opened_at=now - opened, used_at=now - used).is_over(now, Connection()) is is_over


@pytest.mark.parametrize(
    ("announced", "used", "is_over"),
    [
        ("timeout=5", 2.9, False),
        ("timeout=5", 3.1, True),
        ("max=100, Timeout = 20", 17.9, False),
        ("max=100, Timeout = 20", 18.1, True),
        ("timeout=75", 60.1, True),
        ("timeout=2", 0.9, False),
        ("timeout=2", 1.1, True),
        ("timeout=0", 0.4, False),
        ("timeout=0", 0.6, True),
        ("x-timeout=5", 59.0, False),
        ("timeout=soon", 59.0, False),
        ("timeout=99999999999", 59.0, False),
    ],
)
@pytest.mark.parametrize("is_plain", [True, False])
def test_an_idle_connection_is_used_for_less_than_the_server_announces(
    announced: str, used: float, is_over: bool, is_plain: bool
) -> None:
    connection = Connection()
    connection.send(SIGNAL)
    extra = () if is_plain else ("Content-Encoding: identity",)
    assert isinstance(connection.receive(answer(JSON, f"Keep-Alive: {announced}", *extra)), Response)
    assert Age(opened_at=0.0, used_at=100.0).is_over(100.0 + used, connection) is is_over


@pytest.mark.parametrize(("used", "is_over"), [(299.0, False), (301.0, True)])
def test_the_longest_idle_time_can_be_set(used: float, is_over: bool) -> None:
    age = Age(opened_at=1000.0 - used, used_at=1000.0 - used)
    assert age.is_over(1000.0, Connection(max_idle_time=250.0)) is (used > 250.0)
    assert age.is_over(1000.0, Connection(max_idle_time=1e9)) is is_over


# Small pieces


def test_an_answer_in_tiny_pieces_is_received_slowly_after_a_while() -> None:
    whole = answer(b"x" * 2000)
    exchange, stream = to_receive(SIGNAL, FakePool(5))
    step: Step[FakeStream] | Answer = Receive(stream)
    delays: list[float] = []
    for byte in whole:
        assert isinstance(step, Receive)
        delays.append(step.after)
        step = exchange.resume(bytes([byte]))
    assert isinstance(step, Response)
    assert delays == [0.0] * 256 + [0.005] * (len(whole) - 256)


def test_an_answer_in_ordinary_pieces_is_never_delayed() -> None:
    whole = answer(b"x" * 1_000_000)
    exchange, stream = to_receive(SIGNAL, FakePool(5))
    step: Step[FakeStream] | Answer = Receive(stream)
    for at in range(0, len(whole), 536):  # the smallest segments that TCP has to use
        assert step == Receive(stream, 0.0)
        step = exchange.resume(whole[at : at + 536])
    assert isinstance(step, Response)


def test_no_step_shows_the_key() -> None:
    exchange = Exchange(SIGNAL, FakePool(5))
    connects(exchange.start())
    step = exchange.resume(FakeStream())
    assert isinstance(step, Send)
    assert KEY.encode() in bytes(step.data)
    assert KEY not in repr(step)
    assert KEY not in repr(step.data)


def test_under_asyncio_a_large_piece_is_taken_in_parts_and_others_go_on_between() -> None:
    """A loop hands over 256 KiB at once; in tiny chunks, reading that would hold it up for 0.2 s."""

    async def main() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            stream = AsyncioStream(Connection(), ours)
            stream.data_received(b"x" * (2 * CHUNK + 10))
            deadline_at = asyncio.get_running_loop().time() + PATIENCE
            turns: list[str] = []
            asyncio.get_running_loop().call_soon(turns.append, "another's")
            assert len(await stream.receive(deadline_at)) == CHUNK
            assert turns == ["another's"]
            assert stream.is_stale(), "what is left is no answer to a next request"
            assert [len(await stream.receive(deadline_at)) for _ in range(2)] == [CHUNK, 10]

    asyncio.run(main())
