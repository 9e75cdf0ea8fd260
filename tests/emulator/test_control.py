"""`/_emulator/` answers programs on this machine, and no web page."""

import http.client
import json
import socket
from contextlib import closing
from functools import partial

import pytest

from clocknext_transports.emulator import Faults, Ledger, Received, emulator
from clocknext_transports.emulator.server.service import Service
from tests.emulator.support import NOW

ROUTES = [
    ("GET", "ledger"),
    ("GET", "requests"),
    ("GET", "faults"),
    ("POST", "faults"),
    ("DELETE", "faults"),
    ("POST", "reset"),
    ("GET", "nothing"),
    ("OPTIONS", "ledger"),
]


def status_of(headers: dict[str, str], method: str = "GET", path: str = "ledger") -> int:
    service = Service(Ledger(), Faults())
    body = b'{"kind": "lost"}' if method == "POST" else b""
    response = service.respond(Received(method, f"/_emulator/{path}", headers, body), now=NOW).response
    assert response is not None
    if response.status == 403:
        assert service.faults.pending == 0
        content = json.loads(response.body)
        assert content["ok"] is False
        assert set(content) == {"ok", "error"}
    assert response.header("access-control-allow-origin") is None
    return response.status


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1:8787",
        "localhost",
        "LOCALHOST:8787",
        "app.localhost:1",
        "[::1]",
        "[::1]:8787",
        "10.0.0.7:8787",
        "emulator:8787",
        "my_box-2:8787",
        "localhost.:8787",
        "App.LocalHost.",
        "[::1]:80",
        "127.0.0.1:",
        "",
    ],
)
def test_names_of_this_machine_are_answered(host: str) -> None:
    assert status_of({"host": host}) == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8787",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "evil.example.",
        "x@127.0.0.1.example",
        "1.2.3.4.5",
        "[::1].evil.example",
        "a b.c",
        "evil.",
        "127.1",
        "0x7f.1",
        "user@localhost",
        "localhost@evil.example",
        "http://localhost",
        "localhost:80:80",
        "localhost:x",
        "localhost/",
        "localhost, evil.example",
        "evil%2eexample",
        "evil\xe3\x80\x82example",
        "[evil]",
        "[::1",
    ],
)
@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_a_name_that_a_web_site_may_have_is_refused(method: str, path: str, host: str) -> None:
    assert status_of({"host": host}, method, path) == 403


def test_a_program_need_not_say_where_it_comes_from() -> None:
    assert status_of({}) == 200


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://localhost:8787"]
)
@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_a_page_of_another_origin_is_refused(method: str, path: str, origin: str) -> None:
    assert status_of({"host": "127.0.0.1:8787", "origin": origin}, method, path) == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_page_that_sends_no_origin_is_refused_by_where_the_browser_says_it_is(site: str) -> None:
    assert status_of({"host": "127.0.0.1:8787", "sec-fetch-site": site}) == 403


def test_a_page_of_the_emulator_itself_is_answered() -> None:
    own = {"host": "127.0.0.1:8787", "origin": "http://127.0.0.1:8787", "sec-fetch-site": "same-origin"}
    assert status_of(own) == 200
    assert status_of({"host": "127.0.0.1:8787", "sec-fetch-site": "none"}) == 200
    assert status_of({"origin": "http://127.0.0.1:8787"}) == 403


def test_it_holds_over_http() -> None:
    with emulator() as server:
        for host, expected in ((f"localhost:{server.port}", 200), ("evil.example", 403)):
            with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)) as connection:
                connection.request("GET", "/_emulator/ledger", headers={"host": host})
                assert connection.getresponse().status == expected


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("GET /_emulator/ledger HTTP/1.1\r\nHost: localhost\r\nHost: evil.example", 400),
        ("GET /_emulator/ledger HTTP/1.1\r\nHost: evil.example\r\nHost: localhost", 400),
        ("GET /_emulator/ledger HTTP/1.1\r\nHost: localhost\r\nHost: localhost", 400),
        ("GET /_emulator/ledger HTTP/1.1", 400),
        ("GET /_emulator/ledger HTTP/1.0", 200),
        ("GET /_emulator/ledger HTTP/1.1\r\nHost:  \tLocalHost. \t", 200),
        ("GET /_emulator/ledger HTTP/1.1\r\nHost: a\r\nOrigin: http://a\r\nOrigin: http://a", 403),
        ("GET /_emulator/ledger HTTP/1.1\r\nHost: a\r\nSec-Fetch-Site: none\r\nSec-Fetch-Site: none", 403),
        ("GET http://localhost/_emulator/ledger HTTP/1.1\r\nHost: localhost", 404),
        ("GET http://evil.example/_emulator/ledger HTTP/1.1\r\nHost: localhost", 404),
        ("GET //localhost/_emulator/ledger HTTP/1.1\r\nHost: localhost", 404),
        ("GET /%5Femulator/ledger HTTP/1.1\r\nHost: localhost", 404),
        ("GET / HTTP/1.1\r\nHost: evil.example\r\nAccept: text/html", 403),
        ("GET / HTTP/1.1\r\nHost: localhost.\r\nAccept: text/html", 302),
    ],
)  # fmt: skip
def test_odd_heads_get_no_further_than_plain_ones(head: str, expected: int) -> None:
    with emulator() as server, socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(f"{head}\r\nConnection: close\r\n\r\n".encode("latin-1"))
        answer = b"".join(iter(partial(connection.recv, 65536), b""))
    assert int(answer.split(b" ")[1]) == expected
