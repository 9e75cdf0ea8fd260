"""Connections of our own to PostgreSQL, by psycopg 3: for relays and the command line."""

import re
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from clocknext_core import SpoolError, ValidationError
from clocknext_core.errors import invalid
from clocknext_core.text import printable

if TYPE_CHECKING:
    import psycopg

CONNECT_TIMEOUT = 5
"""Seconds for one attempt to connect."""

_DEFAULTS = {
    "connect_timeout": CONNECT_TIMEOUT,
    "application_name": "clocknext",
    # A server that vanished without a word is noticed before the lease is over.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}
"""What is asked of libpq where the URL does not say otherwise."""


class PassingError(SpoolError):
    """A failure that may pass by itself: the database can't be reached, or is being restarted."""


def connect(url: str) -> "psycopg.Connection[tuple[Any, ...]]":
    """Connect, each statement a transaction of its own.

    Nothing is prepared and nothing is set for the session, so that a pooler in transaction mode may be
    between.

    Args:
        url: `postgresql://…`, also as SQLAlchemy writes it (`postgresql+psycopg://…`), or libpq's
            `name=value` pairs.

    Raises:
        SpoolError: psycopg is not installed.
        PassingError: The database can't be reached.
        ValidationError: The URL is none.
    """
    package = _psycopg()
    try:
        given = package.conninfo.conninfo_to_dict(plain_url(url))
    except (package.ProgrammingError, UnicodeError):
        raise _no_url() from None
    try:
        connection: psycopg.Connection[tuple[Any, ...]] = package.connect(
            **{**_DEFAULTS, **given}, autocommit=True, prepare_threshold=None
        )
    except UnicodeError:  # psycopg looks the host up by its name in IDNA
        raise _no_url() from None
    except package.Error as error:
        raise PassingError(f"The database can't be reached: {described(error)}", retryable=True) from None
    return connection


def _no_url() -> ValidationError:
    return invalid("url", "is not a URL of PostgreSQL, such as postgresql://user@host/database")


@contextmanager
def connected(url: str) -> Generator["psycopg.Connection[tuple[Any, ...]]", None, None]:
    """Connect for the length of a block; what the database refuses in it is a `SpoolError`."""
    connection = connect(url)
    try:
        with failures():
            yield connection
    finally:
        with suppress(Exception):
            connection.close()


@contextmanager
def failures() -> Generator[None, None, None]:
    """Turn the errors of psycopg into a `SpoolError`."""
    psycopg = _psycopg()
    try:
        yield
    except psycopg.errors.UndefinedTable:
        raise SpoolError(
            "The database has no outbox: run `clocknext outbox migrate`.", retryable=True
        ) from None
    except psycopg.OperationalError as error:
        raise PassingError(f"The database failed: {described(error)}", retryable=True) from None
    except psycopg.Error as error:
        raise SpoolError(f"The database failed: {described(error)}", retryable=True) from None


def described(error: Exception) -> str:
    """Return what an error of psycopg says, in one printable line. libpq shows no password."""
    return printable(" ".join(str(error).split())) or type(error).__name__


def plain_url(url: str) -> str:
    """Return a URL without the driver that SQLAlchemy puts behind the scheme."""
    return re.sub(r"\A(postgres(?:ql)?)\+\w+://", r"\1://", url)


def _psycopg() -> Any:
    try:
        import psycopg
    except ImportError as error:
        raise SpoolError(f"This needs psycopg 3: pip install 'clocknext[postgres]' ({error})") from None
    return psycopg
