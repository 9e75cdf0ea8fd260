"""The states of a recorded signal, the moves between them, and the record of one that is held."""

import math
from collections.abc import Mapping
from enum import StrEnum
from typing import Literal, TypeAlias

from clocknext_core.messages import Request
from clocknext_core.poison import Suspect
from clocknext_core.signals import EncodedSignal


class State(StrEnum):
    """Where a recorded signal is."""

    FRESH = "fresh"
    IN_FLIGHT = "in flight"
    BACKING_OFF = "backing off"
    DELIVERED = "delivered"
    REJECTED = "rejected"
    DROPPED = "dropped"
    PARKED = "parked"


DropReason: TypeAlias = Literal["queue_full", "send_failed", "closed", "expired", "disabled"]
"""Why a signal was dropped: no room, given up, still held at the close, too old to be sent, or the client is
disabled."""


class Trigger(StrEnum):
    """What moves a signal from one state to the next."""

    TRANSMIT = "transmit"
    ACKNOWLEDGE = "acknowledged"
    RETRY = "failed, to be repeated"
    REJECT = "refused"
    GIVE_UP = "failed, last attempt"
    ABANDON = "attempt abandoned"
    DISCARD = "queue full, closed, or too old"
    PARK = "closed, with a spool; or given back"


TRANSITIONS: Mapping[State, Mapping[Trigger, State]] = {
    State.FRESH: {
        Trigger.TRANSMIT: State.IN_FLIGHT,
        Trigger.DISCARD: State.DROPPED,
        Trigger.PARK: State.PARKED,
    },
    State.IN_FLIGHT: {
        Trigger.ACKNOWLEDGE: State.DELIVERED,
        Trigger.RETRY: State.BACKING_OFF,
        Trigger.ABANDON: State.BACKING_OFF,
        Trigger.REJECT: State.REJECTED,
        Trigger.GIVE_UP: State.DROPPED,
        Trigger.DISCARD: State.DROPPED,
        Trigger.PARK: State.PARKED,
    },
    State.BACKING_OFF: {
        Trigger.TRANSMIT: State.IN_FLIGHT,
        Trigger.DISCARD: State.DROPPED,
        Trigger.PARK: State.PARKED,
    },
    State.DELIVERED: {},
    State.REJECTED: {},
    State.DROPPED: {},
    State.PARKED: {},
}
"""Every move a signal can make. The last four states are final; another process sends what is parked."""
INITIAL = State.FRESH
"""The state of a signal that has just been recorded."""


class Entry:
    """One held signal."""

    __slots__ = (
        "attempts",
        "encoded",
        "expires_at",
        "is_adopted",
        "is_key_refused",
        "is_misdirected",
        "is_on_loan",
        "price",
        "request",
        "sent_at",
        "sequence",
        "size",
        "state",
        "strikes",
        "suspect",
        "worked",
    )

    def __init__(
        self,
        sequence: int,
        encoded: EncodedSignal,
        now: float,
        worked: int = 0,
        *,
        expires_at: float = math.inf,
        is_adopted: bool = False,
    ) -> None:
        self.sequence: int = sequence
        """Its number among all that were recorded."""
        self.encoded: EncodedSignal = encoded
        self.size: int = len(encoded.body)
        """Bytes of its body."""
        self.is_adopted: bool = is_adopted
        """Whether a dead process left it in the spool."""
        self.request: Request | None = None
        """What every attempt sends; made for the first one."""
        self.attempts: int = 0
        """Attempts sent, without those that were abandoned."""
        self.strikes: int = 0
        """Failed attempts that count against the signal."""
        self.suspect: Suspect | None = None
        """What others' attempts have shown since its first failure that may be the service's."""
        self.is_key_refused: bool = False
        """Whether its API key was refused."""
        self.is_misdirected: bool = False
        """Whether it has met an answer that was not the API's."""
        self.worked: int = worked
        """How many answers had shown the service working when its last attempt failed, or it was recorded.

        A count, since the clock may stand still between two events: for a tick, or where it is set back.
        """
        self.sent_at: float = now
        """When its last attempt began."""
        self.expires_at: float = expires_at
        """When it is too old to be sent."""
        self.price: int = 0
        """What a repeat takes from the budget; 0 before the first failure."""
        self.is_on_loan: bool = False
        """Whether the attempt in flight is the one that the budget lends."""
        self.state: State = INITIAL

    def move(self, trigger: Trigger) -> None:
        """Move to the next state, as `TRANSITIONS` says."""
        self.state = TRANSITIONS[self.state][trigger]

    @property
    def may_be_poison(self) -> bool:
        """Whether it has failed again after others were served."""
        return self.suspect is not None and self.suspect.count > 1

    def __lt__(self, other: "Entry") -> bool:
        return self.sequence < other.sequence
