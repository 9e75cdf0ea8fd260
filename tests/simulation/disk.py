"""A spool's disk: what is on it survives the process, and it is slow, and fails now and then."""

from dataclasses import dataclass

from clocknext_core import Adopted, EncodedSignal


@dataclass
class Row:
    """A stored signal."""

    signal: EncodedSignal
    recorded_at: float
    process: int
    """Whose it is."""


class Disk:
    """The signals of all processes, dead or alive."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.quarantine: list[Row] = []

    def store(self, signal: EncodedSignal, process: int, *, now: float) -> None:
        """Store a signal."""
        self.rows.append(Row(signal, now, process))

    def take(self, key: str, process: int) -> Row | None:
        """Take the oldest signal under a key away from a process."""
        for row in self.rows:
            if row.process == process and row.signal.idempotency_key == key:
                self.rows.remove(row)
                return row
        return None

    def adopt(
        self, process: int, limit: int, *, window: float, now: float
    ) -> tuple[list[Adopted], list[Row], int]:
        """Give signals of dead processes to another one.

        Returns:
            Those taken over, those too old for it, and how many are left.
        """
        left = [row for row in self.rows if row.process != process]
        found = left[:limit]
        expired = [row for row in found if now - row.recorded_at > window]
        for row in expired:
            self.rows.remove(row)
            self.quarantine.append(row)
        adopted: list[Adopted] = []
        for row in found:
            if row not in expired:
                row.process = process
                adopted.append(Adopted(row.signal, now - row.recorded_at))
        return adopted, expired, len(left) - len(found)
