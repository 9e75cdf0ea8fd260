"""AWS Lambda: what an invocation recorded is delivered before the function is frozen."""

from collections.abc import Callable, Generator
from functools import wraps
from typing import Any, TypeVar

from clocknext_core.errors import invalid
from clocknext_transports.client.seeding import seeded
from clocknext_transports.integrations.hosting import check_cnk, check_function, log_undelivered
from clocknext_transports.sync import ClockNext

T = TypeVar("T")
Handler = Callable[[Any, Any], T]

RESERVE = 0.5
"""Seconds of an invocation's time that a delivery leaves, so that the answer still arrives."""


def delivers(cnk: ClockNext) -> Callable[[Handler[T]], Handler[T]]:
    """Make a decorator of a handler: what an invocation recorded is delivered before it returns or raises.

    It takes what is left of the invocation's time less 0.5 seconds, and `cnk.close_timeout` seconds, at most.
    What is then left is logged, and sent by a later invocation, if there is one in this environment. Keys of
    what is recorded are made from the request's id, so that an invocation that Lambda repeats is billed once.

    Args:
        cnk: A client of threads, made outside of the handler.

    Raises:
        ValidationError: `cnk` is no `ClockNext`, or the handler no function.
    """
    check_cnk(cnk)
    if cnk.is_async:
        raise invalid("cnk", f"must be a ClockNext, not an object of type {type(cnk).__name__}")

    def decorate(handler: Handler[T]) -> Handler[T]:
        check_function("handler", handler)

        @wraps(handler)
        def handle(event: Any, context: Any) -> T:
            try:
                with seeded(context.aws_request_id):
                    return handler(event, context)
            finally:
                left = context.get_remaining_time_in_millis() / 1000 - RESERVE
                log_undelivered(cnk.flush(min(cnk.close_timeout, max(left, 0.0))))

        return handle

    return decorate


def records(event: Any) -> Generator[Any, None, None]:
    """Yield the records of an SQS event, each as work of its own: its keys are made from the message's id.

    A message that SQS delivers again is billed once, whatever batch it comes in. Open a `billing` block for
    each record.

    Args:
        event: What Lambda gave to the handler.
    """
    for record in event["Records"]:
        with seeded(record["messageId"]):
            yield record
