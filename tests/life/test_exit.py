"""Row 28 of the fault matrix: the interpreter exits with signals held. Sent, or reported in bounded time."""

import signal as signals
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.life.support import Program, keys, run
from tests.transports.support import Peer, Wire, closed_port, keep_answering

HOLD = """
threads, loop, nursery = (
    kind(KEY, base_url=URL, allow_insecure_http=True, batch=BatchPolicy(max_interval=3600.0))
    for kind in (ClockNext, AsyncClockNext, TrioClockNext)
)
def keys(name):
    return [f"{name}-{number}" for number in range(3)]
for key in keys("threads"):
    threads.signals.wallet(**WALLET, idempotency_key=key)
async def hold_in_loop():
    for key in keys("asyncio"):
        await loop.signals.wallet(**WALLET, idempotency_key=key)
asyncio.run(hold_in_loop())
async def hold_in_block():
    with trio.CancelScope() as scope:
        async with nursery:
            for key in keys("trio"):
                await nursery.signals.wallet(**WALLET, idempotency_key=key)
            scope.cancel()
trio.run(hold_in_block)
"""
"""Leaves three signals held by a client of each kind."""

ALL = {f"{kind}-{number}": 1 for kind in ("threads", "asyncio", "trio") for number in range(3)}

SLACK = 6.0
"""Seconds a program may take beside what it waits for, on a busy machine."""


@contextmanager
def hanging() -> Generator[str, None, None]:
    """Give the URL of a server that takes requests and never answers."""

    def script(wire: Wire) -> None:
        wire.read()
        wire.wait_for_end()

    with Peer(script) as peer:
        yield peer.url


def test_row_28_exit_with_the_server_up_sends_what_is_held() -> None:
    with Peer(keep_answering()) as peer:
        ended = run(HOLD, peer.url)
        assert keys(peer) == ALL
    assert ended.code == 0
    # The threads were still there. A loop that has ended should have left nothing behind, and that is said.
    said = [line.partition(" WARNING ")[2] for line in ended.errors.splitlines()]
    assert len(said) == 2, said
    for line in said:
        assert line.startswith("ClockNext signals held when their event loop ended: 3. Threads send them now")


@pytest.mark.parametrize("server", [closed_port, hanging])
def test_row_28_exit_with_the_server_down_or_hanging_is_bounded_and_says_so(
    server: Callable[[], AbstractContextManager[str]],
) -> None:
    more = "more = [ClockNext(KEY, base_url=URL) for _ in range(20)]\n"
    more += "for client in more: client.signals.wallet(**WALLET)\n"
    with server() as url:
        ended = run(HOLD + more, url, EXIT_TIMEOUT="0.3")
    assert ended.code == 0
    assert ended.elapsed < 0.3 + SLACK
    said = ended.errors.splitlines()
    assert said[-1] == "clocknext WARNING ClockNext signals not delivered before the interpreter's exit: 29."
    assert "Traceback" not in ended.errors


WITHOUT_THREADS = """
import socket
from clocknext_transports.process import lookups
lookups.IS_NEEDED = bool(os.environ["READY"])
def refuse(self):
    raise RuntimeError("can't create new thread at interpreter shutdown")
def look_up(host, *arguments, found=socket.getaddrinfo, **options):
    if host == "hangs.test" and not options.get("flags"):
        threading.Event().wait()
    return found("127.0.0.1" if host == "api.test" else host, *arguments, **options)
socket.getaddrinfo = look_up
"""
REFUSE = "threading.Thread.start = refuse\n"


@pytest.mark.parametrize("ready", ["", "a thread for look-ups"])
def test_without_threads_to_be_had_the_last_one_does_all_the_work(ready: str) -> None:
    """Python 3.12 starts none at the exit: not to send, and not to look a host name up."""
    with Peer(keep_answering()) as peer:
        url = peer.url.replace("127.0.0.1", "api.test")
        ended = run(WITHOUT_THREADS + HOLD + REFUSE, url, READY=ready)
        assert keys(peer) == ALL
    assert "Traceback" not in ended.errors
    assert "not delivered" not in ended.errors


@pytest.mark.parametrize("last", ["", REFUSE], ids=["with threads", "without threads"])
def test_a_look_up_that_hangs_does_not_hold_the_exit_up(last: str) -> None:
    ended = run(WITHOUT_THREADS + HOLD + last, "http://hangs.test:1", READY="yes", EXIT_TIMEOUT="0.3")
    assert ended.code == 0
    assert ended.elapsed < 1.3 + SLACK
    said = ended.errors.splitlines()
    assert said[-1] == "clocknext WARNING ClockNext signals not delivered before the interpreter's exit: 9."
    assert "Traceback" not in ended.errors


def test_a_thread_for_look_ups_ends_when_no_client_is_left() -> None:
    program = """
before = threading.active_count()
client = ClockNext(KEY, base_url=URL, allow_insecure_http=True, batch=BatchPolicy(max_interval=3600.0))
client.signals.wallet(**WALLET)
ready = [thread for thread in threading.enumerate() if thread.name == "clocknext look-up"]
client.close(timeout=0)
for thread in ready:
    thread.join(10)
print(len(ready), threading.active_count() - before)
"""
    ended = run(WITHOUT_THREADS + program, "http://api.test:1", READY="yes")
    assert (ended.code, ended.output) == (0, "1 0\n"), ended.errors


OWN_TRANSPORT = """
class Mine:
    async def exchange(self, request, *, deadline_at):
        raise OSError("down")
    async def aclose(self):
        pass
def dropped(signal, reason):
    print(signal.idempotency_key, reason)
client = AsyncClockNext(KEY, transport=Mine(), on_drop=dropped, batch=BatchPolicy(max_interval=3600.0))
async def hold():
    for key in ("one", "two"):
        await client.signals.wallet(**WALLET, idempotency_key=key)
asyncio.run(hold())
"""


def test_what_needs_a_transport_of_an_ended_loop_is_reported_signal_by_signal() -> None:
    ended = run(OWN_TRANSPORT, "")
    assert ended.output == "one closed\ntwo closed\n", ended.errors
    said = [line.partition(" WARNING ")[2] for line in ended.errors.splitlines()]
    assert said[0].startswith("ClockNext signals held when their event loop ended: 2. They are dropped")
    assert [line[:22] for line in said[1:3]] == ["ClockNext signal 'one'", "ClockNext signal 'two'"]
    assert said[3:] == ["ClockNext signals not delivered before the interpreter's exit: 2."]


def test_trio_in_another_thread_is_asked_to_deliver() -> None:
    program = """
recorded = threading.Event()
async def main():
    global client
    async with TrioClockNext(KEY, base_url=URL) as client:
        await client.signals.wallet(**WALLET, idempotency_key="one")
        recorded.set()
        await trio.sleep_forever()
threading.Thread(target=trio.run, args=(main,), daemon=True).start()
recorded.wait()
"""
    with Peer(keep_answering()) as peer:
        ended = run(program, peer.url)
        assert keys(peer) == {"one": 1}
    assert (ended.code, ended.errors) == (0, "")


def test_a_hook_that_does_not_return_holds_nothing_up_for_ever() -> None:
    program = """
def hook(event):
    if threading.current_thread() is not threading.main_thread():
        threading.Event().wait()
client = ClockNext(KEY, base_url=URL, batch=BatchPolicy(max_size=1), on_retry=hook, on_flush=hook)
client.signals.wallet(**WALLET)
client.signals.wallet(**WALLET)
while client.pending == 2:
    pass
"""
    with Peer(keep_answering()) as peer:
        ended = run(program, peer.url, EXIT_TIMEOUT="0.2")
    assert ended.elapsed < 1.2 + SLACK
    assert ended.code == 0


WAIT = """
print("ready", flush=True)
while True:
    signal.pause()
"""


def test_sigterm_alone_ends_the_process_at_once_and_what_is_held_is_lost() -> None:
    """Not a library's to change: it is why the recipe in the documentation is needed."""
    with Peer(keep_answering()) as peer:
        program = Program(HOLD + WAIT, peer.url)
        assert program.wait_line() == "ready"
        program.process.send_signal(signals.SIGTERM)
        assert program.end().code == -signals.SIGTERM
        assert keys(peer) == {}


def test_sigterm_with_a_handler_that_raises_drains() -> None:
    handler = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
    with Peer(keep_answering()) as peer:
        program = Program(handler + HOLD + WAIT, peer.url)
        assert program.wait_line() == "ready"
        program.process.send_signal(signals.SIGTERM)
        ended = program.end()
        assert keys(peer) == ALL
    assert ended.code == 143
    assert "Traceback" not in ended.errors


# Handlers and finalizers that use a client themselves


KINDS = ["ClockNext", "AsyncClockNext", "TrioClockNext"]
IN_A_HANDLER = """
import atexit
first = ClockNext(KEY, base_url=URL, allow_insecure_http=True, batch=BatchPolicy(max_interval=3600.0))
late = {kind}(KEY, base_url=URL, allow_insecure_http=True)
first.signals.wallet(**WALLET, idempotency_key="first")
@atexit.register
def sum_up():
    late.nowait.signals.wallet(**WALLET, idempotency_key="late")
    with ClockNext(KEY, base_url=URL, allow_insecure_http=True) as client:
        client.signals.wallet(**WALLET, idempotency_key="in a block")
    left = ClockNext(KEY, base_url=URL, allow_insecure_http=True)
    left.signals.wallet(**WALLET, idempotency_key="left open")
"""


@pytest.mark.parametrize("kind", KINDS)
def test_what_an_exit_handler_records_is_sent_with_what_was_held(kind: str) -> None:
    """Handlers that are registered while they run are never called, so ours must not move then."""
    with Peer(keep_answering()) as peer:
        ended = run(IN_A_HANDLER.format(kind=kind), peer.url)
        assert keys(peer) == dict.fromkeys(("first", "late", "in a block", "left open"), 1)
    assert ended.code == 0
    assert "not delivered" not in ended.errors
    assert "Traceback" not in ended.errors


IN_A_FINALIZER = """
client = {kind}(KEY, base_url=URL, allow_insecure_http=True, spool=os.environ["SPOOL"] or None)
class Answer:
    def __del__(self):
        print("recording", flush=True)
        {records}.wallet(**WALLET)
answer = Answer()
"""
SAID = "used after the interpreter's exit has delivered what clients held"


@pytest.mark.parametrize(
    ("kind", "records"),
    [("ClockNext", "client.signals"), *((kind, "client.nowait.signals") for kind in KINDS)],
)
def test_what_a_finalizer_records_when_no_thread_runs_any_more_is_said_to_be_lost(
    kind: str, records: str
) -> None:
    with Peer(keep_answering()) as peer:
        ended = run(IN_A_FINALIZER.format(kind=kind, records=records), peer.url, SPOOL="")
        assert keys(peer) == {}
    assert (ended.code, ended.output) == (0, "recording\n"), ended.errors
    assert SAID in ended.errors


@pytest.mark.parametrize(
    ("kind", "records"),
    [("ClockNext", "client.signals"), *((kind, "client.nowait.signals") for kind in KINDS)],
)
def test_a_finalizer_that_records_with_a_spool_does_not_wait_for_a_thread(
    kind: str, records: str, tmp_path: Path
) -> None:
    with Peer(keep_answering()) as peer:
        program = IN_A_FINALIZER.format(kind=kind, records=records)
        ended = run(program, peer.url, SPOOL=str(tmp_path / "spool"))
    assert (ended.code, ended.output) == (0, "recording\n"), ended.errors


BEFORE_THE_IMPORT = """
import atexit, sys
@atexit.register
def last_of_all():
    left = ClockNext(KEY, base_url=URL, allow_insecure_http=True)
    left.signals.wallet(customer_id="cus_123", model="gpt-4o")
    left.close(timeout=10)
from clocknext_transports import ClockNext
KEY, URL = sys.argv[1:]
"""


def test_a_client_that_is_used_after_the_exit_says_that_it_has_to_be_closed() -> None:
    with Peer(keep_answering()) as peer:
        program = [sys.executable, "-c", BEFORE_THE_IMPORT, "cnk_test", peer.url]
        ended = subprocess.run(program, capture_output=True, text=True, timeout=60, check=True)
        assert sum(keys(peer).values()) == 1
    assert SAID in ended.stderr
    assert "Traceback" not in ended.stderr
