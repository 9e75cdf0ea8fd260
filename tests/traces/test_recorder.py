"""The recorder: what is in a trace and what must not be, and a replay that notices every difference."""

import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from urllib.parse import quote

import pytest

from clocknext_core import (
    Answer,
    BatchPolicy,
    Call,
    ClockNextError,
    Config,
    CreditSignal,
    Engine,
    Failure,
    Operation,
    Outbox,
    OutboxOutput,
    QueueFullError,
    Request,
    Response,
    RetryPolicy,
    SpooledOutbox,
)
from clocknext_core.envelope import Payload
from clocknext_core.operations import path_of
from clocknext_core.signals import encode
from clocknext_transports import ClockNext
from clocknext_transports.client.base import ClientBase
from clocknext_transports.emulator import Ledger, emulator
from clocknext_transports.recorder import (
    FORMAT,
    Difference,
    NotATraceError,
    Recorder,
    RecordingEngine,
    recording,
    replay,
)
from clocknext_transports.recorder.__main__ import main
from clocknext_transports.recorder.writing import INPUTS, INPUTS_OF_CALL, INPUTS_OF_SPOOL
from clocknext_transports.sync import Transport
from tests.core.support import no_key
from tests.traces import saved
from tests.traces.record import RUNS, TROUBLES

KEY = "cnk_test_5ecret/+key"

OK = Response(200, [("content-type", "application/json")], b'{"ok": true, "customer": {"id": "cus_1"}}')


class Answers:
    """A transport that gives answers from a list, the last one again and again."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers)

    def exchange(self, request: Request, *, deadline_at: float) -> Answer:
        """Give the next answer."""
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]

    def close(self) -> None:
        """Close nothing."""


def client(*answers: Answer, key: str = KEY) -> ClockNext:
    transport: Transport = Answers(*answers)
    retry = RetryPolicy(max_attempts=2, base_delay=0.0)
    return ClockNext(key, base_url="https://api.example", transport=transport, retry=retry)


def engine(write: Callable[[str], object], batch: BatchPolicy | None = None) -> Engine:
    config = Config(KEY, batch=batch or BatchPolicy())
    return RecordingEngine(config, rng=Random(1), make_key=lambda: "made", write=write)


def record(the_engine: Engine, key: str, *, now: float) -> None:
    signal = CreditSignal(customer_id="cus_1", model="m", key="api", idempotency_key=key)
    the_engine.outbox.record(encode(signal, no_key), now=now)


def lines_of(path: Path) -> Sequence[str]:
    return path.read_text("ascii").splitlines(keepends=True)


@pytest.mark.parametrize("name", RUNS)
def test_a_client_of_any_kind_is_recorded_and_replayed(tmp_path: Path, name: str) -> None:
    with emulator() as server, recording(tmp_path / "trace.jsonl") as paths:
        server.faults.script(*TROUBLES)
        RUNS[name](server)
    assert paths == [tmp_path / "trace.jsonl"]
    lines = lines_of(paths[0])
    header = json.loads(lines[0])
    assert (header["trace"], header["config"]["base_url"]) == (FORMAT, server.url)
    assert len(lines) > 50
    assert list(replay(lines)) == []
    assert server.api_key not in "".join(lines)


def test_nothing_is_recorded_unless_asked_for(tmp_path: Path) -> None:
    with recording(tmp_path / "trace.jsonl") as paths:
        assert paths == []
    assert list(tmp_path.iterdir()) == []
    assert ClientBase.make_engine is Engine


def test_each_client_has_a_file_of_its_own_that_only_its_owner_reads(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text("mine")
    with recording(path) as paths:
        for _ in range(2):
            client(OK).close()
    assert path.read_text() == "mine"
    assert paths == [tmp_path / "trace-2.jsonl", tmp_path / "trace-3.jsonl"]
    assert [each.stat().st_mode & 0o777 for each in paths] == [0o600, 0o600]
    for each in paths:
        assert list(replay(lines_of(each))) == []


@pytest.mark.parametrize("key", [KEY, 'cnk_"quoted"\\%41', "cnk_~*'()!", "cnk_a%2Fb+c&d=e?#"])
def test_no_spelling_of_the_key_is_in_a_trace(tmp_path: Path, key: str) -> None:
    echo = json.dumps({"ok": False, "error": f"{key} is wrong", "twice": json.dumps(key)}).encode()
    binary = b"\xff\xfe" + key.encode()
    with recording(tmp_path / "trace.jsonl") as paths:
        answers = (Response(400, [], echo), Response(200, [], binary), Failure(f"no {key}"), OK)
        the_client = client(*answers, key=key)
        with pytest.raises(ClockNextError):
            the_client.customers.get(key)
        with pytest.raises(ClockNextError):
            the_client.customers.list(q=key)
        the_client.signals.credit(customer_id="cus_1", model="m", key="k", custom={"key": key, key: [key]})
        the_client.close()
    lines = lines_of(paths[0])
    text = "".join(lines)
    once = json.dumps(key)[1:-1]
    for spelling in (key, once, json.dumps(once)[1:-1], quote(key), quote(key, safe="")):
        assert spelling not in text
    assert "cnk_[redacted] is wrong" in text
    assert "base64" in text
    assert list(replay(lines)) == []


def test_headers_that_may_hold_secrets_are_left_out(tmp_path: Path) -> None:
    headers = [("Set-Cookie", "session=5ecret"), ("Retry-After", "3"), ("X-Internal", "5ecret")]
    with recording(tmp_path / "trace.jsonl") as paths:
        the_client = client(Response(400, headers, b"{}"))
    with the_client, pytest.raises(ClockNextError):
        the_client.customers.get("cus_1")
    text = paths[0].read_text()
    assert '[["Retry-After", "3"]]' in text
    for secret in ("5ecret", "Bearer", "Authorization", "User-Agent"):
        assert secret not in text


def test_random_numbers_are_recorded_and_drawn_again() -> None:
    lines: list[str] = []
    the_engine = engine(lines.append)
    record(the_engine, "k", now=1.0)
    the_engine.outbox.flush(now=1.0)
    the_engine.outbox.poll(now=1.0)
    the_engine.outbox.handle_answer(2, Failure("reset"), now=1.5)
    the_engine.outbox.poll(now=1.5)
    assert json.loads(lines[-2])["draws"] == [Random(1).random()]
    assert list(replay(lines)) == []
    changed = [re.sub(r'"draws": .*]', '"draws": [0.5]', line) for line in lines]
    assert changed != lines
    assert [difference.number for difference in replay(changed)] == [len(lines)]


def test_what_is_raised_is_recorded_and_raised_again() -> None:
    lines: list[str] = []
    the_engine = engine(lines.append, BatchPolicy(max_queue_size=1, overflow="raise"))
    record(the_engine, "first", now=0.0)
    with pytest.raises(QueueFullError):
        record(the_engine, "second", now=0.0)
    assert json.loads(lines[-1])["raised"] == "QueueFullError"
    assert list(replay(lines)) == []


def test_a_broken_invariant_is_recorded_and_breaks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(outbox: Outbox, *, now: float) -> OutboxOutput:
        raise KeyError(now)

    lines: list[str] = []
    with monkeypatch.context() as patched:
        patched.setattr(Outbox, "poll", broken)
        with pytest.raises(KeyError):
            engine(lines.append).outbox.poll(now=0.0)
        assert json.loads(lines[-1])["raised"] == "KeyError"
        assert list(replay(lines)) == []
    assert [difference.number for difference in replay(lines)] == [2]


def test_block_and_withdraw_are_recorded() -> None:
    lines: list[str] = []
    the_engine = engine(lines.append, BatchPolicy(max_queue_size=1, overflow="block"))
    record(the_engine, "first", now=0.0)
    record(the_engine, "second", now=0.0)
    the_engine.outbox.withdraw(1, now=0.5)
    the_engine.outbox.close(now=1.0, deadline_at=1.0)
    the_engine.outbox.poll(now=1.0)
    assert [json.loads(line)["input"] for line in lines[1:]] == [
        "record",
        "record",
        "withdraw",
        "close",
        "poll",
    ]
    assert list(replay(lines)) == []


@pytest.mark.parametrize(
    ("machine", "recorded"),
    [(Outbox, INPUTS), (SpooledOutbox, (*INPUTS, *INPUTS_OF_SPOOL)), (Call, INPUTS_OF_CALL)],
)
def test_no_input_goes_unrecorded(machine: type[object], recorded: Sequence[str]) -> None:
    inputs = {
        name
        for name, method in inspect.getmembers(machine, inspect.isfunction)
        if not name.startswith("_") and "now" in inspect.signature(method).parameters
    } - {"stats"}  # which changes nothing
    assert inputs == {*recorded}


def test_a_closed_client_is_closed_while_it_is_recorded() -> None:
    the_engine = engine(lambda line: None)
    the_engine.outbox.close(now=0.0)
    operation: Operation[Payload] = Operation("GET", path_of("me"), lambda payload: payload)
    with pytest.raises(ClockNextError, match="closed"):
        the_engine.call(operation)


@pytest.mark.parametrize("change", [('"delivered"', '"rejected"'), ('"attempt', '"Attempt'), ("503", "504")])
def test_any_difference_is_noticed(change: tuple[str, str]) -> None:
    lines = list(lines_of(next(path for path in saved() if path.stem == "threads")))
    for number, line in enumerate(lines):
        if change[0] in line and '"poll"' in line:
            lines[number] = line.replace(*change)
            break
    else:
        lines[5] = lines[5].replace('"output"', '"Output"')
        number = 5
    found = list(replay(lines))
    assert [difference.number for difference in found] == [number + 1]
    assert found[0].recorded != found[0].replayed


def test_a_name_may_be_replaced_throughout() -> None:
    text = "".join(lines_of(next(path for path in saved() if path.stem == "trio")))
    assert "cus_123" in text
    hidden = text.replace("cus_123", "customer-A")
    # JSON has two spellings for what is not ASCII, and within a body one of them is escaped once more.
    for spelling in ("Zo\\\\u00eb", "Zo\\u00eb"):
        assert spelling in text
        hidden = hidden.replace(spelling, "somebody")
    assert list(replay(hidden.splitlines(keepends=True))) == []


def test_the_unfinished_last_line_of_a_process_that_died_is_left_out() -> None:
    lines = list(lines_of(saved()[0]))
    assert list(replay([*lines[:30], lines[30][:20]])) == []


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([], "not JSON"),
        (["hello\n"], "not JSON"),
        (["[1]\n"], "not a JSON object"),
        (['{"machine": "outbox"}\n'], "not a trace"),
        (['{"trace": 99}\n'], "format 99"),
    ],
)
def test_what_is_no_trace_is_refused(lines: list[str], why: str) -> None:
    with pytest.raises(NotATraceError, match=why):
        list(replay(lines))


@pytest.mark.parametrize(
    "line", ['{"machine": "outbox", "input": "dance"}', '{"input": "poll"}', '{"machine": "x"}']
)
def test_a_line_that_cannot_be_understood_is_refused(line: str) -> None:
    header = lines_of(saved()[0])[0]
    with pytest.raises(NotATraceError, match="can't be understood"):
        list(replay([header, line + "\n"]))


def test_a_full_trace_ends_and_delivery_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with recording(tmp_path / "trace.jsonl", max_bytes=1500) as paths:
        the_client = client(OK)
    for _ in range(20):
        the_client.signals.credit(customer_id="cus_1", model="m", key="k")
    assert the_client.close().delivered == 20
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == ["The trace ends here: OSError"]
    lines = lines_of(paths[0])
    assert len(lines) > 2
    assert paths[0].stat().st_size <= 1500
    assert list(replay(lines)) == []


def test_a_forked_child_leaves_its_parents_trace_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(tmp_path / "trace.jsonl")
    the_engine = recorder.make_engine(Config(KEY), rng=Random(), make_key=lambda: "k")
    record(the_engine, "parent", now=0.0)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    record(the_engine, "child", now=0.0)
    assert len(lines_of(recorder.paths[0])) == 2


def test_the_command_replays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, other, bad = saved()[0], tmp_path / "other.jsonl", tmp_path / "bad.jsonl"
    other.write_text(good.read_text().replace('"delivered": "signal-0"', '"delivered": "signal-9"'))
    bad.write_text("no trace\n")
    assert main(["replay", str(good)]) == 0
    assert f"{good}: {len(lines_of(good))} lines, all as recorded" in capsys.readouterr().out
    assert main(["replay", str(good), str(other)]) == 1
    assert "first in line" in capsys.readouterr().out
    assert main(["replay", str(bad), str(other)]) == 2


def test_the_command_records_a_program_and_its_exit(tmp_path: Path) -> None:
    program = tmp_path / "app.py"
    program.write_text(
        "import sys\n"
        "from clocknext_transports import ClockNext\n"
        "client = ClockNext(sys.argv[1], base_url=sys.argv[2])\n"
        "client.signals.wallet(customer_id='cus_123', model='gpt-4o')\n"
        "print('the program ran')\n"
    )
    trace = tmp_path / "trace.jsonl"
    with emulator(Ledger()) as server:
        command = ["record", str(trace), str(program), server.api_key, server.url]
        done = subprocess.run(
            [sys.executable, "-m", "clocknext_transports.recorder", *command],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stdout) == (0, "the program ran\n")
        assert len(server.ledger.signals) == 1
    assert f"recorded {trace}" in done.stderr
    lines = lines_of(trace)
    # Also what was delivered at the interpreter's exit, after the program had ended.
    assert '"delivered"' in "".join(lines)
    assert list(replay(lines)) == []


def test_a_module_can_be_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = sys.argv
    try:
        assert main(["record", str(tmp_path / "trace.jsonl"), "-m", "this"]) == 0
    finally:
        sys.argv = argv
    assert "nothing was recorded" in capsys.readouterr().err


def test_a_difference_is_shown_in_full() -> None:
    assert str(Difference(7, "a", "b")) == "line 7\n  recorded a\n  replayed b"
