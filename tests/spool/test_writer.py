import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from clocknext_core import Adopt, EncodedSignal, Erase, GiveBack, Quarantine, SpoolDuty, SpoolError, Store
from clocknext_transports.spool import Problem, SharedSpool, Spool, SpoolWriter, SqliteSpool, Stored
from tests.spool.support import NOW, keys, left_behind, opened, several, stored

# Other tests may have left a thread that waits; these children use none of the parent's.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")

PATIENCE = 60.0


class FakeSpool:
    """Keeps what it is asked, and waits where it is told to."""

    window = 3600.0

    def __init__(self) -> None:
        self.asked: list[tuple[str, object]] = []
        self.appended: list[Stored] = []
        self.fails: Exception | None = None
        self.problems: list[Problem] = []
        self.left: list[Stored] = []
        self.entered = threading.Semaphore(0)
        self.may_go = threading.Event()
        self.may_go.set()
        self.threads: set[str] = set()

    def _ask(self, name: str, what: object) -> None:
        self.threads.add(threading.current_thread().name)
        self.entered.release()
        assert self.may_go.wait(PATIENCE)
        self.asked.append((name, what))
        if self.fails is not None:
            raise self.fails

    def append(self, signals: Sequence[Stored]) -> None:
        self.appended += signals
        self._ask("append", keys(signals))

    def erase(self, keys: Sequence[str]) -> None:
        self._ask("erase", [*keys])

    def adopt(self, limit: int) -> Sequence[Stored]:
        self._ask("adopt", limit)
        found, self.left = self.left[:limit], self.left[limit:]
        return found

    def quarantine(self, keys: Sequence[str], reason: str) -> None:
        self._ask("quarantine", ([*keys], reason))

    def take_problems(self) -> Sequence[Problem]:
        problems, self.problems = self.problems, []
        return problems

    def suspend(self) -> None:
        self.asked.append(("suspend", None))

    def resume(self) -> None:
        self.asked.append(("resume", None))

    def restart(self) -> None:
        self.asked.append(("restart", None))

    def close(self) -> None:
        self.asked.append(("close", None))


class Told:
    """Collects what callbacks are told, and waits for it."""

    def __init__(self) -> None:
        self.values: list[object] = []
        self._more = threading.Semaphore(0)

    def __call__(self, value: object = None) -> None:
        self.values.append(value)
        self._more.release()

    def wait(self, count: int = 1) -> list[object]:
        for _ in range(count):
            assert self._more.acquire(timeout=PATIENCE)
        return self.values


class Results:
    """Collects the results of duties: of each `Store` by its ticket, of all `Adopt`s together."""

    def __init__(self) -> None:
        self.adopted = Told()
        self.left_behind: list[int] = []
        self._stored: dict[int, Told] = {}

    def on_stored(self, duty: Store, error: SpoolError | None) -> None:
        self._stored[duty.ticket](error)

    def on_adopted(self, found: Sequence[Stored] | SpoolError, left_behind: int) -> None:
        self.adopted(found)
        self.left_behind.append(left_behind)

    def store(self, writer: SpoolWriter, number: int | str, told: Told | None = None) -> Told:
        """Have a signal stored, and collect the result."""
        told = told or Told()
        ticket = len(self._stored)
        self._stored[ticket] = told
        signal = stored(number)
        writer.put(Store(ticket, EncodedSignal(signal.idempotency_key, "wallet", signal.body)))
        return told


@pytest.fixture
def spool() -> FakeSpool:
    return FakeSpool()


@pytest.fixture
def problems() -> Told:
    return Told()


@pytest.fixture
def results() -> Results:
    return Results()


@pytest.fixture
def writer(spool: FakeSpool, problems: Told, results: Results) -> SpoolWriter:
    return make_writer(spool, results, problems)


def make_writer(
    spool: Spool, results: Results, problems: Told | None = None, wall: Callable[[], float] = lambda: NOW
) -> SpoolWriter:
    return SpoolWriter(
        spool,
        on_stored=results.on_stored,
        on_adopted=results.on_adopted,
        on_problem=problems or Told(),
        wall=wall,
    )


def ended(writer: SpoolWriter) -> bool:
    writer.close()
    return writer.join(PATIENCE)


def held_up(writer: SpoolWriter, spool: FakeSpool, results: Results) -> Told:
    """The writer is in the midst of a commit, until `spool.may_go` is set."""
    spool.may_go.clear()
    told = results.store(writer, "first")
    assert spool.entered.acquire(timeout=PATIENCE)
    return told


def test_a_signal_is_told_of_when_it_is_durable_and_not_before(
    writer: SpoolWriter, spool: FakeSpool, results: Results
) -> None:
    told = held_up(writer, spool, results)
    assert told.values == []
    spool.may_go.set()
    assert told.wait() == [None]
    assert ended(writer)


def test_a_signal_is_as_old_as_its_recording_however_late_it_is_written(
    spool: FakeSpool, results: Results
) -> None:
    times = iter([NOW, NOW + 1.0])
    writer = make_writer(spool, results, wall=lambda: next(times, NOW + 3600.0))
    held_up(writer, spool, results)
    told = results.store(writer, "second")
    spool.may_go.set()
    assert told.wait() == [None]
    assert [signal.recorded_at for signal in spool.appended] == [NOW, NOW + 1.0]
    assert ended(writer)


def test_what_comes_while_a_commit_runs_goes_into_the_next_one(
    writer: SpoolWriter, spool: FakeSpool, results: Results
) -> None:
    held_up(writer, spool, results)
    told = Told()
    writer.put(Erase("key-a"))
    for number in range(50):
        results.store(writer, number, told)
    writer.put(Erase("key-b"))
    spool.may_go.set()
    told.wait(50)
    assert ended(writer)
    assert spool.asked == [
        ("append", ["key-first"]),
        ("append", [f"key-{number}" for number in range(50)]),
        ("erase", ["key-a", "key-b"]),
        ("close", None),
    ]


def test_a_group_that_can_not_be_stored_is_told_of_to_all_and_the_next_is_stored(
    writer: SpoolWriter, spool: FakeSpool, results: Results
) -> None:
    first = held_up(writer, spool, results)
    told, later = Told(), Told()
    results.store(writer, 1, told)
    results.store(writer, 2, told)
    full = SpoolError("The disk is full.")
    spool.fails = full
    spool.may_go.set()
    assert (first.wait(), told.wait(2)) == ([full], [full, full])
    spool.fails = None
    results.store(writer, 3, later)
    assert later.wait() == [None]
    assert ended(writer)


def test_a_spool_that_raises_what_it_should_not_holds_nobody_up(
    writer: SpoolWriter, spool: FakeSpool, caplog: pytest.LogCaptureFixture, results: Results
) -> None:
    spool.fails = ZeroDivisionError("secret")
    told = Told()
    results.store(writer, 1, told)
    (error,) = told.wait()
    assert isinstance(error, SpoolError)
    assert str(error) == "The spool failed: ZeroDivisionError."
    assert ended(writer)
    assert "raised what it should not" in caplog.text


def test_a_callback_that_raises_is_logged_and_holds_nobody_up(
    spool: FakeSpool, results: Results, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(duty: Store, error: SpoolError | None) -> None:
        if duty.ticket == 0:
            raise ZeroDivisionError
        results.on_stored(duty, error)

    writer = SpoolWriter(spool, on_stored=broken, on_adopted=results.on_adopted, on_problem=Told())
    results.store(writer, 1)
    told = results.store(writer, 2)
    assert told.wait() == [None]
    assert ended(writer)
    assert "writing goes on" in caplog.text


def test_an_erasure_that_fails_is_told_of_once_and_tried_again_with_the_next_group(
    writer: SpoolWriter, spool: FakeSpool, problems: Told, results: Results
) -> None:
    spool.fails = SpoolError("The disk is full.")
    told = Told()
    writer.put(Erase("key-1"))
    assert problems.wait() == [Problem("The disk is full.")]
    writer.put(Erase("key-2"))
    results.store(writer, 3, told)
    told.wait()
    writer.put(Quarantine("key-9", "to see that erasing has been tried"))
    assert problems.wait() == [Problem("The disk is full.")] * 2
    spool.fails = None
    results.store(writer, 4, told)
    told.wait()
    assert ended(writer)
    assert spool.asked[-2:] == [("erase", ["key-1", "key-2"]), ("close", None)]


def test_what_is_left_behind_is_adopted(writer: SpoolWriter, spool: FakeSpool, results: Results) -> None:
    spool.left = several(range(3))
    for _ in range(3):
        writer.put(Adopt(2))
    assert results.adopted.wait(3) == [several([0, 1]), several([2]), []]
    assert ended(writer)


class CountingFake(FakeSpool):
    """A spool that can count what it has not given out yet."""

    def left_behind(self) -> int:
        if self.fails is not None:
            raise self.fails
        return len(self.left)


def test_what_is_still_left_is_counted_by_a_spool_that_can(results: Results) -> None:
    spool = CountingFake()
    spool.left = several(range(3))
    writer = make_writer(spool, results)
    writer.put(Adopt(2))
    results.adopted.wait()
    spool.fails = SpoolError("No file handle is left.")
    writer.put(Adopt(2))
    results.adopted.wait()
    assert ended(writer)
    assert results.left_behind == [1, 0]


def test_adoption_goes_on_where_all_that_was_found_went_into_quarantine(
    writer: SpoolWriter, spool: FakeSpool, problems: Told, monkeypatch: pytest.MonkeyPatch, results: Results
) -> None:
    found: list[tuple[list[Stored], list[Problem]]] = [
        ([], [Problem("past the window", stored(1))]),
        ([], [Problem("past the window", stored(2))]),
        (several([3]), []),
    ]

    def adopt(_: int) -> Sequence[Stored]:
        signals, told = found.pop(0)
        spool.problems += told
        return signals

    monkeypatch.setattr(spool, "adopt", adopt)
    writer.put(Adopt(10))
    assert results.adopted.wait() == [several([3])]
    assert problems.wait(2) == [
        Problem("past the window", stored(1)),
        Problem("past the window", stored(2)),
    ]
    assert ended(writer)


def test_an_adoption_that_fails_is_told_of(writer: SpoolWriter, spool: FakeSpool, results: Results) -> None:
    spool.fails = SpoolError("No file handle is left.")
    writer.put(Adopt(10))
    assert results.adopted.wait() == [spool.fails]
    assert ended(writer)


def test_it_quarantines(writer: SpoolWriter, spool: FakeSpool) -> None:
    writer.put(Quarantine("key-1", "refused"))
    assert ended(writer)
    assert spool.asked == [("quarantine", (["key-1"], "refused")), ("close", None)]


def test_problems_of_the_spool_are_told(
    writer: SpoolWriter, spool: FakeSpool, problems: Told, results: Results
) -> None:
    spool.problems = [Problem("A file was damaged.")]
    results.store(writer, 1)
    assert problems.wait() == [Problem("A file was damaged.")]
    assert ended(writer)


def test_all_is_done_in_one_thread_that_ends(writer: SpoolWriter, spool: FakeSpool, results: Results) -> None:
    before = {*threading.enumerate()}
    told = Told()
    callers = [threading.Thread(target=results.store, args=(writer, number, told)) for number in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(PATIENCE)
    told.wait(8)
    assert ended(writer)
    assert spool.threads == {"clocknext-spool"}
    assert {*threading.enumerate()} <= before


# End


def test_close_carries_out_what_is_queued_and_tells_last(
    writer: SpoolWriter, spool: FakeSpool, results: Results
) -> None:
    held_up(writer, spool, results)
    told, closed = Told(), Told()
    results.store(writer, 1, told)
    writer.close(closed)
    assert not writer.join(0)
    assert (told.values, closed.values) == ([], [])
    spool.may_go.set()
    assert closed.wait() == [None]
    assert told.values == [None]
    assert writer.join(PATIENCE)
    assert spool.asked[-1] == ("close", None)


def test_a_closed_writer_refuses_jobs(writer: SpoolWriter) -> None:
    assert ended(writer)
    duties: list[SpoolDuty] = [
        Store(1, EncodedSignal("key", "wallet", b"{}")),
        Adopt(1),
        Erase("key"),
        Quarantine("key", "why"),
    ]
    for duty in duties:
        with pytest.raises(SpoolError, match="closed"):
            writer.put(duty)


def test_closing_again_tells_too_and_closes_the_spool_once(writer: SpoolWriter, spool: FakeSpool) -> None:
    first, second, third = Told(), Told(), Told()
    writer.close(first)
    writer.close(second)
    first.wait()
    second.wait()
    writer.close(third)
    third.wait()
    assert writer.join(PATIENCE)
    assert spool.asked == [("close", None)]


def test_without_a_thread_to_be_had_a_job_is_refused_and_close_does_without(
    writer: SpoolWriter, spool: FakeSpool, monkeypatch: pytest.MonkeyPatch, results: Results
) -> None:
    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    with pytest.raises(SpoolError, match="no thread can be started"):
        results.store(writer, 1)
    closed = Told()
    writer.close(closed)
    assert (closed.values, spool.asked) == ([None], [("close", None)])


def test_an_interpreter_that_exits_does_not_wait_for_it(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from clocknext_core import EncodedSignal, Store
from clocknext_transports.spool import SpoolWriter
from tests.spool.support import NOW, opened, stored
writer = SpoolWriter(
    opened(Path(sys.argv[1])),
    on_stored=lambda duty, failed: print("stored", failed, flush=True),
    on_adopted=print,
    on_problem=print,
    wall=lambda: NOW,
)
writer.put(Store(1, EncodedSignal(stored(1).idempotency_key, "wallet", stored(1).body)))
while sys.stdin.readline():
    pass
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, str(tmp_path / "spool")],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    # What was reported is stored. The exit may fall between the commit and the report of it.
    left = left_behind(tmp_path / "spool")
    assert left == several([1]) or (left == [] and done.stdout == "")


# Fork


def test_a_fork_waits_for_the_commit_that_runs_and_the_parent_goes_on_with_what_is_queued(
    writer: SpoolWriter, spool: FakeSpool, results: Results
) -> None:
    first = held_up(writer, spool, results)
    told = Told()
    results.store(writer, 1, told)
    suspending = threading.Thread(target=writer.suspend)
    suspending.start()
    spool.may_go.set()
    suspending.join(PATIENCE)
    assert first.wait() == [None]
    assert spool.asked[-1] == ("suspend", None)
    assert "clocknext-spool" not in {thread.name for thread in threading.enumerate()}
    results.store(writer, 2, told)
    writer.resume()
    told.wait(2)
    assert ended(writer)
    assert [what for name, what in spool.asked if name == "append"][-1] in (
        ["key-2"],
        ["key-1", "key-2"],
    )


def test_a_child_starts_with_nothing_queued(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    results = Results()
    writer = make_writer(opened(path), results)
    told, later = Told(), Told()
    results.store(writer, "parent", told)
    told.wait()
    writer.suspend()
    results.store(writer, "queued", later)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            writer.restart()
            own = Told()
            results.store(writer, "child", own)
            status = 0 if own.wait() == [None] and ended(writer) and not later.values else 2
        finally:
            os._exit(status)
    writer.resume()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert later.wait() == [None]
    assert ended(writer)
    assert sorted(keys(left_behind(path))) == ["key-child", "key-parent", "key-queued"]


def test_a_fork_during_close_leaves_the_rest_to_the_parent(writer: SpoolWriter, spool: FakeSpool) -> None:
    writer.suspend()
    closed = Told()
    writer.close(closed)
    assert closed.values == []
    writer.resume()
    closed.wait()
    assert writer.join(PATIENCE)
    assert spool.asked == [("suspend", None), ("resume", None), ("close", None)]


def test_a_closed_writer_stays_closed_over_a_fork(
    writer: SpoolWriter, spool: FakeSpool, results: Results
) -> None:
    assert ended(writer)
    writer.suspend()
    writer.resume()
    writer.restart()
    with pytest.raises(SpoolError, match="closed"):
        results.store(writer, 1)
    assert spool.asked == [("close", None)]


def test_with_the_real_store(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    results = Results()
    writer = make_writer(SqliteSpool(path, clock=lambda: NOW), results)
    told = Told()
    for number in range(100):
        results.store(writer, number, told)
    assert set(told.wait(100)) == {None}
    for number in range(0, 100, 2):
        writer.put(Erase(f"key-{number}"))
    assert ended(writer)
    assert left_behind(path) == several(range(1, 100, 2))


class FakeSharedSpool(FakeSpool):
    """A shared spool, which is tended once more after a short time, and then not before it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.tended = threading.Semaphore(0)
        self.seconds: list[float | None] = [0.01, 0.01]

    def give_back(self, keys: Sequence[str]) -> None:
        self._ask("give back", [*keys])

    def tend(self) -> float | None:
        self.tended.release()
        return self.seconds.pop() if self.seconds else None


def test_a_shared_spool_is_tended_after_each_group_and_when_its_time_is_over(results: Results) -> None:
    spool = FakeSharedSpool()
    assert isinstance(spool, SharedSpool)
    writer = make_writer(spool, results)
    writer.put(GiveBack("key-1"))
    for _ in range(3):  # before the group, after it, and by time
        assert spool.tended.acquire(timeout=PATIENCE)
    assert spool.asked == [("give back", ["key-1"])]
    assert ended(writer)


def test_what_is_given_back_goes_in_one_call_and_a_failure_is_reported(results: Results) -> None:
    spool, problems = FakeSharedSpool(), Told()
    writer = make_writer(spool, results, problems)
    spool.may_go.clear()
    writer.put(Erase("key-0"))
    assert spool.entered.acquire(timeout=PATIENCE)
    spool.fails = SpoolError("The database is away.")
    for key in ("key-1", "key-2"):
        writer.put(GiveBack(key))
    spool.may_go.set()
    problems.wait(2)
    assert ("give back", ["key-1", "key-2"]) in spool.asked
    assert Problem("The database is away.") in problems.values
    spool.fails = None
    assert ended(writer)


def test_a_spool_of_one_process_is_asked_to_give_nothing_back(spool: FakeSpool, results: Results) -> None:
    writer = make_writer(spool, results)
    writer.put(GiveBack("key-1"))
    assert ended(writer)
    assert [name for name, _ in spool.asked] == ["close"]
