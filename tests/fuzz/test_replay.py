"""Every committed input, replayed; and bugs planted on purpose, which these inputs must notice."""

import math
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path
from typing import Any

import pytest

from clocknext_core import Config, Outbox, Response, backoff, envelope
from clocknext_core.envelope import Payload
from clocknext_core.models import Model
from clocknext_transports import http11
from clocknext_transports.cli import lines
from clocknext_transports.cli.lines import Line, Splitter
from clocknext_transports.emulator.api import signals as emulator_signals
from clocknext_transports.emulator.api.exchange import Received
from clocknext_transports.emulator.books.books import Books
from clocknext_transports.emulator.server import faults as emulator_faults
from clocknext_transports.emulator.server import http_server as emulator_http
from clocknext_transports.emulator.server import service as emulator_service
from clocknext_transports.http11 import fast as plain
from clocknext_transports.http11.answers import Reader
from fuzz import __main__ as command_line
from fuzz.__main__ import main
from fuzz.inputs import TARGETS, committed, corpus, findings, load
from fuzz.targets import answers
from fuzz.targets import lines as lines_target

MOST_FILES = 400
MOST_BYTES = 1_000_000


@pytest.mark.parametrize("name", TARGETS)
def test_every_committed_input_keeps_the_invariant(name: str) -> None:
    check = load(name).check
    for path in committed(name):
        try:
            check(path.read_bytes())
        except Exception as error:
            error.add_note(f"Replay it with: python -m fuzz replay {name} {path}")
            raise


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_says_its_invariant_and_the_exceptions_it_allows(name: str) -> None:
    about = load(name).__doc__
    assert about.index("\n\nInvariant: ") < about.index("\n\nAllowed exceptions:")


@pytest.mark.parametrize("name", TARGETS)
def test_a_corpus_is_small_and_named_by_content(name: str) -> None:
    paths = list(corpus(name).glob("*"))
    assert 10 <= len(paths) <= MOST_FILES
    assert [path.name for path in paths] == [sha1(path.read_bytes()).hexdigest() for path in paths]
    for path in findings(name).glob("*"):
        assert path.name.partition("-")[2] == sha1(path.read_bytes()).hexdigest()


def test_the_inputs_are_small_together_and_hold_no_key() -> None:
    inputs = [path.read_bytes() for name in TARGETS for path in committed(name)]
    assert sum(map(len, inputs)) <= MOST_BYTES
    for data in inputs:
        assert not re.search(rb"(?i)(cnk|sk)_(live|test|prod)|bearer [\w-]{8}", data)


def test_every_operation_and_every_model_is_read() -> None:
    assert {name.partition(".")[0] for name in answers.OPERATIONS} == {
        *("Credits", "Customers", "Invoices", "Outcomes", "Payments", "Plans", "Portal", "Purchases"),
        *("Signals", "Units", "Webhooks", "Workspace"),
    }
    assert len(answers.OPERATIONS) >= 60
    assert {*answers.MODELS, "TrackResult"} == {kind.__name__ for kind in Model.__subclasses__()}


# Planted bugs: each takes the place of an attribute


@dataclass(frozen=True)
class Bug:
    """What is to be broken, and how."""

    target: str
    owner: object
    name: str
    broken: object

    def __str__(self) -> str:
        return f"{self.target}-{self.name}"


def take_anything_for_a_success(document: Payload) -> Payload | None:
    return envelope.as_object(document.get("result"))


def take_lists_for_objects(value: object) -> object:
    return value or {}


def show_what_the_peer_echoed(_: Config, text: str) -> str:
    return text


def deliver_what_has_come(reader: Reader, data: bytes, receive: Any = Reader.receive) -> object:
    so_far: Any = vars(reader)
    if not data and so_far["_head"] is not None:
        return Response(so_far["_head"].status_code, [("content-length", "0")], bytes(so_far["_body"]))
    return receive(reader, data)


def keep_every_connection(reader: Reader, finish: Any = Reader.__dict__["_finish"]) -> object:
    answer = finish(reader)
    reader.is_clean = True
    return answer


def read_without_end(
    connection: http11.Connection, begin: Any = http11.Connection.__init__, **options: object
) -> None:
    begin(connection, **{**options, "max_answer_bytes": 10**9})


def leave_the_heads_to_h11(reader: Reader, _start: int) -> object:
    so_far: Any = vars(reader)
    give: Any = Reader.__dict__["_give"]
    return give(reader, len(so_far["_unread"]))


def lose_a_stream(_: object, stream: object) -> None:
    """Forget it."""


def give_equal_lines_one_key(line: Line, *, source: str = "", derive: Any = lines.derive_key) -> object:
    return derive(Line(1, line.content, 0), source=source)


def lose_the_last_line(splitter: Splitter, data: bytes, feed: Any = Splitter.feed) -> object:
    return feed(splitter, data) if data else []


def do_nothing(_outbox: Outbox, _ticket: int, *, now: float) -> None:
    """Ignore it."""


def pass_on(value: object) -> object:
    return value


def debit_nothing(_books: Books, _account: object, _amount: object) -> None:
    """Leave the wallet alone."""


async def raise_at_once(_: object) -> None:
    raise LookupError


def refuse_nothing(_request: Received, _hosts: object = ()) -> None:
    """Serve whoever asks."""


MONTHS: tuple[str, ...] = backoff.__dict__["_MONTHS"]
ARGUMENTS: Mapping[str, str] = lines.__dict__["_ARGUMENTS"]

BUGS = (
    Bug("answers", envelope, "_success", take_anything_for_a_success),
    Bug("answers", envelope, "as_object", take_lists_for_objects),
    Bug("answers", Config, "redact", show_what_the_peer_echoed),
    Bug("retry_after", backoff, "RETRY_AFTER_CAP", math.inf),
    Bug("retry_after", backoff, "_SECONDS", re.compile(r"[+-]?[\d.]*\d")),
    Bug("retry_after", backoff, "_MONTHS", MONTHS[3:] + MONTHS[:3]),
    Bug("retry_after", backoff, "_BLANKS", None),
    Bug("http11", Reader, "receive", deliver_what_has_come),
    Bug("http11", Reader, "_finish", keep_every_connection),
    Bug("http11", http11.Connection, "__init__", read_without_end),
    Bug("http11", Reader, "_read_heads", leave_the_heads_to_h11),
    Bug("http11", plain, "_DELICATE", frozenset({"content-length"})),
    Bug("http11", plain, "_BODILESS", ()),
    Bug("http11", http11.Pool, "give", lose_a_stream),
    Bug("lines", lines, "MAX_LINE_BYTES", 2 * lines.MAX_LINE_BYTES),
    Bug("lines", lines_target, "derive_key", give_equal_lines_one_key),
    Bug("lines", Splitter, "feed", lose_the_last_line),
    Bug("lines", lines, "_ARGUMENTS", {**ARGUMENTS, "outputTokens": "cache_tokens"}),
    Bug("outbox", Outbox, "abandon", do_nothing),
    Bug("outbox", Outbox, "withdraw", do_nothing),
    Bug("outbox", Outbox, "close", Outbox.flush),
    Bug("emulator", emulator_signals, "storable", pass_on),
    Bug("emulator", emulator_faults, "is_header_value", bool),
    Bug("emulator", Books, "_debit", debit_nothing),
    Bug("emulator", emulator_http.Conversation, "_drain", raise_at_once),
    Bug("origins", emulator_service, "check_origin", refuse_nothing),
    Bug("origins", emulator_service, "_HOST", re.compile(r"(.*?)(?::.*)?")),
    Bug("origins", emulator_service, "_IPV4", re.compile(r"[0-9.]*.*")),
    Bug("origins", emulator_service, "CONTROL", "/_emulator"),
)


@pytest.mark.parametrize("bug", BUGS, ids=str)
def test_the_committed_inputs_notice_a_planted_bug(bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    check = load(bug.target).check
    inputs = sorted((path.read_bytes() for path in committed(bug.target)), key=len)
    monkeypatch.setattr(bug.owner, bug.name, bug.broken)
    assert any(_fails(check, data) for data in inputs)


def _fails(check: Callable[[bytes], None], data: bytes) -> bool:
    try:
        check(data)
    except Exception:  # noqa: BLE001 - any is a finding
        return True
    return False


# The command line


def test_it_lists_the_targets(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert all(f"{name:12} " in shown for name in TARGETS)
    assert "10 inputs" not in shown


def test_it_replays_and_says_what_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "two-equal-lines"
    file.write_bytes(b"\0\0{}\n{}")
    assert main(["replay", "lines", str(file)]) == 0
    monkeypatch.setattr(lines_target, "derive_key", give_equal_lines_one_key)
    assert main(["replay", "lines", str(file)]) == 1
    output = capsys.readouterr()
    assert output.out.count("lines: 1 inputs replayed") == 2
    assert f"lines: {file} fails" in output.err


def test_it_knows_its_targets(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "nothing"])
    assert "no such target: nothing" in capsys.readouterr().err


@pytest.mark.parametrize(("status", "written"), [(77, True), (70, True), (1, False), (0, False)])
def test_a_run_that_finds_something_fails_and_says_how_to_replay_it(
    status: int, written: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def engine(name: str, work: Path, _: Sequence[str]) -> subprocess.Popen[bytes]:
        found = findings(name) / "crash-1"
        text = f"#9 INITED cov: 7\n#10 NEW cov: 8\nTest unit written to {found}\n" if written else "Broken.\n"
        (work / f"{name}.log").write_text(text)
        return subprocess.Popen([sys.executable, "-S", "-c", f"raise SystemExit({status})"])

    monkeypatch.setattr(command_line, "_engine", engine)
    monkeypatch.setattr(command_line, "find_spec", len)
    assert main(["run", "lines", "--seconds", "1"]) == int(status != 0)
    shown = capsys.readouterr().out
    assert f"lines: status {status}\n" in shown
    assert shown.count("Replay it with: python -m fuzz replay lines ") == int(written)
    assert ("Broken." in shown) == (status == 1)
    assert ("cov: 7\n" in shown) == written


def nothing_found(_: str) -> None:
    """Find no module."""


def test_a_run_needs_the_fuzzer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(command_line, "find_spec", nothing_found)
    assert main(["run"]) == 2
    assert "atheris is not installed" in capsys.readouterr().err
