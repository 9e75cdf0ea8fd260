"""What the rows share: a raw peer that bills, and what must be true of a bill in the end."""

import json
import threading
import time
from collections import Counter
from collections.abc import Sequence

from clocknext_core import BatchPolicy, RetryPolicy
from clocknext_transports.emulator import Ledger, Received
from tests.contract.answers import record_all
from tests.contract.clients import Client
from tests.transports.support import Peer, Script, Seen, Wire, answer

KEYS = [f"k{number}" for number in range(6)]
AT_ONCE = BatchPolicy(max_size=1, max_concurrency=2)
PERSISTENT = RetryPolicy(max_attempts=30, base_delay=0.001, max_delay=0.004)
"""Outlives every fault of a row, however few of the signals meet them all."""


class Billing:
    """A script for a raw peer: each of the first connections meets a fault, and on all others a ledger bills.

    Args:
        faults: What is done to the first connections, one each, in place of an answer.
    """

    def __init__(self, *faults: Script) -> None:
        self.ledger = Ledger()
        self.ledger.guard = threading.RLock()
        self._faults = faults

    def __call__(self, wire: Wire) -> None:
        if wire.number <= len(self._faults):
            self._faults[wire.number - 1](wire)
            return
        while True:
            wire.send(self.bill(wire.read()))

    def bill(self, seen: Seen) -> bytes:
        """Bill a signal, and make the bytes of the answer."""
        method, target, _ = seen.line.split(" ")
        received = Received(method, target, seen.headers, seen.body, seen.connection)
        response = self.ledger.handle(received, now=time.time())
        headers = [f"{name}: {value}" for name, value in response.headers]
        return answer(response.body, *headers, status=f"{response.status} Answered")


async def deliver(client: Client, keys: Sequence[str] = KEYS) -> None:
    """Record signals under these keys, and require that all of them are delivered."""
    await record_all(client, list(keys))
    report = await client.flush()
    assert (report.delivered, list(report.failed), report.pending) == (len(keys), [], 0)
    assert client.pending == 0


def check_billed_once(ledger: Ledger, keys: Sequence[str] = KEYS) -> None:
    """Require that these signals are on the bill, each once, and no other."""
    assert Counter(signal.idempotency_key for signal in ledger.signals) == Counter(keys)


def attempts_by_key(bodies: Sequence[bytes]) -> Counter[str]:
    """Count the requests for each idempotency key, and require that those for one key have the same bytes."""
    sent: dict[str, bytes] = {}
    attempts: Counter[str] = Counter()
    for body in bodies:
        key = str(json.loads(body)["idempotencyKey"])
        assert sent.setdefault(key, body) == body
        attempts[key] += 1
    return attempts


def bodies_at(peer: Peer) -> list[bytes]:
    """Return the bodies of all requests that a peer has read whole."""
    return [seen.body for seen in peer.requests]
