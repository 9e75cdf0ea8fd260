"""What the outputs tell beside what they ask for."""

import pytest

from clocknext_core import ClockNextError, Dropped, Emptied, GivenUp, HookEvent, Mending, Rejected
from clocknext_core.outputs import key_to_forget
from clocknext_core.signals import EncodedSignal

ENCODED, ERROR = EncodedSignal("k", "credit", b"{}"), ClockNextError("no")


@pytest.mark.parametrize(
    ("event", "kept_nowhere", "with_a_spool", "with_one_of_many_machines"),
    [
        (Dropped(ENCODED, "queue_full"), "k", "k", "k"),
        (Dropped(ENCODED, "closed"), "k", "k", "k"),
        (Dropped(ENCODED, "expired"), None, None, None),
        (GivenUp(ENCODED, ERROR), "k", None, None),
        (Rejected(ENCODED, ERROR), "k", "k", None),
        (Mending(ENCODED, ERROR), None, None, None),
        (Emptied(3), None, None, None),
    ],
)
def test_a_key_is_forgotten_where_its_signal_lies_in_no_quarantine(
    event: HookEvent,
    kept_nowhere: str | None,
    with_a_spool: str | None,
    with_one_of_many_machines: str | None,
) -> None:
    assert key_to_forget(event) == kept_nowhere
    assert key_to_forget(event, has_spool=True) == with_a_spool
    assert key_to_forget(event, has_spool=True, is_spool_shared=True) == with_one_of_many_machines
