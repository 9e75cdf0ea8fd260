"""The pure core of the ClockNext SDK: what to send, when, and what an answer means.

No I/O, no clock, no randomness, no threads, no third-party imports. Time comes in as `now`, randomness and
idempotency keys from the caller. Clients that do the I/O are in `clocknext_transports`; to write another
driver, start from `Engine`.
"""

from clocknext_core.backoff import RandomSource
from clocknext_core.call import Call, CallOutput
from clocknext_core.config import BatchPolicy, Config, RetryPolicy, __version__
from clocknext_core.diagnosis import CheckReport, Problem
from clocknext_core.engine import Engine
from clocknext_core.errors import (
    AllowanceError,
    AuthError,
    ClockNextError,
    ConflictError,
    Issue,
    NetworkError,
    NotFoundError,
    PlanError,
    QueueFullError,
    RateLimitError,
    RequestLine,
    ServerError,
    SpoolError,
    ValidationError,
)
from clocknext_core.messages import Answer, Failure, Origin, Request, Response
from clocknext_core.models import Customer, CustomerPage, Model, PortalToken, TrackResult, Usage, UsageLog
from clocknext_core.operations import Operation, Pages
from clocknext_core.outbox import Outbox, OutboxOutput
from clocknext_core.outputs import (
    Adopt,
    Closed,
    Delivered,
    Dropped,
    Emptied,
    Erase,
    FailedSignal,
    FallingBehind,
    FlushReport,
    GiveBack,
    GivenUp,
    HookEvent,
    HookOutput,
    KeyRefused,
    Mending,
    Misdirected,
    Quarantine,
    Receipt,
    Rejected,
    Retrying,
    Settled,
    SpoolDuty,
    Store,
    Ticket,
    Transmit,
    Wait,
    WaitReason,
)
from clocknext_core.signals import CreditSignal, EncodedSignal, OutcomeSignal, Signal, WalletSignal
from clocknext_core.spooled import Adopted, SpooledOutbox, SpooledOutput
from clocknext_core.stats import Stats
from clocknext_core.tokens import Tokens
from clocknext_core.usage.attribution import Unbilled
from clocknext_core.usage.reading import Explanation, Reading, explain, read
from clocknext_core.usage.runs import readings
from clocknext_core.usage.streams import Drain, Partial

__all__ = [
    "Adopt",
    "Adopted",
    "AllowanceError",
    "Answer",
    "AuthError",
    "BatchPolicy",
    "Call",
    "CallOutput",
    "CheckReport",
    "ClockNextError",
    "Closed",
    "Config",
    "ConflictError",
    "CreditSignal",
    "Customer",
    "CustomerPage",
    "Delivered",
    "Drain",
    "Dropped",
    "Emptied",
    "EncodedSignal",
    "Engine",
    "Erase",
    "Explanation",
    "FailedSignal",
    "Failure",
    "FallingBehind",
    "FlushReport",
    "GiveBack",
    "GivenUp",
    "HookEvent",
    "HookOutput",
    "Issue",
    "KeyRefused",
    "Mending",
    "Misdirected",
    "Model",
    "NetworkError",
    "NotFoundError",
    "Operation",
    "Origin",
    "Outbox",
    "OutboxOutput",
    "OutcomeSignal",
    "Pages",
    "Partial",
    "PlanError",
    "PortalToken",
    "Problem",
    "Quarantine",
    "QueueFullError",
    "RandomSource",
    "RateLimitError",
    "Reading",
    "Receipt",
    "Rejected",
    "Request",
    "RequestLine",
    "Response",
    "RetryPolicy",
    "Retrying",
    "ServerError",
    "Settled",
    "Signal",
    "SpoolDuty",
    "SpoolError",
    "SpooledOutbox",
    "SpooledOutput",
    "Stats",
    "Store",
    "Ticket",
    "Tokens",
    "TrackResult",
    "Transmit",
    "Unbilled",
    "Usage",
    "UsageLog",
    "ValidationError",
    "Wait",
    "WaitReason",
    "WalletSignal",
    "__version__",
    "explain",
    "read",
    "readings",
]
