"""Traces: what a client's machines were told and what they said, to be replayed exactly, anywhere.

```
python -m clocknext_transports.recorder record trace.jsonl app.py --its --arguments
python -m clocknext_transports.recorder replay trace.jsonl
```

All that a client decides, its core decides, and the core knows only its inputs, the time and the random
numbers it draws. So these are all a trace holds: a line of JSON for each input with what came of it. To
replay it is to feed the same inputs to a core of today and compare the lines. Nothing is recorded unless it
is asked for, and then whatever goes wrong with the recording stops the recording and nothing else.

The API key is in no trace, nor is any request header, nor any response header but the few that the core
reads. Bodies are in it as they were sent and received: they are what there is to replay.
"""

import argparse
import json
import os
import platform
import runpy
import sys
import threading
from base64 import b64decode, b64encode
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from itertools import count
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import quote

from clocknext_core import (
    Adopt,
    Adopted,
    Answer,
    BatchPolicy,
    Call,
    CallOutput,
    ClockNextError,
    Closed,
    Config,
    Delivered,
    Dropped,
    EncodedSignal,
    Engine,
    Erase,
    Failure,
    Flushed,
    FlushReport,
    Operation,
    Outbox,
    OutboxOutput,
    Quarantine,
    RandomSource,
    Receipt,
    Rejected,
    Response,
    Retrying,
    RetryPolicy,
    Settled,
    SpoolError,
    Store,
    Ticket,
    TrackResult,
    Transmit,
    Wait,
    __version__,
)
from clocknext_core.config import REDACTED
from clocknext_core.envelope import Payload
from clocknext_core.gate import Gate
from clocknext_transports.client.base import ClientBase
from clocknext_transports.process.log import logger

T = TypeVar("T")

FORMAT = 1
"""Version of the format; a replay refuses any other."""

MAX_BYTES = 64 * 1024 * 1024
"""Where a trace ends by default: a client that runs for days must not fill the disk."""

RESPONSE_HEADERS = frozenset({"content-type", "date", "retry-after", "retry-after-ms"})
"""What is kept of a response's headers; others may hold cookies."""


# Writing


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
        return _describe(value)

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
        self.dice = Dice(rng)

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


class RecordingOutbox(Outbox):
    """An outbox that writes down every input and output."""

    def __init__(self, config: Config, rng: RandomSource, tape: Tape) -> None:
        self._log = Log(tape, "outbox", rng)
        super().__init__(config, self._log.dice)

    def record(self, encoded: EncodedSignal, *, now: float) -> Receipt:
        """Take a signal into the buffer."""
        key, body = encoded.idempotency_key, encoded.body
        with self._log.step("record", now=now, key=key, body=body) as line:
            line["output"] = receipt = super().record(encoded, now=now)
            return receipt

    def handle_answer(self, ticket: Ticket, answer: Answer, *, now: float) -> None:
        """Take the answer to an attempt."""
        with self._log.step("handle_answer", now=now, ticket=ticket, answer=answer):
            super().handle_answer(ticket, answer, now=now)

    def handle_stored(self, ticket: Ticket, error: SpoolError | None, *, now: float) -> None:
        """Take note that a signal is in the spool."""
        with self._log.step("handle_stored", now=now, ticket=ticket, error=error):
            super().handle_stored(ticket, error, now=now)

    def handle_adopted(self, signals: Sequence[Adopted], *, now: float) -> None:
        """Take over signals from the spool."""
        adopted = [[each.signal.idempotency_key, each.signal.body, each.age] for each in signals]
        with self._log.step("handle_adopted", now=now, signals=adopted):
            super().handle_adopted(signals, now=now)

    def handle_expired(self, encoded: EncodedSignal, *, now: float) -> None:
        """Take note that a stored signal was too old."""
        with self._log.step("handle_expired", now=now, key=encoded.idempotency_key, body=encoded.body):
            super().handle_expired(encoded, now=now)

    def abandon(self, ticket: Ticket, *, now: float) -> None:
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

    def close(self, *, now: float, deadline_at: float | None = None) -> Ticket:
        """Refuse new signals and flush."""
        with self._log.step("close", now=now, deadline_at=deadline_at) as line:
            line["output"] = ticket = super().close(now=now, deadline_at=deadline_at)
            return ticket

    def poll(self, *, now: float) -> OutboxOutput:
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
        self._read = operation.read
        self._payload: Payload = {}
        with self._log.step("begin", operation=operation):
            super().__init__(replace(operation, read=self._keep), config, self._log.dice, gate)

    def handle_answer(self, ticket: Ticket, answer: Answer, *, now: float) -> None:
        """Take the answer to an attempt."""
        with self._log.step("handle_answer", now=now, ticket=ticket, answer=answer):
            super().handle_answer(ticket, answer, now=now)

    def poll(self, *, now: float) -> CallOutput[T]:
        """Return the next output."""
        with self._log.step("poll", now=now) as line:
            line["output"] = output = super().poll(now=now)
            if isinstance(output, Settled) and not isinstance(output.outcome, ClockNextError):
                # What was made of the payload is the caller's affair, and may be of any type.
                line["output"] = Settled(output.ticket, self._payload)
            return output

    def _keep(self, payload: Payload) -> T | ClockNextError:
        self._payload = payload
        return self._read(payload)


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
        self.outbox = RecordingOutbox(config, rng, self._tape)

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
                raise OSError("the trace is as long as it may get")
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


def _describe(value: object) -> object:
    """Turn what crosses the core's border into plain JSON."""
    match value:
        case Transmit():
            request = value.request
            return {
                "transmit": value.ticket,
                "method": request.method,
                "url": request.url,
                "body": request.body,
                "replay_safe": request.replay_safe,
                "deadline_at": value.deadline_at,
            }
        case Settled():
            settled = cast("Settled[object]", value)
            return {"settled": settled.ticket, "outcome": settled.outcome}
        case Delivered():
            return {"delivered": value.encoded.idempotency_key, "result": value.result}
        case Rejected():
            return {"rejected": value.encoded.idempotency_key, "error": value.error}
        case Retrying():
            key = None if value.encoded is None else value.encoded.idempotency_key
            return {"retrying": value.attempt, "signal": key, "delay": value.delay, "error": value.error}
        case Dropped():
            return {"dropped": value.encoded.idempotency_key, "reason": value.reason}
        case Flushed():
            return {"flushed": value.count}
        case Store():
            return {"store": value.ticket, "key": value.signal.idempotency_key}
        case Erase():
            return {"erase": value.idempotency_key}
        case Quarantine():
            return {"quarantine": value.idempotency_key, "reason": value.reason}
        case Adopt():
            return {"adopt": value.limit}
        case Wait():
            return {"wait": value.until}
        case Closed():
            return {"closed": True}
        case Receipt():
            return {"result": value.result, "ticket": value.ticket}
        case TrackResult():
            return {
                "key": value.idempotency_key,
                "queued": value.queued,
                "dropped": value.dropped,
                "raw": value.raw,
            }
        case FlushReport():
            failed = [[each.encoded.idempotency_key, each.error] for each in value.failed]
            return {"delivered": value.delivered, "failed": failed, "pending": value.pending}
        case ClockNextError():
            return {
                "error": type(value).__name__,
                "message": value.message,
                "status": value.status,
                "retryable": value.retryable,
                "key": value.idempotency_key,
                "reason": value.reason,
                "issues": [[issue.field, issue.message] for issue in value.issues],
                "request": None if value.request is None else str(value.request),
                "retry_after": value.retry_after,
            }
        case Response():
            headers = [[name, text] for name, text in value.headers if name.lower() in RESPONSE_HEADERS]
            return {
                "status": value.status,
                "headers": headers,
                "body": value.body,
                "received_at": value.received_at,
            }
        case Failure():
            return {"failure": value.message, "processed": value.processed}
        case Operation():
            operation = cast("Operation[object]", value)
            return {
                "method": operation.method,
                "path": operation.path,
                "body": operation.body,
                "replay_safe": operation.replay_safe,
                "key": operation.idempotency_key,
            }
        case _:
            raise TypeError(f"a {type(value).__name__} has no place in a trace")


# Replaying


class NotATraceError(ValueError):
    """A file is not a trace, or of another version of the format."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A line that came out otherwise."""

    number: int
    """Of the line, counted from 1."""
    recorded: str
    replayed: str

    def __str__(self) -> str:
        return f"line {self.number}\n  recorded {self.recorded}\n  replayed {self.replayed}"


class Replay:
    """A trace's machines, made anew.

    Args:
        header: The trace's first line.

    Raises:
        NotATraceError: It is none, or of another version of the format.
    """

    def __init__(self, header: str) -> None:
        config = _config(header)
        self._draws: deque[float] = deque()
        self._lines: list[str] = []
        self._engine = RecordingEngine(config, rng=self, make_key=lambda: "", write=self._lines.append)
        self._calls: dict[str, Call[Payload]] = {}

    def random(self) -> float:
        """Draw the number that was drawn then."""
        return self._draws.popleft() if self._draws else 0.0

    def step(self, text: str) -> str:
        """Repeat a line's input and return the line that comes of it.

        Raises:
            NotATraceError: It is no line of a trace.
        """
        line = _parsed(text)
        self._lines.clear()
        try:
            self._draws = deque(line.get("draws", ()))
            self._repeat(line)
        except Exception as error:  # noqa: BLE001 - a broken core may raise anything
            if not self._lines:  # else a machine raised it, and the line says so
                raise NotATraceError(f"this line can't be understood: {error!r}") from None
        return self._lines[-1].rstrip("\n")

    def _repeat(self, line: Mapping[str, Any]) -> None:
        machine = line["machine"]
        outbox = self._engine.outbox
        match line["input"]:
            case "begin":
                operation = _operation(line["operation"])
                self._calls[machine] = self._engine.named_call(operation, machine)
            case "poll":
                (outbox if machine == "outbox" else self._calls[machine]).poll(now=line["now"])
            case "handle_answer":
                (outbox if machine == "outbox" else self._calls[machine]).handle_answer(
                    line["ticket"], _answer(line["answer"]), now=line["now"]
                )
            case "record":
                outbox.record(_encoded(line["key"], line["body"]), now=line["now"])
            case "handle_stored":
                error = None if line["error"] is None else SpoolError(line["error"]["message"])
                outbox.handle_stored(line["ticket"], error, now=line["now"])
            case "handle_adopted":
                signals = [Adopted(_encoded(key, body), age) for key, body, age in line["signals"]]
                outbox.handle_adopted(signals, now=line["now"])
            case "handle_expired":
                outbox.handle_expired(_encoded(line["key"], line["body"]), now=line["now"])
            case "abandon":
                outbox.abandon(line["ticket"], now=line["now"])
            case "withdraw":
                outbox.withdraw(line["ticket"], now=line["now"])
            case "flush":
                outbox.flush(now=line["now"], deadline_at=line["deadline_at"])
            case "close":
                outbox.close(now=line["now"], deadline_at=line["deadline_at"])
            case unknown:
                raise LookupError(unknown)


def replay(lines: Iterable[str]) -> Iterator[Difference]:
    """Feed a trace to a core of today, and tell where it comes out otherwise.

    A line without its end is the last of a process that died, and left out.

    Args:
        lines: The trace's lines, with their ends.

    Raises:
        NotATraceError: It is none, or of another version of the format.
    """
    whole = (line.rstrip("\n") for line in lines if line.endswith("\n"))
    machines = Replay(next(whole, ""))
    for number, recorded in enumerate(whole, 2):
        replayed = machines.step(recorded)
        if replayed != recorded:
            yield Difference(number, recorded, replayed)


def _parsed(text: str) -> dict[str, Any]:
    try:
        line: object = json.loads(text)
    except ValueError:
        raise NotATraceError("this is not JSON") from None
    if not isinstance(line, dict):
        raise NotATraceError("this is not a JSON object")
    return cast("dict[str, Any]", line)


def _config(header: str) -> Config:
    line = _parsed(header)
    if "trace" not in line:
        raise NotATraceError("this is not a trace")
    if line["trace"] != FORMAT:
        raise NotATraceError(f"this is a trace of format {line['trace']}; this version reads {FORMAT}")
    known = {each.name for each in fields(Config)}
    settings = {name: value for name, value in line["config"].items() if name in known}
    settings["batch"] = BatchPolicy(**settings["batch"])
    settings["retry"] = RetryPolicy(**settings["retry"])
    return Config(REDACTED, **settings)


def _bytes(value: object) -> bytes:
    if isinstance(value, dict):
        return b64decode(cast("dict[str, str]", value)["base64"])
    return str(value).encode()


def _encoded(key: str, body: object) -> EncodedSignal:
    data = _bytes(body)
    return EncodedSignal(key, json.loads(data)["type"], data)


def _operation(value: Mapping[str, Any]) -> Operation[Payload]:
    return Operation(
        value["method"],
        value["path"].replace(REDACTED, quote(REDACTED, safe="")),  # a path has no brackets
        lambda payload: payload,
        None if value["body"] is None else _bytes(value["body"]),
        value["replay_safe"],
        None if value["key"] is None else _encoded(value["key"], value["body"]),
    )


def _answer(value: Mapping[str, Any]) -> Answer:
    if "failure" in value:
        return Failure(value["failure"], value["processed"])
    headers = [(name, text) for name, text in value["headers"]]
    return Response(value["status"], headers, _bytes(value["body"]), value["received_at"])


# The command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(
        "python -m clocknext_transports.recorder", description="Record traces of clients, and replay them."
    )
    commands = parser.add_subparsers(required=True, dest="command")
    recorder = commands.add_parser("record", help="run a Python program and record its clients")
    recorder.add_argument("trace", help="where the trace goes, such as trace.jsonl")
    recorder.add_argument("-m", action="store_true", dest="is_module", help="the program is a module's name")
    recorder.add_argument("program", help="a script, or with -m a module")
    recorder.add_argument("arguments", nargs=argparse.REMAINDER, help="the program's own")
    replayer = commands.add_parser("replay", help="feed traces to this version's core")
    replayer.add_argument("traces", nargs="+", type=Path)
    options = parser.parse_args(arguments)
    if options.command == "record":
        _run(options.trace, options.program, options.arguments, is_module=options.is_module)
        return 0
    return max([_replay_file(path) for path in options.traces])


def _run(trace: str, program: str, arguments: Sequence[str], *, is_module: bool) -> None:
    sys.argv = [program, *arguments]
    with recording(trace) as paths:
        try:
            if is_module:
                runpy.run_module(program, run_name="__main__", alter_sys=True)
            else:
                sys.path.insert(0, str(Path(program).parent))
                runpy.run_path(program, run_name="__main__")
        finally:
            for path in paths:
                print(f"recorded {path}", file=sys.stderr)
            if not paths:
                print("nothing was recorded: the program made no client", file=sys.stderr)


def _replay_file(path: Path) -> int:
    lines = path.read_text("utf-8", "replace").splitlines(keepends=True)
    try:
        difference = next(replay(lines), None)
    except NotATraceError as error:
        print(f"{path}: {error}")
        return 2
    if difference is None:
        print(f"{path}: {len(lines)} lines, all as recorded")
        return 0
    print(f"{path}: comes out otherwise, first in {difference}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
