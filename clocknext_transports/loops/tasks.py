"""A task that serves the outbox, in any event loop: it starts attempts, runs hooks, and sleeps."""

from abc import abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Protocol

from clocknext_core import Answer, Closed, Request, Transmit, Wait
from clocknext_transports.client.serving import Background, Serving


class Event(Protocol):
    """Wakes one waiting coroutine."""

    def set(self) -> None:
        """Wake it. Any thread may call this, and the lock may be held: the coroutine goes on later."""
        ...

    async def wait(self, until: float | None = None) -> object:
        """Wait until it is set, but at most until a time on the driver's clock."""
        ...


class Tasks(Background):
    """The task that serves, and those that send.

    Args:
        serving: What it serves.
        exchange: Sends a request before a deadline; it raises nothing, unless it is cancelled.
        make_event: Makes an event for the loop that runs.
    """

    def __init__(
        self,
        serving: Serving,
        exchange: Callable[[Request, float], Awaitable[Answer]],
        make_event: Callable[[], Event],
    ) -> None:
        self._serving = serving
        self._exchange = exchange
        self._make_event = make_event
        self.sleeping_until: float | None = None
        self._alarm: Event | None = None
        """Where the serving task sleeps, or is about to."""

    @property
    def is_sleeping(self) -> bool:
        """Whether the serving task sleeps."""
        return self._alarm is not None and self.is_working

    def wake(self) -> None:
        """Wake the serving task."""
        if self._alarm is not None:
            self._alarm.set()

    def call_running(self) -> bool:
        """Wake the serving task, if there is one: if it is not asleep, it serves before it sleeps."""
        if not self.is_working:
            return False
        self.wake()
        return True

    def call(self) -> bool:
        """Wake the serving task: if it is not asleep, it serves before it sleeps."""
        self.wake()
        return self.is_working

    def take_back(self) -> None:
        """Take back attempts that ended with their loop, without notice."""

    # Without the lock

    @abstractmethod
    async def cancel(self) -> None:
        """Cancel all tasks of the loop that runs."""

    def serve_all(self, start: Callable[[Transmit], object]) -> Wait | Closed:
        """Serve, start attempts and run hooks, until there is only a time to wait for, in `sleep`."""
        serving = self._serving
        has_run_hooks = False
        while True:
            with serving.lock:
                output = serving.serve()
                has_hooks = bool(serving.queue) and serving.hook_runner is None
                if isinstance(output, Wait) and has_hooks and has_run_hooks:
                    # Those that were queued by hooks come after a turn of the loop, in which attempts go on.
                    output, has_hooks = replace(output, until=serving.now()), False
                if isinstance(output, Wait) and not has_hooks:
                    # Now: another thread's input may come before this task sleeps, and must wake it.
                    self._alarm = self._make_event()
                    self.sleeping_until = output.until
            if isinstance(output, Transmit):
                start(output)
            elif has_hooks:
                serving.run_hooks(in_background=True, most=len(serving.queue))
                has_run_hooks = True
            else:
                return output

    async def send(self, transmit: Transmit) -> None:
        """Carry an attempt out; cancelled, take it back."""
        serving = self._serving
        try:
            answer = await self._exchange(transmit.request, transmit.deadline_at)
        except GeneratorExit:
            raise  # collected after its loop has ended: it was taken back, and the lock may be held
        except BaseException:
            with serving.lock:
                serving.outbox.abandon(transmit.ticket, now=serving.now())
            raise
        with serving.lock:
            serving.outbox.handle_answer(transmit.ticket, answer, now=serving.now())
            serving.nudge()
        serving.run_hooks_if_alone()

    async def sleep(self, until: float | None) -> None:
        """Sleep in the serving task, until then or until it is woken."""
        alarm = self._alarm
        assert alarm is not None  # it has served
        try:
            await alarm.wait(until)
        finally:
            if self._alarm is alarm:  # else another loop's task has taken its place
                self._alarm = None
