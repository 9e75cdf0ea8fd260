from collections import Counter
from random import Random

import pytest

from clocknext_core import Wait
from clocknext_core import claims as claims_module
from clocknext_core.claims import (
    FULL_LOOK_EVERY,
    LEASE_LIFE,
    LEASE_SECONDS,
    OVERLAP,
    SETTLE_AFTER,
    SETTLE_BATCH,
    Claim,
    Claims,
    Register,
    Release,
    Renew,
    Replace,
    Row,
    SetAside,
    Settle,
    Unclaim,
)
from tests.core.claims_model import World

RENEW_EVERY = LEASE_SECONDS / 3


def fresh() -> Claims:
    """Claims whose leases are 1, 2, 3…, with the first one registered at time 0."""
    leases = iter(range(1, 100))
    claims = Claims(lambda: next(leases), Random(1))
    assert claims.poll(now=0.0) == Register(1)
    claims.handle_done(Register(1))
    return claims


def rows(*ids: int) -> list[Row]:
    return [Row(each, f"k{each}", b"{}", 0.0) for each in ids]


def claimed(claims: Claims, *ids: int, now: float = 0.0, limit: int = 10) -> Claim:
    """What the next claim asks for, and have it find these."""
    claims.ask(limit)
    claim = claims.poll(now=now)
    assert isinstance(claim, Claim)
    assert claims.handle_claimed(claim, rows(*ids)) == rows(*ids)
    return claim


def test_a_lease_is_registered_first_and_renewed_in_time() -> None:
    claims = fresh()
    assert claims.poll(now=1.0) == Wait(RENEW_EVERY)
    claims.settled += 40
    renew = Renew(1, 0, 2.0)
    assert claims.poll(now=RENEW_EVERY) == renew
    claims.handle_renewed(is_ours=True)
    assert claims.poll(now=2 * RENEW_EVERY) == Renew(1, 1, 0.0)


def test_each_renewal_counts_the_beat_up_and_has_the_rate_since_the_last() -> None:
    claims = fresh()
    claims.settled += 5
    for beat in range(3):
        claims.settled += 60
        rate = 65 / RENEW_EVERY if beat == 0 else 60 / RENEW_EVERY
        assert claims.poll(now=(beat + 1) * RENEW_EVERY) == Renew(1, beat, rate)
        claims.handle_renewed(is_ours=True)


def test_a_lease_that_is_short_has_a_rate_too() -> None:
    claims = Claims(lambda: 1, Random(1), lease_seconds=1.5)
    claims.poll(now=0.0)
    claims.handle_done(Register(1))
    claims.settled += 4
    assert claims.poll(now=0.5) == Renew(1, 0, 8.0)


def test_a_rate_at_the_time_of_the_registration_is_none() -> None:
    leases = iter(range(1, 100))
    claims = Claims(lambda: next(leases), Random(1), lease_seconds=0.0)
    assert claims.poll(now=0.0) == Register(1)
    claims.handle_done(Register(1))
    assert claims.poll(now=0.0) == Renew(1, 0, 0.0)


def test_a_claim_begins_above_what_was_claimed_less_the_overlap_and_now_and_then_at_the_first_id() -> None:
    claims = fresh()
    assert claimed(claims, 5000, 5001) == Claim(1, 0, 10)
    assert claimed(claims, 5002).above == 5001 - OVERLAP
    assert claimed(claims, 3, now=FULL_LOOK_EVERY).above == 0
    assert claimed(claims, now=FULL_LOOK_EVERY).above == 5002 - OVERLAP


def test_only_a_full_look_puts_off_the_next() -> None:
    claims = fresh()
    claimed(claims, 5000)
    assert claimed(claims, now=FULL_LOOK_EVERY - 1).above == 5000 - OVERLAP
    assert claimed(claims, now=FULL_LOOK_EVERY).above == 0


def test_a_claim_above_the_mark_that_finds_all_it_asks_for_goes_on_at_the_mark() -> None:
    claims = fresh()
    claimed(claims, 9000)
    assert claimed(claims, 8500, limit=1).above == 9000 - OVERLAP
    assert claimed(claims).above == 9000 - OVERLAP


def test_a_full_look_that_finds_all_it_asks_for_goes_on_behind_it() -> None:
    claims = fresh()
    claimed(claims, 90_000)
    assert claimed(claims, 5000, 5001, now=FULL_LOOK_EVERY, limit=2).above == 0
    assert claimed(claims, 5002, now=FULL_LOOK_EVERY).above == 5001 - OVERLAP


def test_what_has_ended_is_settled_in_sorted_batches_and_not_at_once() -> None:
    claims = fresh()
    claimed(claims, 3, 1, 2)
    claims.settle(["k3", "k1", "unknown"], now=1.0)
    assert claims.poll(now=1.0) == Wait(1.0 + SETTLE_AFTER)
    claims.settle(["k2"], now=1.05)
    settle = Settle(1, [1, 2, 3])
    assert claims.poll(now=1.0 + SETTLE_AFTER) == settle
    assert (claims.held, claims.is_idle) == (3, False)
    claims.handle_done(settle)
    assert (claims.held, claims.is_idle, claims.settled) == (0, True, 3)
    assert claims.poll(now=2.0) == Wait(RENEW_EVERY)


def test_batches_are_added_up() -> None:
    claims = fresh()
    claimed(claims, 1, 2)
    for row_id in (1, 2):
        claims.settle([f"k{row_id}"], now=row_id)
        settle = Settle(1, [row_id])
        assert claims.poll(now=row_id + SETTLE_AFTER) == settle
        claims.handle_done(settle)
    assert claims.settled == 2


def test_a_batch_that_is_just_full_is_settled_at_once() -> None:
    claims = fresh()
    ids = [*range(1, SETTLE_BATCH + 1)]
    claimed(claims, *ids)
    claims.settle([f"k{each}" for each in ids], now=1.0)
    assert claims.poll(now=1.0) == Settle(1, ids)


def test_a_full_batch_is_settled_at_once_and_the_rest_with_it() -> None:
    claims = fresh()
    ids = range(1, SETTLE_BATCH + 2)
    claimed(claims, *ids)
    claims.settle([f"k{each}" for each in ids], now=1.0)
    settle = Settle(1, [*range(1, SETTLE_BATCH + 1)])
    assert claims.poll(now=1.0) == settle
    claims.handle_done(settle)
    assert claims.poll(now=1.0) == Settle(1, [SETTLE_BATCH + 1])


def test_what_is_held_or_about_to_be_settled_is_not_given_out_again() -> None:
    claims = fresh()
    claimed(claims, 1, 2)
    claims.settle(["k1"], now=0.0)
    claims.ask(10)
    claim = claims.poll(now=0.0)
    assert isinstance(claim, Claim)
    assert claims.handle_claimed(claim, rows(1, 2, 3)) == rows(3)


def test_signals_are_set_aside_each_with_its_reason() -> None:
    claims = fresh()
    claimed(claims, 2, 1)
    claims.set_aside(["k2"], "refused")
    claims.set_aside(["k1", "k9"], "too old")
    aside = SetAside(1, [1, 2], ["too old", "refused"])
    assert not claims.is_idle
    assert claims.poll(now=1.0) == aside
    claims.handle_done(aside)
    assert (claims.held, claims.is_idle) == (0, True)


def test_what_is_given_back_is_claimed_again_if_nobody_else_takes_it() -> None:
    claims = fresh()
    claimed(claims, 5000, 9000)
    claims.give_back(["k5000"])
    claims.give_back([])
    back = Unclaim(1, [5000])
    assert not claims.is_idle
    assert claims.poll(now=1.0) == back
    claims.handle_done(back)
    assert claims.held == 1
    assert claimed(claims, now=1.0).above == 4999 - OVERLAP


def test_what_is_stored_under_the_lease_is_held() -> None:
    claims = fresh()
    claims.hold("mine", 7)
    claims.settle(["mine"], now=1.0)
    assert claims.poll(now=2.0) == Settle(1, [7])


def test_a_claim_whose_answer_was_lost_takes_a_new_lease_and_ends_the_old_one() -> None:
    claims = fresh()
    claimed(claims, 8000, 4)
    claims.ask(10)
    claim = claims.poll(now=1.0)
    assert isinstance(claim, Claim)
    claims.handle_failed(claim, is_uncertain=True)
    waiting = claims.poll(now=1.0)
    assert isinstance(waiting, Wait)
    assert waiting.until is not None
    assert 1.1 <= waiting.until <= 1.2
    replace = Replace(1, 2, [4, 8000], ends_old=True)
    assert claims.poll(now=waiting.until) == replace
    claims.handle_done(replace)
    assert claimed(claims, now=1.5) == Claim(2, 0, 10)  # what it freed lies anywhere
    assert claims.lease == 2


def test_a_claim_that_was_not_carried_out_keeps_the_lease() -> None:
    claims = fresh()
    claims.ask(10)
    claim = claims.poll(now=1.0)
    assert isinstance(claim, Claim)
    claims.handle_failed(claim, is_uncertain=False)
    assert isinstance(claims.poll(now=1.0), Wait)
    assert claimed(claims, now=1.0).lease == 1, "an asked claim waits for no back-off"


def test_a_lease_that_another_process_renews_is_left_to_it() -> None:
    claims = fresh()
    claimed(claims, 4)
    renew = claims.poll(now=RENEW_EVERY)
    assert isinstance(renew, Renew)
    claims.handle_renewed(is_ours=False)
    replace = Replace(1, 2, [4], ends_old=False)
    assert claims.poll(now=RENEW_EVERY) == replace
    claims.handle_failed(replace, is_uncertain=True)
    assert claims.poll(now=RENEW_EVERY + 1.0) == replace, "repeated as it was"


def test_a_lease_is_replaced_after_a_while_which_frees_what_no_one_knows_of() -> None:
    claims = fresh()
    claimed(claims, 4)
    claims.settle(["k4"], now=LEASE_LIFE - 1)
    assert claims.poll(now=LEASE_LIFE) == Replace(1, 2, [4], ends_old=True)
    claims.handle_done(Replace(1, 2, [4], ends_old=True))
    assert claims.poll(now=LEASE_LIFE) == Settle(2, [4])
    claims.close()
    assert isinstance(claims.poll(now=2 * LEASE_LIFE), Renew), "not at the end"


def test_failures_are_repeated_ever_later_and_what_is_due_is_not_lost() -> None:
    claims = fresh()
    claimed(claims, 1)
    claims.settle(["k1"], now=1.0)
    now = 2.0
    waits: list[float] = []
    settle = Settle(1, [1])
    for _ in range(8):
        assert claims.poll(now=now) == settle
        claims.handle_failed(settle, is_uncertain=True)
        waiting = claims.poll(now=now)
        assert isinstance(waiting, Wait)
        assert waiting.until is not None
        waits.append(waiting.until - now)
        now = waiting.until
    assert waits[0] <= 0.2
    assert 2.5 <= waits[-1] <= 5.0
    settle = Settle(1, [1])
    assert claims.poll(now=now) == settle
    claims.handle_done(settle)
    assert claims.settled == 1


@pytest.mark.parametrize("kind", [Claim, Renew, Settle])
def test_what_succeeds_ends_the_back_off_whatever_it_is(kind: type[Claim | Renew | Settle]) -> None:
    now = RENEW_EVERY if kind is Renew else 1.0

    def due() -> Claim | Renew | Settle:
        if kind is Claim:
            claims.ask(10)
        statement = claims.poll(now=now)
        assert isinstance(statement, Claim | Renew | Settle)
        return statement

    def put_off(statement: Claim | Renew | Settle) -> float:
        """Fail a statement; return how long the next is put off."""
        claims.handle_failed(statement, is_uncertain=False)
        waiting = claims.poll(now=now)
        assert isinstance(waiting, Wait)
        assert waiting.until is not None
        return waiting.until - now

    claims = fresh()
    claimed(claims, 1)
    if kind is Settle:
        claims.settle(["k1"], now=now)
        now += SETTLE_AFTER
    for _ in range(6):
        assert type(due()) is kind
        now += put_off(due())
    match statement := due():
        case Claim():
            claims.handle_claimed(statement, [])
        case Renew():
            claims.handle_renewed(is_ours=True)
        case Settle():
            claims.handle_done(statement)
    claims.ask(10)
    claim = claims.poll(now=now)
    assert isinstance(claim, Claim)
    assert put_off(claim) <= 0.2


def test_a_failure_before_the_claim_takes_the_request_back() -> None:
    claims = fresh()
    claims.ask(10)
    renew = claims.poll(now=RENEW_EVERY)
    assert isinstance(renew, Renew)
    claims.handle_failed(renew, is_uncertain=False)
    waiting = claims.poll(now=RENEW_EVERY)
    assert isinstance(waiting, Wait)
    assert waiting.until is not None
    assert claims.poll(now=waiting.until) == renew
    claims.handle_renewed(is_ours=True)
    assert isinstance(claims.poll(now=waiting.until), Wait), "nobody would take what is found"


def test_the_end_settles_what_has_ended_and_frees_the_rest() -> None:
    claims = fresh()
    claimed(claims, 1, 2)
    claims.settle(["k1"], now=1.0)
    claims.close()
    settle = Settle(1, [1])
    assert claims.poll(now=1.0) == settle
    claims.handle_done(settle)
    release = Release(1)
    assert claims.poll(now=1.0) == release
    claims.handle_done(release)
    assert claims.poll(now=1e9) == Wait(None)


def test_the_end_before_a_lease_was_registered_writes_nothing() -> None:
    claims = Claims(lambda: 1, Random(1))
    claims.close()
    assert claims.poll(now=1.0) == Wait(None)
    assert claims.poll(now=2.0) == Wait(None)


def test_the_end_waits_for_no_back_off() -> None:
    claims = fresh()
    renew = claims.poll(now=RENEW_EVERY)
    assert isinstance(renew, Renew)
    claims.handle_failed(renew, is_uncertain=False)
    claims.close()
    assert claims.poll(now=RENEW_EVERY) == renew


@pytest.mark.parametrize("block", range(4))
def test_each_signal_leaves_the_table_once_and_none_is_stuck_whatever_fails(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims_module, "OVERLAP", 20)  # as many signals are written in one step
    seen: Counter[str] = Counter()
    signals = 0
    for seed in range(block * 10, block * 10 + 10):
        world = World(seed)
        for _ in range(120):
            world.step(faults=0.06)
        world.settle()
        assert set(world.table.gone.values()) == {1}
        assert len(world.table.gone) == world.table.last_id
        seen += world.table.seen
        signals += world.table.last_id
    assert signals > 10_000
    expected = {
        *("beat", "revived", "replaced", "guarded", "taken over", "claimed late"),
        *("failed", "lost", "killed", "given back", "slept", "copied"),
    }
    assert {what for what, count in seen.items() if count >= 5} == expected
