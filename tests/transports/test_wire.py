"""Every transport against a raw peer on loopback that does what peers do at their worst."""

import asyncio
import gzip
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace

import pytest

from clocknext_core import Answer, ClockNextError, Config, Failure, Response
from clocknext_core.envelope import open_answer
from clocknext_transports.asyncio import NativeTransport as AsyncioTransport
from tests.transports.support import (
    JSON,
    KEY,
    KINDS,
    NATIVE,
    SOON,
    Kind,
    Native,
    Peer,
    Script,
    Wire,
    answer,
    answer_and_hold,
    answer_once,
    carrier,
    closed_port,
    keep_answering,
    request,
)

SHORT = 0.5
"""A deadline that is to come."""


each_kind = pytest.mark.parametrize("kind", KINDS)
each_native = pytest.mark.parametrize("kind", NATIVE)


def failed(outcome: Answer) -> Failure:
    assert isinstance(outcome, Failure)
    assert KEY not in outcome.message
    assert outcome.message.isprintable()
    return outcome


def responded(outcome: Answer) -> Response:
    assert isinstance(outcome, Response), outcome
    return outcome


def opened(outcome: Answer) -> object:
    """What the core makes of an answer to a signal."""
    return open_answer(outcome, request=request("http://127.0.0.1:1"), config=Config(KEY))


# What is sent


@each_native
def test_a_body_that_does_not_go_out_at_once_arrives_whole(kind: Native) -> None:
    body = b"0123456789abcdef" * 2**19  # more than a socket holds
    with Peer(keep_answering()) as peer, carrier(kind) as carry:
        responded(carry(request(peer.url, body=body)))
    (seen,) = peer.requests
    assert seen.body == body


@each_kind
def test_sends_the_request_as_it_is_given(kind: Kind) -> None:
    with Peer(keep_answering()) as peer, carrier(kind) as carry:
        reply = responded(carry(request(peer.url, body=b'{"a": "\xc3\xa9"}')))
    assert (reply.status, reply.body) == (200, JSON)
    (seen,) = peer.requests
    assert seen.line == "POST /api/v1/usage HTTP/1.1"
    assert seen.body == b'{"a": "\xc3\xa9"}'
    headers = {name: value for name, value in seen.headers.items() if name != "connection"}
    user_agent = headers.pop("user-agent")
    assert user_agent.startswith("clocknext-sdk-python/")
    assert headers == {
        "host": f"127.0.0.1:{peer.port}",
        "authorization": f"Bearer {KEY}",
        "accept": "application/json",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "content-length": "11",
    }


@each_kind
def test_a_request_without_a_body_has_no_content_type(kind: Kind) -> None:
    methods = ["GET", "DELETE", "POST", "PUT", "PATCH"]
    with Peer(keep_answering()) as peer, carrier(kind) as carry:
        for method in methods:
            responded(carry(request(peer.url, method=method, body=None)))
    assert [seen.line.split()[0] for seen in peer.requests] == methods
    for seen in peer.requests:
        assert "content-type" not in seen.headers
        assert "transfer-encoding" not in seen.headers
    assert [seen.headers.get("content-length") for seen in peer.requests] == [None, None, "0", "0", "0"]


TARGETS = [
    "/api/v1/customers/a%20b%2Fc",
    "/api/v1/customers/!~*'()",
    "/api/v1/customers/%40%3A%3B%5B%5D%7C%22",
    "/api/v1/customers/caf%C3%A9%25",
    "/api/v1/customers?q=a+b%27%28%29*%7E%26%23&limit=0&cursor=%2B%2F%3D%3D",
]


@each_kind
def test_the_target_reaches_the_peer_unchanged(kind: Kind) -> None:
    with Peer(keep_answering()) as peer, carrier(kind) as carry:
        for target in TARGETS:
            responded(carry(request(peer.url, method="GET", target=target, body=None)))
    assert [seen.target for seen in peer.requests] == TARGETS


@each_kind
def test_a_path_prefix_of_the_base_url_is_kept(kind: Kind) -> None:
    with Peer(keep_answering()) as peer, carrier(kind) as carry:
        responded(carry(request(f"{peer.url}/billing/eu/")))
    assert [seen.target for seen in peer.requests] == ["/billing/eu/api/v1/usage"]


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on loopback")
@each_kind
def test_an_ipv6_address_is_connected_to(kind: Kind) -> None:
    with Peer(keep_answering(), host="::1") as peer, carrier(kind) as carry:
        assert "[::1]" in peer.url
        responded(carry(request(peer.url)))
    assert [seen.headers["host"] for seen in peer.requests] == [f"[::1]:{peer.port}"]


@each_kind
def test_the_next_address_of_a_name_is_tried(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    with Peer(keep_answering()) as peer, carrier(kind) as carry:
        real = socket.getaddrinfo

        def two_addresses(host: object, port: object, *rest: int, **more: int) -> list[object]:
            if host not in ("two.test", b"two.test"):
                return list(real(host, port, *rest, **more))  # type: ignore[arg-type]
            if more.get("flags", rest[3] if len(rest) > 3 else 0) & socket.AI_NUMERICHOST:
                raise socket.gaierror(socket.EAI_NONAME, "no number")
            entry = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
            return [(*entry, (address, peer.port)) for address in ("127.0.0.9", "127.0.0.1")]

        monkeypatch.setattr(socket, "getaddrinfo", two_addresses)
        responded(carry(request(f"http://two.test:{peer.port}")))
    assert [seen.headers["host"] for seen in peer.requests] == [f"two.test:{peer.port}"]


@pytest.mark.parametrize("target", [".evil.test/x", ":8443/x", "@evil.test/x", "x", ""])
@each_kind
def test_a_target_that_would_lead_to_another_host_is_not_sent(kind: Kind, target: str) -> None:
    with Peer(keep_answering()) as peer, carrier(kind) as carry, pytest.raises(ValueError, match="request"):
        carry(replace(request(peer.url), target=target))
    assert peer.connections <= 1
    assert not peer.requests


# No connection


@each_kind
def test_a_refused_connection_is_certainly_not_processed(kind: Kind) -> None:
    with closed_port() as url, carrier(kind) as carry:
        assert failed(carry(request(url))).processed is False


@each_kind
def test_a_name_that_is_not_found_is_certainly_not_processed(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_found(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with carrier(kind) as carry:
        monkeypatch.setattr(socket, "getaddrinfo", not_found)
        assert failed(carry(request("https://nowhere.invalid"))).processed is False


@each_kind
def test_a_look_up_that_hangs_is_within_the_deadline(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    done = threading.Event()

    def hang(host: object, *rest: int, **more: int) -> None:
        if not more.get("flags", rest[4] if len(rest) > 4 else 0) & socket.AI_NUMERICHOST:
            done.wait(SOON)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with carrier(kind) as carry:
        monkeypatch.setattr(socket, "getaddrinfo", hang)
        began = time.monotonic()
        outcome = failed(carry(request("http://slow.invalid"), timeout=SHORT))
        elapsed = time.monotonic() - began
        done.set()
    assert outcome.processed is False
    assert elapsed < SOON - 1


@each_kind
def test_a_peer_that_never_accepts_is_within_the_deadline(kind: Kind) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening:
        fillers = [socket.socket() for _ in range(4)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(listening.getsockname())
            with carrier(kind) as carry:
                outcome = failed(
                    carry(request(f"http://127.0.0.1:{listening.getsockname()[1]}"), timeout=SHORT)
                )
        finally:
            for filler in fillers:
                filler.close()
    assert outcome.processed is False


# Broken and endless answers


def reset_mid_request(wire: Wire) -> None:
    wire.sock.recv(10)
    wire.reset()


def reset_mid_answer(wire: Wire) -> None:
    wire.read()
    wire.send(answer()[:-3])
    wire.reset()


def close_at_once(wire: Wire) -> None:
    wire.read()


def silent(wire: Wire) -> None:
    wire.read()
    wire.wait_for_end()


def drip_head(wire: Wire) -> None:
    wire.read()
    wire.drip(answer(JSON, f"X-Pad: {'x' * 2000}"))


def drip_body(wire: Wire) -> None:
    wire.read()
    wire.send(answer(b" " * 2000)[:-2000])
    wire.drip(b" " * 2000)


def drip_interim(wire: Wire) -> None:
    wire.read()
    for _ in range(1500):
        wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        wire.peer.stopped.wait(0.02)


def endless_body(wire: Wire) -> None:
    wire.read()
    wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        wire.send(b"1000\r\n" + b" " * 0x1000 + b"\r\n")


def endless_head(wire: Wire) -> None:
    wire.read()
    wire.send(b"HTTP/1.1 200 OK\r\n")
    while True:
        wire.send(b"X-Pad: " + b"x" * 1000 + b"\r\n")


def endless_header(wire: Wire) -> None:
    wire.read()
    wire.send(b"HTTP/1.1 200 OK\r\nX-Pad: ")
    while True:
        wire.send(b"x" * 1000)


BROKEN: dict[str, Script] = {
    "reset mid-request": reset_mid_request,
    "reset mid-answer": reset_mid_answer,
    "closed without an answer": close_at_once,
    "truncated by length": answer_once(answer()[:-1]),
    "truncated chunk": answer_once(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}"),
    "truncated head": answer_once(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "endless body": endless_body,
    "endless head": endless_head,
    "endless header": endless_header,
    "huge by length": answer_and_hold(answer(b" " * 2_000_000)),
    "gzip": answer_and_hold(answer(gzip.compress(JSON), "Content-Encoding: gzip")),
    "unknown encoding": answer_and_hold(answer(JSON, "Content-Encoding: br")),
    "not HTTP": answer_and_hold(b"220 mail.example ESMTP\r\n\r\n"),
    "HTTP/2 preface": answer_once(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "TLS alert": answer_once(b"\x15\x03\x01\x00\x02\x02\x46"),
    "NUL in a header": answer_once(answer(JSON, "X-Bad: a\0b")),
    "two lengths": answer_once(answer(JSON, "Content-Length: 3")),
    "switching protocols": answer_and_hold(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"),
}


@each_kind
@pytest.mark.parametrize("what", BROKEN)
def test_no_complete_answer_is_a_failure(kind: Kind, what: str) -> None:
    with Peer(BROKEN[what]) as peer, carrier(kind) as carry:
        began = time.monotonic()
        outcome = failed(carry(request(peer.url)))
        assert time.monotonic() - began < SOON
        assert outcome.processed  # nobody can tell
        assert peer.wait_ended(1)  # the connection was closed, not kept
    assert peer.connections == 1
    assert len(peer.requests) == (what != "reset mid-request")


@each_kind
def test_one_deadline_covers_the_whole_answer(kind: Kind) -> None:
    scripts = (silent, drip_head, drip_body, drip_interim)
    with ExitStack() as stack:
        peers = [stack.enter_context(Peer(script)) for script in scripts]
        carry = stack.enter_context(carrier(kind))
        pool = stack.enter_context(ThreadPoolExecutor(len(scripts)))

        def one(peer: Peer) -> None:
            began = time.monotonic()
            outcome = failed(carry(request(peer.url), timeout=SHORT))
            assert SHORT - 0.05 <= time.monotonic() - began < SOON
            assert outcome.processed
            assert "imed out" in outcome.message
            assert peer.wait_ended(1)  # the connection was closed, not kept
            assert (peer.connections, len(peer.requests)) == (1, 1)

        for ended in [pool.submit(one, peer) for peer in peers]:
            ended.result()


@each_kind
def test_the_deadline_covers_the_request(kind: Kind) -> None:
    def never_read(wire: Wire) -> None:
        wire.peer.stopped.wait(SOON)

    with Peer(never_read) as peer, carrier(kind) as carry:
        began = time.monotonic()
        failed(carry(request(peer.url, body=b" " * 20_000_000), timeout=SHORT))
        assert time.monotonic() - began < SOON - 1


@each_kind
def test_a_deadline_in_the_past_is_a_time_out(kind: Kind) -> None:
    with Peer(keep_answering()) as peer, carrier(kind) as carry:
        assert "imed out" in failed(carry(request(peer.url), timeout=-1.0)).message
    assert not peer.requests


# Answers that are complete, and what the core makes of them


REDIRECTS = ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"]


@each_kind
def test_a_redirect_is_not_followed(kind: Kind) -> None:
    with Peer(keep_answering()) as elsewhere, carrier(kind) as carry:
        for status in REDIRECTS:
            moved = answer(b"", f"Location: {elsewhere.url}/api/v1/usage", status=status)
            with Peer(keep_answering(moved)) as peer:
                error = opened(carry(request(peer.url)))
                assert isinstance(error, ClockNextError)
                assert (error.status, error.retryable) == (int(status[:3]), False)
                assert len(peer.requests) == 1
    assert elsewhere.connections == 0


NOT_THE_API = [b"<html>Welcome to the hotel</html>", b"", b"[1]", b'{"ok": tru', b"\xff\xfe"]


@each_kind
def test_a_200_that_is_not_the_api_is_no_delivery(kind: Kind) -> None:
    with carrier(kind) as carry:
        for body in NOT_THE_API:
            with Peer(keep_answering(answer(body))) as peer:
                error = opened(carry(request(peer.url)))
                assert isinstance(error, ClockNextError)
                assert (error.status, error.retryable) == (200, True)


COMPLETE: dict[str, bytes] = {
    "chunked": answer(b'3\r\n{"o\r\n9\r\nk": true}\r\n0\r\n\r\n', "Transfer-Encoding: chunked", framed=False),
    "until close": answer(framed=False),
    "HTTP/1.0": answer(version="1.0"),
    "after interim answers": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    + answer(),
    "identity": answer(JSON, "Content-Encoding: identity"),
}


@each_kind
@pytest.mark.parametrize("what", COMPLETE)
def test_a_complete_answer_is_taken_however_it_is_framed(kind: Kind, what: str) -> None:
    with Peer(answer_once(COMPLETE[what])) as peer, carrier(kind) as carry:
        reply = responded(carry(request(peer.url)))
    assert (reply.status, reply.body) == (200, JSON)


@each_kind
def test_a_204_has_no_body(kind: Kind) -> None:
    with (
        Peer(keep_answering(answer(framed=False, body=b"", status="204 No Content"))) as peer,
        carrier(kind) as carry,
    ):
        assert [responded(carry(request(peer.url))).status for _ in range(2)] == [204, 204]


@each_kind
def test_an_answer_as_long_as_the_limit_is_taken(kind: Kind) -> None:
    with (
        Peer(keep_answering(answer(b"x" * 1000))) as peer,
        carrier(kind, max_answer_bytes=1000) as carry,
        carrier(kind, max_answer_bytes=999) as carry_less,
    ):
        assert len(responded(carry(request(peer.url))).body) == 1000
        assert "999" in failed(carry_less(request(peer.url))).message


@each_kind
def test_an_early_answer_to_a_large_request_is_read(kind: Kind) -> None:
    def refuse_early(wire: Wire) -> None:
        wire.sock.recv(1000)
        wire.send(answer(b'{"ok": false, "error": "too large"}', status="413 Too Large"))
        wire.wait_for_end()

    with Peer(refuse_early) as peer, carrier(kind) as carry:
        assert responded(carry(request(peer.url, body=b" " * 60_000))).status == 413


# Keeping connections


@each_native
def test_sequential_requests_share_one_connection(kind: Native) -> None:
    with Peer(keep_answering()) as peer, carrier(kind) as carry:
        for _ in range(10):
            responded(carry(request(peer.url)))
    assert (peer.connections, len(peer.requests)) == (1, 10)


@each_kind
@pytest.mark.parametrize(
    "last",
    [
        answer(JSON, "Connection: close"),
        answer(JSON, version="1.0"),
        answer(framed=False),
        answer() + b"surplus",
        answer() + answer(b'{"ok": true, "poisoned": true}'),
    ],
    ids=["close", "HTTP/1.0", "until close", "surplus", "second answer"],
)
def test_a_connection_that_is_over_is_not_reused(kind: Kind, last: bytes) -> None:
    def script(wire: Wire) -> None:
        wire.read()
        wire.send(last)
        if b"Content-Length" in last:
            wire.wait_for_end()

    with Peer(script) as peer, carrier(kind) as carry:
        for _ in range(3):
            assert responded(carry(request(peer.url))).body == JSON
    assert [seen.connection for seen in peer.requests] == [1, 2, 3]


@each_native
def test_a_request_that_is_not_replay_safe_gets_a_fresh_connection(kind: Native) -> None:
    with Peer(keep_answering()) as peer, carrier(kind) as carry:
        for safe in (True, False, True):
            responded(carry(request(peer.url, safe=safe)))
    assert peer.requests[1].connection == 2
    assert peer.connections == 2


@each_kind
@pytest.mark.parametrize(
    "unasked",
    [
        b"",
        answer(b'{"ok": false}', status="408 Request Timeout"),
        answer(b'{"ok": true, "poisoned": true}'),
        b"\r\n",
    ],
    ids=["end", "408", "200", "line"],
)
def test_what_comes_on_an_idle_connection_retires_it(kind: Kind, unasked: bytes) -> None:
    answered, sent = threading.Event(), threading.Event()

    def script(wire: Wire) -> None:
        wire.read()
        wire.send(answer())
        if wire.number == 1:
            assert answered.wait(SOON)
            if unasked:
                wire.send(unasked)
            else:
                wire.close()
            sent.set()
        wire.wait_for_end()

    with Peer(script) as peer, carrier(kind) as carry:
        responded(carry(request(peer.url)))
        answered.set()
        assert sent.wait(SOON)
        assert responded(carry(request(peer.url))).body == JSON
    assert [seen.connection for seen in peer.requests] == [1, 2]


@each_native
@pytest.mark.parametrize("end", [Wire.close, Wire.reset])
def test_a_stale_connection_gets_one_fresh_retry(kind: Native, end: Callable[[Wire], None]) -> None:
    def script(wire: Wire) -> None:
        wire.read()
        wire.send(answer())
        wire.read()
        end(wire)

    with Peer(script) as peer, carrier(kind) as carry:
        for _ in range(2):
            responded(carry(request(peer.url)))
    assert [seen.connection for seen in peer.requests] == [1, 1, 2]


@each_native
def test_the_fresh_retry_is_the_last(kind: Native) -> None:
    def script(wire: Wire) -> None:
        wire.read()
        if wire.number == 1:
            wire.send(answer())
            wire.read()

    with Peer(script) as peer, carrier(kind) as carry:
        responded(carry(request(peer.url)))
        failed(carry(request(peer.url)))
    assert [seen.connection for seen in peer.requests] == [1, 1, 2]


@each_native
@pytest.mark.parametrize("begun", [b"H", b"HTTP/1.1 200 OK\r\n", answer()[:-1]])
def test_no_retry_after_the_first_byte(kind: Native, begun: bytes) -> None:
    def script(wire: Wire) -> None:
        wire.read()
        wire.send(answer())
        wire.read()
        wire.send(begun)

    with Peer(script) as peer, carrier(kind) as carry:
        responded(carry(request(peer.url)))
        failed(carry(request(peer.url)))
    assert [seen.connection for seen in peer.requests] == [1, 1]


@each_native
def test_the_retry_is_within_the_same_deadline(kind: Native) -> None:
    def script(wire: Wire) -> None:
        wire.read()
        if wire.number == 1:
            wire.send(answer())
            wire.read()
            wire.peer.stopped.wait(SHORT / 2)
        else:
            wire.wait_for_end()

    with Peer(script) as peer, carrier(kind) as carry:
        responded(carry(request(peer.url)))
        began = time.monotonic()
        failed(carry(request(peer.url), timeout=SHORT))
        assert time.monotonic() - began < SOON


@dataclass
class Together:
    """A barrier that opens when all requests of a burst are there."""

    count: int

    def __post_init__(self) -> None:
        self.barrier = threading.Barrier(self.count, timeout=SOON)
        self.is_burst = True

    def __call__(self, wire: Wire) -> None:
        while True:
            wire.read()
            if self.is_burst:
                self.barrier.wait()
            wire.send(answer())


@each_native
def test_the_pool_keeps_no_more_than_its_limit(kind: Native) -> None:
    together = Together(6)
    with Peer(together) as peer, carrier(kind, max_idle=2) as carry, ThreadPoolExecutor(6) as pool:
        for outcome in pool.map(carry, [request(peer.url)] * 6):
            responded(outcome)
        assert peer.connections == 6
        assert peer.wait_ended(4)  # the other two are idle
        together.is_burst = False
        for _ in range(4):
            responded(carry(request(peer.url)))
        assert (peer.connections, peer.ended) == (6, 4)


@each_native
def test_closing_closes_idle_connections(kind: Native) -> None:
    together = Together(3)
    with Peer(together) as peer:
        with carrier(kind) as carry, ThreadPoolExecutor(3) as pool:
            for outcome in pool.map(carry, [request(peer.url)] * 3):
                responded(outcome)
            assert peer.ended == 0
        assert peer.wait_ended(3)


# A busy event loop


def test_an_exchange_leaves_no_timer_in_asyncios_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    timers: list[asyncio.TimerHandle] = []
    call_at = asyncio.BaseEventLoop.call_at

    def note(loop: asyncio.BaseEventLoop, when: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
        timers.append(call_at(loop, when, callback))
        return timers[-1]

    async def main(url: str) -> None:
        transport = AsyncioTransport()
        deadline_at = asyncio.get_running_loop().time() + SOON
        monkeypatch.setattr(asyncio.BaseEventLoop, "call_at", note)
        for _ in range(2):
            responded(await transport.exchange(request(url), deadline_at=deadline_at))
        monkeypatch.undo()
        await transport.aclose()

    with Peer(keep_answering(answer()[:20], answer()[20:])) as peer:
        asyncio.run(main(peer.url))
    assert timers
    assert all(timer.cancelled() for timer in timers)


def test_what_came_while_asyncio_was_busy_retires_the_connection() -> None:
    poisoned = answer(b'{"ok": true, "poisoned": true}')
    answered, sent = threading.Event(), threading.Event()

    def script(wire: Wire) -> None:
        wire.read()
        wire.send(answer())
        assert answered.wait(SOON)
        wire.send(poisoned)
        sent.set()
        wire.wait_for_end()

    async def main(url: str) -> list[bytes]:
        transport = AsyncioTransport()
        bodies: list[bytes] = []
        for _ in range(2):
            outcome = await transport.exchange(
                request(url), deadline_at=asyncio.get_running_loop().time() + SOON
            )
            bodies.append(responded(outcome).body)
            answered.set()
            assert sent.wait(SOON)  # the loop gets no chance to read
        await transport.aclose()
        return bodies

    with Peer(script) as peer:
        assert asyncio.run(main(peer.url)) == [JSON, JSON]
    assert [seen.connection for seen in peer.requests] == [1, 2]
