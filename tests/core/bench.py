"""A machine and what it said: the workbench of the tests of `Outbox` and `SpooledOutbox`."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Generic, TypeVar

from clocknext_core import (
    Adopt,
    Adopted,
    BatchPolicy,
    Closed,
    Config,
    Failure,
    FlushReport,
    Outbox,
    Response,
    RetryPolicy,
    Settled,
    SpooledOutbox,
    SpooledOutput,
    TrackResult,
    Transmit,
    Wait,
)
from tests.core.support import Dice, body_of, config, encoded

T = TypeVar("T")
OutboxT = TypeVar("OutboxT", bound=Outbox | SpooledOutbox)


class AnyBench(Generic[OutboxT]):
    """A machine and what it said.

    Args:
        settings: Its configuration.
        outbox: The machine.
    """

    def __init__(self, settings: Config, outbox: OutboxT) -> None:
        self.config = settings
        self.outbox = outbox
        self.names: dict[int, str] = {}

    def record(self, *keys: str, now: float = 0.0) -> None:
        for key in keys:
            self.outbox.record(encoded(key), now=now)

    def poll(self, now: float = 0.0) -> SpooledOutput:
        output = self.outbox.poll(now=now)
        if isinstance(output, Transmit):
            body = body_of(output.request)
            assert isinstance(body, dict)
            self.names[output.ticket] = body["idempotencyKey"]
        return output

    def drain(self, now: float = 0.0) -> list[SpooledOutput]:
        """Poll until there is nothing more; that `Wait` or `Closed` is the last of what comes back."""
        outputs = [self.poll(now)]
        while not isinstance(outputs[-1], Wait | Closed):
            outputs.append(self.poll(now))
        return outputs

    def sent(self, now: float = 0.0) -> list[str]:
        """Drain, and name what was sent."""
        return [self.names[output.ticket] for output in self.drain(now) if isinstance(output, Transmit)]

    def ticket(self, key: str) -> int:
        """The latest ticket of a signal."""
        return max(ticket for ticket, name in self.names.items() if name == key)

    def answer(self, key: str, answer: Response | Failure, now: float = 0.0) -> None:
        self.outbox.handle_answer(self.ticket(key), answer, now=now)


def only(kind: type[T], outputs: Sequence[object]) -> T:
    found = [output for output in outputs if isinstance(output, kind)]
    assert len(found) == 1, outputs
    return found[0]


def settlement(outputs: list[SpooledOutput]) -> Settled[FlushReport] | Settled[TrackResult]:
    (found,) = [output for output in outputs if isinstance(output, Settled)]
    return found


def report_of(outputs: list[SpooledOutput]) -> FlushReport:
    report = settlement(outputs).unwrap()
    assert isinstance(report, FlushReport)
    return report


def failed_keys(report: FlushReport) -> list[str | None]:
    return [failed.signal.idempotency_key for failed in report.failed]


class Bench(AnyBench[Outbox]):
    """A machine without a spool."""

    def __init__(self, batch: BatchPolicy | None = None, retry: RetryPolicy | None = None) -> None:
        settings = config(batch, retry)
        super().__init__(settings, Outbox(settings, Dice(0.0)))


class SpoolBench(AnyBench[SpooledOutbox]):
    """A machine with a spool that has not been looked into yet."""

    def __init__(
        self, batch: BatchPolicy | None = None, retry: RetryPolicy | None = None, window: float = 3600.0
    ) -> None:
        settings = replace(config(batch, retry), spool_window=window)
        super().__init__(settings, SpooledOutbox(settings, Dice(0.0)))

    def store(self, *keys: str, now: float = 0.0) -> None:
        """Record signals, and have them stored."""
        for key in keys:
            ticket = self.outbox.record(encoded(key), now=now).ticket
            assert ticket is not None
            self.outbox.handle_stored(ticket, None, now=now)

    def adopt(self, *keys: str, age: float = 0.0, is_last: bool = False, now: float = 0.0) -> None:
        """Report what a look has found."""
        found = [Adopted(encoded(key), age) for key in keys]
        self.outbox.handle_adopted(found, is_last=is_last, now=now)

    def look_in_vain(self, now: float = 0.0) -> None:
        """Have it look into the spool and find nothing."""
        outputs = self.drain(now)
        assert any(isinstance(output, Adopt) for output in outputs)
        self.adopt(is_last=True, now=now)


def spool_bench(batch: BatchPolicy | None = None, window: float = 3600.0) -> SpoolBench:
    """Make a bench with a spool in which nothing was left."""
    bench = SpoolBench(batch, window=window)
    bench.look_in_vain()
    return bench
