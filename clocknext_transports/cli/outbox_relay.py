"""`clocknext outbox relay`: a relay as a process."""

import json
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import click

from clocknext_core import Retrying, SpoolError, Stats, ValidationError
from clocknext_core.claims import LEASE_SECONDS
from clocknext_transports import ClockNext
from clocknext_transports.cli.connection import Connection, with_connection
from clocknext_transports.cli.errors import CannotStartError
from clocknext_transports.cli.stop import stopped_by_signals
from clocknext_transports.cli.stream import concurrency_option
from clocknext_transports.cli.tables import say
from clocknext_transports.postgres import Relay, schema, survey
from clocknext_transports.postgres.database import PassingError, connected

QUEUE_SIZE = 1000
"""Most signals held; half of it is claimed at once at most."""
LINE_EVERY = 60.0
"""Seconds between two lines of the log."""
GLANCE = 0.5
"""Seconds between two looks whether a drain has come to its end, or the database to its start."""

EXIT_LEFT = 1


@click.command(short_help="Deliver what was committed to an outbox.")
@click.argument("url", metavar="URL", envvar="CLOCKNEXT_OUTBOX_URL")
@with_connection(max_attempts=8)
@concurrency_option
@click.option("--drain", is_flag=True, help="End when the outbox is empty.")
@click.option("--health", type=click.IntRange(0, 65535), metavar="PORT", help="Answer GET / on this port.")
@click.option(
    "--window",
    type=click.FloatRange(0, min_open=True),
    default=24.0,
    show_default=True,
    help="Hours; what is older goes into quarantine.",
)
@click.option(
    "--lease",
    type=click.FloatRange(1),
    default=LEASE_SECONDS,
    show_default=True,
    help="Seconds after which others claim what a relay held that has died.",
)
@click.option(
    "--start-timeout",
    type=click.FloatRange(0),
    default=10.0,
    show_default=True,
    help="Seconds to wait for a database that can't be reached at the start.",
)
@click.option(
    "--close-timeout",
    type=click.FloatRange(0),
    default=20.0,
    show_default=True,
    help="Seconds for what is held, after SIGTERM or Ctrl-C. The rest is given back.",
)
def relay(
    connection: Connection,
    *,
    url: str,
    concurrency: int,
    drain: bool,
    health: int | None,
    window: float,
    lease: float,
    start_timeout: float,
    close_timeout: float,
) -> None:
    """Deliver the signals that transactions committed to the outbox at URL, each billed once.

    Any number of relays may work on one outbox. A relay that dies loses nothing: its signals are claimed by
    another one after a minute at most. One that is stopped by SIGTERM or Ctrl-C delivers what it holds, for
    as long as --close-timeout allows, and gives back the rest. It prints a line at the start, each minute,
    and at the end.

    \b
    Exit status
    0    stopped as asked; with --drain: the outbox is empty
    1    with --drain: stopped before it was empty
    2    wrong usage; or it can't begin: the database can't be reached, or has no outbox of this version
    """  # noqa: D301 - click's mark of a block to leave as it is
    client = connection.client(
        ClockNext, concurrency=concurrency, max_queue_size=QUEUE_SIZE, on_retry=_ignore
    )
    try:
        _check_outbox(url, until=time.monotonic() + start_timeout)
    except (SpoolError, ValidationError) as error:
        client.close(timeout=0)
        raise CannotStartError(error.message) from None
    client.close_timeout = close_timeout
    running = Relay(url, client, window=window * 3600, lease=lease)
    is_empty = False
    with stopped_by_signals() as stop, running, _served(running, health):
        say("Relaying.", err=True)
        line_at = time.monotonic() + LINE_EVERY
        while not is_empty and not stop.wait(GLANCE if drain else line_at - time.monotonic()):
            if time.monotonic() >= line_at:
                line_at += LINE_EVERY
                say(_line(running), err=True)
            is_empty = drain and _is_empty(url)
        say("Stopping.", err=True)
    say(_line(running), err=True)
    if drain and not is_empty:
        click.get_current_context().exit(EXIT_LEFT)


def _check_outbox(url: str, *, until: float) -> None:
    """Require an outbox of this version. A database that may be starting is waited for, and that is said."""
    is_said = False
    while True:
        try:
            with connected(url) as opened:
                schema.check_version(schema.read_version(opened))
                opened.execute("SELECT FROM clocknext_outbox LIMIT 0")
            return
        except PassingError as error:
            left = until - time.monotonic()
            if left <= 0:
                raise
            if not is_said:
                say(f"{error.message}. Trying again for {left:.0f} s.", err=True)
                is_said = True
            time.sleep(min(GLANCE, left))


def _ignore(event: Retrying) -> None:
    """Print nothing for a retry: the lines count them."""
    del event


def _line(running: Relay[ClockNext]) -> str:
    stats = running.client.stats()
    text = (
        f"{stats.delivered:,} delivered, {stats.rejected:,} refused, {sum(stats.dropped.values()):,} dropped"
        f", {stats.held:,} held, {stats.retries:,} retries; the gate is {stats.gate}"
    )
    seconds = _silence(running)
    is_silent = seconds > running.spool.lease_seconds
    return f"{text}; no answer of the database for {seconds:.0f} s." if is_silent else f"{text}."


def _silence(running: Relay[ClockNext]) -> float:
    """Return the seconds since the database last answered."""
    return time.monotonic() - (running.spool.worked_at or float("-inf"))


def _is_empty(url: str) -> bool:
    try:
        return survey.is_empty(url)
    except SpoolError:  # it is being restarted
        return False


# Health


def health_of(stats: Stats, silence: float, lease: float) -> tuple[int, dict[str, object]]:
    """Return the status and body of a health check: whether the database has answered within a lease.

    An outage of the service is none of the relay's, and no reason to restart it.
    """
    is_healthy = silence <= lease
    return 200 if is_healthy else 503, {
        "status": "ok" if is_healthy else "the database does not answer",
        "secondsSinceDatabase": None if silence == float("inf") else round(silence, 1),
        "delivered": stats.delivered,
        "held": stats.held,
        "gate": stats.gate,
    }


@contextmanager
def _served(running: Relay[ClockNext], port: int | None) -> Generator[None, None, None]:
    """Answer health checks for the length of the block."""
    if port is None:
        yield
        return

    class Handler(BaseHTTPRequestHandler):
        timeout = 5.0

        def do_GET(self) -> None:
            code, body = health_of(running.client.stats(), _silence(running), running.spool.lease_seconds)
            content = json.dumps(body).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as in the base class
            """Log nothing: probes come every few seconds."""

    try:
        server = ThreadingHTTPServer(("", port), Handler)
    except OSError as error:
        raise CannotStartError(f"--health: port {port} can't be used: {error.strerror}.") from None
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="clocknext-health", daemon=True)
    thread.start()
    say(f"Health checks on port {server.server_port}.", err=True)
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
