"""Relays: a client that delivers what transactions committed to an outbox."""

from types import TracebackType
from typing import Any, Generic, TypeVar

from clocknext_core.checks import check_instance, check_seconds
from clocknext_core.claims import LEASE_SECONDS
from clocknext_core.errors import invalid
from clocknext_transports.client.base import ClientBase
from clocknext_transports.loops.client import LoopClient
from clocknext_transports.postgres.store import LEAST_LEASE, WINDOW, ClaimingSpool
from clocknext_transports.sync import ClockNext

C = TypeVar("C", bound=ClientBase[Any, Any, Any])
L = TypeVar("L", bound=LoopClient[Any])


class Relay(Generic[C]):
    """Has a client deliver the signals that transactions committed to the outbox of a database.

    Its block is the client's: a `with` block for a `ClockNext`, an `async with` block for an `AsyncClockNext`
    or a `TrioClockNext`. At the end of the block the client is closed: it delivers what it holds, for up to
    its `close_timeout`, and gives back the rest for other relays.

    The client's limits, hooks and `stats()` are those of any client. What it records itself is stored in the
    outbox too. A `BatchPolicy` with a `max_queue_size` of 1,000 has it claim 500 signals at a time.

    Args:
        url: Where the database is: `postgresql://…`, or what libpq takes.
        client: A new client, which has recorded nothing and has no spool.
        window: Seconds after which a recorded signal is put in quarantine instead of sent: as long as the
            service is assumed to know its idempotency key.
        lease: Seconds after which other relays claim what this one holds, if it has died. It is renewed after
            a third of that.

    Raises:
        ClockNextError: The client has a spool or has been used.
        ValidationError: A bad argument, such as a client that is disabled.
    """

    def __init__(self, url: str, client: C, *, window: float = WINDOW, lease: float = LEASE_SECONDS) -> None:
        check_instance("url", url, str)
        check_instance("client", client, ClientBase)
        if client.config.disabled:
            raise invalid(
                "client",
                "must not be disabled (disabled=True, or CLOCKNEXT_DISABLED is set): a relay has to send",
            )
        self.client: C = client
        if check_seconds("lease", lease) < LEAST_LEASE:
            raise invalid("lease", f"must be at least {LEAST_LEASE:.0f} second")
        checked = check_seconds("window", window, positive=True)
        self.spool: ClaimingSpool = ClaimingSpool(url, window=checked, lease=lease)
        """The claims, as the spool of the client."""
        client.store_in(self.spool)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.client!r}>"

    def __enter__(self: "Relay[ClockNext]") -> "Relay[ClockNext]":
        self.client.__enter__()
        return self

    def __exit__(
        self: "Relay[ClockNext]",
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.client.__exit__(kind, error, trace)

    async def __aenter__(self: "Relay[L]") -> "Relay[L]":
        await self.client.__aenter__()
        await self.client.flush(timeout=0)  # starts what serves, in this event loop
        return self

    async def __aexit__(
        self: "Relay[L]",
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.client.__aexit__(kind, error, trace)
