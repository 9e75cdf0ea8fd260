"""Many machines: signals as rows in the user's PostgreSQL, and relays that deliver each of them.

`outbox` records a signal in the user's own transaction. A `Relay`, of which there may be any number on any
number of machines, claims what was committed and has an ordinary client deliver it. `migrate` makes the
tables.

Relays need psycopg 3 (the extra `postgres`); `outbox` needs nothing but the driver of the connection.
"""

from clocknext_transports.postgres.recording import AsyncOutbox, Outbox, outbox
from clocknext_transports.postgres.relay import Relay
from clocknext_transports.postgres.schema import migrate
from clocknext_transports.postgres.store import ClaimingSpool

__all__ = ["AsyncOutbox", "ClaimingSpool", "Outbox", "Relay", "migrate", "outbox"]
