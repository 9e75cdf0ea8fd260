"""What integrations of servers and queues share: who is billed for a request or a task."""

from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from inspect import iscoroutinefunction
from typing import Any, Final, TypeAlias, TypedDict, cast, get_args

from clocknext_core import ClockNextError
from clocknext_core.checks import check_choice, check_keywords, takes
from clocknext_core.errors import invalid
from clocknext_core.signals import SignalType
from clocknext_core.usage.attribution import Attribution
from clocknext_transports.client.base import ClientBase
from clocknext_transports.integrations.watching import Billed
from clocknext_transports.process.log import logger

AnyClient: TypeAlias = ClientBase[Any, Any, Any]
Customer: TypeAlias = str | Billed | None
"""Who is billed: the customer's id, or keywords of `billing`; `None`: no one, and no block is opened."""


class Details(TypedDict, total=False):
    """What else a `billing` block says. What a function says of one request or task goes first."""

    key: str
    member: str
    custom: Mapping[str, object]
    type: SignalType


_DETAILS: Final = frozenset(Details.__annotations__)
_KEYWORDS: Final = _DETAILS | {"customer_id", "run"}
"""Those of `billing`."""


def check_details(details: Mapping[str, object], *, beside: frozenset[str] = frozenset()) -> None:
    """Require keywords of `billing` that can be sent, where an integration is set up.

    That one is missing shows at a request only: the function that says who is billed may give it.

    Args:
        details: The keywords.
        beside: Other keyword arguments of the same call, which may have been meant by an unknown one.

    Raises:
        TypeError: One is unknown.
        ValidationError: One is of the wrong kind.
    """
    check_keywords(details, _DETAILS | beside)
    if "type" in details:
        check_choice("type", details["type"], get_args(SignalType))
    values: Any = {"key": "any", **details, "type": "credit"}  # which takes all the others
    Attribution(customer_id="any", **values)


def check_function(
    name: str, function: object, *, arguments: Sequence[str] | None = None, is_awaited: bool = True
) -> None:
    """Require a function; a coroutine function only where its result is awaited.

    Args:
        name: What errors call it.
        function: The function.
        arguments: What it is called with, by position. Default: that is not known.
        is_awaited: Whether its result is awaited.

    Raises:
        ValidationError: It is something else, or takes other arguments.
    """
    if not callable(function):
        raise invalid(name, f"must be a function, not an object of type {type(function).__name__}")
    if not is_awaited and iscoroutinefunction(function):
        raise invalid(name, "must be a plain function: it is not awaited")
    if arguments is not None and not takes(function, arguments):
        called = f"by position: ({', '.join(arguments)})" if arguments else "which is no argument"
        raise invalid(name, f"must take what it is called with, {called}")


def block_for(cnk: AnyClient, customer: Customer, details: Details) -> AbstractContextManager[object]:
    """Return the `billing` block of a request or a task.

    A customer that can't be billed is logged, and opens no block: calls to models are then reported as
    `unattributed`, and the request goes on.
    """
    if customer is None:
        return nullcontext()
    try:
        keywords: Any = {**details, **_named(customer)}
        if keywords.get("key") is None and keywords.get("type") != "wallet":
            raise invalid(
                "key",
                "is required, but for type='wallet': give it where the integration is set up, or return it "
                "with the customer",
            )
        return cnk.billing(**keywords)
    except (ClockNextError, TypeError) as error:
        logger.error("The customer of a request can't be billed, and no one is billed for it: %s", error)
        return nullcontext()


def _named(customer: object) -> Mapping[str, object]:
    """Return what a function has said of who is billed, as keywords of `billing`."""
    if isinstance(customer, str):
        return {"customer_id": customer}
    if not isinstance(customer, Mapping):
        raise invalid(
            "customer",
            "must return a customer's id, which is a string, a mapping with keywords of billing, or None, "
            f"not an object of type {type(customer).__name__}",
        )
    named = cast("Mapping[str, object]", customer)
    if "customer_id" not in named:
        raise invalid("customer", "must return a mapping with customer_id, which says who is billed")
    check_keywords(named, _KEYWORDS)
    return named


class Streamed:
    """A response's body that is generated while it is sent, within a block of its own.

    Args:
        body: An iterable.
        open_block: Makes the block; called when the first part is asked for.
    """

    def __init__(self, body: Any, open_block: Callable[[], AbstractContextManager[object]]) -> None:
        self._body = body
        self._open_block = open_block
        self._opened: Any = None

    def __iter__(self) -> Iterator[Any]:
        self._opened = self._parts()
        return cast("Iterator[Any]", self._opened)

    def _parts(self) -> Generator[Any, None, None]:
        with self._open_block():
            yield from self._body

    def close(self) -> None:
        """End the block, and close the body."""
        for each in (self._opened, self._body):
            if hasattr(each, "close"):
                each.close()


class AsyncStreamed:
    """The same for `async for`, and not for `for`: Django tells them apart so."""

    def __init__(self, body: Any, open_block: Callable[[], AbstractContextManager[object]]) -> None:
        self._body = body
        self._open_block = open_block

    async def __aiter__(self) -> AsyncGenerator[Any, None]:
        try:
            with self._open_block():
                async for part in self._body:
                    yield part
        finally:
            if hasattr(self._body, "aclose"):
                await self._body.aclose()
