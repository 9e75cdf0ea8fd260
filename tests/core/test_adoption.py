"""The looks into the spool: their numbers, and when the next one is due."""

import pytest

from clocknext_core.adoption import LOOK_INTERVAL, LOOKS, Adoption, AdoptionState
from tests.core.support import Dice


def adoption() -> Adoption:
    return Adoption(Dice(0.0))


def after(looks: int) -> Adoption:
    """Make one that has begun so many looks; the last is under way."""
    made = adoption()
    for _ in range(looks - 1):
        made.begin()
        made.find(is_last=False, left_behind=0, now=0.0)
    made.begin()
    return made


@pytest.mark.parametrize("looks", [1, 2, 5])
def test_looks_are_numbered_and_a_look_that_is_asked_for_is_the_one_that_begins_next(looks: int) -> None:
    assert adoption().ask() == 1
    under_way = after(looks)
    assert under_way.ask() == looks + 1
    assert under_way.find(is_last=True, left_behind=0, now=0.0) == looks
    assert under_way.state is AdoptionState.DUE
    under_way.begin()
    assert under_way.find(is_last=True, left_behind=0, now=0.0) == looks + 1
    assert under_way.ask() == looks + 2


def test_one_more_look_follows_one_during_which_it_was_asked_for_and_not_two() -> None:
    asked = after(1)
    asked.ask()
    asked.find(is_last=True, left_behind=0, now=5.0)
    assert asked.is_due(5.0)
    asked.begin()
    asked.find(is_last=True, left_behind=0, now=6.0)
    assert not asked.is_due(6.0)
    assert asked.looks_at == 6.0 + LOOK_INTERVAL


def test_what_was_asked_for_during_one_failed_look_is_done_by_the_next() -> None:
    failing = after(1)
    for _ in range(LOOKS.max_attempts - 1):
        failing.ask()
        assert failing.fail(is_final=False, now=0.0) is None
        assert failing.state is AdoptionState.WAITING
        failing.begin()
    assert failing.fail(is_final=False, now=0.0) == LOOKS.max_attempts
    assert failing.state is AdoptionState.WAITING


@pytest.mark.parametrize("looks", [1, 2, 5])
def test_a_final_failure_ends_the_look_that_was_asked_for_too(looks: int) -> None:
    under_way = after(looks)
    asked = under_way.ask()
    assert under_way.fail(is_final=True, now=0.0) == asked == looks + 1
    assert under_way.state is AdoptionState.ENDED
    assert under_way.ask() is None


def test_nothing_begins_anew_after_the_end() -> None:
    ended = adoption()
    ended.begin()
    ended.find(is_last=True, left_behind=0, now=0.0)
    ended.end()
    assert ended.looks_at is None
    ended.find(is_last=False, left_behind=3, now=0.0)
    assert not ended.is_due(1e9)
    ended.fail(is_final=False, now=0.0)
    assert not ended.is_due(1e9)
    assert (ended.state, ended.looks_at, ended.left_behind) == (AdoptionState.ENDED, None, 3)
