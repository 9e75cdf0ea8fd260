"""Claims on real rows: what a statement of `clocknext_core.claims` does in the database."""

import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

import psycopg
import pytest

from clocknext_core import SpoolError
from clocknext_core.claims import LEASE_SECONDS, OVERLAP, Claim, Row
from clocknext_transports.postgres import ClaimingSpool, outbox
from clocknext_transports.spool import SharedSpool, Stored
from tests.postgres.support import OF_A_PROCESS, SIGNAL, Database, adopted, wait_until


class Relays:
    """Spools that are closed when the test ends. Their clocks stand still unless the test moves them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._opened: list[ClaimingSpool] = []
        self.now = 1000.0

    def time(self) -> float:
        return self.now

    def new(self, url: str | None = None, **options: Any) -> ClaimingSpool:
        spool = ClaimingSpool(url or self._database.url, clock=self.time, wall=lambda: 5e9, **options)
        self._opened.append(spool)
        return spool

    def settle(self, spool: ClaimingSpool, *keys: str) -> None:
        """Have signals settled, when they have waited for others."""
        spool.erase(keys)
        self.now += 1.0
        spool.tend()

    def close(self) -> None:
        for spool in self._opened:
            spool.close()


@pytest.fixture
def relays(database: Database) -> Iterator[Relays]:
    made = Relays(database)
    yield made
    made.close()


WAITING = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"


@pytest.fixture
def slow_clock(database: Database) -> Iterator[str]:
    """The URL of connections whose server tells the time only while no one holds the advisory lock 4711."""
    database.execute("CREATE SCHEMA slow")
    database.execute(
        """
        CREATE FUNCTION slow.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM pg_advisory_xact_lock_shared(4711);
            RETURN pg_catalog.clock_timestamp();
        END $$
        """
    )
    yield f"{database.url}&{urlencode({'options': '-csearch_path=slow,public,pg_catalog'}, quote_via=quote)}"
    database.execute("DROP SCHEMA slow CASCADE")


def leases(database: Database) -> dict[str, int | None]:
    return dict(database.execute("SELECT key, lease FROM clocknext_outbox ORDER BY id"))


def test_each_signal_is_claimed_by_one_relay_and_leaves_when_it_has_ended(
    database: Database, relays: Relays
) -> None:
    database.write("a", "b", "c")
    one, other = relays.new(), relays.new()
    assert isinstance(one, SharedSpool)
    assert adopted(one, limit=2) == ["a", "b"]
    assert adopted(other) == ["c"]
    assert adopted(one) == adopted(other) == []
    relays.settle(one, "a", "b")
    assert database.keys() == ["c"]
    assert one.settled == 2
    relays.settle(other, "c")
    assert database.keys() == []


def test_what_is_claimed_has_the_bytes_and_the_age_of_what_was_recorded(
    database: Database, relays: Relays
) -> None:
    database.write("a")
    database.let_age(3)
    (body,) = database.execute("SELECT body FROM clocknext_outbox")[0]
    (stored,) = relays.new().adopt(10)
    assert stored == Stored("a", body, stored.recorded_at)
    assert stored.recorded_at == pytest.approx(5e9 - 3 * 3600, abs=60), "by the server's clock"


def test_a_lease_that_is_over_is_anyones_and_its_old_owner_changes_nothing(
    database: Database, relays: Relays
) -> None:
    database.write("a", "b")
    one, other = relays.new(), relays.new()
    assert adopted(one) == ["a", "b"]
    assert adopted(other) == []
    database.end_leases()
    relays.now += 10  # a full look
    assert adopted(other) == ["a", "b"]
    relays.settle(one, "a", "b")
    assert leases(database) == {"a": other.lease, "b": other.lease}
    relays.settle(other, "a", "b")
    assert database.keys() == []


def test_a_lease_is_renewed_in_time_and_whoever_missed_it_goes_on_with_what_no_one_took(
    database: Database, relays: Relays
) -> None:
    database.write("a")
    one = relays.new()
    assert adopted(one) == ["a"]
    database.end_leases()
    relays.now += LEASE_SECONDS / 3
    assert one.tend() is not None
    ((seconds,),) = database.execute(
        "SELECT extract(epoch FROM alive_until - clock_timestamp())::float FROM clocknext_outbox_relays"
    )
    assert 50 < seconds <= 60
    relays.settle(one, "a")
    assert database.keys() == []


def test_two_relays_with_one_lease_part(database: Database, relays: Relays) -> None:
    database.write("a", "b")
    one = relays.new()
    assert adopted(one, limit=1) == ["a"]
    twin = relays.new()
    twin._claims.__dict__.update({**vars(one._claims), "_ids": {}})  # pyright: ignore[reportPrivateUsage]
    relays.now += LEASE_SECONDS / 3
    one.tend()
    twin.tend()
    assert one.lease != twin.lease
    assert adopted(twin) == ["b"]
    relays.settle(one, "a")
    relays.settle(twin, "b")
    assert database.keys() == []


def test_a_transaction_that_commits_late_is_found(database: Database, relays: Relays) -> None:
    relay = relays.new()
    with psycopg.connect(database.url) as slow:
        outbox(slow).signals.credit(**SIGNAL, idempotency_key="slow")
        database.write("fast")
        assert adopted(relay) == ["fast"]
        assert adopted(relay) == []
    assert adopted(relay) == ["slow"]


def test_one_that_commits_very_late_is_found_by_the_next_full_look(
    database: Database, relays: Relays
) -> None:
    relay = relays.new()
    with psycopg.connect(database.url) as slow:
        outbox(slow).signals.credit(**SIGNAL, idempotency_key="slow")
        database.execute(
            "SELECT setval(pg_get_serial_sequence('clocknext_outbox', 'id'), "
            "(SELECT max(id) FROM (SELECT last_value AS id FROM clocknext_outbox_id_seq) AS s) + %s)",
            2 * OVERLAP,
        )
        database.write("fast")
        assert adopted(relay) == ["fast"]
    assert adopted(relay) == []
    relays.now += 10
    assert adopted(relay) == ["slow"]


def test_signals_of_open_transactions_and_rows_that_others_lock_hold_up_no_claim(
    database: Database, relays: Relays
) -> None:
    database.write("locked", "free")
    with psycopg.connect(database.url) as holder:
        holder.execute("SELECT FROM clocknext_outbox WHERE key = 'locked' FOR UPDATE")
        assert adopted(relays.new()) == ["free"]


def test_what_is_too_old_is_put_in_quarantine_and_reported(database: Database, relays: Relays) -> None:
    database.write("old")
    database.let_age(25)
    database.write("new")
    relay = relays.new()
    assert adopted(relay) == ["new"]
    (problem,) = relay.take_problems()
    assert problem.signal is not None
    assert problem.signal.idempotency_key == "old"
    relay.tend()
    assert database.quarantined() == {"old": "too old to be sent"}
    assert database.keys() == ["new"]


def test_a_signal_is_set_aside_with_its_reason(database: Database, relays: Relays) -> None:
    database.write("a", "b")
    relay = relays.new()
    adopted(relay)
    relay.quarantine(["a"], "refused: \0 no")
    relay.tend()
    assert database.quarantined() == {"a": "refused: \\0 no"}
    assert database.keys() == ["b"]


def test_what_is_given_back_is_another_relays(database: Database, relays: Relays) -> None:
    database.write("a", "b")
    one, other = relays.new(), relays.new()
    adopted(one)
    one.give_back(["a"])
    one.tend()
    assert leases(database) == {"a": None, "b": one.lease}
    assert adopted(other) == ["a"]


def test_the_end_gives_everything_back_at_once(database: Database, relays: Relays) -> None:
    database.write("a", "b")
    one, other = relays.new(), relays.new()
    adopted(one)
    one.erase(["a"])
    one.close()
    assert database.keys() == ["b"]
    assert database.execute("SELECT lease FROM clocknext_outbox_relays") == []
    assert adopted(other) == ["b"]


def test_what_a_relays_client_records_itself_is_its_own_from_the_start(
    database: Database, relays: Relays
) -> None:
    one, other = relays.new(), relays.new()
    one.append([Stored("mine", b"{}", 0.0), Stored("mine", b"{}", 0.0)])
    assert adopted(other) == adopted(one) == []
    relays.settle(one, "mine")
    assert database.keys() == []


def test_a_forked_child_has_a_lease_of_its_own(database: Database, relays: Relays) -> None:
    database.write("a")
    relay = relays.new()
    adopted(relay)
    lease = relay.lease
    relay.suspend()
    relay.restart()
    assert relay.lease != lease
    assert adopted(relay) == []
    relays.settle(relay, "a")
    assert database.keys() == ["a"], "the parent's"


def test_a_killed_backend_is_replaced_and_nothing_due_is_lost(database: Database, relays: Relays) -> None:
    database.write("a", "b")
    relay = relays.new()
    assert adopted(relay, limit=1) == ["a"]
    database.kill_backends()
    with pytest.raises(SpoolError, match="terminating connection"):
        relay.adopt(1)
    relay.erase(["a"])
    relays.now += 10
    relay.tend()
    assert database.keys() == ["b"]
    assert adopted(relay) == ["b"]


def test_what_was_claimed_is_given_out_even_if_something_fails_after_it(
    database: Database, relays: Relays, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.write("a", "b")
    relay = relays.new()
    assert adopted(relay, limit=1) == ["a"]
    real = relay._claim  # pyright: ignore[reportPrivateUsage]

    def claim_and_break(connection: Any, claim: Claim) -> None:
        real(connection, claim)
        relay.erase(["a"])
        relays.now += 1  # so that it is due to be settled
        database.kill_backends()

    monkeypatch.setattr(relay, "_claim", claim_and_break)
    assert adopted(relay, limit=1) == ["b"]
    monkeypatch.undo()
    relays.now += 10
    relay.tend()
    assert database.keys() == ["b"]


def test_a_claim_that_could_not_be_made_is_not_made_later_when_no_one_takes_what_it_finds(
    database: Database, relays: Relays
) -> None:
    database.write("a")
    relay = relays.new()
    relay._url, url = "postgresql://nobody@localhost:1/none", relay._url  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(SpoolError, match="can't be reached"):
        relay.adopt(1)
    relay._url = url  # pyright: ignore[reportPrivateUsage]
    relays.now += 10
    relay.tend()
    assert leases(database) == {"a": None}
    assert adopted(relay) == ["a"]


@pytest.mark.parametrize("is_reported", [True, False])
def test_a_claim_that_was_carried_out_although_it_failed_keeps_no_signal(
    database: Database, relays: Relays, monkeypatch: pytest.MonkeyPatch, is_reported: bool
) -> None:
    database.write("a", "b", "c")
    relay = relays.new()
    assert adopted(relay, limit=1) == ["a"]
    real = relay._claim  # pyright: ignore[reportPrivateUsage]

    def no_rows(claim: Claim, rows: object) -> list[Row]:
        del claim, rows
        return []

    def lost(connection: Any, claim: Claim) -> None:
        monkeypatch.setattr(relay._claims, "handle_claimed", no_rows)  # pyright: ignore[reportPrivateUsage]
        real(connection, claim)
        monkeypatch.undo()
        relay._found = None  # pyright: ignore[reportPrivateUsage]
        raise psycopg.errors.CrashShutdown("crash") if is_reported else psycopg.OperationalError("lost")

    monkeypatch.setattr(relay, "_claim", lost)
    with pytest.raises(SpoolError):
        relay.adopt(10)
    relays.now += 10
    assert adopted(relay) == ["b", "c"]
    assert leases(database) == dict.fromkeys("abc", relay.lease)


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
def test_relays_work_whatever_isolation_the_database_begins_with(
    database: Database, relays: Relays, isolation: str
) -> None:
    database.write(*map(str, range(20)))
    name = database.parts["dbname"]
    database.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = '{isolation}'")
    try:
        one, other = relays.new(), relays.new()
        assert len(adopted(one, limit=10) + adopted(other, limit=10)) == 20
        relays.settle(one, *map(str, range(20)))
        relays.settle(other, *map(str, range(20)))
        assert database.keys() == []
    finally:
        database.execute(f"ALTER DATABASE {name} RESET default_transaction_isolation")


def test_a_snapshot_that_is_held_all_the_time_hides_nothing(database: Database, relays: Relays) -> None:
    with psycopg.connect(database.url) as reader:
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        reader.execute("SELECT FROM clocknext_outbox")
        relay = relays.new()
        for block in range(3):
            keys = [f"{block}-{each}" for each in range(50)]
            database.write(*keys)
            assert adopted(relay) == keys
            relays.settle(relay, *keys)
    assert database.keys() == []


def test_a_table_of_a_newer_version_is_left_alone(database: Database, relays: Relays) -> None:
    database.write("a")
    running = relays.new()
    adopted(running)
    database.execute("UPDATE clocknext_outbox_version SET version = 99")
    try:
        with pytest.raises(SpoolError, match="of version 99"):
            relays.new().adopt(10)
        relays.now += LEASE_SECONDS / 3
        running.tend()
        with pytest.raises(SpoolError, match="of version 99"):
            running.adopt(10)
    finally:
        database.execute("UPDATE clocknext_outbox_version SET version = 1")


def test_a_database_without_the_tables_says_what_to_do(empty_database: Database) -> None:
    with pytest.raises(SpoolError, match="clocknext outbox migrate"):
        ClaimingSpool(empty_database.url).adopt(1)


def test_relays_that_claim_at_the_same_time_share_the_signals(database: Database, relays: Relays) -> None:
    keys = [f"{each:03}" for each in range(200)]
    database.write(*keys)
    spools = [relays.new() for _ in range(4)]
    found: list[list[str]] = [[] for _ in spools]

    def claim(spool: ClaimingSpool, into: list[str]) -> None:
        while some := adopted(spool, limit=10):
            into += some

    threads = [threading.Thread(target=claim, args=pair) for pair in zip(spools, found, strict=True)]
    for thread in threads:
        thread.start()
    wait_until(lambda: not any(thread.is_alive() for thread in threads), "the claims end")
    assert sorted(key for some in found for key in some) == keys


def test_what_a_relay_unknown_to_a_claims_snapshot_took_meanwhile_is_not_claimed_once_more(
    database: Database, relays: Relays, slow_clock: str
) -> None:
    """The claim has begun when the other relay registers and claims: it finds a lease unknown to it."""
    database.write("a", "b", "c", "d")
    assert adopted(relays.new(), limit=1) == ["a"], (
        "so that a claim asks which leases are alive, at its first row"
    )
    one = relays.new(slow_clock)
    assert adopted(one, limit=1) == ["b"]
    found: list[str] = []
    claim = threading.Thread(target=lambda: found.extend(adopted(one)))
    with psycopg.connect(database.url) as gate:
        gate.execute("SELECT pg_advisory_xact_lock(4711)")
        claim.start()
        wait_until(lambda: database.execute(WAITING) == [(1,)], "the claim waits for its clock")
        assert adopted(relays.new()) == ["c", "d"]
    claim.join(OF_A_PROCESS)
    assert not claim.is_alive()
    assert found == []


def test_nothing_shows_the_password() -> None:
    spool = ClaimingSpool("postgresql://user:secret@localhost:1/none")
    with pytest.raises(SpoolError) as caught:
        spool.adopt(1)
    assert "secret" not in f"{spool!r} {caught.value} {caught.value.__cause__!r}"


def test_an_hour_without_the_service_hardly_changes_the_size_of_the_table(
    database: Database, relays: Relays
) -> None:
    """Leases are renewed and replaced all the while, each time over all that is held; nothing is vacuumed."""
    size = "SELECT pg_total_relation_size('clocknext_outbox')"
    database.write(*[f"k{number}" for number in range(300)])
    ((before,),) = database.execute(size)
    relay = relays.new()
    assert len(adopted(relay)) == 300
    first = leases(database)["k0"]
    for _ in range(720):
        relays.now += 5.0
        relay.tend()
    ((after,),) = database.execute(size)
    assert leases(database)["k0"] not in (None, first)
    assert after <= 3 * before
