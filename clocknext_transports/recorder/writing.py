"""Writing traces: machines that write down every input and output, without the API key."""

import inspect
import json
import os
import platform
import threading
from base64 import b64encode
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import TypeVar

from clocknext_core import (
    Call,
    Config,
    EncodedSignal,
    Engine,
    Operation,
    Outbox,
    RandomSource,
    SpooledOutbox,
    __version__,
)
from clocknext_core.engine import make_outbox
from clocknext_transports.client.base import ClientBase
from clocknext_transports.process.interrupts import let_pass
from clocknext_transports.process.log import logger
from clocknext_transports.recorder.describing import describe

T = TypeVar("T")

FORMAT = 2
"""Version of the format; a replay refuses any other."""

INPUTS = ("record", "handle_answer", "abandon", "withdraw", "flush", "close", "poll")
INPUTS_OF_SPOOL = ("handle_stored", "handle_adopted", "handle_adoption_failed", "handle_expired")
INPUTS_OF_CALL = ("handle_answer", "poll")

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
            let_pass(error)

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

    def follow(self, machine: object, inputs: Iterable[str]) -> None:
        """Write every input that a machine is given from now on, and its output.

        Args:
            machine: Its methods are replaced.
            inputs: The methods' names.
        """
        for name in inputs:
            setattr(machine, name, self._followed(name, getattr(machine, name)))

    def _followed(self, name: str, method: Callable[..., object]) -> Callable[..., object]:
        signature = inspect.signature(method)

        def call(*args: object, **kwargs: object) -> object:
            given = signature.bind(*args, **kwargs)
            given.apply_defaults()
            arguments = given.arguments
            with self.step(name, now=arguments.pop("now"), **_spelt_out(arguments)) as line:
                output = method(*args, **kwargs)
                if output is not None:
                    line["output"] = output
            return output

        return call


def _spelt_out(arguments: Mapping[str, object]) -> dict[str, object]:
    """Return arguments by name, signals by their keys and bodies."""
    shown: dict[str, object] = {}
    for name, value in arguments.items():
        if isinstance(value, EncodedSignal):
            shown |= {"key": value.idempotency_key, "body": value.body}
        elif name != "may_wait" or not value:  # a trace names only what does not wait
            shown[name] = value
    return shown


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
        log = Log(self._tape, "outbox", rng)
        self.outbox: Outbox | SpooledOutbox = make_outbox(config, log.dice)
        log.follow(self.outbox, INPUTS if isinstance(self.outbox, Outbox) else (*INPUTS, *INPUTS_OF_SPOOL))

    def call(self, operation: Operation[T]) -> Call[T]:
        """Begin an operation."""
        super().call(operation)  # raises if the client is closed
        return self.named_call(operation, f"call {next(self._numbers)}")

    def named_call(self, operation: Operation[T], name: str) -> Call[T]:
        """Begin an operation under a name of its own in the trace."""
        log = Log(self._tape, name, self._rng)
        with log.step("begin", operation=operation):
            call = Call(operation, self.config, log.dice, self.outbox.gate)
        log.follow(call, INPUTS_OF_CALL)
        return call


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
