"""The room in the queue: what is taken and given back, and who is let in first."""

from hypothesis import given
from hypothesis import strategies as st

from clocknext_core import BatchPolicy
from clocknext_core.room import Blocked, Room
from tests.core.support import encoded


@given(places=st.integers(1, 9), sizes=st.lists(st.integers(0, 9), max_size=12))
def test_it_is_full_and_half_full_by_what_was_taken(places: int, sizes: list[int]) -> None:
    room = Room(BatchPolicy(max_queue_size=places, max_queue_bytes=20))
    for size in sizes:
        room.take(size)
    for size in sizes[:1]:
        room.give_back(size)
    left = sizes[1:]
    assert (room.count, room.size) == (len(left), sum(left))
    assert room.is_full == (len(left) >= places or sum(left) >= 20)
    assert room.is_half_full == (len(left) >= places / 2)
    assert room.fits(3) == (len(left) < places and sum(left) + 3 <= 20)
    assert room.fits(3, without=1, without_bytes=2) == (len(left) - 1 < places and sum(left) + 1 <= 20)


def test_calls_that_wait_are_let_in_in_turn_and_only_if_their_signal_fits() -> None:
    size = len(encoded("a").body)
    room = Room(BatchPolicy(max_queue_size=1, max_queue_bytes=size))
    first, second, third = (Blocked(ticket, encoded(key), 5.0 + ticket) for ticket, key in enumerate("abc"))
    for blocked in (first, second, third):
        room.block(blocked)
    room.withdraw(second.ticket)
    assert room.deadline_at == 5.0
    room.take(size)
    assert room.next_admitted() is None
    assert room.next_admitted(however_full=True) == first
    assert room.next_overdue(6.9) is None
    assert room.deadline_at == 7.0
    assert room.next_overdue(7.0) == third
    assert room.next_admitted(however_full=True) is None
    assert room.next_overdue(9.0) is None
    assert Room(BatchPolicy()).deadline_at is None
