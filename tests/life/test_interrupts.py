"""What a signal's handler raises reaches the caller that it interrupts, and does the client no harm."""

import asyncio
import gc
import logging
import math
import signal
import socket
import sys
import threading
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from functools import partial
from random import Random
from types import FrameType

import pytest
import trio

from clocknext_core import (
    Answer,
    BatchPolicy,
    Config,
    Emptied,
    Engine,
    Request,
    Response,
    Retrying,
    RetryPolicy,
    WalletSignal,
)
from clocknext_core.messages import Origin
from clocknext_core.signals import encode
from clocknext_core.usage import attribution
from clocknext_transports import AsyncClockNext, ClockNext, TrioClockNext
from clocknext_transports.client.events_log import EventLog
from clocknext_transports.emulator import emulator
from clocknext_transports.http11 import Connection
from clocknext_transports.integrations.watching import watch
from clocknext_transports.process.exit import registered
from clocknext_transports.process.interrupts import is_interrupt, let_pass, take
from clocknext_transports.recorder.writing import Tape
from clocknext_transports.trio import NativeTransport as TrioTransport
from tests.life.interrupts import WORLDS, TimeIsUpError, TimeIsUpOSError, interrupt
from tests.life.support import PATIENT, wait_until
from tests.transports.support import KEY

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers that raise signals here")

RETRY = RetryPolicy(max_attempts=3)


@contextmanager
def limit(error: BaseException, seconds: float = 0.05) -> Generator[None, None, None]:
    """Raise in the main thread when the time is up."""

    def handle(signum: int, frame: FrameType | None) -> None:
        raise error

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def silent() -> Generator[str, None, None]:
    """Listen, and never answer."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


any_error = pytest.mark.parametrize("error", [TimeIsUpError(), TimeIsUpOSError(), OSError("mine")], ids=repr)


@any_error
def test_a_limit_ends_a_call_that_waits_for_an_answer(error: Exception) -> None:
    with silent() as url, ClockNext(KEY, base_url=url, timeout=20.0, retry=RETRY) as client:
        with pytest.raises(type(error)) as caught, limit(error):
            client.signals.wallet(customer_id="cus_1", model="m", wait=True)
        assert caught.value is error
        assert client.pending == 0


@any_error
def test_a_limit_ends_a_coroutine_that_waits_for_an_answer(error: Exception) -> None:
    async def main(url: str) -> None:
        async with AsyncClockNext(KEY, base_url=url, timeout=20.0, retry=RETRY) as client:
            await client.signals.wallet(customer_id="cus_1", model="m", wait=True)

    with silent() as url, pytest.raises(type(error)) as caught, limit(error):
        asyncio.run(main(url))
    assert caught.value is error


def test_a_limit_ends_a_hook_that_runs_in_the_callers_thread() -> None:
    waited = threading.Event()

    def wait(_: Retrying) -> None:
        waited.wait(20.0)

    client = ClockNext(KEY, base_url="http://127.0.0.1:1", on_retry=wait, retry=RETRY)
    error = TimeIsUpError()
    with pytest.raises(TimeIsUpError) as caught, limit(error, 0.2):
        client.signals.wallet(customer_id="cus_1", model="m", wait=True)
    assert caught.value is error
    client.close()


def test_a_limit_ends_a_flush_and_the_signals_stay_held() -> None:
    with silent() as url:
        client = ClockNext(KEY, base_url=url, batch=BatchPolicy(max_size=1))
        client.signals.wallet(customer_id="cus_1", model="m")
        with pytest.raises(TimeIsUpOSError), limit(TimeIsUpOSError()):
            client.flush()
        assert client.pending == 1
        assert client.close(timeout=0).pending == 1


class Interrupting:
    """A transport that a Ctrl-C strikes while it sends for the first time."""

    has_struck = False

    async def exchange(self, request: Request, *, deadline_at: float) -> Answer:
        """Interrupt the task."""
        del request, deadline_at
        await trio.sleep(0)
        if not self.has_struck:
            self.has_struck = True
            signal.raise_signal(signal.SIGINT)
        return Response(200, (), b'{"ok": true}')

    async def aclose(self) -> None:
        """Do nothing."""


@pytest.fixture
def _ctrl_c() -> Generator[None, None, None]:
    """Have Ctrl-C raise, also where the tests run in the background of a shell, which has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_ctrl_c")
@pytest.mark.parametrize("leaving", [False, True])
def test_under_trio_a_ctrl_c_in_a_background_task_comes_out_in_no_group(*, leaving: bool) -> None:
    client = TrioClockNext(KEY, transport=Interrupting(), batch=BatchPolicy(max_size=1))

    async def main() -> None:
        async with client:
            await client.signals.wallet(customer_id="cus_1", model="m")
            if not leaving:
                await trio.sleep_forever()

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    # It strikes in the main task, and leaves the attempt alone.
    assert (client.stats().delivered, client.pending) == (1, 0)


class Handler:
    """Handlers of all kinds."""

    def method(self, signum: int, frame: FrameType | None) -> None:
        raise TimeIsUpError

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        raise TimeIsUpError


def _with_name(name: str, signum: int, frame: FrameType | None) -> None:
    raise TimeIsUpError(name)


@pytest.mark.parametrize("handler", [Handler().method, Handler(), partial(_with_name, "mine")])
def test_a_handler_is_known_whatever_it_is(handler: Callable[[int, FrameType | None], object]) -> None:
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(TimeIsUpError) as caught:
            signal.raise_signal(signal.SIGUSR1)
        assert is_interrupt(caught.value)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert not is_interrupt(caught.value)
    assert not is_interrupt(OSError())


def test_causes_that_go_round_hold_nobody() -> None:
    itself, one, other = OSError("itself"), OSError("one"), OSError("other")
    itself.__cause__, one.__cause__, other.__cause__ = itself, other, one
    assert not is_interrupt(itself)
    assert not is_interrupt(one)


def test_what_a_look_up_says_under_trio_is_not_its_own_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_found(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def connect() -> None:
        await TrioTransport().connect(Origin("http", "nowhere.invalid", 80), deadline_at=math.inf)

    monkeypatch.setattr(socket, "getaddrinfo", not_found)
    with pytest.raises(OSError, match="not known") as caught:
        trio.run(connect)
    assert caught.value.__cause__ is None


@contextmanager
def struck(function: str, returning: str) -> Generator[None, None, None]:
    """Raise as soon as a function written in C has returned to one of ours, once."""

    def note(frame: FrameType, event: str, argument: object) -> None:
        is_there = event == "c_return" and frame.f_code.co_name == function
        if is_there and getattr(argument, "__name__", "") == returning:
            sys.setprofile(None)
            raise TimeIsUpError

    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(None)


def test_an_interrupt_as_a_call_that_does_not_wait_takes_the_lock_leaves_it_free() -> None:
    with ClockNext(KEY, base_url="http://127.0.0.1:1", batch=PATIENT, close_timeout=0.0) as client:
        with suppress(TimeIsUpError), struck("hold", "acquire"):
            client.nowait.signals.wallet(customer_id="cus_1", model="m")
        assert not client._driver._serving.lock.locked()  # pyright: ignore[reportPrivateUsage]


def test_an_interrupt_as_hooks_begin_leaves_them_to_others() -> None:
    dropped: list[str] = []
    client = ClockNext(KEY, base_url="http://127.0.0.1:1", on_drop=lambda _, reason: dropped.append(reason))
    client.close()
    with pytest.raises(TimeIsUpError), struck("run_hooks", "__exit__"):
        client.signals.wallet(customer_id="cus_1", model="m")
    client.signals.wallet(customer_id="cus_1", model="m")
    assert wait_until(lambda: dropped == ["closed"] * 2)
    client.close()


def test_an_interrupt_as_the_oldest_signal_is_dropped_leaves_counts_that_agree() -> None:
    batch = BatchPolicy(max_size=2, max_interval=3600.0, max_queue_size=2, overflow="drop_oldest")
    for function in ("_drop_oldest", "_take_fresh", "record"):
        for returning in ("append", "popleft"):
            outbox = Engine(Config(KEY, batch=batch), rng=Random(1), make_key=lambda: "key").outbox
            signals = [WalletSignal(customer_id="cus_1", model="m", idempotency_key=str(n)) for n in range(4)]
            for each in signals[:2]:
                outbox.record(encode(each, lambda: "unused"), now=0.0)
            with suppress(TimeIsUpError), struck(function, returning):
                outbox.record(encode(signals[2], lambda: "unused"), now=0.0)
            outbox.record(encode(signals[3], lambda: "unused"), now=0.0)
            stats = outbox.stats(now=0.0)
            assert stats.recorded == stats.held + sum(stats.dropped.values()), (function, returning)
            size = len(encode(signals[3], lambda: "unused").body)
            assert stats.held_bytes == stats.held * size, (function, returning)


@pytest.mark.parametrize("method", ["send", "receive"])
def test_a_limit_that_strikes_while_an_answer_is_read_is_not_taken_for_the_connections(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def strike(*_: object) -> None:
        signal.raise_signal(signal.SIGALRM)

    with emulator() as server, ClockNext(server.api_key, base_url=server.url) as client:
        monkeypatch.setattr(Connection, method, strike)
        with pytest.raises(TimeIsUpOSError), limit(TimeIsUpOSError(), 60.0):
            client.signals.wallet(customer_id="cus_123", model="gpt-4o", wait=True)


class Wrapping:
    """A transport that a limit strikes, and that raises another exception in its place."""

    def exchange(self, request: Request, *, deadline_at: float) -> Answer:
        """Raise."""
        del request, deadline_at
        try:
            signal.raise_signal(signal.SIGALRM)
        except TimeIsUpError as error:
            raise OSError("mine") from error
        raise AssertionError

    def close(self) -> None:
        """Do nothing."""


def test_a_limit_that_a_library_has_made_the_cause_of_another_exception_is_raised_itself() -> None:
    error = TimeIsUpError()
    with ClockNext(KEY, transport=Wrapping()) as client:
        with pytest.raises(TimeIsUpError) as caught, limit(error, 60.0):
            client.signals.wallet(customer_id="cus_1", model="m", wait=True)
        assert caught.value is error


class Striking(logging.Filter):
    """A log filter in which a limit strikes at each warning."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Raise what the handler of SIGALRM raises."""
        if record.levelno >= logging.WARNING:
            signal.raise_signal(signal.SIGALRM)
        return True


@pytest.fixture
def striking() -> Generator[logging.Logger, None, None]:
    """Have a limit strike at each warning of a client."""
    logger, filtering = logging.getLogger("clocknext"), Striking()
    logger.addFilter(filtering)
    with limit(TimeIsUpError(), 60.0):
        yield logger
    logger.removeFilter(filtering)


@pytest.mark.parametrize("world", ["threads", "asyncio", "trio"])
@pytest.mark.usefixtures("striking")
def test_a_limit_that_strikes_where_an_event_is_logged_ends_the_call_and_skips_no_hook(world: str) -> None:
    dropped: list[str] = []

    async def record(kind: type[AsyncClockNext] | type[TrioClockNext]) -> None:
        async with kind(KEY, on_drop=lambda _, reason: dropped.append(reason)) as client:
            await client.close()
            with pytest.raises(TimeIsUpError):
                await client.signals.wallet(customer_id="cus_1", model="m")

    if world == "asyncio":
        asyncio.run(record(AsyncClockNext))
    elif world == "trio":
        trio.run(record, TrioClockNext)
    else:
        with ClockNext(KEY, on_drop=lambda _, reason: dropped.append(reason)) as client:
            client.close()
            with pytest.raises(TimeIsUpError):
                client.signals.wallet(customer_id="cus_1", model="m")
    assert dropped == ["closed"]


def test_a_limit_that_strikes_in_any_record_of_the_event_log_is_raised(striking: logging.Logger) -> None:
    log = EventLog(striking)
    with pytest.raises(TimeIsUpError):
        log.note_raised(Emptied(1))
    with pytest.raises(TimeIsUpError):
        log.finish(kept=1)


@pytest.mark.usefixtures("striking")
def test_a_limit_that_strikes_in_the_last_record_leaves_a_client_that_has_ended() -> None:
    before = registered()
    with emulator() as server:
        client = ClockNext(server.api_key, base_url=server.url)
        client.signals.wallet(customer_id="cus_123", model="gpt-4o")
        client.flush()
        quota = client._driver._hooks.log._quota  # pyright: ignore[reportPrivateUsage]
        while quota.admit("records"):
            pass
        with pytest.raises(TimeIsUpError):
            client.close()
    assert registered() == before


def test_a_limit_that_strikes_while_a_trace_is_written_is_raised_and_ends_the_trace() -> None:
    written: list[str] = []

    def write(line: str) -> None:
        if written:
            signal.raise_signal(signal.SIGALRM)
        written.append(line)

    tape = Tape(Config(KEY), write)
    with limit(TimeIsUpError(), 60.0):
        with pytest.raises(TimeIsUpError):
            tape.write({})
        tape.write({})
    assert len(written) == 1


def test_a_lock_is_taken_again_before_what_a_handler_raises_is_raised() -> None:
    has_struck, begins = threading.Event(), threading.Event()

    class Lock:
        """Lets the other thread go on as soon as it is waited for."""

        def acquire(self, blocking: bool = True, /) -> bool:
            begins.set()
            return within.acquire(blocking)

    lock, within = Lock(), threading.Lock()

    def strike(*_: object) -> None:
        if not has_struck.is_set():
            has_struck.set()
            raise TimeIsUpError

    def give_back() -> None:
        begins.wait(20.0)
        # One that comes just before the lock is waited for ends no wait, so there is another one.
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)
        while not has_struck.wait(0.01):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)
        within.release()

    before = signal.signal(signal.SIGALRM, strike)
    try:
        within.acquire()
        thread = threading.Thread(target=give_back)
        thread.start()
        with pytest.raises(TimeIsUpError):
            take(lock)
        assert within.locked()
        thread.join()
    finally:
        signal.signal(signal.SIGALRM, before)


# When its run ends, trio closes the socket that signals wake it by before it takes the socket back.
@pytest.mark.filterwarnings(
    "ignore:Exception ignored (in|when trying to write to the signal wakeup fd). None"
)
# A coroutine that was made and is interrupted before it is awaited: Python's own.
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize("world", [world for world in WORLDS if world != "sockets"])  # that one by hand
def test_calls_interrupted_anywhere_leave_a_client_that_counts_and_delivers(world: str) -> None:
    seen = interrupt(500, seed=1, world=world)
    assert seen["calls"] == 500
    assert sum(count for what, count in seen.items() if what.startswith("interrupted")) > 20


class StrikingUsage:
    """A part of an answer in which a limit strikes where its usage is looked at."""

    @property
    def usage(self) -> object:
        """Raise what the handler of SIGALRM raises."""
        signal.raise_signal(signal.SIGALRM)
        return None


def by_hand(client: ClockNext) -> None:
    list(client.signals.from_stream(iter([StrikingUsage()]), customer_id="cus_1", key="chat"))


def by_an_integration(client: ClockNext) -> None:
    who = attribution.Attribution(customer_id="cus_1", key="chat")
    watch(client.signals.start_call(attribution.Origin(attribution=who)), StrikingUsage())


@pytest.mark.parametrize("meter", [by_hand, by_an_integration])
def test_a_limit_that_strikes_while_an_answer_is_metered_is_raised_and_reported_once(
    meter: Callable[[ClockNext], None],
) -> None:
    error, seen = TimeIsUpError(), list[attribution.Unbilled]()
    client = ClockNext(KEY, on_unbilled=seen.append)
    with pytest.raises(TimeIsUpError) as caught, limit(error, 60.0):
        meter(client)
    assert caught.value is error
    del caught
    error.__traceback__ = None  # which keeps the stream
    assert len(seen) == 1
    client.close()


def test_what_was_let_pass_is_in_no_cycle_with_its_traceback() -> None:
    def struck(held: Handler) -> None:
        try:
            signal.raise_signal(signal.SIGUSR1)
        except TimeIsUpError as error:
            let_pass(error)
        del held

    before = signal.signal(signal.SIGUSR1, partial(_with_name, "mine"))
    gc.disable()
    try:
        held = Handler()
        seen = weakref.ref(held)
        with suppress(TimeIsUpError):
            struck(held)
        del held
        assert seen() is None
    finally:
        gc.enable()
        signal.signal(signal.SIGUSR1, before)
