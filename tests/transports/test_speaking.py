"""What a program reads on stderr that configures no logging, and that configured logging gets it once.

The programs are processes of their own: in this one, pytest configures logging.
"""

import logging
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from clocknext_transports import ClockNext
from clocknext_transports.client.events_log import MOST
from clocknext_transports.emulator import emulator, scripted
from tests.contract.answers import refused
from tests.transports.support import KEY, NATIVE, PATIENCE, Native

NOWHERE = "http://127.0.0.1:9"
PROGRAM = """
import asyncio, logging, sys, trio
from clocknext_core import BatchPolicy
from clocknext_transports import AsyncClockNext, ClockNext, TrioClockNext
from clocknext_transports.process import exit as process_exit

kind, url, api_key, count, how = sys.argv[1:]
settings = dict(base_url=url, close_timeout=600.0, batch=BatchPolicy(max_concurrency=1))
spoken = dict(customer_id="cus_secret", model="gpt-4o", key="api_credit", member="alice@acme.example",
    custom={"note": "confidential"})
if "/" in how:
    settings |= dict(spool=how, close_timeout=0.2)
if how == "interrupted":
    process_exit.EXIT_TIMEOUT = 600.0
if how == "configured":
    logging.basicConfig(format="%(levelname)s %(name)s %(message)s")

def recorded():
    print("recorded", flush=True)
    if how == "raise":
        raise LookupError("a failure of the program")

def blocking():
    with ClockNext(api_key, **settings) as cnk:
        for number in range(int(count)):
            cnk.signals.credit(**spoken, idempotency_key=f"key-{number}")
        recorded()

async def waiting(client):
    async with client(api_key, **settings) as cnk:
        for number in range(int(count)):
            await cnk.signals.credit(**spoken, idempotency_key=f"key-{number}")
        recorded()

if kind == "sync":
    blocking()
elif kind == "asyncio":
    asyncio.run(waiting(AsyncClockNext))
else:
    trio.run(waiting, TrioClockNext)
"""
SECRET = ("cus_secret", "alice@acme.example", "confidential", "cnk_")

each_kind = pytest.mark.parametrize("kind", NATIVE)


def start(
    kind: Native, url: str, *, api_key: str = KEY, count: int = 1, how: str = ""
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, kind, url, api_key, str(count), how],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def told_by(process: subprocess.Popen[str], *, ends_by: str = "") -> list[str]:
    """Wait for the end, and return what was said of ClockNext; nothing personal may be in it."""
    try:
        _, errors = process.communicate(timeout=3 * PATIENCE)
    finally:
        process.kill()
    assert not [secret for secret in SECRET if secret in errors]
    assert ends_by in errors
    return [line for line in errors.splitlines() if "ClockNext" in line or "signals" in line]


@each_kind
@pytest.mark.parametrize(
    ("api_key", "facts"),
    [
        (None, ["NotFoundError", "status 404", "POST /api/v1/usage", "Check the customer's id"]),
        ("cnk_typo", ["AuthError", "status 401", "API_KEY_REJECTED", "Check api_key"]),
    ],
)
def test_a_typo_is_one_warning(kind: Native, api_key: str | None, facts: Sequence[str]) -> None:
    with emulator() as server:
        process = start(kind, server.url, api_key=api_key or server.api_key)
        (line,) = told_by(process)
    assert process.returncode == 0
    assert line.startswith("ClockNext rejected signal 'key-0', which is not billed")
    assert all(fact in line for fact in facts), line


@each_kind
def test_a_wrong_address_names_the_address(kind: Native) -> None:
    with emulator() as server:
        first, *lines = told_by(start(kind, f"{server.url}/v2", how="raise"))
    assert first.startswith("ClockNext signal 'key-0' stays held: the answer was not the API's")
    assert f"{server.url}/v2/api/v1/usage: check base_url" in first
    # Python 3.13 shows the program's last line in the traceback, after it.
    assert [
        line for line in lines if line.startswith("ClockNext signal 'key-0' was dropped and is not billed")
    ]


@each_kind
def test_a_block_says_why_it_waits_and_ctrl_c_ends_the_wait(kind: Native) -> None:
    process = start(kind, NOWHERE, how="interrupted")
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "recorded\n"
    # The block would wait for ten minutes, and so would the exit: what comes is said while it waits.
    first = process.stderr.readline()
    assert first.startswith(
        "ClockNext attempt 1 failed (NetworkError, Could not connect to http://127.0.0.1:9"
    )
    assert "POST /api/v1/usage" in first
    assert "Check base_url" in first
    assert process.stderr.readline().startswith("ClockNext does not work, or can't be reached")
    process.send_signal(signal.SIGINT)
    lines = told_by(process, ends_by="KeyboardInterrupt")  # in a minute: the exit doesn't take up the wait
    assert process.returncode == -signal.SIGINT
    assert "ClockNext signal 'key-0' was dropped and is not billed (closed)" in "\n".join(lines)
    assert lines[-1] == "ClockNext signals not delivered before the interpreter's exit: 1."


@each_kind
def test_a_block_that_an_exception_ends_waits_for_seconds_and_names_what_is_left(kind: Native) -> None:
    process = start(kind, NOWHERE, how="raise", count=2)
    lines = told_by(process)  # with 600 s of close_timeout, this would not end
    assert process.returncode == 1
    dropped = [line for line in lines if "was dropped" in line]
    assert [line.split("'")[1] for line in dropped] == ["key-0", "key-1"]


@each_kind
def test_what_stays_in_the_spool_is_counted(kind: Native, tmp_path: Path) -> None:
    lines = told_by(start(kind, NOWHERE, how=str(tmp_path / "spool"), count=3))
    assert lines[-1].startswith("ClockNext signals not delivered before the client was closed: 3. They stay")


@each_kind
def test_many_refusals_are_few_lines_and_a_count(kind: Native) -> None:
    with scripted([refused(422, "alice@acme.example is poor.")]) as server:
        lines = told_by(start(kind, server.url, count=300))
    assert len(lines) == MOST + 1
    assert all("PlanError, status 422" in line for line in lines[:-1])
    assert lines[-1].startswith(
        f"ClockNext log records of rejected PlanError that were left out: {300 - MOST}."
    )


@each_kind
def test_configured_logging_gets_each_record_once(kind: Native) -> None:
    with emulator() as server:
        (line,) = told_by(start(kind, server.url, how="configured", api_key=server.api_key))
    assert line.startswith("WARNING clocknext ClockNext rejected signal 'key-0'")


def test_caplog_gets_each_record_once(caplog: pytest.LogCaptureFixture) -> None:
    with emulator() as server, ClockNext(server.api_key, base_url=server.url) as cnk:
        cnk.signals.wallet(customer_id="cus_nobody", model="gpt-4o")
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [(record.name, vars(record)["event_name"]) for record in warnings] == [("clocknext", "rejected")]
