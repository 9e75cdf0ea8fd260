"""AWS Lambda: what an invocation recorded is delivered before the function is frozen."""

import inspect
import math
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import Any, TypeVar

from clocknext_core.errors import invalid
from clocknext_transports.client.seeding import seeded
from clocknext_transports.integrations.hosting import check_function
from clocknext_transports.integrations.watching import check_cnk
from clocknext_transports.process.log import logger
from clocknext_transports.sync import ClockNext

T = TypeVar("T")
Handler = Callable[[Any, Any], T]

RESERVE = 0.5
"""Seconds of an invocation's time that a delivery leaves, so that the answer still arrives."""

_NOT_PLAIN = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)


def delivers(cnk: ClockNext) -> Callable[[Handler[T]], Handler[T]]:
    """Make a decorator of a handler: what an invocation recorded is delivered before it returns or raises.

    It takes what is left of the invocation's time less 0.5 seconds, and `cnk.close_timeout` seconds, at most.
    What is then left is logged, and sent by a later invocation, if there is one in this environment. Keys of
    what is recorded are made from the request's id, so that an invocation that Lambda repeats is billed once.
    With a context that has no time or id, as in a test, `close_timeout` holds, and keys are random.

    Args:
        cnk: A client of threads, made outside of the handler.

    Raises:
        ValidationError: `cnk` is no `ClockNext`, or the handler no plain function.
    """
    check_cnk(cnk)
    if cnk.is_async:
        raise invalid("cnk", f"must be a ClockNext, not an object of type {type(cnk).__name__}")

    def decorate(handler: Handler[T]) -> Handler[T]:
        check_function("handler", handler, arguments=("event", "context"))
        if any(is_other(handler) for is_other in _NOT_PLAIN):
            raise invalid(
                "handler",
                "must be a plain function, which Lambda calls for its result: not `async def`, nor with "
                "`yield`. It may run a coroutine by `asyncio.run`",
            )

        @wraps(handler)
        def handle(event: Any, context: Any) -> T:
            try:
                with _seeded_by(context):
                    return handler(event, context)
            finally:
                pending = cnk.flush(min(cnk.close_timeout, _seconds_left(context))).pending
                if pending:
                    logger.warning(
                        "ClockNext signals not delivered before the invocation ended: %d. They stay held: "
                        "the next one in this environment sends them. If there is none, they are lost.",
                        pending,
                    )

        return handle

    return decorate


def _seeded_by(context: Any) -> AbstractContextManager[object]:
    """Make keys from the id of the request, where the context has one."""
    request_id = getattr(context, "aws_request_id", None)
    return seeded(request_id) if request_id and isinstance(request_id, str) else nullcontext()


def _seconds_left(context: Any) -> float:
    """Return the time that a delivery may take; without an end where the context does not know it."""
    ask = getattr(context, "get_remaining_time_in_millis", None)
    left: object = ask() if callable(ask) else None
    return max(left / 1000 - RESERVE, 0.0) if isinstance(left, int | float) else math.inf


def records(event: Any) -> Generator[Any, None, None]:
    """Yield the records of an SQS event, each as work of its own: its keys are made from the message's id.

    A message that SQS delivers again is billed once, whatever batch it comes in. Open a `billing` block for
    each record.

    Args:
        event: What Lambda gave to the handler.

    Raises:
        ValidationError: It is no event of SQS, or a record in it has no `messageId`.
    """
    try:
        found: list[Any] = [*event["Records"]]
    except (KeyError, TypeError):
        raise invalid("event", "must be what SQS sends: a mapping with a list of Records") from None
    for place, record in enumerate(found):
        try:
            message_id = record["messageId"]
        except (KeyError, TypeError):
            why = "must have a messageId, from which keys are made"
            raise invalid(f"event.Records[{place}]", why) from None
        with seeded(message_id):
            yield record
