import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clocknext_transports.cli.group import run
from clocknext_transports.emulator import EmulatorServer, emulator
from clocknext_transports.spool import Stored
from tests.cli.support import KEY, clocknext, connected, ledger_of, started, until, wire
from tests.spool.support import HOUR, opened, quarantined

UNREACHABLE = "http://127.0.0.1:9"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def server() -> Iterator[EmulatorServer]:
    with emulator() as running:
        yield running


def sendable(key: str, *, age: float = 0.0, **changes: object) -> Stored:
    body = json.dumps(wire(idempotencyKey=key, **changes), separators=(",", ":")).encode()
    return Stored(key, body, time.time() - age)


def leave(path: Path, *signals: Stored) -> None:
    spool = opened(path, now=time.time())
    spool.append(signals)
    spool.close()


def billed(server: EmulatorServer) -> Counter[str | None]:
    return Counter(one.idempotency_key for one in server.ledger.signals)


class Command:
    """`clocknext spool`, run in this process: a process for each would take longer than all else."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(
        self, *arguments: str | Path, url: str = UNREACHABLE, key: str = KEY, status: int = 0
    ) -> tuple[str, str]:
        with self._monkeypatch.context() as patch:
            patch.setenv("CLOCKNEXT_BASE_URL", url)
            patch.setenv("CLOCKNEXT_API_KEY", key)
            ended = run(["spool", *map(str, arguments)])
        out, errors = self._capsys.readouterr()
        assert ended == status, errors
        return out, errors


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


# Looking


def test_list_tells_what_is_alive_and_what_was_left_behind(path: Path, said: Command) -> None:
    leave(path, sendable("left", age=2 * HOUR), sendable("too"))
    live = opened(path, now=time.time())
    live.append([sendable("mine")])
    out, _ = said("list", path)
    found = [line.split() for line in out.splitlines()]
    assert found[0] == ["File", "Process", "State", "Signals", "Oldest"]
    assert sorted(" ".join(line[3:-1]) for line in found[1:]) == ["alive 1", "left behind 2"]
    listed = json.loads(said("list", path, "--json")[0])
    assert {(one["state"], one["signals"]) for one in listed["files"]} == {("alive", 1), ("left behind", 2)}
    assert (listed["quarantined"], listed["damaged"]) == (0, [])
    live.append([sendable("still mine: looking did not cost the lease")])
    assert opened(path, now=time.time()).adopt(10) != ()
    live.close()


def test_list_tells_of_damage_and_quarantine(path: Path, said: Command) -> None:
    leave(path, sendable("one"))
    spool = opened(path, now=time.time())
    spool.append([sendable("two")])
    spool.quarantine(["two"], "refused")
    spool.close()
    (file,) = path.glob("*.db")
    file.write_bytes(b"no database" * 1000)
    (path / "earlier.damaged").touch()
    out, _ = said("list", path)
    assert "  damaged  " in out
    assert "In quarantine: 1." in out
    assert "Set aside as damaged: earlier.damaged" in out
    _, errors = said("show", path)
    assert "can't be read" in errors


def test_show_prints_signals_as_json_lines(path: Path, said: Command) -> None:
    leave(path, sendable("one"), Stored("odd", b"\xffno json", time.time()))
    spool = opened(path, now=time.time())
    spool.append([sendable("two")])
    spool.quarantine(["two"], "refused")
    out, _ = said("show", path)
    assert [(one["idempotencyKey"], one["state"]) for one in lines(out)] == [
        ("one", "left behind"),
        ("odd", "left behind"),
        ("two", "quarantined"),
    ]
    assert [one["signal"] for one in lines(out)][:2] == [wire(idempotencyKey="one"), "\\xffno json"]
    (only,) = lines(said("show", path, "--key", "two")[0])
    assert (only["reason"], only["signal"]["idempotencyKey"]) == ("refused", "two")


def test_looking_changes_nothing(path: Path, said: Command) -> None:
    leave(path, sendable("one"))
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    said("list", path)
    said("show", path)
    said("quarantine", path)
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before


def test_a_path_that_is_no_spool_is_not_made_one(tmp_path: Path, said: Command) -> None:
    for command in ("list", "show", "replay", "quarantine"):
        _, errors = said(command, tmp_path / "none", status=2)
        assert "does not exist" in errors
    assert [*tmp_path.iterdir()] == []


# Replay


def test_replay_delivers_what_was_left_behind_byte_for_byte(
    path: Path, said: Command, server: EmulatorServer
) -> None:
    signals = [sendable(f"key-{number}", custom={"é": number}) for number in range(300)]
    leave(path, *signals)
    out, _ = said("replay", path, url=server.url)
    assert out == "300 delivered, 0 refused, 0 too old to be sent.\n"
    assert billed(server) == Counter(signal.idempotency_key for signal in signals)
    assert [*path.iterdir()] == []


def test_replay_leaves_live_processes_alone_and_bills_nothing_twice(
    path: Path, said: Command, server: EmulatorServer
) -> None:
    live = opened(path, now=time.time())
    live.append([sendable("mine")])
    for _ in range(2):
        leave(path, sendable("left"))
        assert said("replay", path, url=server.url)[0].startswith("1 delivered")
    assert billed(server) == Counter(["left"])
    live.close()


def test_replay_puts_what_is_refused_or_too_old_into_quarantine(
    path: Path, said: Command, server: EmulatorServer
) -> None:
    leave(path, sendable("bad", customerId="cus_unknown"), sendable("good"), sendable("old", age=25 * HOUR))
    out, errors = said("replay", path, url=server.url, status=1)
    assert out.splitlines()[0] == "1 delivered, 1 refused, 1 too old to be sent."
    assert "24 h" in errors
    assert billed(server) == Counter(["good"])
    assert {signal.idempotency_key for signal in quarantined(path)} == {"bad", "old"}
    reasons = {one["idempotencyKey"]: one["reason"] for one in lines(said("quarantine", path, "--json")[0])}
    assert reasons["bad"].startswith("NotFoundError 404")
    assert reasons["old"] == "older than the window"


def test_replay_can_release_the_quarantine_or_widen_the_window(
    path: Path, said: Command, server: EmulatorServer
) -> None:
    leave(path, sendable("old", age=25 * HOUR), sendable("older", age=40 * HOUR))
    assert said("replay", path, "--window", "30", url=server.url, status=1)[0].startswith("1 delivered")
    assert said("replay", path, "--quarantined", url=server.url)[0].startswith("1 delivered")
    assert billed(server) == Counter(["old", "older"])
    assert quarantined(path) == []


def test_replay_stops_when_the_service_is_down_and_loses_nothing(
    path: Path, said: Command, server: EmulatorServer
) -> None:
    leave(path, *(sendable(f"key-{number}") for number in range(20)))
    out, errors = said("replay", path, "--max-attempts", "1", url=UNREACHABLE, status=2)
    assert out.startswith("0 delivered")
    assert "run the same command again" in errors
    assert said("replay", path, url=server.url)[0].startswith("20 delivered")


def test_replay_stops_at_a_key_that_is_not_accepted(
    path: Path, said: Command, server: EmulatorServer
) -> None:
    leave(path, sendable("one"))
    out, errors = said("replay", path, url=server.url, key="cnk_wrong", status=2)
    assert "AuthError 401" in errors
    assert "cnk_wrong" not in out + errors
    assert said("replay", path, url=server.url)[0].startswith("1 delivered")


def test_the_key_is_in_no_file_of_a_spool(path: Path, said: Command, server: EmulatorServer) -> None:
    leave(path, sendable("one", customerId="cus_unknown"), sendable("two"))
    said("replay", path, url=server.url, status=1)
    leave(path, sendable("three"))
    for file in path.iterdir():
        assert KEY.encode() not in file.read_bytes()


def test_replay_without_a_key_says_so(path: Path, said: Command) -> None:
    leave(path, sendable("one"))
    _, errors = said("replay", path, key="", status=2)
    assert "CLOCKNEXT_API_KEY" in errors


def test_a_killed_replay_is_finished_by_the_next(path: Path, said: Command) -> None:
    count = 100
    leave(path, *(sendable(f"key-{number}") for number in range(count)))
    with emulator() as server:
        with started("spool", "replay", path, env=connected(server.url)) as process:
            until(lambda: len(ledger_of(server.url)["signals"]) > 3)
            process.kill()
            process.communicate(timeout=60)
        done = clocknext("spool", "replay", path, env=connected(server.url))
        assert done.returncode == 0, done.stderr
        assert set(billed(server).values()) == {1}
        assert len(billed(server)) == count


# Quarantine


def test_what_is_in_quarantine_can_be_released_or_deleted(
    path: Path, said: Command, server: EmulatorServer
) -> None:
    leave(path, *(sendable(f"key-{number}", age=30 * HOUR) for number in range(4)))
    said("replay", path, url=server.url, status=1)
    out, _ = said("quarantine", path)
    assert [line.split()[0] for line in out.splitlines()] == ["Key", "key-0", "key-1", "key-2", "key-3"]
    assert said("quarantine", path, "--release", "--key", "key-0", "--key", "key-2")[0] == "2 released.\n"
    assert said("quarantine", path, "--delete", "--key", "key-1")[0] == "1 deleted.\n"
    assert {one.idempotency_key for one in quarantined(path)} == {"key-3"}
    said("replay", path, url=server.url)
    assert billed(server) == Counter(["key-0", "key-2"])
    assert said("quarantine", path, "--delete", "--all")[0] == "1 deleted.\n"
    assert quarantined(path) == []


@pytest.mark.parametrize(
    "options",
    [("--release",), ("--delete",), ("--release", "--delete", "--all"), ("--delete", "--all", "--key", "k")],
)
def test_what_to_decide_on_must_be_said(path: Path, said: Command, options: tuple[str, ...]) -> None:
    leave(path, sendable("one"))
    said("quarantine", path, *options, status=2)
