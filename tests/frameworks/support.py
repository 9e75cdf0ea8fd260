"""What the tests of frameworks share: an application under load that is asked to stop, and its bill."""

import http.client
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from clocknext_transports.emulator import EmulatorServer
from tests.life.test_hosts import PATIENCE, ROOT, Host, needs, started

__all__ = ["PATIENCE", "START", "Host", "Load", "keys_billed", "keys_recorded", "needs", "start"]

HERE = Path(__file__).parent
MOST = 4000
"""Requests of one load at most."""

START = 60.0
"""Seconds for a worker or a sender that starts, and what it does first, on a busy machine."""


def start(command: Sequence[str], server: EmulatorServer, folder: Path, **more: str) -> Host:
    """Start a program that finds the applications of this folder, and the emulator in its environment.

    Of gunicorn, each worker is waited for: one that has just begun loses a signal, and is killed half a
    minute later.
    """
    surroundings = {
        "CLOCKNEXT_API_KEY": server.api_key,
        "CLOCKNEXT_BASE_URL": server.url,
        "PYTHONPATH": f"{ROOT}:{HERE / 'apps'}",
        "RECORDED": str(folder / "recorded"),
    }
    workers = 0 if "gunicorn" not in command else 2 if "-w2" in command else 1
    return started(command, server, folder, workers, **{**surroundings, **more})


def keys_recorded(folder: Path) -> list[str]:
    """Return the keys that an application noted once their signals were recorded."""
    file = folder / "recorded"
    return file.read_text().split() if file.exists() else []


def keys_billed(server: EmulatorServer) -> Counter[str]:
    """Count the bills by key."""
    return Counter(each.idempotency_key or "" for each in server.ledger.signals)


class Load:
    """Threads that send a server requests, each with a path of its own, until it is gone.

    Args:
        host: The server.
        prefixes: What the paths begin with, in turn.
    """

    def __init__(self, host: Host, *prefixes: str) -> None:
        for number, prefix in enumerate(prefixes):
            host.get(f"{prefix}first-{number}")
        self.answered = 0
        self._host, self._prefixes = host, prefixes
        self._enough = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(name,)) for name in "abcd"]
        for thread in self._threads:
            thread.start()

    def _send(self, name: str) -> None:
        for number in range(MOST):
            connection = http.client.HTTPConnection("127.0.0.1", self._host.port, timeout=PATIENCE)
            try:
                prefix = self._prefixes[number % len(self._prefixes)]
                connection.request("GET", f"{prefix}{name}-{number}")
                if connection.getresponse().status == 200:
                    self.answered += 1
            except (OSError, http.client.HTTPException):
                break
            finally:
                connection.close()
            if self.answered > 30:
                self._enough.set()
        self._enough.set()

    def stop_the_host(self) -> None:
        """Ask the server to stop while requests arrive, and wait for the end of both."""
        assert self._enough.wait(PATIENCE), self._host.log
        self._host.stop()
        for thread in self._threads:
            thread.join(PATIENCE)


def check_all_billed(host: Host, server: EmulatorServer, folder: Path, least: int = 25) -> None:
    """Require that what was recorded was billed, once."""
    recorded, billed = Counter(keys_recorded(folder)), keys_billed(server)
    assert len(recorded) >= least, host.log
    assert recorded == billed, (len(recorded), len(billed), host.log)
    assert "was destroyed" not in host.log, host.log
    assert "Traceback" not in host.log, host.log


def check_customers(host: Host, server: EmulatorServer, *prefixes: str) -> None:
    """Send requests of two customers in turn, and of none; require that each is billed to its own."""
    customers = ["cus_123", "cus_456"]
    for place, prefix in enumerate(prefixes):
        for number in range(4):
            host.get(f"{prefix}{place}{number}?as={customers[number % 2]}")
        host.get(f"{prefix}{place}9")
    host.stop()
    billed = [(each.customer_id, each.key, each.output_tokens) for each in server.ledger.signals]
    expected = [(customer, "chat_credit", 5) for customer in customers * 2 * len(prefixes)]
    assert sorted(billed) == sorted(expected), host.log
    assert host.log.count("unbilled unattributed") == len(prefixes), host.log
