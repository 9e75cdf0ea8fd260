"""Real servers, task queues and loops, where they are installed: `pip install clocknext[dev,hosts]`.

Each records one signal for each request or task, in a client whose interval is so long that only the end of
the process delivers, and is asked to stop. Each signal must have been billed once.

A server that forks is asked only when each of its workers has started: gunicorn's and uWSGI's lose a signal
to stop that comes before they handle it, and go on until they are killed.
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
from concurrent.futures import ThreadPoolExecutor
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
                start_new_session=True,
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

    def wait_for(self, said: str, times: int) -> None:
        """Wait until it has said something, in a line of its log, so many times."""
        give_up_at = time.monotonic() + PATIENCE
        while sum(line.endswith(said) for line in self.log.splitlines()) < times:
            assert self.process.poll() is None, self.log
            assert time.monotonic() < give_up_at, self.log
            _pause.wait(0.05)

    def ask_to_stop(self, number: int = signal.SIGTERM) -> None:
        """Ask it to stop, and do not wait."""
        if self.process.poll() is None:
            self.process.send_signal(number)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Ask it to stop, and wait for its end."""
        self.ask_to_stop(number)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(self.log) from None

    def kill(self) -> None:
        """Kill it, and its workers."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class _Pause:
    def wait(self, seconds: float) -> None:
        with suppress(subprocess.TimeoutExpired):
            subprocess.run(["sleep", "30"], timeout=seconds, check=False)


_pause = _Pause()

PYTHON = [sys.executable, "-m"]
LISTEN = "-b127.0.0.1:{port}"
GUNICORN = [*PYTHON, "gunicorn", "-w2", LISTEN, "hosted:wsgi"]
GRANIAN = [*PYTHON, "granian", "--port={port}"]
GUNICORN_SAYS = """
def post_worker_init(worker):
    worker.log.info("worker is ready")
"""
READY = "worker is ready"
UWSGI = [
    str(Path(sys.executable).with_name("pyuwsgi")),
    *("--http-socket", "127.0.0.1:{port}", "--wsgi-file", str(HERE / "hosted.py"), "--callable", "wsgi"),
    *("--master", "--processes", "2", "--need-app", "--pythonpath", str(ROOT)),
    *("--hook-accepting", f"print:{READY}"),
    # With `--die-on-term` a worker that is within a request would lose what it holds: docs/process-life.md.
    *("--hook-master-start", "unix_signal:15 gracefully_kill_them_all"),
]
SERVERS: dict[str, tuple[Sequence[str], Sequence[str], int]] = {
    "gunicorn sync": (["gunicorn"], GUNICORN, 2),
    "gunicorn preload": (["gunicorn"], [*GUNICORN, "--preload"], 2),
    "gunicorn gthread": (["gunicorn"], [*GUNICORN, "-kgthread", "--threads=4"], 2),
    "gunicorn gevent": (["gunicorn", "gevent"], [*GUNICORN, "-kgevent"], 2),
    "gunicorn preload gevent": (["gunicorn", "gevent"], [*GUNICORN, "-kgevent", "--preload"], 2),
    "uvicorn": (["uvicorn"], [*PYTHON, "uvicorn", "--port={port}", "hosted:asgi"], 0),
    "uvicorn uvloop": (
        ["uvicorn", "uvloop"],
        [*PYTHON, "uvicorn", "--loop=uvloop", "--port={port}", "hosted:asgi"],
        0,
    ),
    "uvicorn workers": (["uvicorn"], [*PYTHON, "uvicorn", "--workers=2", "--port={port}", "hosted:asgi"], 0),
    "hypercorn": (["hypercorn"], [*PYTHON, "hypercorn", LISTEN, "hosted:asgi"], 0),
    "granian asgi": (
        ["granian"],
        [*PYTHON, "granian", "--interface=asgi", "--port={port}", "hosted:asgi"],
        0,
    ),
    "granian wsgi": (
        ["granian"],
        [*PYTHON, "granian", "--interface=wsgi", "--port={port}", "hosted:wsgi"],
        0,
    ),
    "daphne": (["daphne"], [*PYTHON, "daphne", "-p{port}", "hosted:asgi"], 0),
    "uwsgi": (["pyuwsgi"], UWSGI, 2),
    "uwsgi threads": (["pyuwsgi"], [*UWSGI, "--enable-threads", "--threads=4"], 2),
    "uwsgi hooks": (["pyuwsgi"], [*UWSGI, "--enable-threads", "--py-call-uwsgi-fork-hooks"], 2),
    "uwsgi lazy": (["pyuwsgi"], [*UWSGI, "--enable-threads", "--lazy-apps"], 2),
}
"""For each the modules it needs, its command, and how many of its workers say when they are ready."""


def serve(name: str, server: EmulatorServer, folder: Path) -> Host:
    """Start a server, and wait for its workers."""
    _, command, workers = SERVERS[name]
    return started(command, server, folder, workers)


def started(
    command: Sequence[str], server: EmulatorServer, folder: Path, workers: int, **surroundings: str
) -> Host:
    """Start a program, and wait for so many of its workers, in the way that gunicorn says it."""
    (folder / "gunicorn.conf.py").write_text(GUNICORN_SAYS)
    host = Host(command, server, folder, **surroundings)
    try:
        host.wait_for(READY, workers)
    except BaseException:
        host.kill()
        raise
    return host


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=needs(*modules)) for name, (modules, _, _) in SERVERS.items()]
)
def test_a_server_delivers_what_its_requests_recorded_when_it_stops(name: str, tmp_path: Path) -> None:
    keys = [f"key-{number}" for number in range(COUNT)]
    with emulator() as server:
        host = serve(name, server, tmp_path)
        try:
            for key in keys:
                host.get(f"/{key}")
        finally:
            host.stop()
        billed = [server.ledger.billed(key) for key in keys]
        assert (billed, server.ledger.counters.repeats) == ([1] * COUNT, 0), host.log


@needs("pyuwsgi")
@pytest.mark.parametrize("name", ["uwsgi", "uwsgi threads"])
def test_uwsgi_delivers_what_a_request_records_that_outlasts_the_signal_to_stop(
    name: str, tmp_path: Path
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with emulator() as server, ThreadPoolExecutor(1) as pool:
        host = serve(name, server, tmp_path)
        try:
            request = pool.submit(host.get, f"/slow?{fifo}")
            with fifo.open("w"):  # the application has opened it
                host.ask_to_stop()
                host.wait_for("graceful shutdown triggered...", 1)
            request.result(PATIENCE)
        finally:
            host.stop()
        assert server.ledger.billed("slow") == 1, host.log
