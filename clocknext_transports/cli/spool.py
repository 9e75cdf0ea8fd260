"""`clocknext spool`: look into a spool, deliver what was left in it, decide on what is in quarantine."""

import json
import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import click

from clocknext_core import (
    AllowanceError,
    ClockNextError,
    NotFoundError,
    Operation,
    PlanError,
    SpoolError,
    TrackResult,
    ValidationError,
)
from clocknext_core.envelope import Payload
from clocknext_core.operations import USAGE_PATH
from clocknext_transports import ClockNext
from clocknext_transports.cli.connection import Connection, with_connection
from clocknext_transports.cli.decorator import Decorator
from clocknext_transports.cli.errors import CallFailedError, CannotStartError
from clocknext_transports.cli.quarantine import Choice, quarantine_options
from clocknext_transports.cli.stream import EXIT_REFUSED, concurrency_option
from clocknext_transports.cli.tables import Justify, Table, cell, print_json, print_json_line, say
from clocknext_transports.cli.tables import show as show_tables
from clocknext_transports.cli.tally import describe
from clocknext_transports.spool import SqliteSpool, Stored
from clocknext_transports.spool.files.database import DamagedError
from clocknext_transports.spool.files.quarantine import Quarantine, Quarantined
from clocknext_transports.spool.survey import Surveyed, set_aside, signals, survey

WAVE = 256
"""Signals adopted at once."""

_COLUMNS: dict[str, Justify] = {
    "File": "left",
    "Process": "left",
    "State": "left",
    "Signals": "right",
    "Oldest": "left",
}

path_argument: Decorator = click.argument(
    "path", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="PATH"
)
json_option: Decorator = click.option("--json", "as_json", is_flag=True, help="As JSON.")


@contextmanager
def _reported() -> Generator[None, None, None]:
    try:
        yield
    except SpoolError as error:
        raise CannotStartError(error.message) from None
    except DamagedError as error:
        raise CannotStartError(f"A file of the spool is damaged: {error}.") from None


@click.group(short_help="Look into a spool, and deliver what was left in it.")
def spool() -> None:
    """Look into the directory of a spool, deliver what was left in it, decide on what is in quarantine."""


@spool.command("list", short_help="The files of a spool.")
@path_argument
@json_option
def list_files(path: Path, *, as_json: bool) -> None:
    """List the files of the spool in PATH: their process, whether it lives, and their signals.

    Signals left behind by a dead process are adopted by the next one that opens the spool, or by `replay`.
    """
    with _reported():
        found = survey(path)
        quarantined = _entries(path)
        aside = set_aside(path)
    if as_json:
        print_json(
            {
                "files": [_described(one) for one in found],
                "quarantined": len(quarantined),
                "damaged": aside,
            }
        )
        return
    rows = [
        [
            *map(cell, (one.name, one.owner and f"{one.owner.host} {one.owner.pid}", _state(one), one.count)),
            _time(one.oldest_at),
        ]
        for one in found
    ]
    show_tables(Table(_COLUMNS, rows))
    if quarantined:
        say(f"In quarantine: {len(quarantined):,}. See `clocknext spool quarantine`.")
    for one in found:
        if one.damage:
            say(f"{one.name} can't be read: {one.damage}", err=True)
    for name in aside:
        say(f"Set aside as damaged: {name}")


@spool.command("show", short_help="The signals in a spool.")
@path_argument
@click.option("--key", metavar="KEY", help="Only the signal with this idempotency key.")
def show(path: Path, *, key: str | None) -> None:
    """Print the signals in the spool in PATH as JSON Lines, those in quarantine last.

    Each line has the signal's idempotency key, when it was recorded, where it is and in what state (alive,
    left behind, quarantined), and the signal as it is sent. A file that can't be read is reported on stderr.
    """
    with _reported():
        found = survey(path)
    for one in found:
        try:
            if one.damage:
                raise DamagedError(one.damage)
            for stored in signals(path, one.name):
                if key in (None, stored.idempotency_key):
                    print_json_line(_line(stored, _state(one), file=one.name))
        except (DamagedError, SpoolError) as error:
            say(f"{one.name} can't be read: {error}", err=True)
    for entry in _entries(path):
        if key in (None, entry.signal.idempotency_key):
            print_json_line(_line(entry.signal, "quarantined", reason=entry.reason))


@spool.command(short_help="Deliver what was left behind.")
@path_argument
@with_connection(max_attempts=8)
@concurrency_option
@click.option("--quarantined", is_flag=True, help="Release all that is in quarantine first.")
@click.option(
    "--window",
    type=click.FloatRange(0),
    default=24.0,
    show_default=True,
    help="Hours; what is older goes into quarantine.",
)
def replay(connection: Connection, *, path: Path, concurrency: int, quarantined: bool, window: float) -> None:
    """Deliver the signals that dead processes left in the spool in PATH.

    Each is sent as it was recorded, under its own key, so that what was delivered before is not billed again.
    Signals that the service refuses go into quarantine, with the reason. Files of processes that live are
    left alone. When it is stopped, undelivered signals stay: run it again.

    \b
    Exit status
    0    all that was left behind was delivered
    1    some signals were refused, or too old: they are in quarantine
    2    wrong usage; or stopped: the key was not accepted, or the service could not be reached
    130  stopped by Ctrl-C
    """  # noqa: D301 - click's mark of a block to leave as it is
    # The connection first: if it can't be used, the spool stays as it is.
    with (
        connection.opened() as client,
        _reported(),
        closing(SqliteSpool(path, window=window * 3600)) as own,
    ):
        if quarantined:
            _release(path, _entries(path))
        run = _Replay(own)
        try:
            run.deliver(client, concurrency)
        finally:
            say(f"{run.delivered:,} delivered, {run.refused:,} refused, {run.expired:,} too old to be sent.")
    if run.refused or run.expired:
        say("The other signals are in quarantine: see `clocknext spool quarantine`.")
        click.get_current_context().exit(EXIT_REFUSED)


@spool.command(short_help="List, release or delete what is in quarantine.")
@path_argument
@quarantine_options(release="Leave it to the next process, or to `replay`, to be sent.")
def quarantine(path: Path, *, choice: Choice) -> None:
    """List what is in the quarantine of the spool in PATH, and why; or decide on it.

    A signal is put there when it was older than the window, since the service may have forgotten its key by
    then and bill it twice; when it was damaged on disk; or when the service refused it in a replay. A
    released signal is sent after all: its age counts from now. One that was damaged in quarantine can't be
    released.
    """
    with _reported():
        keys = choice.keys
        entries = [one for one in _entries(path) if not keys or one.signal.idempotency_key in keys]
        if choice.release:
            entries = _release(path, entries)
        elif choice.delete:
            Quarantine(path).remove(entries)
    choice.show([_line(one.signal, "quarantined", reason=one.reason) for one in entries])


class _Replay:
    """Adopt and deliver until nothing is left, and count."""

    def __init__(self, own: SqliteSpool) -> None:
        self._own = own
        self.delivered = 0
        self.refused = 0
        self.expired = 0

    def deliver(self, client: ClockNext, concurrency: int) -> None:
        """Deliver everything.

        Raises:
            ClockNextError: The key was not accepted, or the service could not be reached.
        """
        pool = ThreadPoolExecutor(concurrency)
        try:
            for wave in self._waves():
                for stored, failed in zip(wave, pool.map(partial(_send, client), wave), strict=True):
                    self._settle(stored, failed)
        finally:
            pool.shutdown(cancel_futures=True)

    def _waves(self) -> Iterator[Sequence[Stored]]:
        while True:
            wave = self._own.adopt(WAVE)
            problems = self._own.take_problems()
            for problem in problems:
                self.expired += problem.signal is not None
                say(problem.message, err=True)
            if not wave and not problems:
                return
            yield wave

    def _settle(self, stored: Stored, failed: ClockNextError | None) -> None:
        if failed is None:
            self._own.erase([stored.idempotency_key])
            self.delivered += 1
        elif _is_about_the_signal(failed):
            self._own.quarantine([stored.idempotency_key], describe(failed))
            self.refused += 1
        else:
            raise CallFailedError(
                failed, "Undelivered signals stay in the spool: run the same command again."
            )


def _send(client: ClockNext, stored: Stored) -> ClockNextError | None:
    """Send a signal, byte for byte as it was recorded; return the error if it was not delivered."""

    def read(payload: Payload) -> TrackResult:
        return TrackResult(payload, idempotency_key=stored.idempotency_key)

    try:
        client.run(Operation("POST", USAGE_PATH, read, stored.body, replay_safe=True))
    except ClockNextError as error:
        return error
    return None


def _is_about_the_signal(error: ClockNextError) -> bool:
    """Return whether another signal might be answered otherwise: the API has spoken about this one."""
    if error.hint is not None:
        return False
    kinds = ValidationError | PlanError | AllowanceError | NotFoundError
    return isinstance(error, kinds) or error.status == 413


def _entries(path: Path) -> list[Quarantined]:
    """Return the signals in quarantine; none, with a report on stderr, if it can't be read."""
    try:
        return Quarantine(path).entries()
    except (DamagedError, SpoolError) as error:
        say(f"The quarantine can't be read: {error}", err=True)
        return []


def _release(path: Path, entries: Sequence[Quarantined]) -> list[Quarantined]:
    """Leave sound signals to the next process that adopts, and return them.

    Interrupted, it leaves them in quarantine too.
    """
    sound = [one for one in entries if one.is_sound]
    if len(sound) < len(entries):
        say(f"{len(entries) - len(sound):,} are damaged and stay in quarantine.", err=True)
    now = time.time()
    with closing(SqliteSpool(path)) as own:
        own.append([Stored(one.signal.idempotency_key, one.signal.body, now) for one in sound])
        Quarantine(path).remove(sound)
    return sound


def _described(one: Surveyed) -> dict[str, object]:
    return {
        "name": one.name,
        "state": _state(one),
        "signals": one.count,
        "oldest": _time(one.oldest_at) or None,
        "host": one.owner and one.owner.host,
        "pid": one.owner and one.owner.pid,
        "startedAt": one.owner and _time(one.owner.started_at),
        "damage": one.damage or None,
    }


def _line(stored: Stored, state: str, **more: str) -> dict[str, object]:
    try:
        body: object = json.loads(stored.body)
    except (ValueError, RecursionError):
        body = stored.body.decode("utf-8", "backslashreplace")
    return {
        "idempotencyKey": stored.idempotency_key,
        "recordedAt": _time(stored.recorded_at),
        "state": state,
        **more,
        "signal": body,
    }


def _state(one: Surveyed) -> str:
    if one.damage:
        return "damaged"
    return "alive" if one.is_alive else "left behind"


def _time(at: float | None) -> str:
    if at is None:
        return ""
    try:
        return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
    except (TypeError, ValueError, OverflowError, OSError):  # of a damaged row
        return "unknown"
