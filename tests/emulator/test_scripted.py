import http.client
import socket
import threading
from contextlib import closing

import pytest

from clocknext_transports.emulator import Answer, Hold, OnHold, Received, Reply, ScriptedServer, scripted
from tests.emulator.support import exchange, read_to_end

TIMEOUT = 10.0
OK = (200, {"content-type": "application/json"}, b"{}")


def opened(server: ScriptedServer) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT)


def test_answers_come_in_order_and_the_last_repeats() -> None:
    answers: list[Answer] = [(503, [("retry-after", "1"), ("x", "a"), ("X", "b")], b"no"), (204, {}, b""), OK]
    with scripted(answers) as server, closing(opened(server)) as connection:
        connection.request("GET", "/a?b=c")
        response = connection.getresponse()
        assert (response.status, response.read()) == (503, b"no")
        assert [(name.lower(), value) for name, value in response.getheaders()] == [
            ("retry-after", "1"),
            ("x", "a"),
            ("x", "b"),
            ("content-length", "2"),
        ]
        assert exchange(connection, "GET", "/") == (204, b"")
        for _ in range(2):
            assert exchange(connection, "POST", "/", {"a": 1}, {"X-Mine": "1"}) == (200, b"{}")
        first, _, _, last = server.requests
        assert (first.method, first.target, first.path) == ("GET", "/a?b=c", "/a")
        assert (last.body, last.headers["x-mine"], last.headers["content-type"]) == (
            b'{"a": 1}',
            "1",
            "application/json",
        )
        assert (server.connections, server.max_in_service) == (1, 1)


def test_an_answer_can_be_computed() -> None:
    def echo(request: Received) -> tuple[int, dict[str, str], bytes]:
        return 200, {}, request.target.encode()

    with scripted([echo]) as server, closing(opened(server)) as connection:
        assert exchange(connection, "GET", "/x") == (200, b"/x")


def test_an_answer_can_be_any_bytes() -> None:
    with (
        scripted([b"HTTP/1.1 2000 Nonsense\r\n\r\n"]) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT) as wire,
    ):
        wire.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert read_to_end(wire) == b"HTTP/1.1 2000 Nonsense\r\n\r\n"


def test_raw_bytes_can_leave_the_connection_open() -> None:
    raw = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"
    with scripted([Reply(raw=raw), OK]) as server, closing(opened(server)) as connection:
        assert exchange(connection, "GET", "/") == (200, b"hi")
        assert exchange(connection, "GET", "/") == (200, b"{}")
        assert server.connections == 1


def test_framing_is_left_to_the_answer() -> None:
    chunked = (200, {"transfer-encoding": "chunked"}, b"abc")
    closed = (200, {"connection": "close"}, b"abc")
    with scripted([chunked, closed, OK]) as server, closing(opened(server)) as connection:
        assert exchange(connection, "GET", "/") == (200, b"abc")
        assert exchange(connection, "GET", "/") == (200, b"abc")
        assert exchange(connection, "GET", "/") == (200, b"{}")
        assert server.connections == 2


def test_a_gate_holds_answers_until_it_is_released() -> None:
    gate = Hold()
    got: list[int] = []

    def ask(server: ScriptedServer) -> None:
        with closing(opened(server)) as connection:
            got.append(exchange(connection, "GET", "/")[0])

    with scripted([OnHold(gate, OK)]) as server:
        clients = [threading.Thread(target=ask, args=(server,)) for _ in range(3)]
        for client in clients:
            client.start()
        assert gate.wait_arrived(TIMEOUT, count=3)
        assert (got, server.in_service) == ([], 3)
        gate.release()
        for client in clients:
            client.join()
        assert got == [200, 200, 200]
        assert server.max_in_service == 3
        ask(server)  # an open gate holds nothing back
    assert gate.arrived == 4
    assert not gate.wait_arrived(0.0, count=5)


def test_closing_does_not_wait_for_a_gate() -> None:
    gate = Hold()
    with scripted([OnHold(gate, OK)]) as server:
        wire = socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT)
        wire.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert gate.wait_arrived(TIMEOUT)
    with wire:
        assert read_to_end(wire) == b""
    gate.release()  # too late, and harmless


def test_there_must_be_an_answer() -> None:
    with pytest.raises(ValueError, match="at least one"), scripted([]):
        pytest.fail("it started all the same")
