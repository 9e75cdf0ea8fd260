"""The pure core of the ClockNext SDK: what to send, when, and what an answer means.

No I/O, no clock, no randomness, no threads, no third-party imports. Time comes in as `now`, randomness and
idempotency keys from the caller. Clients that do the I/O are in `clocknext_transports`; a driver of your own
starts from `Engine`.

Signals and errors are imported at once: what a program that meters makes and catches. The machines, and all
that belongs to them, are imported when one of their names is first asked for.
"""

from typing import TYPE_CHECKING

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
from clocknext_core.signals import CreditSignal, EncodedSignal, OutcomeSignal, Signal, WalletSignal
from clocknext_core.tokens import Tokens

if TYPE_CHECKING:
    from clocknext_core.backoff import RandomSource
    from clocknext_core.call import Call, CallOutput
    from clocknext_core.config import BatchPolicy, Config, RetryPolicy, __version__
    from clocknext_core.engine import Engine
    from clocknext_core.messages import Answer, Failure, Origin, Request, Response
    from clocknext_core.models import Customer, CustomerPage, Model, PortalToken, TrackResult, Usage, UsageLog
    from clocknext_core.operations import Operation, Pages, Recording
    from clocknext_core.outbox import Outbox, OutboxOutput, Receipt, Stats
    from clocknext_core.outputs import (
        Adopt,
        Closed,
        Delivered,
        Dropped,
        Emptied,
        Erase,
        FailedSignal,
        FlushReport,
        GivenUp,
        HookEvent,
        HookOutput,
        KeyRefused,
        Mending,
        Quarantine,
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
    from clocknext_core.spooled import Adopted, SpooledOutbox, SpooledOutput
else:
    # Hidden from type checkers, which would take it for leave to import any name.
    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from clocknext_core import (
            backoff,
            call,
            config,
            engine,
            messages,
            models,
            operations,
            outbox,
            outputs,
            spooled,
        )

        homes = (backoff, call, config, engine, messages, models, operations, outbox, outputs, spooled)
        modules = map(vars, homes)
        globals()[name] = found = next(names[name] for names in modules if name in names)
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "Adopt",
    "Adopted",
    "AllowanceError",
    "Answer",
    "AuthError",
    "BatchPolicy",
    "Call",
    "CallOutput",
    "ClockNextError",
    "Closed",
    "Config",
    "ConflictError",
    "CreditSignal",
    "Customer",
    "CustomerPage",
    "Delivered",
    "Dropped",
    "Emptied",
    "EncodedSignal",
    "Engine",
    "Erase",
    "FailedSignal",
    "Failure",
    "FlushReport",
    "GivenUp",
    "HookEvent",
    "HookOutput",
    "Issue",
    "KeyRefused",
    "Mending",
    "Model",
    "NetworkError",
    "NotFoundError",
    "Operation",
    "Origin",
    "Outbox",
    "OutboxOutput",
    "OutcomeSignal",
    "Pages",
    "PlanError",
    "PortalToken",
    "Quarantine",
    "QueueFullError",
    "RandomSource",
    "RateLimitError",
    "Receipt",
    "Recording",
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
    "Usage",
    "UsageLog",
    "ValidationError",
    "Wait",
    "WaitReason",
    "WalletSignal",
    "__version__",
]
