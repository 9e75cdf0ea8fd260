"""Writing traces: machines that write down every input and output, without the API key."""

import json
import os
import platform
import threading
from base64 import b64encode
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import TypeVar

from clocknext_core import (
    Adopted,
    Answer,
    Call,
    CallOutput,
    Config,
    EncodedSignal,
    Engine,
    Operation,
    Outbox,
    OutboxOutput,
    RandomSource,
    Receipt,
    SpooledOutbox,
    SpooledOutput,
    SpoolError,
    Ticket,
    __version__,
)
from clocknext_core.gate import Gate
from clocknext_transports.client.base import ClientBase
from clocknext_transports.process.log import logger
from clocknext_transports.recorder.describing import describe

T = TypeVar("T")

FORMAT = 2
"""Version of the format; a replay refuses any other."""

MAX_BYTES = 64 * 1024 * 1024
"""Where a trace ends by default: a client that runs for days must not fill the disk."""


class Tape:
    """Turns steps into lines, without the API key. The first failure is its last.

    Args:
        config: The client's configuration: the first line.
        write: Takes a line, with its line end.
    """

    def __init__(self, config: Config, write: Callable[[str], object]) -> None:
        self._write = write
        self._redact = config.redact
        self._has_failed = False
        settings = asdict(config)
        del settings["api_key"]
        self.write(
            {"trace": FORMAT, "sdk": __version__, "python": platform.python_version(), "config": settings}
        )

    def write(self, line: Mapping[str, object]) -> None:
        """Write a line."""
        if self._has_failed:
            return
        try:
            text = json.dumps(line, default=self._describe)
            self._write(self._redact(text) + "\n")
        except Exception as error:  # noqa: BLE001 - a recording must not stop delivery
            self._has_failed = True
            logger.warning("The trace ends here: %s", type(error).__name__)

    def _describe(self, value: object) -> object:
        if isinstance(value, bytes):
            return self._text(value)
        return describe(value)

    def _text(self, data: bytes) -> object:
        try:
            return data.decode()
        except UnicodeDecodeError:
            # Latin-1 gives each byte a character, and back.
            redacted = self._redact(data.decode("latin-1")).encode("latin-1")
            return {"base64": b64encode(redacted).decode()}


class Dice:
    """Randomness that remembers what was drawn."""

    def __init__(self, rng: RandomSource) -> None:
        self._rng = rng
        self.drawn: list[float] = []

    def random(self) -> float:
        """Draw a number."""
        number = self._rng.random()
        self.drawn.append(number)
        return number


class Log:
    """Writes the steps of one machine.

    Args:
        tape: Where they go.
        machine: Its name in the trace.
        rng: Where its random numbers come from.
    """

    def __init__(self, tape: Tape, machine: str, rng: RandomSource) -> None:
        self._tape = tape
        self._machine = machine
        self.dice: Dice = Dice(rng)

    @contextmanager
    def step(self, name: str, **details: object) -> Generator[dict[str, object], None, None]:
        """Write one input, and what the block adds to it: its output."""
        line: dict[str, object] = {"machine": self._machine, "input": name, **details}
        self.dice.drawn = []
        try:
            yield line
        except Exception as error:
            line["raised"] = type(error).__name__
            raise
        finally:
            if self.dice.drawn:
                line["draws"] = self.dice.drawn
            self._tape.write(line)

    def record(
        self, encoded: EncodedSignal, record: Callable[..., Receipt], now: float, *, may_wait: bool
    ) -> Receipt:
        """Write the recording of a signal."""
        how = {} if may_wait else {"may_wait": False}
        with self.step("record", now=now, key=encoded.idempotency_key, body=encoded.body, **how) as line:
            line["output"] = receipt = record(encoded, now=now, may_wait=may_wait)
            return receipt


class RecordingOutbox(Outbox):
    """An outbox that writes down every input and output."""

    def __init__(self, config: Config, rng: RandomSource, tape: Tape) -> None:
        self._log = Log(tape, "outbox", rng)
        super().__init__(config, self._log.dice)

    def record(self, encoded: EncodedSignal, *, now: float, may_wait: bool = True) -> Receipt:
        """Take a signal into the buffer."""
        return self._log.record(encoded, super().record, now, may_wait=may_wait)

    def handle_answer(self, ticket: Ticket, answer: Answer, *, now: float) -> None:
        """Take the answer to an attempt."""
        with self._log.step("handle_answer", now=now, ticket=ticket, answer=answer):
            super().handle_answer(ticket, answer, now=now)

    def abandon(self, ticket: Ticket, *, now: float | None = None) -> None:
        """Take back an attempt."""
        with self._log.step("abandon", now=now, ticket=ticket):
            super().abandon(ticket, now=now)

    def withdraw(self, ticket: Ticket, *, now: float) -> None:
        """Forget a signal that waits for room."""
        with self._log.step("withdraw", now=now, ticket=ticket):
            super().withdraw(ticket, now=now)

    def flush(self, *, now: float, deadline_at: float | None = None) -> Ticket:
        """Send everything held."""
        with self._log.step("flush", now=now, deadline_at=deadline_at) as line:
            line["output"] = ticket = super().flush(now=now, deadline_at=deadline_at)
            return ticket

    def close(self, *, now: float | None = None, deadline_at: float | None = None) -> Ticket:
        """Refuse new signals and flush."""
        with self._log.step("close", now=now, deadline_at=deadline_at) as line:
            line["output"] = ticket = super().close(now=now, deadline_at=deadline_at)
            return ticket

    def poll(self, *, now: float) -> OutboxOutput:
        """Return the next output."""
        with self._log.step("poll", now=now) as line:
            line["output"] = output = super().poll(now=now)
            return output


class RecordingSpooledOutbox(SpooledOutbox):
    """An outbox with a spool that writes down every input and output."""

    def __init__(self, config: Config, rng: RandomSource, tape: Tape) -> None:
        self._log = Log(tape, "outbox", rng)
        super().__init__(config, self._log.dice)

    def record(self, encoded: EncodedSignal, *, now: float, may_wait: bool = True) -> Receipt:
        """Have a signal stored."""
        return self._log.record(encoded, super().record, now, may_wait=may_wait)

    def handle_stored(self, ticket: Ticket, error: SpoolError | None, *, now: float) -> None:
        """Take note that a signal is in the spool."""
        with self._log.step("handle_stored", now=now, ticket=ticket, error=error):
            super().handle_stored(ticket, error, now=now)

    def handle_adopted(
        self, signals: Sequence[Adopted], *, is_last: bool, left_behind: int = 0, now: float
    ) -> None:
        """Take over signals from the spool."""
        adopted = [[each.signal.idempotency_key, each.signal.body, each.age] for each in signals]
        with self._log.step(
            "handle_adopted", now=now, signals=adopted, is_last=is_last, left_behind=left_behind
        ):
            super().handle_adopted(signals, is_last=is_last, left_behind=left_behind, now=now)

    def handle_adoption_failed(self, *, is_final: bool = False, now: float) -> None:
        """Take note that the spool could not be looked into."""
        with self._log.step("handle_adoption_failed", now=now, is_final=is_final):
            super().handle_adoption_failed(is_final=is_final, now=now)

    def handle_expired(self, encoded: EncodedSignal, *, now: float) -> None:
        """Take note that a stored signal was too old."""
        with self._log.step("handle_expired", now=now, key=encoded.idempotency_key, body=encoded.body):
            super().handle_expired(encoded, now=now)

    def handle_answer(self, ticket: Ticket, answer: Answer, *, now: float) -> None:
        """Take the answer to an attempt."""
        with self._log.step("handle_answer", now=now, ticket=ticket, answer=answer):
            super().handle_answer(ticket, answer, now=now)

    def abandon(self, ticket: Ticket, *, now: float | None = None) -> None:
        """Take back an attempt."""
        with self._log.step("abandon", now=now, ticket=ticket):
            super().abandon(ticket, now=now)

    def withdraw(self, ticket: Ticket, *, now: float) -> None:
        """Forget a signal that waits for room or for the spool."""
        with self._log.step("withdraw", now=now, ticket=ticket):
            super().withdraw(ticket, now=now)

    def flush(self, *, now: float, deadline_at: float | None = None) -> Ticket:
        """Send everything held, and what dead processes left."""
        with self._log.step("flush", now=now, deadline_at=deadline_at) as line:
            line["output"] = ticket = super().flush(now=now, deadline_at=deadline_at)
            return ticket

    def close(self, *, now: float | None = None, deadline_at: float | None = None) -> Ticket:
        """Refuse new signals and flush."""
        with self._log.step("close", now=now, deadline_at=deadline_at) as line:
            line["output"] = ticket = super().close(now=now, deadline_at=deadline_at)
            return ticket

    def poll(self, *, now: float) -> SpooledOutput:
        """Return the next output."""
        with self._log.step("poll", now=now) as line:
            line["output"] = output = super().poll(now=now)
            return output


class RecordingCall(Call[T]):
    """A call that writes down every input and output."""

    def __init__(
        self, operation: Operation[T], config: Config, rng: RandomSource, gate: Gate, *, tape: Tape, name: str
    ) -> None:
        self._log = Log(tape, name, rng)
        with self._log.step("begin", operation=operation):
            super().__init__(operation, config, self._log.dice, gate)

    def handle_answer(self, ticket: Ticket, answer: Answer, *, now: float) -> None:
        """Take the answer to an attempt."""
        with self._log.step("handle_answer", now=now, ticket=ticket, answer=answer):
            super().handle_answer(ticket, answer, now=now)

    def poll(self, *, now: float) -> CallOutput:
        """Return the next output."""
        with self._log.step("poll", now=now) as line:
            line["output"] = output = super().poll(now=now)
            return output


class RecordingEngine(Engine):
    """An engine whose machines write down every input and output.

    Args:
        config: The client's configuration.
        rng: Randomness for the jitter.
        make_key: Makes idempotency keys.
        write: Takes the trace, line by line, each with its line end.
    """

    def __init__(
        self,
        config: Config,
        *,
        rng: RandomSource,
        make_key: Callable[[], str],
        write: Callable[[str], object],
    ) -> None:
        super().__init__(config, rng=rng, make_key=make_key)
        self._tape = Tape(config, write)
        self._numbers = count(1)
        outbox = RecordingOutbox if config.spool_window is None else RecordingSpooledOutbox
        self.outbox: Outbox | SpooledOutbox = outbox(config, rng, self._tape)

    def call(self, operation: Operation[T]) -> Call[T]:
        """Begin an operation."""
        super().call(operation)  # raises if the client is closed
        return self.named_call(operation, f"call {next(self._numbers)}")

    def named_call(self, operation: Operation[T], name: str) -> Call[T]:
        """Begin an operation under a name of its own in the trace."""
        return RecordingCall(operation, self.config, self._rng, self.outbox.gate, tape=self._tape, name=name)


class TraceFile:
    """A file of its own for one client, readable by its owner alone.

    Args:
        path: Its name; where that is taken, a number is put in.
        max_bytes: What does not fit is left out.

    Raises:
        OSError: It can't be made.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        path = path.absolute()
        for candidate in _numbered(path):
            with suppress(FileExistsError):
                os.close(os.open(candidate, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
                self.path = candidate
                break
        self._left = max_bytes
        self._process = os.getpid()
        self._lock = threading.Lock()

    def write(self, line: str) -> None:
        """Append a line.

        Raises:
            OSError: It can't be written, or is one too many.
        """
        if os.getpid() != self._process:
            return  # a fork: the child's client goes its own way, and would garble its parent's trace
        with self._lock:
            self._left -= len(line)
            if self._left < 0:
                raise OSError("the trace has reached max_bytes")
            # Opened for each line, so that there is nothing to close: a client may live on until the exit.
            with open(os.open(self.path, os.O_WRONLY | os.O_APPEND), "w", encoding="ascii") as file:
                file.write(line)


class Recorder:
    """Makes the engines of clients, and a trace file for each.

    Args:
        path: Where the first trace goes; the next one gets a number.
        max_bytes: Where a trace ends.
    """

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self.paths: list[Path] = []
        """The traces so far, in the order the clients were made."""

    def make_engine(self, config: Config, *, rng: RandomSource, make_key: Callable[[], str]) -> Engine:
        """Make an engine that is recorded.

        Raises:
            OSError: The trace file can't be made.
        """
        file = TraceFile(self._path, self._max_bytes)
        self.paths.append(file.path)
        return RecordingEngine(config, rng=rng, make_key=make_key, write=file.write)


@contextmanager
def recording(
    path: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES
) -> Generator[Sequence[Path], None, None]:
    """Record every client made in a `with` block, for as long as it lives.

    Each client gets a file of its own, which only its owner can read; none is overwritten: `trace.jsonl` is
    followed by `trace-2.jsonl`.

    Args:
        path: Where the trace goes.
        max_bytes: Where a trace ends, at the latest.

    Yields:
        The paths of the traces, as clients are made.

    Raises:
        OSError: In the constructor of a client: its trace can't be made.
    """
    recorder = Recorder(Path(path), max_bytes)
    usual = ClientBase.make_engine
    ClientBase.make_engine = recorder.make_engine
    try:
        yield recorder.paths
    finally:
        ClientBase.make_engine = usual


def _numbered(path: Path) -> Iterator[Path]:
    yield path
    for number in count(2):
        yield path.with_stem(f"{path.stem}-{number}")
