"""An event loop whose clock jumps to the next timer as soon as nothing else can run."""

import asyncio
import selectors
from typing import Any, cast


class VirtualLoop(asyncio.SelectorEventLoop):
    """asyncio in virtual time, from 0.

    Raises:
        RuntimeError: From `run_until_complete`: nothing can run, and nothing ever will.
    """

    def __init__(self) -> None:
        self.virtual_now = 0.0
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        """Return the virtual time."""
        return self.virtual_now

    def jump(self) -> None:
        """Set the clock to the next timer."""
        timers = cast("list[asyncio.TimerHandle]", cast(Any, self)._scheduled)
        if not timers:
            raise RuntimeError("every task waits for another")
        self.virtual_now = max(self.virtual_now, timers[0].when())


class _JumpingSelector(selectors.SelectSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout != 0:
            self._loop.jump()
        return ready
