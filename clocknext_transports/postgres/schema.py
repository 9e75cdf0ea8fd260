"""The tables of an outbox, as plain SQL, and what brings a database up to them.

Names are not qualified: the connection's `search_path` says which schema they are in. One schema is the
outbox of one organisation of ClockNext, since a key is unique in the table as it is for the service.
"""

from typing import Any, Final, LiteralString

from clocknext_core import SpoolError, ValidationError

VERSION: Final = 1
"""The version of the tables that this library makes and reads."""

VERSION_1: Final[LiteralString] = """
CREATE TABLE IF NOT EXISTS clocknext_outbox_version (
    version integer NOT NULL
);
CREATE TABLE IF NOT EXISTS clocknext_outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text NOT NULL UNIQUE,
    body bytea NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    lease bigint,
    attempts integer NOT NULL DEFAULT 0
) WITH (
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0.05
);
CREATE TABLE IF NOT EXISTS clocknext_outbox_relays (
    lease bigint PRIMARY KEY,
    alive_until timestamptz NOT NULL,
    beat bigint NOT NULL DEFAULT 0,
    name text NOT NULL,
    rate double precision NOT NULL DEFAULT 0,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);
CREATE TABLE IF NOT EXISTS clocknext_outbox_quarantine (
    id bigint PRIMARY KEY,
    key text NOT NULL,
    body bytea NOT NULL,
    recorded_at timestamptz NOT NULL,
    reason text NOT NULL,
    quarantined_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON COLUMN clocknext_outbox.lease IS 'the relay that holds the signal, while its row is alive';
COMMENT ON COLUMN clocknext_outbox.attempts IS 'how often a relay has claimed the signal';
INSERT INTO clocknext_outbox_version (version)
    SELECT 1 WHERE NOT EXISTS (SELECT FROM clocknext_outbox_version);
"""

_MIGRATIONS: Final[tuple[LiteralString, ...]] = (VERSION_1,)
"""What brings a database from each version to the next, the first from none at all."""

DROP: Final[LiteralString] = """
DROP TABLE IF EXISTS clocknext_outbox, clocknext_outbox_relays, clocknext_outbox_quarantine,
    clocknext_outbox_version;
"""
"""Removes all tables, and what is in them."""

_LOCK: Final[LiteralString] = "SELECT pg_advisory_xact_lock(hashtext('clocknext_outbox'))"
"""Two migrations at the same time wait for each other, until the transaction ends."""


def statements() -> LiteralString:
    """Return the SQL that makes the tables where they are missing. Run it in one transaction."""
    sql: LiteralString = ""
    for migration in _MIGRATIONS:
        sql += migration
    return sql


def writer_rights(role: str) -> str:
    """Return the SQL that lets a role record signals, and nothing else."""
    return f"GRANT INSERT ON clocknext_outbox TO {_quoted(role)};"


def relay_rights(role: str) -> str:
    """Return the SQL that lets a role relay signals and decide on the quarantine, and nothing else."""
    quoted = _quoted(role)
    return (
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON clocknext_outbox, clocknext_outbox_relays, "
        f"clocknext_outbox_quarantine TO {quoted};\n"
        f"GRANT SELECT ON clocknext_outbox_version TO {quoted};"
    )


def migrate(url: str) -> bool:
    """Make the tables of an outbox, or bring them up to this version; return whether that changed anything.

    Running it again, or in several processes at the same time, is harmless.

    Args:
        url: Where the database is: `postgresql://…`, or what libpq takes.

    Raises:
        SpoolError: The database can't be reached or refuses, or its tables are of a newer version.
    """
    from clocknext_transports.postgres.database import connected

    with connected(url) as connection, connection.transaction():
        connection.execute(_LOCK)
        version = read_version(connection)
        check_version(version)
        if version == VERSION:
            return False
        for migration in _MIGRATIONS[version:]:
            connection.execute(migration)
    return True


def read_version(connection: Any) -> int:
    """Return the version of a database's tables, 0 where there are none; `connection` is one of psycopg's."""
    found = connection.execute("SELECT to_regclass('clocknext_outbox_version') IS NOT NULL").fetchone()[0]
    if not found:
        return 0
    row = connection.execute("SELECT max(version) FROM clocknext_outbox_version").fetchone()
    return row[0] or 0


def check_version(version: int) -> None:
    """Refuse tables of a newer version, of which this library doesn't know what they mean.

    Raises:
        SpoolError: They are newer.
    """
    if version > VERSION:
        raise SpoolError(
            f"The outbox's tables are of version {version}, and this clocknext knows version {VERSION} at "
            "most: install a newer one."
        )


def _quoted(name: str) -> str:
    if not name.isprintable():  # the statements are shown on terminals
        raise ValidationError("role: must consist of printable characters")
    return '"' + name.replace('"', '""') + '"'
