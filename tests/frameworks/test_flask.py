"""Flask in real servers: threads, greenlets, a loop for each request of an asynchronous view."""

import sys
from pathlib import Path

import pytest

from clocknext_transports.emulator import emulator
from tests.frameworks.support import Load, check_all_billed, check_customers, needs, start

PYTHON = [sys.executable, "-m"]
GUNICORN = [*PYTHON, "gunicorn", "-b127.0.0.1:{port}", "-w2", "app_flask:app"]
WORKERS = {
    "sync": (["-ksync"], ()),
    "gthread": (["-kgthread", "--threads=4"], ()),
    "gevent": (["-kgevent"], ("gevent",)),
}
any_worker = pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=needs("flask", "gunicorn", *more)) for name, (_, more) in WORKERS.items()],
)


@any_worker
def test_nothing_is_lost_on_sigterm_under_load(name: str, tmp_path: Path) -> None:
    # Flask itself runs no asynchronous view in greenlets.
    views = ["/sync/"] if name == "gevent" else ["/sync/", "/async/", "/eager/"]
    with emulator() as server:
        host = start([*GUNICORN, *WORKERS[name][0]], server, tmp_path)
        try:
            Load(host, *views).stop_the_host()
        finally:
            host.stop()
        check_all_billed(host, server, tmp_path)


@any_worker
def test_each_request_is_billed_to_its_own_customer(name: str, tmp_path: Path) -> None:
    routes = ["/called/", "/streamed/"] if name == "gevent" else ["/called/", "/async-called/", "/streamed/"]
    with emulator() as server:
        host = start([*GUNICORN, *WORKERS[name][0]], server, tmp_path)
        try:
            check_customers(host, server, *routes)
        finally:
            host.stop()
