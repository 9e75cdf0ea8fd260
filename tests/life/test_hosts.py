"""Real servers, task queues and loops, where they are installed: `pip install clocknext[dev,hosts]`.

Each records one signal for each request or task, in a client whose interval is so long that only the end of
the process delivers, and is asked to stop. Each signal must have been billed once.
"""

import http.client
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from clocknext_transports.emulator import EmulatorServer, emulator

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PATIENCE = 30.0
COUNT = 20

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="these servers fork")


def needs(*modules: str) -> pytest.MarkDecorator:
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def environment(server: EmulatorServer, **more: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return {**clean, "KEY": server.api_key, "URL": server.url, "PYTHONPATH": f"{ROOT}:{HERE}", **more}


class Host:
    """A server in a process of its own.

    Args:
        command: What starts it; `{port}` stands for the port, if it listens.
        server: Where its clients send to.
        folder: Where it runs.
    """

    def __init__(self, command: Sequence[str], server: EmulatorServer, folder: Path, **more: str) -> None:
        self.port = free_port()
        self._log = folder / "log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [part.replace("{port}", str(self.port)) for part in command],
                env=environment(server, **more),
                cwd=folder,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def get(self, path: str) -> bytes:
        """Send a request, as soon as it listens."""
        give_up_at = time.monotonic() + PATIENCE
        while True:
            assert self.process.poll() is None, self.log
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
            try:
                connection.request("GET", path)
                answer = connection.getresponse()
                assert answer.status == 200, self.log
                return answer.read()
            except ConnectionError:
                assert time.monotonic() < give_up_at, self.log
                _pause.wait(0.05)
            finally:
                connection.close()

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Ask it to stop, and wait for its end."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(self.log) from None


class _Pause:
    def wait(self, seconds: float) -> None:
        with suppress(subprocess.TimeoutExpired):
            subprocess.run(["sleep", "30"], timeout=seconds, check=False)


_pause = _Pause()

PYTHON = [sys.executable, "-m"]
UWSGI = [
    str(Path(sys.executable).with_name("pyuwsgi")),
    *("--http-socket", "127.0.0.1:{port}", "--wsgi-file", str(HERE / "hosted.py"), "--callable", "wsgi"),
    *("--master", "--processes", "2", "--die-on-term", "--need-app", "--pythonpath", str(ROOT)),
]
SERVERS = {
    "gunicorn sync": (("gunicorn",), [*PYTHON, "gunicorn", "-w2", "-b127.0.0.1:{port}", "hosted:wsgi"]),
    "gunicorn preload": (
        ("gunicorn",),
        [*PYTHON, "gunicorn", "--preload", "-w2", "-b127.0.0.1:{port}", "hosted:wsgi"],
    ),
    "gunicorn gthread": (
        ("gunicorn",),
        [*PYTHON, "gunicorn", "-kgthread", "--threads=4", "-w2", "-b127.0.0.1:{port}", "hosted:wsgi"],
    ),
    "gunicorn gevent": (
        ("gunicorn", "gevent"),
        [*PYTHON, "gunicorn", "-kgevent", "-w2", "-b127.0.0.1:{port}", "hosted:wsgi"],
    ),
    "uvicorn": (("uvicorn",), [*PYTHON, "uvicorn", "--port={port}", "hosted:asgi"]),
    "uvicorn uvloop": (
        ("uvicorn", "uvloop"),
        [*PYTHON, "uvicorn", "--loop=uvloop", "--port={port}", "hosted:asgi"],
    ),
    "uvicorn workers": (("uvicorn",), [*PYTHON, "uvicorn", "--workers=2", "--port={port}", "hosted:asgi"]),
    "hypercorn": (("hypercorn",), [*PYTHON, "hypercorn", "-b127.0.0.1:{port}", "hosted:asgi"]),
    "granian asgi": (("granian",), [*PYTHON, "granian", "--interface=asgi", "--port={port}", "hosted:asgi"]),
    "granian wsgi": (("granian",), [*PYTHON, "granian", "--interface=wsgi", "--port={port}", "hosted:wsgi"]),
    "daphne": (("daphne",), [*PYTHON, "daphne", "-p{port}", "hosted:asgi"]),
    "uwsgi": (("pyuwsgi",), UWSGI),
    "uwsgi threads": (("pyuwsgi",), [*UWSGI, "--enable-threads", "--threads=4"]),
    "uwsgi hooks": (("pyuwsgi",), [*UWSGI, "--enable-threads", "--py-call-uwsgi-fork-hooks"]),
    "uwsgi lazy": (("pyuwsgi",), [*UWSGI, "--enable-threads", "--lazy-apps"]),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=needs(*modules)) for name, (modules, _) in SERVERS.items()]
)
def test_a_server_delivers_what_its_requests_recorded_when_it_stops(name: str, tmp_path: Path) -> None:
    keys = [f"key-{number}" for number in range(COUNT)]
    with emulator() as server:
        host = Host(SERVERS[name][1], server, tmp_path)
        try:
            for key in keys:
                host.get(f"/{key}")
        finally:
            host.stop()
        billed = [server.ledger.billed(key) for key in keys]
        assert (billed, server.ledger.counters.repeats) == ([1] * COUNT, 0), host.log
