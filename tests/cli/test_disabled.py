"""Commands that need the service, with the client switched off: each refuses, and leaves all as it is."""

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from clocknext_transports.cli.group import run
from clocknext_transports.emulator import EmulatorServer, emulator
from tests.cli.support import many
from tests.spool.test_command import leave, sendable

SWITCHED_OFF = (
    "Error: The client is switched off: CLOCKNEXT_DISABLED is set, so nothing is sent. Unset it to run this "
    "command.\n"
)


@pytest.fixture(scope="module")
def server() -> Iterator[EmulatorServer]:
    with emulator() as running:
        yield running


@pytest.fixture(autouse=True)
def _switched_off(monkeypatch: pytest.MonkeyPatch, server: EmulatorServer) -> None:
    for name, value in (("API_KEY", server.api_key), ("BASE_URL", server.url), ("DISABLED", "1")):
        monkeypatch.setenv(f"CLOCKNEXT_{name}", value)


@pytest.mark.parametrize(
    "command",
    [
        ("send", "usage.jsonl"),
        ("verify", "usage.jsonl"),
        ("spool", "replay", "spool"),
        ("spool", "replay", "spool", "--quarantined"),
        ("outbox", "relay", "postgresql://127.0.0.1:1/none"),
        ("outbox", "demo"),
        ("demo",),
        ("whoami",),
        ("models",),
        ("customers", "list"),
        ("customers", "show", "cus_123"),
        ("customers", "create", "--name", "N", "--email", "n@x.example"),
        ("balances", "cus_123"),
        ("usage", "cus_123"),
    ],
    ids=" ".join,
)
def test_a_command_that_needs_the_service_refuses(
    command: tuple[str, ...],
    server: EmulatorServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "usage.jsonl").write_bytes(many(3))
    leave(tmp_path / "spool", sendable("left"))
    before = {each: each.stat().st_mtime_ns for each in tmp_path.rglob("*")}
    monkeypatch.chdir(tmp_path)
    assert run(command) == 2
    assert capsys.readouterr() == ("", SWITCHED_OFF)
    assert server.ledger.requests == ()
    assert {each: each.stat().st_mtime_ns for each in tmp_path.rglob("*")} == before


def test_standard_input_is_not_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = io.BytesIO(many(3))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(given))
    assert run(["send", "-"]) == 2
    assert capsys.readouterr() == ("", SWITCHED_OFF)
    assert given.tell() == 0


def test_the_doctor_reports_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor"]) == 1
    assert "PROBLEM with the client: The client is disabled" in capsys.readouterr().out


def test_a_switch_with_another_value_is_one_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CLOCKNEXT_DISABLED", "maybe")
    assert run(["demo"]) == 2
    out, errors = capsys.readouterr()
    assert out == ""
    assert errors.startswith("Error: CLOCKNEXT_DISABLED: must be ")
    assert errors.count("\n") == 1
