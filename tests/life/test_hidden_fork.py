"""Forks that Python's hooks do not see: uWSGI's default, and `fork` called from C."""

import os
import threading
import timeit
from functools import partial
from pathlib import Path

import pytest

from clocknext_core import BatchPolicy
from clocknext_transports import ClockNext
from clocknext_transports.emulator import Catalogue, Customer, Ledger, emulator
from clocknext_transports.process import fork as forks
from tests.life.support import (
    KINDS,
    PATIENT,
    Child,
    Kind,
    check_fork_while_all_locks_are_held,
    close,
    deliver,
    fork_from_c,
    hold,
    keys,
    look,
    make_client,
    run,
    wait_until,
)
from tests.transports.support import KEY, PATIENCE, Peer, answer, keep_answering

ALONE = "CLOCKNEXT_TESTS_HIDDEN_FORKS"
"""Set where these tests run in a process of their own."""
# A child that C forked has one thread, and is without those that held locks, CPython's own too.
pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here"),
    pytest.mark.skipif(
        not os.environ.get(ALONE), reason=f"beside other tests' threads a child may hang: {ALONE}=1"
    ),
]

any_kind = pytest.mark.parametrize("kind", KINDS)
CUSTOMER = keep_answering(answer(b'{"ok": true, "customer": {"id": "cus_1"}}'))


@any_kind
def test_the_child_starts_empty_and_the_parent_goes_on(kind: Kind) -> None:
    with Peer(keep_answering()) as peer:
        client = make_client(kind, peer.url)
        hold(client, "parent-1", "parent-2")

        def work() -> tuple[int, int, int]:
            before = client.pending
            hold(client, "child")
            return before, client.pending, deliver(client)

        assert Child(work, fork_from_c).result() == [0, 1, 1]
        assert client.pending == 2
        assert deliver(client) == 2
        assert keys(peer) == {"parent-1": 1, "parent-2": 1, "child": 1}
        close(client)


@any_kind
@pytest.mark.parametrize("first_use", ["record", "look", "close"])
def test_any_use_may_be_the_first(kind: Kind, first_use: str) -> None:
    with Peer(CUSTOMER) as peer:
        client = make_client(kind, peer.url)
        hold(client, "parent")

        def work() -> int:
            if first_use == "record":
                hold(client, "child")
            elif first_use == "look":
                look(client)
            close(client)
            return client.pending

        assert Child(work, fork_from_c).result() == 0
        assert client.pending == 1
        close(client)
        assert keys(peer) == {"parent": 1} | ({"child": 1} if first_use == "record" else {})


@any_kind
def test_a_child_of_a_child_starts_empty_too(kind: Kind) -> None:
    with Peer(keep_answering()) as peer:
        client = make_client(kind, peer.url)
        hold(client, "parent")

        def work() -> list[object]:
            hold(client, "child")
            return [Child(work_further, fork_from_c).result(), client.pending, deliver(client)]

        def work_further() -> tuple[int, int]:
            before = client.pending
            hold(client, "grandchild")
            return before, deliver(client)

        assert Child(work, fork_from_c).result() == [[0, 1], 1, 1]
        assert deliver(client) == 1
        assert keys(peer) == {"parent": 1, "child": 1, "grandchild": 1}
        close(client)


def test_the_background_of_a_child_sends_by_itself() -> None:
    with Peer(keep_answering()) as peer:
        batch = BatchPolicy(max_interval=0.01)
        with ClockNext(KEY, base_url=peer.url, batch=batch) as client:
            hold(client, "parent")
            assert client.flush().delivered == 1  # there are threads, which the child does not have

            def work() -> int:
                hold(client, "child")
                wait_until(lambda: client.pending == 0)
                return client.pending

            assert Child(work, fork_from_c).result() == 0
        assert keys(peer) == {"parent": 1, "child": 1}


def test_no_answer_of_one_process_reaches_another() -> None:
    customers = [Customer(f"cus_{number}", wallet=9) for number in range(100)]
    with emulator(Ledger(Catalogue(customers=customers))) as server:
        client = ClockNext(server.api_key, base_url=server.url)
        client.customers.get("cus_0")  # its connection is idle at the fork

        def look_up(first: int) -> list[str]:
            asked = [f"cus_{number}" for number in range(first, first + 50)]
            return [one for one in asked if client.customers.get(one).id != one]

        children = [Child(partial(look_up, first), fork_from_c) for first in (0, 50)]
        assert [child.result() for child in children] == [[], []]
        assert client.customers.get("cus_7").id == "cus_7"
        client.close()


def test_locks_that_were_held_at_the_fork_do_not_hang_the_child() -> None:
    check_fork_while_all_locks_are_held(fork_from_c)


def test_threads_that_notice_at_once_begin_anew_once() -> None:
    with Peer(keep_answering()) as peer:
        client = ClockNext(KEY, base_url=peer.url, batch=PATIENT)
        hold(client, "parent")

        def work() -> int:
            together = threading.Barrier(8)

            def record(number: int) -> None:
                together.wait(PATIENCE)
                hold(client, f"child-{number}")

            threads = [threading.Thread(target=record, args=(number,)) for number in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(PATIENCE)
            return client.close().delivered

        assert Child(work, fork_from_c).result() == 8
        assert client.close().delivered == 1


FORK = """
from tests.life.support import fork_from_c as fork
"""
EXITING = """
client = {client}(KEY, base_url=URL, spool=os.environ.get("SPOOL"), batch=BatchPolicy(max_interval=3600))
{record}
if fork() == 0:
    sys.exit()  # by all that an ordinary end does
_, status = os.wait()
print(os.waitstatus_to_exitcode(status), client.pending, flush=True)
print({flush})
"""
BY_THREADS = {
    "client": "ClockNext",
    "record": "client.signals.wallet(**WALLET, idempotency_key='parent')",
    "flush": "client.close().delivered",
}
BY_ASYNCIO = {
    "client": "AsyncClockNext",
    "record": "asyncio.run(client.signals.wallet(**WALLET, idempotency_key='parent'))",
    "flush": "asyncio.run(client.close()).delivered",
}


@pytest.mark.parametrize("world", [BY_THREADS, BY_ASYNCIO], ids=["threads", "asyncio"])
@pytest.mark.parametrize("has_spool", [False, True], ids=["memory", "spool"])
def test_a_child_that_uses_no_client_ends_without_a_trace(
    world: dict[str, str], has_spool: bool, tmp_path: Path
) -> None:
    with Peer(keep_answering()) as peer:
        spool = {"SPOOL": str(tmp_path / "spool")} if has_spool else {}
        ended = run(FORK + EXITING.format(**world), peer.url, **spool)
    assert (ended.code, ended.output.split()) == (0, ["0", "1", "1"])
    assert ended.errors == ""
    assert keys(peer) == {"parent": 1}


SPOOLED = """
client = ClockNext(KEY, base_url=URL, spool=os.environ["SPOOL"], batch=BatchPolicy(max_interval=3600))
client.signals.wallet(**WALLET, idempotency_key="parent")
if fork() == 0:
    client.signals.wallet(**WALLET, idempotency_key="child")
    held = client.pending
    print(held, client.close().delivered, flush=True)
    sys.exit()
os.wait()
print(client.pending, client.close().delivered, sorted(os.listdir(os.environ["SPOOL"])))
"""


def test_with_a_spool_parent_and_child_have_files_of_their_own(tmp_path: Path) -> None:
    with Peer(keep_answering()) as peer:
        ended = run(FORK + SPOOLED, peer.url, SPOOL=str(tmp_path / "spool"))
    assert (ended.code, ended.output) == (0, "1 1\n1 1 []\n"), ended.errors
    assert keys(peer) == {"parent": 1, "child": 1}


@pytest.mark.parametrize("mark", [forks._Page, forks._Pid])  # pyright: ignore[reportPrivateUsage]
def test_a_mark_is_set_in_one_process(mark: type[forks._Page] | type[forks._Pid]) -> None:  # pyright: ignore[reportPrivateUsage]
    here = mark()
    assert not here.flag[0]
    here.set()

    def work() -> list[int]:
        before = here.flag[0]
        here.set()
        return [before, here.flag[0]]

    assert Child(work, fork_from_c).result() == [0, 1]
    assert here.flag[0]


def test_asking_costs_a_quarter_of_a_microsecond_at_most() -> None:
    number = 10_000
    times = timeit.repeat(forks.notice, number=number, repeat=50)
    assert min(times) / number < 0.25e-6
