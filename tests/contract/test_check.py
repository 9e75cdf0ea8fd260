"""`check`: one request, and what is wrong with key, address and clock."""

import json
import time
from email.utils import formatdate

import pytest

from clocknext_core import ClockNextError
from clocknext_transports.emulator import EXPIRED_API_KEY, Fault, emulator, scripted
from tests.contract.worlds import World


async def test_nothing_is_wrong(world: World) -> None:
    with emulator() as server:
        async with world.open(server.url) as client:
            report = await client.check()
        assert report.ok
        assert (report.organisation, report.environment) == ("Emulated organisation", "sandbox")
        assert report.clock_offset is not None
        assert abs(report.clock_offset) < 30
        assert server.ledger.counters.requests == 1


async def test_a_key_that_is_refused(world: World) -> None:
    with emulator() as server:
        async with world.open(server.url, api_key=EXPIRED_API_KEY) as client:
            report = await client.check()
    (problem,) = report.problems
    assert (problem.subject, problem.what) == ("key", "This API key has expired.")
    assert "CLOCKNEXT_API_KEY" in problem.remedy
    assert EXPIRED_API_KEY not in str(report)


async def test_nobody_listens(world: World) -> None:
    async with world.open("http://127.0.0.1:1") as client:
        report = await client.check()
    (problem,) = report.problems
    assert problem.subject == "address"
    assert "http://127.0.0.1:1" in problem.what


async def test_it_is_sent_once(world: World) -> None:
    with emulator() as server:
        server.faults.script(Fault("status", status=503), times=3)
        async with world.open(server.url) as client:
            report = await client.check()
        assert [problem.subject for problem in report.problems] == ["service"]
        assert server.ledger.counters.requests == 1


async def test_a_clock_that_is_wrong(world: World) -> None:
    body = json.dumps({"ok": True, "organization": {"name": "Acme"}, "environment": "live"}).encode()
    with scripted([(200, {"Date": formatdate(time.time() + 7200, usegmt=True)}, body)]) as server:
        async with world.open(server.url) as client:
            report = await client.check()
    assert (report.organisation, report.environment) == ("Acme", "live")
    (problem,) = report.problems
    assert problem.subject == "clock"
    assert "behind the service's" in problem.what


async def test_a_closed_client_says_so(world: World) -> None:
    async with world.open("http://127.0.0.1:1") as client:
        await client.close()
        with pytest.raises(ClockNextError, match=r"^The client is closed: make another one\.$"):
            await client.check()
