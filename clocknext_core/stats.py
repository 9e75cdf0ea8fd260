"""The figures of a client: how many signals were buffered, how they ended, and how the service does."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from clocknext_core.gate import GateState
from clocknext_core.states import DropReason
from clocknext_core.values import Value


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Stats(Value):
    """How many signals were buffered, how they ended, and how the service does.

    recorded = held + delivered + rejected + dropped + parked, at every step.
    """

    recorded: int
    """With those that were adopted."""
    held: int
    held_bytes: int
    """Size of the bodies of what is held."""
    in_flight: int
    delivered: int
    rejected: int
    """Refused by the server for good."""
    dropped: Mapping[DropReason, int]
    """Ended otherwise, by reason. `send_failed`: given up after the last attempt."""
    parked: int
    """Left in the spool at the close, for the next process."""
    storing: int
    """Not recorded yet: on their way into the spool."""
    retries: int
    """Failed attempts that were, or will be, repeated."""
    gate: GateState
    """`open`, or held back: `paused` by a Retry-After or an outage, then `probing`, then `ramping`."""
    opens_in: float
    """Seconds until a paused gate opens; else 0."""
    misdirected: int = 0
    """Signals that met an answer which was not the API's, but a router's, proxy's or firewall's."""
    left_behind: int = 0
    """Signals of dead processes that are in the spool and not taken over, as far as is known: those that were
    there when the spool was last looked into. 0 before that, and without a spool."""
    unbilled: Mapping[str, int] = field(default_factory=dict[str, int])
    """Calls to models that were not billed, by reason; see `Unbilled`."""
