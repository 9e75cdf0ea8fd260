"""Replaying traces: the same inputs, given to a core of today, and a comparison of what it says."""

import json
from base64 import b64decode
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar, cast
from urllib.parse import quote

from clocknext_core import (
    Adopted,
    Answer,
    BatchPolicy,
    Call,
    Config,
    EncodedSignal,
    Failure,
    Operation,
    Response,
    RetryPolicy,
    SpooledOutbox,
    SpoolError,
)
from clocknext_core.config import REDACTED
from clocknext_core.envelope import Payload
from clocknext_core.signals import type_and_key
from clocknext_transports.recorder.writing import FORMAT, RecordingEngine

T = TypeVar("T")


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
                outbox.record(
                    _encoded(line["key"], line["body"]),
                    now=line["now"],
                    may_wait=line.get("may_wait", True),
                )
            case "abandon":
                outbox.abandon(line["ticket"], now=line["now"])
            case "withdraw":
                outbox.withdraw(line["ticket"], now=line["now"])
            case "flush":
                outbox.flush(now=line["now"], deadline_at=line["deadline_at"])
            case "close":
                outbox.close(now=line["now"], deadline_at=line["deadline_at"])
            case _:
                self._repeat_of_spool(line)

    def _repeat_of_spool(self, line: Mapping[str, Any]) -> None:
        outbox, now = self._engine.outbox, line["now"]
        if not isinstance(outbox, SpooledOutbox):
            raise LookupError(line["input"])
        match line["input"]:
            case "handle_stored":
                said = line["error"]
                error = None if said is None else SpoolError(said["message"], retryable=said["retryable"])
                outbox.handle_stored(line["ticket"], error, now=now)
            case "handle_adopted":
                signals = [Adopted(_encoded(key, body), age) for key, body, age in line["signals"]]
                is_last, left_behind = line["is_last"], line["left_behind"]
                outbox.handle_adopted(signals, is_last=is_last, left_behind=left_behind, now=now)
            case "handle_adoption_failed":
                outbox.handle_adoption_failed(is_final=line["is_final"], now=now)
            case "handle_expired":
                outbox.handle_expired(_encoded(line["key"], line["body"]), now=now)
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
    return EncodedSignal(key, type_and_key(data)[0], data)


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
