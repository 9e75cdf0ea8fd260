import http.client
import json
import signal as signals
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from random import Random
from typing import Any

import httpx
import pytest
import trio
import trustme

from clocknext_transports.emulator import (
    AcceptOnly,
    Catalogue,
    EmulatorServer,
    Fault,
    Faults,
    Ledger,
    emulator,
    model_server,
    scripted,
    serve,
)
from tests.emulator.support import EXAMPLE, KEY, exchange, raw_signal, read_to_end, signal

TIMEOUT = 10.0
USAGE = "/api/v1/usage"


@pytest.fixture
def server() -> Iterator[EmulatorServer]:
    with emulator(Ledger(EXAMPLE)) as running:
        yield running


@pytest.fixture
def connection(server: EmulatorServer) -> Iterator[http.client.HTTPConnection]:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT)) as opened:
        yield opened


@pytest.fixture
def wire(server: EmulatorServer) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT) as opened:
        yield opened


def test_a_connection_is_kept_for_many_requests(
    server: EmulatorServer, connection: http.client.HTTPConnection
) -> None:
    for number in range(3):
        status, body = exchange(connection, "POST", USAGE, signal(idempotencyKey=f"k{number}"))
        assert (status, json.loads(body)["result"]["usageLog"]["customerCost"]) == (200, 0.0209625)
    assert exchange(connection, "GET", "/api/v1/customers")[0] == 200
    assert [record.connection for record in server.ledger.requests] == [1, 1, 1, 1]
    assert (server.connections, server.max_in_service, server.in_service) == (1, 1, 0)
    assert len(server.ledger.signals) == 3


def test_httpx_can_use_it(server: EmulatorServer) -> None:
    headers = {"authorization": f"Bearer {server.api_key}"}
    with httpx.Client(base_url=server.url, headers=headers, trust_env=False) as client:
        created = client.post("/api/v1/customers", json={"name": "A", "email": "a@b.c"})
        assert created.status_code == 201
        assert client.delete(f"/api/v1/customers/{created.json()['customer']['id']}").json() == {"ok": True}


def test_the_key_is_in_no_repr(server: EmulatorServer) -> None:
    assert server.url in repr(server)
    assert server.api_key not in repr(server) + repr(server.ledger) + repr(server.faults)


def test_a_large_body_is_read_and_refused(connection: http.client.HTTPConnection) -> None:
    status, body = exchange(connection, "POST", USAGE, signal(custom={"x": "a" * 3_000_000}))
    assert (status, json.loads(body)["result"]["errorReason"]) == (413, "BODY_TOO_LARGE")
    assert exchange(connection, "GET", "/api/v1/me")[0] == 200


def test_a_client_may_wait_for_100_continue(wire: socket.socket) -> None:
    head, _, body = raw_signal().partition(b"\r\n\r\n")
    wire.sendall(head + b"\r\nexpect: 100-continue\r\n\r\n")
    assert wire.recv(65_536).startswith(b"HTTP/1.1 100 ")
    wire.sendall(body)
    assert wire.recv(65_536).startswith(b"HTTP/1.1 200 ")


def test_what_is_not_http_is_refused_and_closed(server: EmulatorServer, wire: socket.socket) -> None:
    wire.sendall(b"garbage\r\n\r\n")
    assert read_to_end(wire).startswith(b"HTTP/1.1 400 ")
    assert server.ledger.requests == ()


def test_a_client_that_asks_to_close_is_closed(wire: socket.socket) -> None:
    wire.sendall(raw_signal().replace(b"host: emulator", b"host: emulator\r\nconnection: close"))
    assert read_to_end(wire).startswith(b"HTTP/1.1 200 ")


def test_a_head_request_gets_no_body(wire: socket.socket) -> None:
    wire.sendall(b"HEAD / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    head, _, body = read_to_end(wire).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 404 ")
    assert body == b""


def test_requests_sent_ahead_are_answered_in_order(server: EmulatorServer, wire: socket.socket) -> None:
    server.faults.script(Fault("latency", seconds=0.01), times=2)
    wire.sendall(raw_signal(idempotencyKey="a") + raw_signal(idempotencyKey="b"))
    answers = b""
    while answers.count(b"}}}") < 2:
        part = wire.recv(65_536)
        assert part
        answers += part
    assert answers.count(b"HTTP/1.1 200 ") == 2
    assert [s.idempotency_key for s in server.ledger.signals] == ["a", "b"]


# Faults, as they look from the other end


def test_an_answer_lost_after_commit(server: EmulatorServer, wire: socket.socket) -> None:
    server.faults.script(Fault("lost"))
    wire.sendall(raw_signal())
    assert read_to_end(wire) == b""
    assert server.ledger.billed("idem-1") == 1


@pytest.mark.parametrize("commit", [False, True])
def test_a_reset(server: EmulatorServer, wire: socket.socket, commit: bool) -> None:
    server.faults.script(Fault("reset", commit=commit))
    wire.sendall(raw_signal())
    with pytest.raises(ConnectionResetError):
        read_to_end(wire)
    assert server.ledger.billed("idem-1") == int(commit)


def test_a_status_with_retry_after(server: EmulatorServer, connection: http.client.HTTPConnection) -> None:
    server.faults.script(Fault("status", status=429, retry_after="soon"))
    connection.request("POST", USAGE, json.dumps(signal()), {"authorization": KEY})
    response = connection.getresponse()
    assert (response.status, response.headers["retry-after"]) == (429, "soon")
    response.read()
    assert exchange(connection, "POST", USAGE, signal())[0] == 200
    assert server.connections == 1


def test_a_header_in_utf8(server: EmulatorServer, wire: socket.socket) -> None:
    server.faults.script(Fault("status", retry_after="\uff11"))
    wire.sendall(raw_signal())
    assert "retry-after: \uff11\r\n".encode() in wire.recv(65_536)


def test_a_truncated_answer(server: EmulatorServer, connection: http.client.HTTPConnection) -> None:
    server.faults.script(Fault("truncated"))
    with pytest.raises(http.client.IncompleteRead) as caught:
        exchange(connection, "POST", USAGE, signal())
    assert caught.value.expected is not None
    assert len(caught.value.partial) > 0
    assert caught.value.expected > 0


def test_surplus_bytes_are_a_second_answer(server: EmulatorServer, wire: socket.socket) -> None:
    server.faults.script(Fault("surplus"))
    wire.sendall(raw_signal())
    seen = b""
    while not seen.endswith(b'"result":{}}'):
        part = wire.recv(65_536)
        assert part
        seen += part
    assert seen.count(b"HTTP/1.1 200 ") == 2
    wire.sendall(raw_signal())
    assert wire.recv(65_536).startswith(b"HTTP/1.1 200 ")


def test_a_connection_that_goes_stale(server: EmulatorServer, wire: socket.socket) -> None:
    server.faults.script(Fault("stale"))
    wire.sendall(raw_signal())
    answer = read_to_end(wire)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" not in answer.lower()


def test_a_drip_is_slow_and_whole(server: EmulatorServer, wire: socket.socket) -> None:
    server.faults.script(Fault("drip", bytes_per_second=20_000))
    wire.sendall(raw_signal())
    parts = [wire.recv(65_536)]
    while b"}}}" not in b"".join(parts)[-3:]:
        parts.append(wire.recv(65_536))
    assert json.loads(b"".join(parts).partition(b"\r\n\r\n")[2])["statusCode"] == 200


def test_latency_holds_the_answer_back(
    server: EmulatorServer, connection: http.client.HTTPConnection
) -> None:
    server.faults.script(Fault("latency", seconds=0.05))
    assert exchange(connection, "POST", USAGE, signal())[0] == 200


def test_a_client_that_goes_away_ends_its_wait(server: EmulatorServer) -> None:
    server.faults.script(Fault("latency", seconds=3600))
    with socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT) as wire:
        wire.sendall(raw_signal())
        with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT)) as other:
            until(lambda: exchange(other, "GET", "/_emulator/ledger")[0] == 200 and server.in_service == 1)
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT)) as other:
        until(lambda: exchange(other, "GET", "/_emulator/ledger")[0] == 200 and server.in_service == 0)


def until(condition: Callable[[], bool]) -> None:
    """Ask again until it holds. Asking is a round trip to the server, so this does not spin."""
    for _ in range(1000):
        if condition():
            return
    pytest.fail("it never came to hold")


@pytest.mark.parametrize(
    "fault",
    [None, Fault("drip", bytes_per_second=1), Fault("latency", seconds=3600)],
    ids=["idle", "drip", "latency"],
)
def test_closing_does_not_wait_for_open_connections(fault: Fault | None) -> None:
    threads = set(threading.enumerate())
    with emulator(Ledger(EXAMPLE)) as server:
        server.faults.script(fault)
        wire = socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT)
        wire.sendall(raw_signal() if fault else raw_signal()[:20])
        with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT)) as other:
            until(lambda: exchange(other, "GET", "/_emulator/faults")[0] == 200 and server.connections == 2)
    with wire:
        read_to_end(wire)  # it ends: the server has closed it
    assert set(threading.enumerate()) == threads
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT)


def test_ten_in_a_hundred_lost_and_each_still_billed_once() -> None:
    faults = Faults(Random(1))
    faults.chance(0.1, Fault("lost"))
    faults.chance(0.1, Fault("status"))
    faults.chance(0.05, Fault("reset"))
    with emulator(Ledger(), faults) as server:

        def deliver(worker: int) -> None:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT)
            for number in range(100):
                body = signal(customerId="cus_123", model="gpt-4o", idempotencyKey=f"{worker}-{number}")
                status = 0
                while status != 200:
                    try:
                        status, _ = exchange(connection, "POST", USAGE, body)
                    except (http.client.HTTPException, ConnectionError):
                        connection.close()
            connection.close()

        workers = [threading.Thread(target=deliver, args=(n,)) for n in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert len(server.ledger.signals) == 400
        assert all(server.ledger.billed(f"{w}-{n}") == 1 for w in range(4) for n in range(100))
        assert min(server.faults.counts[kind] for kind in ("lost", "status", "reset")) > 0
        assert server.ledger.counters.repeats > 0


def test_tls() -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.tempfile() as certificate:
        context.load_cert_chain(certificate)
    trusting = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
    with emulator(Ledger(EXAMPLE), ssl_context=context) as server:
        assert server.url.startswith("https://127.0.0.1:")
        with closing(
            http.client.HTTPSConnection("127.0.0.1", server.port, timeout=TIMEOUT, context=trusting)
        ) as connection:
            assert exchange(connection, "POST", USAGE, signal())[0] == 200
            assert exchange(connection, "POST", USAGE, signal())[0] == 200
        stranger = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=TIMEOUT)
        with closing(stranger), pytest.raises(ssl.SSLCertVerificationError):
            exchange(stranger, "POST", USAGE, signal())
        server.faults.script(Fault("reset"))
        with (
            closing(
                http.client.HTTPSConnection("127.0.0.1", server.port, timeout=TIMEOUT, context=trusting)
            ) as connection,
            pytest.raises(ConnectionResetError),
        ):
            exchange(connection, "POST", USAGE, signal())
        assert server.ledger.bill().signals == 1


def test_ipv6() -> None:
    with emulator(host="::1") as server:
        assert server.url == f"http://[::1]:{server.port}"
        with closing(http.client.HTTPConnection("::1", server.port, timeout=TIMEOUT)) as connection:
            assert exchange(connection, "GET", "/api/v1/me")[0] == 200


def test_a_port_that_is_taken_is_reported_at_once(server: EmulatorServer) -> None:
    with pytest.raises(OSError, match="Address already in use"), emulator(port=server.port):
        pytest.fail("it started all the same")


def test_a_responder_that_raises_is_reported_on_leaving() -> None:
    def broken(prefix: str) -> str:
        raise LookupError(prefix)

    def use() -> None:
        with (
            emulator(Ledger(EXAMPLE, ids=broken)) as server,
            closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT)) as connection,
            suppress(ConnectionError),
        ):
            exchange(connection, "POST", USAGE, signal())
            pytest.fail("it was answered all the same")

    with pytest.raises(RuntimeError, match="failed to answer a request"):
        use()


def test_a_responder_that_raises_does_not_end_the_server() -> None:
    answers = iter([LookupError, None])

    def fickle(prefix: str) -> str:
        if error := next(answers):
            raise error(prefix)
        return prefix

    served = list[int]()

    def use() -> None:
        with emulator(Ledger(EXAMPLE, ids=fickle)) as server:
            for _ in range(2):
                with (
                    closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT)) as opened,
                    suppress(ConnectionError),
                ):
                    served.append(exchange(opened, "POST", USAGE, signal())[0])

    with pytest.raises(RuntimeError):
        use()
    assert served == [200]


def test_an_idle_connection_is_closed_when_the_announced_time_is_over() -> None:
    answer = (200, {"keep-alive": "timeout=0"}, b"{}")
    with (
        scripted([answer]) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT) as wire,
    ):
        wire.sendall(raw_signal())
        assert read_to_end(wire).endswith(b"{}")


def test_it_can_run_as_a_trio_task() -> None:
    async def main() -> int:
        async with trio.open_nursery() as nursery:
            server: EmulatorServer = await nursery.start(serve)
            async with httpx.AsyncClient(trust_env=False) as client:
                answer = await client.get(f"{server.url}/api/v1/me", headers={"authorization": KEY})
            nursery.cancel_scope.cancel()
        return answer.status_code

    assert trio.run(main) == 200


FOREGROUND = """
from clocknext_transports.emulator import run
run(port=0, on_listening=lambda server: print(server.url, flush=True))
print("ended")
"""


@pytest.mark.parametrize("number", [signals.SIGINT, signals.SIGTERM])
def test_it_runs_in_the_foreground_until_interrupted(number: signals.Signals) -> None:
    command = [sys.executable, "-W", "error", "-c", FOREGROUND]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        url = process.stdout.readline().strip()
        assert httpx.get(f"{url}/_emulator/faults", trust_env=False).status_code == 200
        process.send_signal(number)
        assert process.stdout.read() == "ended\n"
        assert process.stderr.read() == ""
    assert process.returncode == 0


LEFT_OPEN = """
import {keeper}
from clocknext_transports.emulator import {server}

context = {keeper}.context = {server}()
context.__enter__()
print("ended")
"""

LEFT_AT_EXIT = """
import atexit
from clocknext_transports.emulator import emulator

context = emulator()
server = context.__enter__()
atexit.register(lambda: print("ended"))
atexit.register(context.__exit__, None, None, None)
"""

ENDINGS = {
    "emulator": LEFT_OPEN.format(server="emulator", keeper="argparse"),
    "model_server": LEFT_OPEN.format(server="model_server", keeper="argparse"),
    "kept by a module that goes late": LEFT_OPEN.format(server="emulator", keeper="builtins"),
    "left at exit": LEFT_AT_EXIT,
}


@pytest.mark.parametrize("code", ENDINGS.values(), ids=ENDINGS)
def test_a_process_ends_though_it_has_not_left_the_block(code: str) -> None:
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=True)
    assert (done.stdout, done.stderr) == ("ended\n", "")


@pytest.mark.parametrize("port", ["8787", 80.0, True, None, -1, 65_536])
def test_a_port_that_is_none_is_a_mistake(port: Any) -> None:
    expected = r"The port must be an integer from 0 to 65535; not "
    with pytest.raises(ValueError, match=expected), emulator(port=port):
        pytest.fail("it started all the same")
    with pytest.raises(ValueError, match=expected), model_server(port=port):
        pytest.fail("it started all the same")


@pytest.mark.parametrize("wrong", [Catalogue(customers=()), {}, "cnk_secret"])
def test_what_is_no_ledger_is_a_mistake(wrong: Any) -> None:
    expected = r"^emulator\(\) takes a Ledger: emulator\(Ledger\(catalogue\)\); it got a [a-zC]+\.$"
    with pytest.raises(ValueError, match=expected), emulator(wrong):
        pytest.fail("it started all the same")


@pytest.mark.parametrize("wrong", [Fault("lost"), 7, ()])
def test_what_is_no_faults_is_a_mistake(wrong: Any) -> None:
    with (
        pytest.raises(ValueError, match=r"^The faults of an emulator must be a Faults; not "),
        emulator(faults=wrong),
    ):
        pytest.fail("it started all the same")


WITHOUT_TRIO = """
import sys
sys.modules["trio"] = None
from clocknext_transports.emulator import Ledger, Received, emulator
assert Ledger().handle(Received("GET", "/"), now=0.0).status == 404
try:
    with emulator():
        pass
except ImportError as error:
    print(error)
"""


def test_only_a_server_needs_trio() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT_TRIO], capture_output=True, text=True, check=True
    )
    assert done.stdout == "The emulator's server needs trio: pip install 'clocknext[cli]'\n"


def test_importing_it_does_not_import_trio() -> None:
    code = "import sys, clocknext_transports.emulator; print('trio' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("accept_only", [None, "thin", "thick"])
def test_what_comes_late_with_a_key_of_before_is_taken_and_not_in_the_ledger(
    server: EmulatorServer, connection: http.client.HTTPConnection, accept_only: AcceptOnly | None
) -> None:
    def send(api_key: str) -> int:
        headers = {"authorization": f"Bearer {api_key}"}
        return exchange(connection, "POST", USAGE, signal(), headers)[0]

    billed = 200 if accept_only is None else 202
    server.ledger.renew(EXAMPLE, accept_only=accept_only, further_key="cnk_first")
    assert [send(key) for key in ("cnk_first", server.api_key)] == [billed] * 2
    server.ledger.renew(EXAMPLE, accept_only=accept_only, further_key="cnk_second")
    server.faults.script(Fault("status"))
    assert send("cnk_first") == 202
    assert not server.ledger.requests
    assert not server.ledger.signals
    assert send("cnk_second") == 503
    assert [send(key) for key in ("cnk_second", server.api_key)] == [billed] * 2
    server.ledger.renew(EXAMPLE, accept_only=accept_only, further_key="cnk_first")
    assert [send(key) for key in ("cnk_first", "cnk_second")] == [billed, 202]
    assert len(server.ledger.signals) == 1
