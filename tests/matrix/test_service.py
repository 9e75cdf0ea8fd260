"""Rows of a service that is not there, or not now: what waits, waits its turn, and nothing is lost."""

import socket
import time
from collections.abc import Sequence
from itertools import count

import pytest

from clocknext_transports.emulator import Ledger, Received, Reply, emulator, scripted
from tests.contract.answers import record, record_all, refused
from tests.contract.worlds import QUICK, World
from tests.matrix.support import AT_ONCE, KEYS, attempts_by_key, check_billed_once, deliver
from tests.transports.support import SOON

PAUSE = 0.1
"""A server's Retry-After, seconds."""


NOBODY = "127.0.0.9"
"""An address of loopback at which nobody listens."""


class Names:
    """Where the name `localhost` leads.

    Args:
        monkeypatch: Puts it in the place of the system's look-up.
        address: The address it stands for; `None`: there is no such name.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, address: str | None) -> None:
        self.address = address
        self._real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self._look_up)

    def _look_up(self, host: object, port: object, *rest: int, **more: int) -> Sequence[object]:
        if host not in ("localhost", b"localhost"):
            return list(self._real(host, port, *rest, **more))  # type: ignore[arg-type]
        is_number = more.get("flags", rest[3] if len(rest) > 3 else 0) & socket.AI_NUMERICHOST
        if self.address is None or is_number:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (self.address, port))]


OUTAGE = 40
"""Failed attempts: more than all signals have together."""


@pytest.mark.parametrize("leads_to", [NOBODY, None], ids=["refused", "no such name"])
async def test_row_01_connection_refused_or_dns_fails(
    world: World, leads_to: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is there for longer than all attempts would last: all are held, until somebody is."""
    assert len(KEYS) * QUICK.max_attempts < OUTAGE
    names = Names(monkeypatch, leads_to)
    with emulator() as server:
        async with world.open(f"http://localhost:{server.port}", batch=AT_ONCE, retry=QUICK) as client:
            await record_all(client, KEYS)
            await world.hooked(lambda seen: len(seen) >= OUTAGE)
            assert client.pending == len(KEYS)
            assert server.connections == 0
            names.address = "127.0.0.1"
            report = await client.flush()
            assert (report.delivered, list(report.failed), report.pending) == (len(KEYS), [], 0)
        assert server.max_in_service <= AT_ONCE.most_concurrency
        assert {record.status for record in server.ledger.requests} == {200}
        check_billed_once(server.ledger)
    assert len(world.hooks.of("on_retry")) >= OUTAGE
    assert world.hooks.of("on_error", "on_drop") == []


DAY = 86_400.0


class Sick:
    """Answers with pauses first, then bills.

    Args:
        pauses: The headers of the first answers, one each, all under 503.
    """

    def __init__(self, *pauses: dict[str, str]) -> None:
        self.ledger = Ledger()
        self.arrived_at: list[float] = []
        self._pauses = list(pauses)

    def __call__(self, request: Received) -> Reply:
        self.arrived_at.append(time.monotonic())
        if self._pauses:
            return refused(503, "Not now.", self._pauses.pop(0))
        return Reply(self.ledger.handle(request, now=time.time()))


async def test_row_05_retry_after(world: World) -> None:
    """What can be understood of a pause holds everything back, rubbish nothing; after it comes a probe."""
    sick = Sick(
        {"retry-after": str(PAUSE)},
        {"retry-after-ms": str(PAUSE * 1000), "retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"},
        {"retry-after": "soon", "retry-after-ms": "-5"},
    )
    with scripted([sick]) as server:
        async with world.open(server.url, batch=AT_ONCE) as client:
            await record(client, KEYS[0])
            await world.hooked(bool)  # the first pause has begun
            await record_all(client, KEYS[1:])
            report = await client.flush()
            assert (report.delivered, list(report.failed), report.pending) == (len(KEYS), [], 0)
        attempts = attempts_by_key([request.body for request in server.requests])
        assert server.max_in_service <= AT_ONCE.most_concurrency
    first, second, third, *_ = sick.arrived_at
    assert second - first >= PAUSE
    assert third - second >= PAUSE
    assert attempts.total() == len(KEYS) + 3
    check_billed_once(sick.ledger)
    assert len(world.hooks.of("on_retry")) == 3
    assert world.hooks.of("on_error", "on_drop") == []


async def test_row_23_wall_clock_jumps(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wall clock goes a day on and back, whenever it is read: no driver waits for it."""
    real, days = time.time, count()
    monkeypatch.setattr(time, "time", lambda: real() + DAY * (next(days) % 3 - 1))
    sick = Sick({"retry-after-ms": str(PAUSE * 1000)})
    began_at = time.monotonic()
    with scripted([sick]) as server:
        async with world.open(server.url, batch=AT_ONCE) as client:
            await deliver(client)
    first, *_, last = sick.arrived_at
    assert last - first >= PAUSE
    assert time.monotonic() - began_at < SOON
    assert next(days) >= len(KEYS) + 1
    check_billed_once(sick.ledger)
    assert world.hooks.of("on_error", "on_drop") == []
