"""The addresses of a host: which is tried when, and what a silent one costs."""

import asyncio
import errno
import selectors
import socket
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from itertools import pairwise
from math import inf
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from clocknext_core import Answer, Failure, Response
from clocknext_transports.asyncio import NativeTransport as AsyncioTransport
from clocknext_transports.http11.race import ATTEMPT_DELAY, Address, Race
from clocknext_transports.sync import NativeTransport
from clocknext_transports.sync import transport as sync_transport
from clocknext_transports.sync.clock import Clock
from clocknext_transports.trio import NativeTransport as TrioTransport
from tests.transports.support import (
    KINDS,
    NATIVE,
    Kind,
    Native,
    Peer,
    carrier,
    keep_answering,
    request,
)

SIX, FOUR = socket.AF_INET6, socket.AF_INET


def address(family: int, host: str, port: int = 1) -> Address:
    return (family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))


def error_number(race: Race) -> int | None:
    return None if race.error is None else race.error.errno


# The race


def test_the_next_address_is_tried_after_a_delay_or_at_once_after_a_failure() -> None:
    addresses = [address(FOUR, name) for name in "abc"]
    race = Race(addresses, now=10.0)
    assert race.next(now=10.0) == addresses[0]
    assert race.next(now=10.0) is None
    assert race.wake_at == 10.0 + ATTEMPT_DELAY
    assert race.next(now=10.2) is None
    assert race.next(now=10.25) == addresses[1]
    assert race.next(now=10.25) is None
    race.handle_failure(ConnectionRefusedError(errno.ECONNREFUSED, "refused"))
    assert race.error is None
    assert race.next(now=10.26) == addresses[2]
    assert race.wake_at == inf
    race.handle_failure(OSError(errno.EHOSTUNREACH, "no route"))
    assert race.error is None
    race.handle_failure(OSError(errno.EAFNOSUPPORT, "no such family"))
    # A family that the kernel lacks says less than a host's answer.
    assert error_number(race) == errno.EHOSTUNREACH


def test_the_error_of_a_host_that_only_has_addresses_the_kernel_does_not_know() -> None:
    race = Race([address(SIX, "a")], now=0.0)
    assert race.next(now=0.0) is not None
    race.handle_failure(OSError(errno.EAFNOSUPPORT, "no such family"))
    assert error_number(race) == errno.EAFNOSUPPORT


def test_a_host_without_addresses() -> None:
    race = Race([], now=0.0)
    assert race.next(now=0.0) is None
    assert "has no address" in str(race.error)


@given(st.lists(st.sampled_from([SIX, FOUR])))
def test_every_address_is_tried_once_and_families_take_turns(families: list[int]) -> None:
    addresses = [address(family, str(number)) for number, family in enumerate(families)]
    race = Race(addresses, now=0.0)
    tried: list[Address] = []
    while (one := race.next(now=0.0)) is not None:
        tried.append(one)
        race.handle_failure(OSError("no"))
    assert sorted(tried) == sorted(addresses)
    assert tried[:1] == addresses[:1]
    for family in (SIX, FOUR):
        assert [one for one in tried if one[0] == family] == [one for one in addresses if one[0] == family]
    both = min(families.count(SIX), families.count(FOUR))
    turns = tried[: 2 * both]
    assert all(one[0] != other[0] for one, other in pairwise(turns))


# A first address that is silent


@contextmanager
def silent() -> Generator[tuple[str, int], None, None]:
    """Give an address that never answers an attempt to connect: its queue is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening:
        fillers = [socket.socket() for _ in range(4)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(listening.getsockname())
            yield listening.getsockname()
        finally:
            for filler in fillers:
                filler.close()


def moment(timeout: float | None) -> float:
    """Seconds to wait in earnest before time passes: for an answer, before the deadline, as long as it takes.

    A connection over loopback is there at once or never.
    """
    return 0.02 if timeout is not None and timeout < 1.0 else 3.0


class JumpingClock(Clock):
    """Time that passes only where a selector would wait for longer than connecting takes."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time


class PatientLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes only where no socket has become ready for a moment."""

    def __init__(self) -> None:
        self.virtual_now = 0.0
        super().__init__(PatientSelector(self))

    def time(self) -> float:
        return self.virtual_now


class PatientSelector(selectors.DefaultSelector):
    def __init__(self, loop: PatientLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0 if timeout == 0 else moment(timeout))
        if not ready and timeout is not None:
            self._loop.virtual_now += timeout
        return ready


@contextmanager
def jumping(clock: JumpingClock, monkeypatch: pytest.MonkeyPatch) -> Generator[None, None, None]:
    class Jumping(selectors.DefaultSelector):
        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            ready = super().select(moment(timeout))
            if not ready and timeout is not None:
                clock.time += timeout
            return ready

    with monkeypatch.context() as patched:
        patched.setattr(selectors, "DefaultSelector", Jumping)
        yield


def exchange_in_virtual_time(
    kind: Native, url: str, addresses: list[Address], monkeypatch: pytest.MonkeyPatch
) -> tuple[Answer, float]:
    """Carry a request to a name with these addresses; return the answer and the seconds it took."""

    def look_up(host: object, port: object, *rest: int, **more: int) -> list[Address]:
        if more.get("flags", rest[3] if len(rest) > 3 else 0) & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "no number")
        return addresses

    wanted = request(url)
    if kind == "sync":
        clock = JumpingClock()
        transport = NativeTransport(clock=clock)
        with monkeypatch.context() as patched, jumping(clock, monkeypatch):
            patched.setattr(socket, "getaddrinfo", look_up)
            answer = transport.exchange(wanted, deadline_at=clock.time + 10.0)
        transport.close()
        return answer, clock.time - 1000.0
    if kind == "asyncio":

        async def over_asyncio() -> tuple[Answer, float]:
            transport = AsyncioTransport()
            began = loop.time()
            outcome = await transport.exchange(wanted, deadline_at=began + 10.0)
            elapsed = loop.time() - began
            await transport.aclose()
            return outcome, elapsed

        loop = PatientLoop()

        async def look_up_there(*arguments: Any, **options: Any) -> list[Address]:
            return addresses

        with monkeypatch.context() as patched:
            patched.setattr(socket, "getaddrinfo", look_up)
            patched.setattr(loop, "getaddrinfo", look_up_there)
            try:
                return loop.run_until_complete(over_asyncio())
            finally:
                loop.close()

    class Resolver(trio.abc.HostnameResolver):
        async def getaddrinfo(self, *_: Any, **__: Any) -> Any:
            return addresses

        async def getnameinfo(self, *_: Any, **__: Any) -> Any:
            raise NotImplementedError

    async def over_trio() -> tuple[Answer, float]:
        trio.socket.set_custom_hostname_resolver(Resolver())
        transport = TrioTransport()
        began = trio.current_time()
        outcome = await transport.exchange(wanted, deadline_at=began + 10.0)
        elapsed = trio.current_time() - began
        await transport.aclose()
        return outcome, elapsed

    return trio.run(over_trio, clock=trio.testing.MockClock(autojump_threshold=1.0))


each_native = pytest.mark.parametrize("kind", NATIVE)


@each_native
@pytest.mark.parametrize("silent_ones", [1, 2])
def test_a_silent_first_address_costs_less_than_a_third_of_a_second(
    kind: Native, silent_ones: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with silent() as nowhere, Peer(keep_answering()) as peer:
        addresses = [address(FOUR, *nowhere)] * silent_ones + [address(FOUR, "127.0.0.1", peer.port)]
        outcome, elapsed = exchange_in_virtual_time(
            kind, f"http://two.test:{peer.port}", addresses, monkeypatch
        )
    assert isinstance(outcome, Response)
    assert ATTEMPT_DELAY * silent_ones <= elapsed + 0.001 <= 0.3 * silent_ones + 0.001


@each_native
def test_addresses_that_are_all_silent_cost_the_deadline(
    kind: Native, monkeypatch: pytest.MonkeyPatch
) -> None:
    with silent() as nowhere:
        addresses = [address(FOUR, *nowhere)] * 3
        outcome, elapsed = exchange_in_virtual_time(kind, "http://two.test:9", addresses, monkeypatch)
    assert isinstance(outcome, Failure)
    assert outcome.processed is False
    assert "Timed out connecting" in outcome.message
    assert 10.0 <= elapsed < 10.1


# A family that the kernel does not have


@each_native
def test_a_kernel_without_ipv6_uses_the_other_addresses(
    kind: Native, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.socket

    class NoSix(socket.socket):
        def __init__(self, family: int = -1, *arguments: Any, **options: Any) -> None:
            if family == SIX:
                raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
            super().__init__(family, *arguments, **options)

    with Peer(keep_answering()) as peer, monkeypatch.context() as patched:
        addresses = [
            (*address(SIX, "::1")[:4], ("::1", peer.port, 0, 0)),
            address(FOUR, "127.0.0.1", peer.port),
        ]
        if kind == "trio":
            patched.setattr("trio._socket._stdlib_socket.socket", NoSix)
        else:
            patched.setattr(socket, "socket", NoSix)
        outcome, _ = exchange_in_virtual_time(kind, f"http://two.test:{peer.port}", addresses, monkeypatch)
        patched.setattr(socket, "socket", real)
    assert isinstance(outcome, Response)


# Large numbers of seconds


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("timeout", [1e10, float(sys.maxsize), 1e300])
def test_a_deadline_may_be_any_time_ahead(kind: Kind, timeout: float) -> None:
    with Peer(keep_answering()) as peer, carrier(kind) as carry:
        outcomes = [carry(request(peer.url), timeout=timeout) for _ in range(2)]
    assert all(isinstance(outcome, Response) for outcome in outcomes)


def test_a_socket_that_connects_is_ended_when_the_transport_is_closed() -> None:
    with silent() as (host, port):
        transport = NativeTransport()
        outcomes: list[Answer] = []
        began = threading.Event()

        class Started(Race):
            def next(self, *, now: float) -> Address | None:
                began.set()
                return super().next(now=now)

        def carry() -> None:
            outcomes.append(
                transport.exchange(request(f"http://{host}:{port}"), deadline_at=Clock().now() + 20.0)
            )

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(sync_transport, "Race", Started)
            thread = threading.Thread(target=carry)
            thread.start()
            assert began.wait(5.0)
            while thread.is_alive():
                transport.close()
                thread.join(0.01)
    (outcome,) = outcomes
    assert isinstance(outcome, Failure)
    assert not transport.is_open
