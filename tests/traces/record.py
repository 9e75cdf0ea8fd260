"""`python -m tests.traces.record threads asyncio trio simulated-12`: record saved traces anew."""

import asyncio
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import trio

from clocknext_core import BatchPolicy, ClockNextError, RetryPolicy
from clocknext_transports import AsyncClockNext, ClockNext, TrioClockNext
from clocknext_transports.emulator import EmulatorServer, Fault, emulator
from clocknext_transports.recorder import recording
from tests.simulation.runs import play
from tests.traces import FOLDER

TROUBLES = (
    Fault("status", 503, retry_after="0.2"),
    None,
    Fault("lost"),
    Fault("html"),
    Fault("status", 429, retry_after_ms="150"),
    None,
    Fault("reset"),
    Fault("truncated"),
    None,
    None,
    Fault("status", 409),
)
"""What happens to the first requests of a recorded client."""

RETRY = RetryPolicy(max_attempts=5, base_delay=0.02, max_delay=0.1)


def settings(server: EmulatorServer) -> dict[str, Any]:
    """Give the arguments of a client that meets every trouble soon."""
    batch = BatchPolicy(max_size=3, max_interval=0.1, max_concurrency=2, max_queue_size=6)
    return {"api_key": server.api_key, "base_url": server.url, "batch": batch, "retry": RETRY, "timeout": 2.0}


def signal(number: int) -> dict[str, Any]:
    """Give the arguments of one of a few signals; some are refused."""
    customer = ("cus_123", "cus_low", "nobody", "cus_456")[number % 4]
    tokens = {"input": 100 * number, "output": 7, "cache": number}
    return {
        "customer_id": customer,
        "model": "gpt-4o",
        "key": "api_credit",
        "tokens": tokens,
        "custom": {"who": "Zoë", "n": number},
        "idempotency_key": f"signal-{number}",
    }


def threads(server: EmulatorServer) -> None:
    """Run a client for threads."""
    with ClockNext(**settings(server)) as client:
        for number in range(10):
            client.signals.credit(**signal(number))
        client.flush()
        client.customers.get("cus_123")
        with suppress(ClockNextError):
            client.signals.credit(**signal(11), wait=True)
        client.signals.wallet(customer_id="cus_123", model="gpt-4o", tokens={"input": 5})


async def under_asyncio(server: EmulatorServer) -> None:
    """Run a client for asyncio."""
    async with AsyncClockNext(**settings(server)) as client:
        for number in range(10):
            await client.signals.credit(**signal(number))
        await client.flush(timeout=0.05)
        await client.signals.credit(**signal(12), wait=True)
        with suppress(ClockNextError):
            await client.customers.create(name="", email="nobody")


async def under_trio(server: EmulatorServer) -> None:
    """Run a client for trio, one of whose blocks is cancelled."""
    client = TrioClockNext(**settings(server))
    with trio.move_on_after(0.05):
        async with client:
            for number in range(10):
                await client.signals.credit(**signal(number))
            await trio.sleep_forever()
    async with client:
        await client.flush()
        await client.signals.outcome(
            customer_id="cus_123", model="gpt-4o", key="resolved_ticket.confirm", run_id="run", complete=True
        )


RUNS: dict[str, Callable[[EmulatorServer], object]] = {
    "threads": threads,
    "asyncio": lambda server: asyncio.run(under_asyncio(server)),
    "trio": lambda server: trio.run(under_trio, server),
}


def record(name: str) -> Path:
    """Record a trace anew, over the old one.

    Raises:
        KeyError: There is no such run.
    """
    path = FOLDER / f"{name}.jsonl"
    path.unlink(missing_ok=True)
    if name.startswith("simulated-"):
        lines: list[str] = []
        play(int(name.removeprefix("simulated-")), lines.append)
        path.write_text("".join(lines))
        return path
    with emulator() as server, recording(path):
        server.faults.script(*TROUBLES)
        RUNS[name](server)
    path.chmod(0o644)
    return path


if __name__ == "__main__":
    for each in sys.argv[1:]:
        print(record(each))
