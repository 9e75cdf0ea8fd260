"""Looking into an outbox from outside: how many signals wait, which relays live, what is in quarantine."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, LiteralString

from clocknext_transports.postgres.database import connected

MOST_COUNTED: Final = 1_000_000
"""Signals that are counted one by one; a larger table is only said to be larger."""

_COUNT: Final[LiteralString] = """
SELECT count(*), count(*) FILTER (WHERE lease = ANY(ARRAY(
    SELECT lease FROM clocknext_outbox_relays WHERE alive_until > clock_timestamp()
)))
FROM (SELECT lease FROM clocknext_outbox LIMIT %(most)s) AS counted
"""
_OLDEST: Final[LiteralString] = """
SELECT extract(epoch FROM clock_timestamp() - recorded_at)::float8 FROM clocknext_outbox ORDER BY id LIMIT 1
"""
_RELAYS: Final[LiteralString] = """
SELECT relay.name, extract(epoch FROM alive_until - clock_timestamp())::float8, rate,
    extract(epoch FROM clock_timestamp() - started_at)::float8
FROM clocknext_outbox_relays AS relay
WHERE alive_until > clock_timestamp() ORDER BY relay.name
"""
_QUARANTINE: Final[LiteralString] = """
SELECT id, key, body, extract(epoch FROM recorded_at)::float8, reason FROM clocknext_outbox_quarantine
WHERE %(keys)s::text[] IS NULL OR key = ANY(%(keys)s) ORDER BY id
"""
_RELEASE: Final[LiteralString] = """
WITH released AS (
    DELETE FROM clocknext_outbox_quarantine WHERE id = ANY(%(ids)s::bigint[]) RETURNING key, body
)
INSERT INTO clocknext_outbox (key, body) SELECT key, body FROM released ON CONFLICT DO NOTHING
"""
_DELETE: Final[LiteralString] = "DELETE FROM clocknext_outbox_quarantine WHERE id = ANY(%(ids)s::bigint[])"


@dataclass(frozen=True, slots=True)
class RelayAlive:
    """A relay whose lease is not over."""

    name: str
    """Its host and process."""
    alive_for: float
    """Seconds until its lease is over, if it is not renewed."""
    rate: float
    """Signals settled in a second, when it last renewed its lease."""
    leased_for: float
    """Seconds since it took its lease."""


@dataclass(frozen=True, slots=True)
class Status:
    """What is in an outbox."""

    depth: int
    """Signals in the table, `MOST_COUNTED` at most."""
    leased: int
    """Of those counted, how many a living relay has claimed."""
    oldest: float | None
    """Seconds since the first signal of the table was recorded; `None`: it is empty."""
    quarantined: int
    relays: Sequence[RelayAlive]

    @property
    def rate(self) -> float:
        """Signals settled in a second by all relays."""
        return sum(relay.rate for relay in self.relays)


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A signal in quarantine."""

    id: int
    key: str
    body: bytes = field(repr=False)
    recorded_at: float
    """Seconds since 1970, by the server's clock."""
    reason: str


def status(url: str) -> Status:
    """Count what is in an outbox.

    Raises:
        SpoolError: The database can't be reached, or has no outbox.
    """
    with connected(url) as connection:
        depth, leased = connection.execute(_COUNT, {"most": MOST_COUNTED}).fetchall()[0]
        oldest = connection.execute(_OLDEST).fetchone()
        relays = [RelayAlive(*row) for row in connection.execute(_RELAYS).fetchall()]
        quarantined = connection.execute("SELECT count(*) FROM clocknext_outbox_quarantine").fetchall()[0][0]
    return Status(depth, leased, None if oldest is None else oldest[0], quarantined, relays)


def is_empty(url: str) -> bool:
    """Return whether the table of an outbox holds no signal, claimed or not.

    Raises:
        SpoolError: As `status`.
    """
    with connected(url) as connection:
        return connection.execute("SELECT FROM clocknext_outbox LIMIT 1").fetchone() is None


def quarantine(url: str, keys: Sequence[str] | None = None) -> list[Quarantined]:
    """Return what is in quarantine; with `keys` only these.

    Raises:
        SpoolError: As `status`.
    """
    with connected(url) as connection:
        cursor = connection.cursor(binary=True)
        rows = cursor.execute(_QUARANTINE, {"keys": None if keys is None else [*keys]}).fetchall()
    return [Quarantined(*row) for row in rows]


def release(url: str, entries: Sequence[Quarantined]) -> None:
    """Put signals back into the outbox, to be sent; their age counts from now.

    Raises:
        SpoolError: As `status`.
    """
    with connected(url) as connection:
        connection.execute(_RELEASE, {"ids": [entry.id for entry in entries]})


def delete(url: str, entries: Sequence[Quarantined]) -> None:
    """Delete signals from the quarantine. They will not be billed.

    Raises:
        SpoolError: As `status`.
    """
    with connected(url) as connection:
        connection.execute(_DELETE, {"ids": [entry.id for entry in entries]})
