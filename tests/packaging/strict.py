"""A program with the types that checkers must find in an installed `clocknext`; it is never run."""

from typing import assert_type

import clocknext
from clocknext import (
    AllowanceError,
    AsyncClockNext,
    BatchPolicy,
    ClockNext,
    FlushReport,
    RetryPolicy,
    Tokens,
    TrackResult,
)


def bill() -> TrackResult | None:
    with ClockNext(batch=BatchPolicy(max_size=5), retry=RetryPolicy(max_attempts=3)) as cnk:
        try:
            result = cnk.signals.wallet(customer_id="c", model="m", tokens=Tokens(input=1))
        except AllowanceError as error:
            assert_type(error.retryable, bool)
            return None
        assert_type(cnk.flush(), FlushReport)
        assert_type(clocknext.__version__, str)
        return result


async def bill_in_a_task(cnk: AsyncClockNext) -> None:
    assert_type(await cnk.signals.wallet(customer_id="c", model="m"), TrackResult)
