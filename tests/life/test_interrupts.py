"""What a signal's handler raises reaches the caller that it interrupts, and does the client no harm."""

import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from types import FrameType

import pytest
import trio

from clocknext_core import Answer, BatchPolicy, Request, Response, Retrying, RetryPolicy
from clocknext_transports import AsyncClockNext, ClockNext, TrioClockNext
from clocknext_transports.process.interrupts import is_interrupt
from tests.life.interrupts import WORLDS, TimeIsUpError, TimeIsUpOSError, interrupt
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


# When its run ends, trio closes the socket that signals wake it by before it takes the socket back.
@pytest.mark.filterwarnings(
    "ignore:Exception ignored (in|when trying to write to the signal wakeup fd). None"
)
# A coroutine that was made and is interrupted before it is awaited: Python's own.
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize("world", WORLDS)
def test_calls_interrupted_anywhere_leave_a_client_that_counts_and_delivers(world: str) -> None:
    seen = interrupt(500, seed=1, world=world)
    assert seen["calls"] == 500
    assert sum(count for what, count in seen.items() if what.startswith("interrupted")) > 20
