"""What the check of tests/life/__main__.py serves: a client made at import, in processes forked later."""

import os
from collections.abc import Callable, Iterable
from typing import Any

from clocknext_core import BatchPolicy
from clocknext_transports import ClockNext

# So long an interval that what is held at the end is sent at the end, or not at all.
batch = BatchPolicy(max_interval=600.0)
client = ClockNext(os.environ["KEY"], base_url=os.environ["URL"], batch=batch)


def record(key: str) -> None:
    """Record one signal."""
    client.signals.wallet(
        customer_id="cus_123", model="gpt-4o", tokens={"input": 8, "output": 1}, idempotency_key=key
    )


def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Answer a request when its signal is recorded; its path is the signal's key."""
    record(str(environ["PATH_INFO"]).strip("/"))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
