"""A Ctrl-C that cancels a task in the instant in which what it waits for comes: nothing else is harmed."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any, TypeAlias

import pytest

from clocknext_transports.asyncio.endings import in_thread
from clocknext_transports.asyncio.tasks import Event
from clocknext_transports.asyncio.transport import Alarm
from tests.transports.support import SOON

Waited: TypeAlias = tuple[Coroutine[Any, Any, object], Callable[[], object]]
"""What waits, and what wakes it."""


def event() -> Waited:
    made = Event(0.0)
    return made.wait(), made.set


def alarm() -> Waited:
    made = Alarm()
    return made.wait_until(asyncio.get_running_loop().time() + 60.0), made.wake


@pytest.mark.parametrize("make", [event, alarm])
def test_what_wakes_is_not_harmed_wherever_the_one_that_waits_is_cancelled(
    make: Callable[[], Waited],
) -> None:
    async def strike(place: int) -> bool:
        """Cancel at a step of what wakes; return whether there was one."""
        waits, wake = make()
        waiting, steps = asyncio.ensure_future(waits), 0
        await asyncio.sleep(0)

        def count(frame: FrameType, what: str, of: object) -> None:
            nonlocal steps
            steps += 1
            if steps == place:
                sys.setprofile(None)
                waiting.cancel()

        sys.setprofile(count)
        try:
            wake()
        finally:
            sys.setprofile(None)
        await asyncio.wait([waiting], timeout=SOON)
        assert waiting.cancelled() or waiting.result() is None
        return steps >= place

    async def main() -> int:
        place = 1
        while await strike(place):
            place += 1
        return place

    assert asyncio.run(main()) > 3


def test_the_result_of_a_thread_that_is_not_wanted_any_more_is_dropped() -> None:
    async def main() -> list[object]:
        raised: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context))
        for function in (lambda: 1, lambda: 1 // 0):
            answer = in_thread(function, name="clocknext look-up")
            answer.cancel()
            await in_thread(lambda: None, name="clocknext look-up")
        await asyncio.sleep(0)
        return raised

    assert asyncio.run(main()) == []
