from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from clocknext_core import UsageLog
from clocknext_transports.cli.repeats import Repeats

BEGAN = datetime(2026, 7, 1, 10, 0, 0, 500_000, tzinfo=UTC).timestamp()


@pytest.fixture
def run() -> Repeats:
    return Repeats(lambda: BEGAN)


def recorded(seconds: float) -> UsageLog:
    """A log that was recorded so long after the run began."""
    at = datetime.fromtimestamp(BEGAN + seconds, UTC)
    return UsageLog({"createdAt": at.isoformat(timespec="milliseconds").replace("+00:00", "Z")})


def date(seconds: float) -> str:
    return format_datetime(datetime.fromtimestamp(int(BEGAN + seconds), UTC), usegmt=True)


def test_what_was_recorded_before_the_run_is_a_repeat(run: Repeats) -> None:
    assert run.includes(recorded(-0.1))
    assert not run.includes(recorded(0.1))


def test_a_date_that_agrees_changes_nothing(run: Repeats) -> None:
    run.observe(date(2), sent_at=BEGAN + 1.9, received_at=BEGAN + 2.1)
    assert run.includes(recorded(-0.1))
    assert not run.includes(recorded(0.1))


@pytest.mark.parametrize("ahead", [-3600.0, -5.0, 5.0, 3600.0])
def test_a_clock_that_differs_makes_nothing_new_a_repeat(run: Repeats, ahead: float) -> None:
    for passed in (1.0, 1.3, 1.7, 2.0):
        run.observe(date(passed + ahead), sent_at=BEGAN + passed - 0.1, received_at=BEGAN + passed + 0.1)
    assert not run.includes(recorded(ahead + 0.01))
    assert run.includes(recorded(ahead - 1.5))


@pytest.mark.parametrize("odd", [None, "", "yesterday", 5, "2020-01-01T00:00:00"])
def test_a_log_without_a_time_is_none(run: Repeats, odd: object) -> None:
    assert not run.includes(UsageLog({"createdAt": odd}))


def test_an_answer_without_a_date_says_nothing(run: Repeats) -> None:
    for text in (None, "soon"):
        run.observe(text, sent_at=BEGAN + 1, received_at=BEGAN + 2)
    assert run.includes(recorded(-0.1))
