"""A disabled client's outbox drops every signal without an event, and its engine begins no call."""

import pytest

from clocknext_core import ClockNextError, Config, Engine, Operation, ValidationError, Wait
from clocknext_core.resources.payloads import nothing
from tests.core.support import KEY, Dice, counting_keys, encoded


def engine() -> Engine:
    return Engine(Config(KEY, mode="sync", disabled=True), rng=Dice(0.0), make_key=counting_keys())


def test_signals_are_dropped_as_disabled_and_counted() -> None:
    outbox = engine().outbox
    outbox.record(encoded("a"), now=0.0)
    receipt = outbox.record(encoded("b"), now=0.0)
    assert (receipt.result.dropped, receipt.result.queued, receipt.ticket) == ("disabled", True, None)
    assert outbox.poll(now=0.0) == Wait(None)
    stats = outbox.stats(now=0.0)
    assert (stats.recorded, stats.held, stats.dropped["disabled"]) == (2, 0, 2)


def test_no_signal_is_awaited_and_a_bad_wait_is_an_error() -> None:
    disabled = engine()
    assert not disabled.is_awaited(None)
    assert not disabled.is_awaited(True)
    with pytest.raises(ValidationError, match=r"^wait: "):
        disabled.is_awaited(1)  # type: ignore[arg-type]


def test_a_call_is_an_error_that_says_why() -> None:
    listing: Operation[None] = Operation("GET", "/api/v1/plans", nothing)
    with pytest.raises(ClockNextError) as caught:
        engine().call(listing)
    assert caught.value.message == (
        "The client is disabled (disabled=True, or CLOCKNEXT_DISABLED is set): it sends nothing, so there is "
        "no answer to this call."
    )


def test_the_setting_is_a_bool() -> None:
    with pytest.raises(ValidationError, match=r"^disabled: must be True or False, not int$"):
        Config(KEY, disabled=1)  # type: ignore[arg-type]
