"""Clients of the three kinds, alike to a test in the main thread, which can see to them before they run."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TypeAlias, Unpack

import anyio.from_thread

from clocknext_core import BatchPolicy, CreditSignal, RetryPolicy
from clocknext_transports import AsyncClockNext, ClockNext, TrioClockNext
from tests.contract.clients import Options
from tests.transports.support import KEY, BlockingClient, Client, Native, PortalClient

AnyClient: TypeAlias = ClockNext | AsyncClockNext | TrioClockNext

ONE_BY_ONE = BatchPolicy(max_size=1, max_concurrency=1)
QUICK = RetryPolicy(max_attempts=2, base_delay=0.001, max_delay=0.002)


@contextmanager
def opened(
    kind: Native, url: str, see_to: Callable[[AnyClient], object], **options: Unpack[Options]
) -> Generator[Client, None, None]:
    """Open a client that sends one signal at a time, after a function has seen to it."""
    options = {"api_key": KEY, "batch": ONE_BY_ONE, "retry": QUICK, **options}
    if kind == "sync":
        with ClockNext(base_url=url, **options) as blocking:
            see_to(blocking)
            yield BlockingClient(blocking)
        return
    with anyio.from_thread.start_blocking_portal(kind) as portal:
        make = AsyncClockNext if kind == "asyncio" else TrioClockNext
        made = make(base_url=url, **options)
        see_to(made)
        with portal.wrap_async_context_manager(made):
            yield PortalClient(made, portal)


def signal(key: str) -> CreditSignal:
    """Make a signal about which there is much to be discreet."""
    return CreditSignal(
        customer_id="cus_secret",
        model="gpt-4o",
        key="api_credit",
        member="alice@acme.example",
        custom={"note": "confidential"},
        idempotency_key=key,
    )


PERSONAL = ("cus_secret", "alice@acme.example", "confidential", KEY)
"""What is to be told to nobody of these signals."""
