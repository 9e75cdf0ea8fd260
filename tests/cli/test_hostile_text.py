"""What reaches a terminal: nothing from a server, an input file or a file's name that acts on it."""

import json
import os
import pty
import re
import select
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from clocknext_core.text import printable
from clocknext_transports.emulator import Received, scripted
from tests.cli.support import COMMAND, KEY, connected, encoded, wire
from tests.spool.support import opened, several

EVIL = "\x1b]0;owned\x07\x1b[31mred\x9b2J\u202eturned\u2066\r\nFake line\b\x00\u2028"
"""Sets a terminal's title, clears it, turns the reading direction, begins a line of its own."""
SHOWN = printable(EVIL)
JSON = {"content-type": "application/json"}


def on_terminal(*arguments: str | Path, env: dict[str, str], cwd: Path) -> str:
    """Run a command on a terminal that knows no colours, and return all that it printed there."""
    ours, theirs = pty.openpty()
    try:
        with subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            env=env | {"TERM": "dumb", "NO_COLOR": "1", "COLUMNS": "120"},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
        ) as process:
            os.close(theirs)
            printed = b""
            give_up_at = time.monotonic() + 60.0
            while time.monotonic() < give_up_at:
                if not select.select([ours], [], [], 5.0)[0]:
                    continue
                try:
                    printed += os.read(ours, 65536)
                except OSError:  # EIO: the process has ended
                    break
            process.wait(60.0)
            return printed.decode()
    finally:
        os.close(ours)


def hostile(received: Received) -> tuple[int, dict[str, str], bytes]:
    """Answer with text that acts on a terminal, wherever there is text."""
    if "refuse" in received.body.decode():
        document: dict[str, Any] = {
            "statusDetail": {"status": "ERROR", "message": EVIL},
            "result": {"errorReason": EVIL, "issues": [{"field": EVIL, "message": EVIL}]},
        }
        return 422, JSON, json.dumps(document).encode()
    log = {"id": EVIL, "model": EVIL, "type": EVIL, "customerCost": 1.5, "status": EVIL, "createdAt": EVIL}
    document = {
        "ok": True,
        EVIL: EVIL,
        "organization": {"name": EVIL, EVIL: EVIL},
        "environment": EVIL,
        "models": [{"modelId": EVIL, "inputPrice": EVIL, "isActive": True}],
        "customers": [{"id": EVIL, "name": EVIL, "email": EVIL, "createdAt": EVIL}],
        "customer": {"id": EVIL, "name": EVIL, "email": EVIL, EVIL: [EVIL]},
        "wallet": {"balance": EVIL},
        "credits": [{"creditId": EVIL, "creditName": EVIL, "remaining": EVIL}],
        "totals": {EVIL: EVIL},
        "logs": [log],
        "usageLog": log,
        "dryRun": True,
    }
    return 200, JSON, json.dumps(document).encode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    lines = [
        wire(),
        wire(model="refuse"),
        wire(customerId=EVIL),
        {EVIL: 1},
        wire(type=EVIL),
        wire(metric={"ref": EVIL, EVIL: 1}),
    ]
    answers = [
        json.dumps({"id": EVIL, "model": EVIL, "usage": {"prompt_tokens": EVIL, EVIL: 1}}),
        EVIL,
        '{"a": ',
    ]
    (tmp_path / "response.json").write_text(answers[0])
    (tmp_path / "responses.jsonl").write_text("\n".join(answers))
    (tmp_path / "broken.json").write_bytes(b'{"usage": "\xff\xfe\x9b2J' + EVIL.encode())
    (tmp_path / "usage.jsonl").write_bytes(encoded(lines) + b'{"customerId": "' + EVIL.encode() + b'"}\n')
    spool = opened(tmp_path / "spool")
    spool.append(several([EVIL.replace("\x00", ""), "good"]))
    spool.quarantine(["key-good"], EVIL)
    spool.close()
    (tmp_path / "spool" / (EVIL.replace("\0", "").replace("/", "") + ".db")).mkdir()
    (tmp_path / "spool" / "\x1b[31m.damaged").touch()
    return tmp_path


COMMANDS: list[tuple[str, ...]] = [
    ("whoami",),
    ("whoami", "--json"),
    ("models",),
    ("customers", "list"),
    ("customers", "list", "--limit", "1", "--json"),
    ("customers", "show", EVIL.replace("\0", "")),
    ("customers", "show", "refuse", "--json"),
    ("customers", "create", "--name", "refuse", "--email", "a@b.c"),
    ("balances", "cus_1"),
    ("usage", "cus_1"),
    ("verify", "usage.jsonl"),
    ("send", "usage.jsonl"),
    ("send", "usage.jsonl", "--refused", "\x1b[31mrefused"),
    ("send", "\x1b[31mnosuch\n.jsonl"),
    ("send", "usage.jsonl", "--refused", "\x1b[31m/nosuch"),
    ("spool", "list", "spool"),
    ("spool", "list", "spool", "--json"),
    ("spool", "show", "spool"),
    ("spool", "quarantine", "spool"),
    ("spool", "replay", "spool"),
    ("spool", "list", "\x1b[31mnosuch"),
    ("\x1b[31mnosuch",),
    ("whoami", "--\x1b[31mnosuch"),
    ("whoami", "--base-url", "https://\x1b[31m"),
    ("doctor",),
    ("doctor", "--json"),
    ("doctor", "--base-url", "https://\x1b[31m"),
    ("usage", "explain", "response.json"),
    ("usage", "explain", "response.json", "--json"),
    ("usage", "explain", "responses.jsonl"),
    ("usage", "explain", "responses.jsonl", "--json"),
    ("usage", "explain", "broken.json"),
    ("usage", "explain", "\x1b[31mnosuch\n.json"),
    ("outbox", "status", "postgresql://\x1b[31m@127.0.0.1:1/\x9b2J"),
    ("outbox", "status", "\x1b[31m"),
    ("outbox", "quarantine", "postgresql://127.0.0.1:1/\x1b]0;owned\x07"),
    ("outbox", "relay", "postgresql://127.0.0.1:1/\x1b]0;owned\x07"),
    ("outbox", "migrate", "--sql", "--writer", "\x1b[31mapp\u202e"),
]


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: printable(" ".join(arguments))[:40])
def test_no_command_prints_what_acts_on_a_terminal(arguments: tuple[str, ...], folder: Path) -> None:
    with scripted([hostile]) as server:
        printed = on_terminal(*arguments, env=connected(server.url), cwd=folder)
    assert printed
    # The terminal's line discipline makes each line end of ours a `\r\n`, and of another `\r\n` a `\r\r\n`.
    left = re.sub(r"\r\n|\t", "", printed)
    assert left.isprintable(), printable(left)
    for text in ("owned\x07", "\x1b]0", "\x1b[2J", "\n Fake line", "\nFake line"):
        assert text not in printed
    assert KEY not in printed


# The file of refused lines


def test_the_refused_file_is_made_anew_and_never_through_a_link(folder: Path) -> None:
    (folder / "precious").write_text("precious")
    refused = folder / "usage.jsonl.refused.jsonl"
    refused.symlink_to(folder / "precious")
    refused.with_name(refused.name + ".part").symlink_to(folder / "precious")
    with scripted([hostile]) as server:
        on_terminal("send", "usage.jsonl", env=connected(server.url), cwd=folder)
    assert (folder / "precious").read_text() == "precious"
    assert not refused.is_symlink()
    assert refused.stat().st_mode & 0o777 == 0o600
    assert len(refused.read_text().splitlines()) >= 4
    assert not refused.with_name(refused.name + ".part").exists()


def test_a_run_that_is_stopped_keeps_the_earlier_refused_file(folder: Path) -> None:
    refused = folder / "usage.jsonl.refused.jsonl"
    refused.write_text("earlier\n")
    answers = iter([422])

    def then_locked(received: Received) -> tuple[int, dict[str, str], bytes]:
        return next(answers, 401), JSON, b'{"ok": false, "error": "no"}'

    with scripted([then_locked]) as server:
        printed = on_terminal(
            "send", "usage.jsonl", "--concurrency", "1", env=connected(server.url), cwd=folder
        )
    assert refused.read_text() == "earlier\n"
    part = refused.with_name(refused.name + ".part")
    assert len(part.read_text().splitlines()) == 1
    assert part.stat().st_mode & 0o777 == 0o600
    assert "Stopped" in printed
    assert f"{part.name}" in printed.replace("\r\n", "")


def test_an_earlier_refused_file_goes_when_nothing_was_refused(folder: Path) -> None:
    refused = folder / "good.jsonl.refused.jsonl"
    refused.write_text("earlier\n")
    (folder / "good.jsonl").write_bytes(encoded([wire()]))
    with scripted([hostile]) as server:
        on_terminal("send", "good.jsonl", env=connected(server.url), cwd=folder)
    assert not refused.exists()
