"""Check forked servers against the emulator: `python -m tests.life gunicorn` or `celery`.

They are not among our packages: say with --python which interpreter has them, and h11. A thousand requests or
tasks record one signal each, with a client that was made before the fork. In the middle the server is told to
stop, and started again when it has. Each acknowledged one must be billed once.
"""

import argparse
import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from clocknext_transports.emulator import EmulatorServer, emulator

COUNT = 1000
WORKERS = 4
PATIENCE = 60.0
HERE = Path(__file__).parent
ROOT = HERE.parents[1]


class UnixConnection(http.client.HTTPConnection):
    """A connection to a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        """Connect."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(self._path)


def wait_until(is_so: Callable[[], bool]) -> None:
    """Wait for other processes."""
    give_up_at = time.monotonic() + PATIENCE
    while not is_so():
        if time.monotonic() > give_up_at:
            raise TimeoutError
        time.sleep(0.01)


def environment(server: EmulatorServer, **more: str) -> dict[str, str]:
    """Say to a server where the emulator is."""
    return {**os.environ, "KEY": server.api_key, "URL": server.url, "PYTHONPATH": f"{ROOT}:{HERE}", **more}


def stop(process: subprocess.Popen[bytes]) -> float:
    """Ask a server to stop, and tell how long it took."""
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.wait(PATIENCE)
    return time.monotonic() - began


def check_gunicorn(python: str, server: EmulatorServer, folder: Path) -> Counter[str]:
    """Send requests to four preloaded workers; return how often each was acknowledged."""
    path = str(folder / "gunicorn.sock")
    command = [python, "-m", "gunicorn", "--preload", "-w", str(WORKERS), "-b", f"unix:{path}"]
    command += ["--graceful-timeout", "20", "--log-level", "warning", "served:app"]
    acknowledged = Counter[str]()
    processes = set[bytes]()
    todo: Iterator[str] = iter([f"key-{number}" for number in range(COUNT)])
    lock = threading.Lock()

    def send(limit: int) -> None:
        while True:
            with lock:
                key = next(todo, None) if sum(acknowledged.values()) < limit else None
            if key is None:
                return
            while acknowledged[key] == 0:
                with suppress(OSError, http.client.HTTPException):
                    connection = UnixConnection(path)
                    connection.request("GET", f"/{key}")
                    answer = connection.getresponse()
                    if answer.status == 200:
                        with lock:
                            processes.add(answer.read())
                            acknowledged[key] += 1
                    connection.close()

    def start() -> subprocess.Popen[bytes]:
        process = subprocess.Popen(command, cwd=HERE, env=environment(server))
        wait_until(lambda: os.path.exists(path))
        return process

    process = start()
    senders = [threading.Thread(target=send, args=(COUNT,)) for _ in range(8)]
    for sender in senders:
        sender.start()
    wait_until(lambda: sum(acknowledged.values()) >= COUNT // 2)
    print(f"SIGTERM after {sum(acknowledged.values())} requests; stopped in {stop(process):.1f} s")
    process = start()
    for sender in senders:
        sender.join()
    print(f"SIGTERM after {sum(acknowledged.values())} requests; stopped in {stop(process):.1f} s")
    print(f"{len(processes)} processes answered")
    return acknowledged


def check_celery(python: str, server: EmulatorServer, folder: Path) -> Counter[str]:
    """Send tasks to four prefork workers; return how often each was done."""
    (folder / "queue").mkdir()
    done = folder / "done"
    done.touch()
    more = {"FOLDER": str(folder / "queue"), "DONE": str(done), "RECIPE": "1"}
    env = environment(server, **more)
    enqueue = f"from worked import work\nfor number in range({COUNT}): work.delay(f'key-{{number}}')"
    subprocess.run([python, "-c", enqueue], env=env, check=True, timeout=PATIENCE)
    command = [python, "-m", "celery", "-A", "worked", "worker", "-P", "prefork"]
    command += ["-c", str(WORKERS), "--loglevel", "error", "--without-gossip", "--without-mingle"]

    def lines() -> Sequence[str]:
        return done.read_text().splitlines()

    process = subprocess.Popen(command, cwd=HERE, env=env)
    wait_until(lambda: len(lines()) >= COUNT // 2)
    print(f"SIGTERM after {len(lines())} tasks; stopped in {stop(process):.1f} s")
    process = subprocess.Popen(command, cwd=HERE, env=env)
    with suppress(TimeoutError):
        wait_until(lambda: len(lines()) >= COUNT)
    print(f"SIGTERM after {len(lines())} tasks; stopped in {stop(process):.1f} s")
    print(f"{len({line.split()[1] for line in lines()})} processes worked")
    return Counter(line.split()[0] for line in lines())


CHECKS = {"gunicorn": check_gunicorn, "celery": check_celery}


def main() -> int:
    """Run a check, and say how it went."""
    parser = argparse.ArgumentParser(prog="python -m tests.life", description=__doc__)
    parser.add_argument("check", choices=CHECKS)
    parser.add_argument("--python", default=sys.executable, help="an interpreter that has the server")
    arguments = parser.parse_args()
    with emulator() as server, tempfile.TemporaryDirectory() as folder:
        acknowledged = CHECKS[arguments.check](arguments.python, server, Path(folder))
        billed = Counter({key: server.ledger.billed(key) for key in acknowledged})
        total = server.ledger.bill("cus_123").signals
        repeats = server.ledger.counters.repeats
    lost = [key for key in acknowledged if billed[key] == 0]
    print(f"{len(acknowledged)} acknowledged, {total} billed, {len(lost)} lost, {repeats} sent again")
    is_right = not lost and max(billed.values()) == 1 and total == len(acknowledged)
    print("right" if is_right else "WRONG")
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
