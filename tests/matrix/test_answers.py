"""Rows of answers: refusals, and answers that are none, never end, are too much, or point elsewhere."""

import gzip
import time
from collections import Counter

import pytest

from clocknext_core import BatchPolicy, ClockNextError, Response, RetryPolicy
from clocknext_transports.emulator import (
    EXPIRED_API_KEY,
    Fault,
    Faults,
    Hold,
    Ledger,
    OnHold,
    Received,
    Reply,
    emulator,
    scripted,
)
from clocknext_transports.http11 import MAX_ANSWER_BYTES
from tests.contract.answers import Answer, by_key, held, in_turn, key_of, priced, record, record_all, refused
from tests.contract.worlds import KEY, World
from tests.matrix.support import (
    AT_ONCE,
    KEYS,
    PERSISTENT,
    Billing,
    attempts_by_key,
    bodies_at,
    check_billed_once,
    deliver,
)
from tests.transports.support import JSON, SOON, Peer, answer, answer_and_hold, answer_once
from tests.transports.test_wire import (
    NOT_THE_API,
    REDIRECTS,
    drip_body,
    drip_head,
    drip_interim,
    endless_body,
    endless_head,
    endless_header,
    silent,
)

ALL_AT_ONCE = BatchPolicy(max_size=len(KEYS), max_concurrency=len(KEYS))
SHORT = 0.25
"""A time-out that is to come, seconds."""
NEVER = 3600.0
"""A time-out that is not to come, seconds."""


async def test_row_07_poison_signal(world: World) -> None:
    """What the server will never take is reported once and not sent again; the others flow."""
    faults = Faults()
    poison = {"k0": 400, "k2": 413, "k4": 422}
    faults.script(*[Fault("status", status=poison[key]) if key in poison else None for key in KEYS])
    batch = BatchPolicy(max_size=1000, max_interval=NEVER, max_concurrency=1)
    with emulator(faults=faults) as server:
        async with world.open(server.url, batch=batch) as client:
            await record_all(client, KEYS)
            report = await client.flush()
            assert (report.delivered, report.pending) == (3, 0)
            assert {each.signal.idempotency_key: each.error.status for each in report.failed} == poison
        attempts = attempts_by_key([each.raw_body for each in server.ledger.requests])
        check_billed_once(server.ledger, [key for key in KEYS if key not in poison])
    assert faults.counts["status"] == len(poison)
    assert attempts == Counter(KEYS)
    assert world.hooks.seen == [
        ("on_error", "ValidationError", "k0"),
        ("on_drop", "send_failed", "k0"),
        ("on_error", "ClockNextError", "k2"),
        ("on_drop", "send_failed", "k2"),
        ("on_error", "PlanError", "k4"),
        ("on_drop", "send_failed", "k4"),
        ("on_flush", 3, None),
    ]


@pytest.mark.parametrize("status", [401, 403])
async def test_row_08_key_refused(world: World, status: int) -> None:
    """A key that is not let in is reported at once, for each signal once; with a good key all are billed."""
    faults = Faults()
    if status == 403:
        faults.script(Fault("status", status=403), times=len(KEYS))
    with emulator(faults=faults) as server:
        key = EXPIRED_API_KEY if status == 401 else server.api_key
        async with world.open(server.url, api_key=key, batch=AT_ONCE) as client:
            await record_all(client, KEYS)
            report = await client.flush()
            assert (report.delivered, report.pending) == (0, 0)
            assert [each.error.status for each in report.failed] == [status] * len(KEYS)
        assert [request.status for request in server.ledger.requests] == [status] * len(KEYS)
        assert len(world.hooks.of("on_error")) == len(KEYS)
        assert Counter(key for _, _, key in world.hooks.of("on_drop")) == Counter(KEYS)
        assert world.hooks.of("on_retry") == []
        async with world.open(server.url, batch=AT_ONCE) as client:
            await deliver(client)
        check_billed_once(server.ledger)


class Slow:
    """Answer 409 to a repeat of what is still being processed.

    The first request for a key gets no answer in time. The second is told that the first is in flight, which
    then ends. From then on the key has a result.
    """

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.conflicts = 0
        self._first: dict[str, Received] = {}
        self._is_done: set[str] = set()
        self._never = Hold()

    def __call__(self, request: Received) -> Reply | OnHold:
        key = key_of(request)
        if key not in self._first:
            self._first[key] = request
            return held(self._never)
        if key not in self._is_done:
            self._is_done.add(key)
            self.ledger.handle(self._first[key], now=time.time())
            self.conflicts += 1
            return refused(409, "A request with this idempotency key is being processed.")
        return Reply(self.ledger.handle(request, now=time.time()))


async def test_row_09_409_while_the_first_is_in_flight(world: World) -> None:
    """The repeat of an attempt that timed out meets it at the server: it goes again, unchanged, until 200."""
    slow = Slow()
    with scripted([slow]) as server:
        async with world.open(server.url, batch=ALL_AT_ONCE, retry=PERSISTENT, timeout=SHORT) as client:
            await deliver(client)
        attempts = attempts_by_key([request.body for request in server.requests])
    assert set(attempts) == set(KEYS)
    assert min(attempts.values()) >= 3
    assert slow.conflicts == len(KEYS)
    assert slow.ledger.counters.repeats >= len(KEYS)
    check_billed_once(slow.ledger)
    assert world.hooks.of("on_error", "on_drop") == []


async def test_row_10_2xx_that_is_no_answer_of_the_api(world: World) -> None:
    """A web page, nothing, an array, half an object, under any 2xx: not a delivery."""
    broken = [
        *[answer(body) for body in NOT_THE_API],
        answer(JSON)[:-2],
        answer(NOT_THE_API[0], "Content-Type: text/html", status="202 Accepted"),
        answer(b"", status="201 Created"),
    ]
    billing = Billing(*[answer_once(each) for each in broken])
    with Peer(billing) as peer:
        async with world.open(peer.url, batch=AT_ONCE, retry=PERSISTENT) as client:
            await deliver(client)
        assert attempts_by_key(bodies_at(peer)).total() == len(broken) + len(KEYS)
    check_billed_once(billing.ledger)
    assert len(world.hooks.of("on_retry")) == len(broken)
    assert world.hooks.of("on_error", "on_drop") == []


PAGES = {
    "302": Reply(Response(302, (("location", "https://elsewhere.example/login"),), b"")),
    "401 text": Reply(Response(401, (), b"Unauthorized")),
    "403 HTML": Reply(Response(403, (("content-type", "text/html"),), b"<html>Request blocked</html>")),
    "404 text": Reply(Response(404, (), b"default backend - 404")),
    "404 of the router": refused(404, result={"errorReason": "NOT_FOUND"}),
    "405 of a framework": Reply(
        Response(405, (), b'{"statusCode": 405, "error": "Method Not Allowed", "message": "POST"}')
    ),
    "407": Reply(Response(407, (), b"")),
    "413 HTML": Reply(Response(413, (("content-type", "text/html"),), b"<html>Too large</html>")),
    "414": Reply(Response(414, (), b"")),
    "431": Reply(Response(431, (), b"")),
    "500 HTML": Reply(Response(500, (("content-type", "text/html"),), b"<html>Oops</html>")),
}
"""Answers of routers, proxies and firewalls; `tests/core/test_whose_word.py` has every status and body."""


async def test_row_29_answers_of_routers_and_proxies(world: World) -> None:
    """Each signal meets one, and is told of once; it stays held, and is billed once the API answers."""
    answers: dict[str, Answer] = {}
    with scripted([by_key(answers)]) as server:
        answers |= {key: in_turn(page, page, priced()) for key, page in PAGES.items()}
        async with world.open(server.url, batch=AT_ONCE, retry=PERSISTENT) as client:
            await record_all(client, list(PAGES))
            report = await client.flush()
            assert (report.delivered, list(report.failed), report.pending) == (len(PAGES), [], 0)
        assert Counter(map(key_of, server.requests)) == dict.fromkeys(PAGES, 3)
        assert len({request.body for request in server.requests}) == len(PAGES)
    assert Counter(key for _, _, key in world.hooks.of("on_error")) == dict.fromkeys(PAGES, 1)
    assert Counter(key for _, _, key in world.hooks.of("on_retry")) == dict.fromkeys(PAGES, 2)
    assert world.hooks.of("on_drop") == []


@pytest.mark.parametrize("page", PAGES)
async def test_row_29_an_awaited_call_raises_at_once_and_names_the_address(world: World, page: str) -> None:
    with scripted([PAGES[page]]) as server:
        async with world.open(server.url, retry=RetryPolicy(max_attempts=1)) as client:
            with pytest.raises(ClockNextError) as caught:
                await record(client, "a", wait=True)
        assert len(server.requests) == 1
        assert caught.value.status == PAGES[page].response.status  # type: ignore[union-attr]
        assert f"{server.url}/api/v1/usage" in str(caught.value.hint)
    assert world.hooks.of("on_error", "on_drop") == []


async def test_row_11_slow_drip_that_never_ends(world: World) -> None:
    """Bytes keep coming, and the one deadline comes all the same; nobody else waits for that."""
    dripping = (drip_head, drip_body, drip_interim, silent)
    billing = Billing(*dripping)
    with Peer(billing) as peer:
        began_at = time.monotonic()
        async with world.open(peer.url, batch=ALL_AT_ONCE, retry=PERSISTENT, timeout=SHORT) as client:
            await deliver(client)
        assert SHORT <= time.monotonic() - began_at < SOON
        assert peer.wait_ended(len(dripping))  # the client closed them: by themselves they go on for ever
        assert attempts_by_key(bodies_at(peer)).total() >= len(dripping) + len(KEYS)
    check_billed_once(billing.ledger)
    assert len(world.hooks.of("on_retry")) >= len(dripping)
    assert world.hooks.of("on_error", "on_drop") == []


async def test_row_12_huge_answer_and_gzip_bomb(world: World) -> None:
    """What is too much is cut off at the cap and never unpacked, long before the deadline."""
    bomb = gzip.compress(JSON.ljust(16 * MAX_ANSWER_BYTES))
    assert len(bomb) * 900 < 16 * MAX_ANSWER_BYTES
    too_much = [
        endless_body,
        endless_head,
        endless_header,
        answer_and_hold(answer(JSON.ljust(MAX_ANSWER_BYTES + 1))),
        answer_and_hold(answer(bomb, "Content-Encoding: gzip")),
    ]
    billing = Billing(*too_much)
    with Peer(billing) as peer:
        async with world.open(peer.url, batch=AT_ONCE, retry=PERSISTENT, timeout=NEVER) as client:
            await deliver(client)
        assert peer.wait_ended(len(too_much))  # the client closed them
        assert attempts_by_key(bodies_at(peer)).total() == len(too_much) + len(KEYS)
    check_billed_once(billing.ledger)
    assert len(world.hooks.of("on_retry")) == len(too_much)
    assert world.hooks.of("on_error", "on_drop") == []


async def test_row_13_redirect_to_another_host(world: World) -> None:
    """A redirect is not followed: the other host sees no connection, so no key. The caller hears of it.

    It is no word of the API about the signal, which is sent again, to the same address.
    """
    elsewhere_bills = Billing()
    with Peer(elsewhere_bills) as elsewhere:
        moved = [
            answer(b"", f"Location: {elsewhere.url}/api/v1/usage", status=status) for status in REDIRECTS
        ]
        billing = Billing(*[answer_once(each) for each in moved])
        batch = BatchPolicy(max_size=1000, max_interval=NEVER, max_concurrency=1)
        with Peer(billing) as peer:
            async with world.open(peer.url, batch=batch) as client:
                await record_all(client, KEYS)
                report = await client.flush()
                assert (report.delivered, list(report.failed), report.pending) == (len(KEYS), [], 0)
            assert attempts_by_key(bodies_at(peer)).total() == len(KEYS) + len(moved)
            assert {seen.headers["authorization"] for seen in peer.requests} == {f"Bearer {KEY}"}
        assert elsewhere.connections == 0
    check_billed_once(billing.ledger)
    told = [key for _, _, key in world.hooks.of("on_error")]
    assert told[0] == KEYS[0]
    assert len(told) == len(set(told)) <= len(moved)
    assert len(world.hooks.of("on_retry")) == len(moved)
    assert world.hooks.of("on_drop") == []
