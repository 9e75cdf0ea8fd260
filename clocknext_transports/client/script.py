"""Scripts: what a call does, written once for threads and for coroutines.

A script is a generator. It yields a step where it has to wait, and is resumed with the step's result, or with
the exception that ended it; what it returns is the call's result. `carry_out` runs one in a thread, and
`carry_out_async` in a coroutine. A driver only has to take the steps.
"""

from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar

from clocknext_core import Answer, Request

T = TypeVar("T")


class Event(Protocol):
    """Wakes one waiting caller. Any thread may set it."""

    def set(self) -> None:
        """Wake the caller, now or when it begins to wait."""
        ...


@dataclass(slots=True, eq=False, repr=False)
class Exchange:
    """Send a request and resume with its answer, before the deadline."""

    request: Request
    deadline_at: float


@dataclass(slots=True, eq=False, repr=False)
class Sleep:
    """Wait until a time on the driver's clock; if that is past, give way to others once."""

    until: float


@dataclass(slots=True, eq=False, repr=False)
class Await:
    """Wait until an event is set, but at most until a time on the driver's clock (`None`: no limit)."""

    event: Event
    until: float | None = None


@dataclass(slots=True, eq=False, repr=False)
class Halt:
    """End every attempt, timer, thread and connection. Held signals stay held."""


Step: TypeAlias = Exchange | Sleep | Await | Halt
Script: TypeAlias = Generator[Step, Answer | None, T]


def carry_out(script: Script[T], take: Callable[[Step], Answer | None]) -> T:
    """Run a script to its end in this thread."""
    try:
        step = next(script)
        while True:
            try:
                result = take(step)
            except BaseException as error:  # noqa: BLE001 - the script cleans up, and raises it again
                step = script.throw(error)
            else:
                step = script.send(result)
    except StopIteration as end:
        outcome: T = end.value
        return outcome


async def carry_out_async(script: Script[T], take: Callable[[Step], Awaitable[Answer | None]]) -> T:
    """Run a script to its end in this coroutine."""
    try:
        step = next(script)
        while True:
            try:
                result = await take(step)
            except BaseException as error:  # noqa: BLE001 - the script cleans up, and raises it again
                step = script.throw(error)
            else:
                step = script.send(result)
    except StopIteration as end:
        outcome: T = end.value
        return outcome
