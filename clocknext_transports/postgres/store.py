"""The table of an outbox as the shared spool of a relay's client.

What is claimed when, and what an answer means, `clocknext_core.claims` decides; here its statements are run,
one at a time and each a transaction of its own. The thread of the spool's writer calls everything, and waits
here for the database instead of in the client's driver.
"""

import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Any, Final, LiteralString, assert_never

from clocknext_core import SpoolError, Wait
from clocknext_core.claims import (
    LEASE_SECONDS,
    Claim,
    Claims,
    Register,
    Release,
    Renew,
    Replace,
    Row,
    SetAside,
    Settle,
    Statement,
    Unclaim,
)
from clocknext_transports.postgres import schema
from clocknext_transports.postgres.database import connect, failures
from clocknext_transports.spool.protocol import Problem, Stored

if TYPE_CHECKING:
    import psycopg

WINDOW: Final = 24 * 3600.0
"""Seconds after which a recorded signal is not sent: the service may have forgotten its key."""

LEAST_LEASE: Final = 1.0
"""Fewest seconds that a lease may last."""

_REGISTER: Final[LiteralString] = """
INSERT INTO clocknext_outbox_relays (lease, alive_until, name)
VALUES (%(lease)s, clock_timestamp() + %(seconds)s::interval, %(name)s)
ON CONFLICT (lease) DO UPDATE SET alive_until = excluded.alive_until, beat = 0
"""
_PURGE: Final[LiteralString] = """
DELETE FROM clocknext_outbox_relays WHERE alive_until < clock_timestamp() - interval '1 day'
"""
_RENEW: Final[LiteralString] = """
UPDATE clocknext_outbox_relays
SET alive_until = clock_timestamp() + %(seconds)s::interval, beat = beat + 1, rate = %(rate)s
WHERE lease = %(lease)s AND beat = %(beat)s
RETURNING (SELECT max(version) FROM clocknext_outbox_version)
"""
_CARRY_OVER: Final[LiteralString] = """
UPDATE clocknext_outbox SET lease = %(new)s WHERE id = ANY(%(ids)s::bigint[]) AND lease = %(old)s
"""
_RELEASE: Final[LiteralString] = "DELETE FROM clocknext_outbox_relays WHERE lease = %(lease)s"
# A row that another relay takes after this statement's snapshot was made may carry a lease that the
# snapshot does not know to be alive. What tells it is that its lease is another one than in the snapshot.
# That stands in the outer condition, where the planner can't take it for one that few rows meet.
_CLAIM: Final[LiteralString] = """
UPDATE clocknext_outbox AS taken SET lease = %(lease)s, attempts = attempts + 1
WHERE id = ANY(ARRAY(
    SELECT id FROM clocknext_outbox
    WHERE id > %(above)s AND (lease IS NULL OR lease <> ALL(ARRAY(
        SELECT lease FROM clocknext_outbox_relays WHERE alive_until > clock_timestamp()
    )))
    ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)) AND lease IS NOT DISTINCT FROM (SELECT lease FROM clocknext_outbox AS seen WHERE seen.id = taken.id)
RETURNING id, key, body, extract(epoch FROM clock_timestamp() - recorded_at)::float8
"""
_SETTLE: Final[LiteralString] = (
    "DELETE FROM clocknext_outbox WHERE id = ANY(%(ids)s::bigint[]) AND lease = %(lease)s"
)
_UNCLAIM: Final[LiteralString] = """
UPDATE clocknext_outbox SET lease = NULL WHERE id = ANY(%(ids)s::bigint[]) AND lease = %(lease)s
"""
_SET_ASIDE: Final[LiteralString] = """
WITH gone AS (
    DELETE FROM clocknext_outbox WHERE id = ANY(%(ids)s::bigint[]) AND lease = %(lease)s
    RETURNING id, key, body, recorded_at
)
INSERT INTO clocknext_outbox_quarantine (id, key, body, recorded_at, reason)
SELECT id, key, body, recorded_at, reason
FROM gone JOIN unnest(%(ids)s::bigint[], %(reasons)s::text[]) AS why (id, reason) USING (id)
ON CONFLICT (id) DO NOTHING
"""
_APPEND: Final[LiteralString] = """
INSERT INTO clocknext_outbox (key, body, lease)
SELECT key, body, %(lease)s FROM unnest(%(keys)s::text[], %(bodies)s::bytea[]) AS given (key, body)
ON CONFLICT DO NOTHING
RETURNING id, key
"""


class ClaimingSpool:
    """A shared spool whose signals are the rows of an outbox's table. It is a `Spool` and a `SharedSpool`.

    A lost connection is opened again; what has ended meanwhile is settled then.

    Args:
        url: Where the database is: `postgresql://…`, or what libpq takes.
        window: Seconds after which a recorded signal is put in quarantine instead of sent, by the server's
            clock.
        lease: Seconds after which other relays may claim what this one holds, if it does not renew its lease.
        clock: Seconds on a monotonic clock.
        wall: Seconds since 1970, on the clock that the client's keeper reads.
    """

    def __init__(
        self,
        url: str,
        *,
        window: float = WINDOW,
        lease: float = LEASE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._url = url
        self._window = window
        self._lease_seconds = lease
        self._clock = clock
        self._wall = wall
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None
        self._problems: list[Problem] = []
        self._found: Sequence[Row] | None = None
        """What the claim that was asked for has found; `None` until it has been carried out."""
        self.worked_at: float | None = None
        """When the database last carried out a statement, on the monotonic clock; `None`: never yet."""
        self._begin()

    def _begin(self) -> None:
        self._claims = Claims(_new_lease, Random(_new_lease()), lease_seconds=self._lease_seconds)  # noqa: S311

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"  # the URL may hold a password

    @property
    def window(self) -> float:
        """Seconds after which a stored signal is not sent."""
        return self._window

    @property
    def settled(self) -> int:
        """Signals deleted from the table because they had ended."""
        return self._claims.settled

    @property
    def lease_seconds(self) -> float:
        """How long a lease lasts."""
        return self._lease_seconds

    @property
    def lease(self) -> int:
        """The lease under which signals are claimed."""
        return self._claims.lease

    # Spool

    def append(self, signals: Sequence[Stored]) -> None:
        """Store signals under this relay's lease; see `Spool.append`. A key that is there already stays."""
        self._run()
        bodies = {each.idempotency_key: each.body for each in signals}
        arguments = {"lease": self._claims.lease, "keys": [*bodies], "bodies": [*bodies.values()]}
        try:
            with failures():
                rows: list[tuple[int, str]] = self._connected().execute(_APPEND, arguments).fetchall()
        except SpoolError:
            self._hang_up()
            raise
        for row_id, key in rows:
            self._claims.hold(key, row_id)

    def erase(self, keys: Sequence[str]) -> None:
        """Have signals deleted that have ended; see `Spool.erase`. A failure is repeated by `tend`."""
        self._claims.settle(keys, now=self._clock())

    def adopt(self, limit: int) -> Sequence[Stored]:
        """Claim signals; see `Spool.adopt`."""
        self._claims.ask(limit)
        self._found = None
        try:
            self._run()
        except SpoolError:
            if self._found is None:  # else something failed after the claim, and is tried again
                raise
        found: list[Stored] = []
        for row in self._claimed():
            stored = Stored(row.key, row.body, self._wall() - row.age)
            if row.age < self._window:
                found.append(stored)
            else:
                self._claims.set_aside([row.key], "too old to be sent")
                self._problems.append(
                    Problem(
                        f"The signal {row.key!r} is too old to be sent: it was put in quarantine.", stored
                    )
                )
        return found

    def _claimed(self) -> Sequence[Row]:
        return self._found or ()

    def quarantine(self, keys: Sequence[str], reason: str) -> None:
        """Have signals set aside; see `Spool.quarantine`. A failure is repeated by `tend`."""
        self._claims.set_aside(keys, reason.replace("\0", "\\0"))

    def give_back(self, keys: Sequence[str]) -> None:
        """Leave signals to other relays; see `SharedSpool.give_back`. A failure is repeated by `tend`."""
        self._claims.give_back(keys)

    def tend(self) -> float | None:
        """Run what is due; see `SharedSpool.tend`."""
        with suppress(SpoolError):  # it is tried again when the back-off is over
            self._run()
        output = self._claims.poll(now=self._clock())
        if not isinstance(output, Wait):
            return 0.0
        return None if output.until is None else max(0.0, output.until - self._clock())

    def take_problems(self) -> Sequence[Problem]:
        """Return what was put in quarantine unasked; see `Spool.take_problems`."""
        taken, self._problems = self._problems, []
        return taken

    def suspend(self) -> None:
        """Close the connection, so that a fork does not share it."""
        self._hang_up()

    def resume(self) -> None:
        """Connect again when there is something to do."""

    def restart(self) -> None:
        """Begin anew in a forked child, with a lease of its own. The parent's connection is not touched."""
        self._connection = None
        self._begin()

    def close(self) -> None:
        """Settle what has ended, and give back everything else at once.

        Raises:
            SpoolError: The database can't be reached. What was not settled may be sent once more, under its
                key, when the lease is over.
        """
        self._claims.close()
        try:
            self._run()
        finally:
            self._hang_up()

    # Statements

    def _run(self) -> None:
        """Run the statements that are due.

        Raises:
            SpoolError: One failed.
        """
        while not isinstance(statement := self._claims.poll(now=self._clock()), Wait):
            self._carry_out(statement)

    def _carry_out(self, statement: Statement) -> None:
        is_sent = False
        try:
            connection = self._connected()
            is_sent = True
            with failures():
                self._execute(connection, statement)
        except BaseException:
            # Also what the server reports as failed may have been carried out: one that crashes says so too.
            self._claims.handle_failed(statement, is_uncertain=is_sent)
            self._hang_up()
            raise
        self.worked_at = self._clock()

    def _execute(self, connection: "psycopg.Connection[tuple[Any, ...]]", statement: Statement) -> None:
        match statement:
            case Register():
                self._register(connection, statement.lease)
                self._claims.handle_done(statement)
            case Renew():
                arguments = {
                    "lease": statement.lease,
                    "beat": statement.beat,
                    "rate": statement.rate,
                    "seconds": f"{self._lease_seconds} seconds",
                }
                renewed = connection.execute(_RENEW, arguments).fetchone()
                if renewed is not None:
                    schema.check_version(renewed[0] or 0)
                self._claims.handle_renewed(is_ours=renewed is not None)
            case Replace():
                with connection.transaction():
                    self._register(connection, statement.new)
                    carried = {"new": statement.new, "old": statement.old, "ids": [*statement.ids]}
                    connection.execute(_CARRY_OVER, carried)
                    if statement.ends_old:
                        connection.execute(_RELEASE, {"lease": statement.old})
                self._claims.handle_done(statement)
            case Claim():
                self._claim(connection, statement)
            case SetAside():
                values = {
                    "lease": statement.lease,
                    "ids": [*statement.ids],
                    "reasons": [*statement.reasons],
                }
                connection.execute(_SET_ASIDE, values)
                self._claims.handle_done(statement)
            case Settle() | Unclaim():
                sql = _SETTLE if isinstance(statement, Settle) else _UNCLAIM
                connection.execute(sql, {"lease": statement.lease, "ids": [*statement.ids]})
                self._claims.handle_done(statement)
            case Release():
                connection.execute(_RELEASE, {"lease": statement.lease})
                self._claims.handle_done(statement)
            case _:
                assert_never(statement)

    def _register(self, connection: "psycopg.Connection[tuple[Any, ...]]", lease: int) -> None:
        name = f"{socket.gethostname()}:{os.getpid()}"
        seconds = f"{self._lease_seconds} seconds"
        connection.execute(_REGISTER, {"lease": lease, "seconds": seconds, "name": name})
        connection.execute(_PURGE)

    def _claim(self, connection: "psycopg.Connection[tuple[Any, ...]]", claim: Claim) -> None:
        arguments = {"lease": claim.lease, "above": claim.above, "limit": claim.limit}
        cursor = connection.cursor(binary=True)
        rows = [Row(*row) for row in cursor.execute(_CLAIM, arguments).fetchall()]
        rows.sort(key=lambda row: row.id)
        self._found = self._claims.handle_claimed(claim, rows)

    def _connected(self) -> "psycopg.Connection[tuple[Any, ...]]":
        if self._connection is None:
            connection = connect(self._url)
            try:
                with failures():
                    schema.check_version(schema.read_version(connection))
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                connection.close()


def _new_lease() -> int:
    return int.from_bytes(os.urandom(8), "big") >> 1 or 1
