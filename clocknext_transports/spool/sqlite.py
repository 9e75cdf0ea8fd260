"""A spool of SQLite files, one for each process.

Two connections that write to one file wait for each other, and SQLite has lost commits that way. So each
process has a file of its own, which a lease guards (see `lease`). A file whose lease is free was left behind.
A process that has no file yet takes such a file as its own, with its signals. From others it moves the
signals, so that the number of files does not grow. A signal that is moved is at every moment, also that of a
power cut, in one of these states:

- only in the file it was left in, until it is durable in the adopter's;
- in both, until its removal is durable: it may be adopted once more, as a duplicate under its key;
- only in the adopter's.

So none is lost. An empty file is removed, its lock file last and with the lease held: a process that comes
too late locks an unlinked file, and notices.

A damaged file is read row by row into a new one, which is then treated as left behind, and set aside under
another name for a person to look at, once the new file is durable. So this can be interrupted too.

Only regular files of this user alone are opened (see `trust`). Others are reported once, and left as they
are. A file that can't be read is passed by, so that it does not keep others from adoption.
"""

import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import TypeVar

from clocknext_core import SpoolError
from clocknext_core.text import printable
from clocknext_transports.spool import survey
from clocknext_transports.spool.files import lease
from clocknext_transports.spool.files.claim import Claim, names
from clocknext_transports.spool.files.database import (
    DamagedError,
    Row,
    SignalFile,
    failures,
    has_unread,
    salvage,
)
from clocknext_transports.spool.files.quarantine import Quarantine
from clocknext_transports.spool.files.trust import UntrustedError, check_directory
from clocknext_transports.spool.protocol import Problem, Stored

T = TypeVar("T")

_OF_ONE_FILE = frozenset(
    {
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOLFS,
    }
)
"""Result codes of SQLite that concern the file alone, and not the disk or the process."""

WINDOW = 24 * 3600.0
"""Seconds for which the service is taken to know a key again. It publishes none."""


class SqliteSpool:
    """A spool in a directory, which any number of clients and processes of one machine may share.

    Args:
        path: The directory, on a local file system. It is made if it is not there (for this user alone,
            0700); its parent is not, so that a volume that is not mounted is noticed.
        window: Seconds after which a signal left behind is put in quarantine instead of adopted: the service
            may have forgotten its key by then, and bill it twice. Default: 24 hours.
        clock: Seconds since 1970.

    Raises:
        SpoolError: The path is no directory or can't be written to, another user owns it or may write to it
            (`trust.UntrustedError`), or the platform is Windows.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        window: float = WINDOW,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not lease.is_supported():
            raise SpoolError("A spool needs POSIX file locks, which Windows does not have.")
        self.path: Path = Path(path).absolute()
        self._window = window
        self._clock = clock
        self._quarantine = Quarantine(self.path)
        self._begin(self._new_claim())  # which proves that the directory can be written to

    def _begin(self, own: Claim | None) -> None:
        self._own = own
        """This process's file."""
        self._source: Claim | None = None
        """The file that is being adopted from, which may be the same."""
        self._undo_after: int | None = None
        """Rows after this one are of an append that failed, although they may have reached the disk."""
        self._left: int | None = None
        """Signals left behind that were not adopted yet, counted when a series of looks began."""
        self._reported: set[str] = set()
        """Problems of files that were passed by: each is reported once."""
        self._passed_by: set[str] = set()
        """Names of files that can't be adopted now."""
        self._problems: list[Problem] = []

    def _new_claim(self) -> Claim:
        with failures(self.path):
            try:
                self.path.mkdir(mode=0o700, exist_ok=True)
            except FileExistsError:
                pass  # something else than a directory, as the next check finds
            except FileNotFoundError as error:
                raise SpoolError(
                    f"The spool's directory {printable(str(self.path))} can't be created: {error.strerror}. "
                    "Its parent must exist; is a volume not mounted?",
                    retryable=True,
                ) from error
            check_directory(self.path)
        return Claim.new(self.path, now=self._clock())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"

    @property
    def window(self) -> float:
        """Seconds after which a stored signal is not sent any more."""
        return self._window

    # What this process records

    def append(self, signals: Sequence[Stored]) -> None:
        """Store signals in one transaction, durably.

        Raises:
            SpoolError: None is stored: the disk is full, it failed, or no file handle is left. (Where the
                disk fails to sync, that is so from the next append on: a crash before that may bring them
                back.)
        """

        def insert(file: SignalFile) -> None:
            last = file.last
            try:
                file.insert(signals)
            except SpoolError:
                self._undo_after = last
                raise

        self._on_own(insert)

    def erase(self, keys: Sequence[str]) -> None:
        """Forget signals that have ended, for each key the oldest one. It does not wait for the disk.

        Raises:
            SpoolError: None is forgotten.
        """
        if (own := self._own) is not None and own.is_made:
            self._on_own(lambda file: file.erase(keys, beside=own.unread))

    def quarantine(self, keys: Sequence[str], reason: str) -> None:
        """Set signals aside, durably.

        Raises:
            SpoolError: They are still where they were.
        """
        if (claim := self._own) is None or not claim.is_made:
            return

        def move(file: SignalFile) -> None:
            rows = [row for key in keys for row in file.oldest_of(key, beside=claim.unread)]
            self._put_in_quarantine([row.signal for row in rows], reason)
            file.delete(rows)

        self._on_own(move)

    def _on_own(self, action: Callable[[SignalFile], T]) -> T:
        """Do something with this process's file; with a new one, if it turns out to be damaged."""
        for _ in range(2):
            claim = self._own_claim()
            try:
                file = claim.file(now=self._clock())
                if self._undo_after is not None:
                    file.delete_after(self._undo_after)
                    self._undo_after = None
                return action(file)
            except DamagedError as error:
                # Its signals are held in memory too. It is left behind, and salvaged when it is adopted.
                self._say(f"The spool's file {claim.path} is damaged ({error}). A new one was begun.")
                self._forget(claim)
                claim.leave()
            except SpoolError:
                claim.shut()
                raise
        raise SpoolError(f"The spool in {self.path} can't be written: new files are damaged at once.")

    def _own_claim(self) -> Claim:
        if self._own is not None and self._own.is_lost:
            self._say(
                f"The spool's file {self._own.path}, its log or its lock file "
                "was removed while it was in use: what was in it may be in memory only. A new one was begun."
            )
            self._own.leave()
            self._forget(self._own)
        if self._own is None:
            self._own = self._new_claim()
        return self._own

    def _forget(self, claim: Claim) -> None:
        if claim is self._own:
            self._own = self._undo_after = None
        if claim is self._source:
            self._source = None

    # What others have left behind

    def adopt(self, limit: int) -> Sequence[Stored]:
        """Take over signals left behind by dead processes, oldest files first, in the order recorded.

        Those past the window, or damaged, go into quarantine and are reported as problems: an empty answer
        with problems means that there may be more. A file that can't be read is reported and passed by; it is
        tried again when there is nothing else to adopt.

        Raises:
            SpoolError: The disk is full, for example; nothing was taken over.
        """
        if self._left is None:
            self._left = survey.left_behind(self.path)
        while (claim := self._source or self._next_source()) is not None:
            self._source = claim
            try:
                rows = self._next_rows(claim, limit)
                if rows:
                    return self._take_over(claim, rows)
            except DamagedError as error:
                self._forget(claim)
                self._source = self._salvaged(claim, error)
                continue
            except SpoolError:
                claim.shut()
                raise
            self._source = None
            if claim is not self._own:
                claim.remove()
        self._passed_by.clear()
        self._left = None
        return ()

    def left_behind(self) -> int:
        """Count the signals of dead processes that are still to be adopted, as far as is known.

        They were counted when the first of them was adopted; 0 where nothing is being adopted.
        """
        return self._left or 0

    def _next_rows(self, claim: Claim, limit: int) -> Sequence[Row]:
        return claim.file(now=self._clock()).between(claim.position, claim.last, limit)

    def _next_source(self) -> Claim | None:
        for name in names(self.path):
            if name in self._passed_by:
                continue
            try:
                claim = Claim.take(self.path, name)
                if claim is not None and (claim := self._looked_over(claim)) is not None:
                    return claim
            except SpoolError as error:
                if not _concerns_one_file(error):
                    raise
                self._pass_by(name, error)
        return None

    def _pass_by(self, name: str, error: SpoolError) -> None:
        self._passed_by.add(name)
        if error.message not in self._reported:
            self._reported.add(error.message)
            self._say(
                f"{error.message} It was passed by: if it is another user's, that user has to adopt it."
            )

    def _looked_over(self, claim: Claim) -> Claim | None:
        """Read all of a file that was left behind; `None` if it has no signals."""
        try:
            if claim.is_made:
                if has_unread(claim.path):
                    return self._salvaged(claim, DamagedError("its log breaks off"))
                file = claim.file(now=self._clock())
                file.check()
                if file.is_blank and claim.was_whole:
                    return self._salvaged(claim, DamagedError("it is empty"))
                claim.last = 0 if file.is_blank else file.last
        except DamagedError as error:
            return self._salvaged(claim, error)
        except SpoolError:
            claim.leave()
            raise
        if claim.last == 0:
            claim.remove()
            return None
        return self._settled(claim)

    def _salvaged(self, claim: Claim, error: DamagedError) -> Claim | None:
        """Copy the readable signals of a damaged file into a new one, and set the damaged file aside."""
        claim.shut()
        new = self._new_claim()
        count = 0
        try:
            file = new.file(now=self._clock())
            for signals in salvage(claim.path):
                file.insert(signals)
                count += len(signals)
            new.last = file.last
        except BaseException:
            claim.leave()
            new.remove()
            raise
        aside = claim.set_aside()
        self._say(
            f"The spool's file {claim.path} is damaged ({error}) and kept as {aside.name}. Signals that "
            f"could be read, and are sent: {count}."
        )
        if count == 0:
            new.remove()
            return None
        return self._settled(new)

    def _settled(self, claim: Claim) -> Claim:
        """Make it this process's own file, if that has none yet."""
        if self._own is None or not self._own.is_made:
            if self._own is not None:
                self._own.remove()
            self._own = claim
            with suppress(SpoolError, DamagedError):  # the owner is for people only
                claim.file(now=self._clock()).take_over(now=self._clock())
        return claim

    def _take_over(self, claim: Claim, rows: Sequence[Row]) -> Sequence[Stored]:
        oldest_at = self._clock() - self._window
        damaged = [row for row in rows if not row.is_sound]
        expired = [row for row in rows if row.is_sound and row.signal.recorded_at < oldest_at]
        taken = [row.signal for row in rows if row.is_sound and row.signal.recorded_at >= oldest_at]
        self._put_in_quarantine([row.signal for row in damaged], "damaged on disk")
        self._put_in_quarantine([row.signal for row in expired], "older than the window")
        if claim is not self._own and taken:
            self.append(taken)
        self._left = max(0, (self._left or 0) - len(rows))
        # From here on they are this process's. One that can't be removed comes back later, as a duplicate.
        claim.position = rows[-1].number
        try:
            claim.file(now=self._clock()).delete([*damaged, *expired] if claim is self._own else rows)
        except (SpoolError, DamagedError):
            claim.shut()
        if damaged:
            self._say(f"Damaged signals in {claim.path}: {len(damaged)}. They were put in quarantine.")
        for row in expired:
            message = (
                f"A signal is older than {self._window / 3600:g} h, after which the service may bill its key "
                f"{row.signal.idempotency_key} anew: it was put in quarantine and will not be sent."
            )
            self._say(message, row.signal)
        return taken

    def _put_in_quarantine(self, signals: Sequence[Stored], reason: str) -> None:
        if not signals:
            return
        for _ in range(2):
            try:
                self._quarantine.add(signals, reason, now=self._clock())
            except DamagedError as error:
                aside = self._quarantine.set_aside()
                self._say(f"The spool's quarantine is damaged ({error}). It is kept as {aside}.")
            else:
                return
        raise SpoolError(f"The quarantine in {self.path} can't be written: new files are damaged at once.")

    # Problems to report

    def take_problems(self) -> Sequence[Problem]:
        """Return the problems since the last time, oldest first."""
        problems, self._problems = self._problems, []
        return problems

    def _say(self, message: str, signal: Stored | None = None) -> None:
        self._problems.append(Problem(printable(message), signal))

    # Fork and end

    def suspend(self) -> None:
        """Close the files, so that nothing of SQLite crosses a fork. The leases are kept."""
        for claim in self._claims():
            claim.shut()

    def resume(self) -> None:
        """Go on after a fork, in the parent. Files are opened when they are needed."""

    def restart(self) -> None:
        """Start again after a fork, in the child. The parent's files and leases stay the parent's."""
        for claim in self._claims():
            claim.leave_to_parent()
        self._begin(None)

    def close(self) -> None:
        """Remove the files that are empty, and leave the others to the next process."""
        for claim in self._claims():
            try:
                is_empty = not claim.is_made or claim.file(now=self._clock()).last == 0
            except (SpoolError, DamagedError):
                is_empty = False
            if is_empty:
                with suppress(SpoolError):
                    claim.remove()
            else:
                claim.leave()
        self._own = self._source = None

    def _claims(self) -> list[Claim]:
        """Return the claims that are held, each once."""
        others = [] if self._source is self._own else [self._source]
        return [claim for claim in (self._own, *others) if claim is not None]


def _concerns_one_file(error: SpoolError) -> bool:
    """Return whether other files may be read nevertheless: not where the disk is full, for example."""
    cause = error.__cause__
    if isinstance(cause, sqlite3.Error):
        return (getattr(cause, "sqlite_errorcode", 0) & 0xFF) in _OF_ONE_FILE
    return isinstance(error, UntrustedError) or isinstance(cause, PermissionError)
