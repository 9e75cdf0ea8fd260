"""An outage at the end of a process: whatever host it has, each signal that is given up is reported, once."""

import re
import signal
import sys
from pathlib import Path

import pytest

from clocknext_transports.emulator import EmulatorServer, Fault, emulator
from tests.frameworks.fake_redis import redis_server
from tests.frameworks.support import START, Host, keys_billed, keys_recorded, needs, start
from tests.life.support import wait_until

PYTHON = [sys.executable, "-m"]
UVICORN = [*PYTHON, "uvicorn", "--port={port}", "--log-level=error"]
GUNICORN = [*PYTHON, "gunicorn", "-b127.0.0.1:{port}"]
OWN_HANDLER = [sys.executable, "-c", "import app_fastapi; app_fastapi.serve({port})"]
FASTAPI = ["/threads/", "/asyncio/"]
VIEWS = ["/sync/", "/async/"]
HURRIED = {"CLOSE_TIMEOUT": "0.5", "EXIT_TIMEOUT": "0.5"}
HOSTS = {
    "uvicorn": (("fastapi", "uvicorn"), [*UVICORN, "app_fastapi:app"], FASTAPI),
    "uvicorn workers": (("fastapi", "uvicorn"), [*UVICORN, "--workers=2", "app_fastapi:app"], FASTAPI),
    "uvicorn and a handler of SIGTERM": (("fastapi", "uvicorn"), OWN_HANDLER, FASTAPI),
    "gunicorn and uvicorn": (
        ("fastapi", "gunicorn", "uvicorn_worker"),
        [*GUNICORN, "-kuvicorn_worker.UvicornWorker", "app_fastapi:app"],
        FASTAPI,
    ),
    "gunicorn asgi": (("fastapi", "gunicorn"), [*GUNICORN, "-kasgi", "app_fastapi:app"], FASTAPI),
    "hypercorn": (
        ("fastapi", "hypercorn"),
        [*PYTHON, "hypercorn", "-b127.0.0.1:{port}", "app_fastapi:app"],
        FASTAPI,
    ),
    "hypercorn and trio": (
        ("quart_trio", "hypercorn"),
        [*PYTHON, "hypercorn", "-ktrio", "-b127.0.0.1:{port}", "app_quart:app"],
        ["/"],
    ),
    "django and uvicorn": (("django", "uvicorn"), [*UVICORN, "app_django:asgi"], VIEWS),
    "django and gunicorn": (("django", "gunicorn"), [*GUNICORN, "app_django:wsgi"], VIEWS),
    "django and daphne": (("django", "daphne"), [*PYTHON, "daphne", "-p{port}", "app_django:plain"], VIEWS),
    "flask": (("flask", "asgiref", "gunicorn"), [*GUNICORN, "app_flask:app"], VIEWS),
}


def check_all_reported(host: Host, keys: list[str]) -> None:
    """Require that each signal was reported to `on_drop`, and logged, once."""
    for key in keys:
        assert host.log.count(f"dropped {key} closed\n") == 1, (key, host.log)
        assert host.log.count(f"ClockNext signal '{key}' was dropped") == 1, (key, host.log)
    counted = re.findall(r"not delivered before the interpreter's exit: (\d+)\.", host.log)
    assert sum(map(int, counted)) in {0, len(keys)}, "0: it ended without an exit"
    assert "Traceback" not in host.log, host.log


def fail(server: EmulatorServer) -> None:
    server.faults.chance(1.0, Fault("status", 503))


@pytest.mark.parametrize(
    ("name", "number"),
    [
        *(
            pytest.param(name, signal.SIGTERM, marks=needs(*modules), id=name)
            for name, (modules, _, _) in HOSTS.items()
        ),
        pytest.param("uvicorn", signal.SIGINT, marks=needs("fastapi", "uvicorn"), id="uvicorn by SIGINT"),
    ],
)
def test_what_an_outage_leaves_is_reported_signal_by_signal(name: str, number: int, tmp_path: Path) -> None:
    _, command, paths = HOSTS[name]
    with emulator() as server:
        fail(server)
        host = start(command, server, tmp_path, **HURRIED)
        try:
            for path in paths:
                for count in range(3):
                    host.get(f"{path}{path.strip('/')}-{count}")
        finally:
            host.stop(number)
        keys = keys_recorded(tmp_path)
        assert len(keys) == 3 * len(paths)
        check_all_reported(host, keys)


@needs("fastapi", "uvicorn")
def test_what_the_exit_can_deliver_is_not_given_up_before(tmp_path: Path) -> None:
    _, command, paths = HOSTS["uvicorn"]
    with emulator() as server:
        server.faults.chance(1.0, Fault("latency", seconds=1.0))
        host = start(command, server, tmp_path, CLOSE_TIMEOUT="0.1")
        try:
            for path in paths:
                host.get(f"{path}{path.strip('/')}")
        finally:
            host.stop(signal.SIGINT)  # after which uvicorn exits as other programs do
        assert keys_billed(server) == dict.fromkeys(keys_recorded(tmp_path), 1), host.log
        assert "dropped" not in host.log, host.log


@needs("celery")
@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_what_an_outage_leaves_is_reported_by_a_worker_of_celery(pool: str, tmp_path: Path) -> None:
    folder = tmp_path / "queue"
    folder.mkdir()
    surroundings = {"FOLDER": str(folder), "TASKS": "3", **HURRIED}
    worker = [*PYTHON, "celery", "-A", "app_celery", "worker", "--loglevel=warning", f"-P{pool}", "-c1"]
    with emulator() as server:
        fail(server)
        send = [sys.executable, "-c", "import app_celery; app_celery.send_many()"]
        assert start(send, server, tmp_path, **surroundings).process.wait(60) == 0
        host = start(worker, server, tmp_path, **surroundings)
        try:
            assert wait_until(lambda: len(keys_recorded(tmp_path)) == 3, START), host.log
        finally:
            host.stop()
        check_all_reported(host, keys_recorded(tmp_path))


@needs("rq", "fakeredis")
def test_what_an_outage_leaves_is_reported_by_a_job_of_rq(tmp_path: Path) -> None:
    with emulator() as server, redis_server() as broker:
        fail(server)
        program = f"import app_rq; app_rq.send({str(tmp_path / 'mark')!r})"
        sender = start([sys.executable, "-c", program], server, tmp_path, BROKER=broker)
        assert sender.process.wait(60) == 0, sender.log
        command = [sys.executable, "-c", "import app_rq; app_rq.work()"]
        host = start(command, server, tmp_path, BROKER=broker, **HURRIED)

        def keys() -> list[str]:
            return [key for key in keys_recorded(tmp_path) if key != "key-retried"]

        try:
            assert wait_until(lambda: len(keys()) >= 2, START), host.log
        finally:
            host.stop()
        for key in keys():
            assert host.log.count(f"dropped {key} closed\n") == 1, (key, host.log)
