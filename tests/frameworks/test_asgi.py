"""ASGI in real servers: nothing is lost on SIGTERM, and each request is billed to its own customer."""

import socket
import sys
from pathlib import Path

import pytest

from clocknext_transports.emulator import emulator
from tests.frameworks.support import PATIENCE, Load, check_all_billed, check_customers, needs, start
from tests.life.support import wait_until

PYTHON = [sys.executable, "-m"]
SERVERS = {
    "uvicorn": (("uvicorn",), [*PYTHON, "uvicorn", "--port={port}", "--log-level=error"]),
    "uvicorn workers": (("uvicorn",), [*PYTHON, "uvicorn", "--workers=2", "--port={port}"]),
    "gunicorn": (
        ("gunicorn", "uvicorn_worker"),
        [*PYTHON, "gunicorn", "-kuvicorn_worker.UvicornWorker", "-w2", "-b127.0.0.1:{port}"],
    ),
    "hypercorn": (("hypercorn",), [*PYTHON, "hypercorn", "-b127.0.0.1:{port}"]),
}
any_server = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=needs("fastapi", *modules)) for name, (modules, _) in SERVERS.items()]
)


@any_server
def test_a_client_in_the_module_loses_nothing_on_sigterm_under_load(name: str, tmp_path: Path) -> None:
    with emulator() as server:
        host = start([*SERVERS[name][1], "app_fastapi:app"], server, tmp_path)
        try:
            Load(host, "/threads/", "/asyncio/").stop_the_host()
        finally:
            host.stop()
        check_all_billed(host, server, tmp_path)


UVICORN = [*PYTHON, "uvicorn", "--port={port}", "app_streams:app"]


@needs("fastapi", "uvicorn")
def test_each_request_is_billed_to_the_customer_that_the_dependency_names(tmp_path: Path) -> None:
    with emulator() as server:
        host = start(UVICORN, server, tmp_path)
        try:
            check_customers(host, server, "/called/", "/threaded/", "/streamed/")
        finally:
            host.stop()


@needs("fastapi", "uvicorn")
def test_a_client_that_leaves_a_streamed_answer_leaves_a_report_and_the_next_is_billed(
    tmp_path: Path,
) -> None:
    with emulator() as server:
        host = start(UVICORN, server, tmp_path)
        try:
            host.get("/streamed/0?as=cus_456")
            with socket.create_connection(("127.0.0.1", host.port), timeout=PATIENCE) as sock:
                sock.sendall(b"GET /streamed/1?as=cus_123&waits=true HTTP/1.1\r\nHost: a\r\n\r\n")
                while b"chatcmpl" not in sock.recv(65536):
                    pass
            assert wait_until(lambda: "unbilled partial cus_123" in host.log), host.log
            host.get("/streamed/2?as=cus_123")
        finally:
            host.stop()
        assert sorted(each.customer_id for each in server.ledger.signals) == ["cus_123", "cus_456"], host.log
        assert "Traceback" not in host.log, host.log
