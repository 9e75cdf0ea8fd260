"""What integrations share: who is billed, methods of ours in an SDK, and watching what it returned."""

import copy
import importlib
import inspect
import weakref
from collections.abc import Awaitable, Callable, Hashable, Mapping
from contextlib import nullcontext
from functools import cache, wraps
from typing import Any, NamedTuple, Protocol, TypedDict, cast

from clocknext_core.errors import invalid
from clocknext_core.resources.calls import ModelCall
from clocknext_core.signals import SignalType
from clocknext_core.usage.attribution import Attribution
from clocknext_core.usage.streams import AbortPolicy, check_abort_policy
from clocknext_transports.client.base import ClientBase
from clocknext_transports.process.interrupts import let_pass


class Billed(TypedDict, total=False):
    """Who is billed for all calls, and how. Default: as the `billing` block says that a call starts in."""

    customer_id: str
    key: str
    member: str
    custom: Mapping[str, object]
    type: SignalType


class Start(Protocol):
    """What begins a call to a model, where the call starts."""

    def __call__(self, model: str | None = None) -> ModelCall:
        """Begin it; `model` is the one that is asked, for an answer that names none."""
        ...


def starting(
    cnk: ClientBase[Any, Any, Any], billed: Billed, layer: str, on_abort: AbortPolicy = "partial"
) -> Start:
    """Return what begins an integration's calls.

    Args:
        cnk: Any client of ClockNext.
        billed: Who is billed for all calls; without a customer, as the `billing` block says.
        layer: What sees the calls; `PROVIDER` for a provider's own SDK.
        on_abort: What a stream is billed that is broken off.

    Raises:
        ValidationError: `customer_id` is missing, or an argument is wrong.
    """
    check_cnk(cnk)
    if billed and "customer_id" not in billed:
        raise invalid("customer_id", "is required together with the other arguments")
    attribution, policy = Attribution(**billed) if billed else None, check_abort_policy(on_abort)

    def start(model: str | None = None) -> ModelCall:
        return cnk.start_call(attribution, on_abort=policy, model=model, layer=layer)

    return start


def check_cnk(cnk: object) -> None:
    """Require a client of ClockNext.

    Raises:
        ValidationError: It is something else; where it is the class of one, the message says so.
    """
    kind = type(cnk).__name__
    if isinstance(cnk, type) and issubclass(cnk, ClientBase):
        raise invalid("cnk", f"is the class {cnk.__name__}: make a client, {cnk.__name__}()")
    if not isinstance(cnk, ClientBase):
        raise invalid("cnk", f"must be a client of ClockNext, not an object of type {kind}")


class Callbacks:
    """Stands for the class of callbacks of a package that the checkers need not have."""


def wrap_once(module: str, name: str, wrap: Callable[[Any], Any]) -> None:
    """Put a function of ours around one of a package's, once in a process."""
    package = importlib.import_module(module)
    inner = getattr(package, name)
    if not hasattr(inner, "clocknext_wraps"):
        outer: Any = wraps(inner)(wrap(inner))
        outer.clocknext_wraps = inner
        setattr(package, name, outer)


def with_methods(one: Any, **methods: object) -> Any:
    """Give an object of an SDK methods of ours, by a class of its own, and return it."""
    kind = cast("Any", type(one))
    one.__class__ = type(kind.__name__, (kind,), {**methods, "__module__": kind.__module__})
    return one


class Asked(NamedTuple):
    """Something that an SDK asks."""

    ask: Callable[[], Any]
    """Asks it; in an asynchronous SDK it returns an awaitable."""
    take: Callable[[Any], Any] | None = None
    """Takes the answer; what it returns, if anything, takes the answer's place. `None`: it is not billed."""
    call: ModelCall | None = None
    """The call, if a failure is one of it."""


def asking(begin: Callable[..., Asked], *, is_async: bool) -> Any:
    """Make a method that asks what `begin` says, which gets the method's arguments; a coroutine if asked."""

    def asked(*arguments: Any, **more: Any) -> Any:
        ask, take, call = begin(*arguments, **more)
        with call or nullcontext():
            answer = ask()
        return answer if take is None else take(answer) or answer

    async def asked_async(*arguments: Any, **more: Any) -> Any:
        ask, take, call = begin(*arguments, **more)
        with call or nullcontext():
            answer = await ask()
        taken = None if take is None else take(answer)
        return (await taken if inspect.isawaitable(taken) else taken) or answer

    return asked_async if is_async else asked


def check_client(client: object, *methods: str) -> None:
    """Require a client of an SDK, by the methods that are hooked.

    Raises:
        ValidationError: It has not all of them.
    """
    for method in methods:
        if isinstance(client, type) or not callable(getattr(client, method, None)):
            given = client if isinstance(client, type) else type(client)
            raise invalid(
                "client", f"must be a client of the SDK, with a method {method}: got {given.__name__}"
            )


def watch(call: ModelCall, result: Any, *, hides_usage: bool = False) -> Awaitable[None] | None:
    """Watch what an SDK generated by Stainless returned: a model, a stream, or a raw response read already.

    Args:
        call: The call.
        result: What the SDK returned.
        hides_usage: Whether usage was asked for on the user's behalf.

    Returns:
        What has to be awaited first, where the raw response of an asynchronous SDK is read.
    """
    try:
        if hasattr(result, "http_response"):
            result = result.parse()  # the SDK keeps it, and returns the same to the user
        if inspect.isawaitable(result):
            return _watch_awaited(call, result, hides_usage=hides_usage)
        if hasattr(result, "_iterator"):
            _watch_stream(call, result, hides_usage=hides_usage)
        else:
            call.answered(result)
    except Exception as error:  # noqa: BLE001 - the user's request must not break over its metering
        if not call.has_ended:
            call.unanswered(f"the answer could not be watched: {type(error).__name__}")
        let_pass(error)
    return None


async def _watch_awaited(call: ModelCall, result: Awaitable[Any], *, hides_usage: bool) -> None:
    try:
        parsed = await result
    except Exception as error:  # noqa: BLE001 - as in watch
        call.unanswered(f"the answer could not be read: {type(error).__name__}")
        let_pass(error)
    else:
        watch(call, parsed, hides_usage=hides_usage)


def _watch_stream(call: ModelCall, stream: Any, *, hides_usage: bool) -> None:
    """Put a watched iterator into a stream, which stays what it is, and notice when it is closed early."""
    response, inner = stream.response, stream._iterator  # noqa: SLF001 - what both SDKs iterate over
    watch_it = call.watch_async if hasattr(inner, "__anext__") else call.watch
    watched: Any = watch_it(inner, hides_usage=hides_usage)
    stream._iterator = watched  # noqa: SLF001
    # The response, since the stream and the SDK's helpers around it both close that. By its class: a function
    # of its own would refer to it, and leave it to the garbage collector.
    response.clocknext_stream = weakref.ref(watched)
    response.__class__ = _closing(cast("Hashable", type(response)))


def watch_events(call: ModelCall, events: Any) -> None:
    """Watch a stream that is an iterable itself, as boto3's, which stays what it is and ends when closed."""
    # A copy reads, so that the stream is not kept by what watches it.
    watched = call.watch(copy.copy(events))
    events.clocknext_stream = lambda: watched
    events.__class__ = _closing(cast("Hashable", type(events)), is_iterable=True)


@cache
def _closing(kind: Hashable, *, is_iterable: bool = False) -> Any:
    """Make a class of responses, or of streams themselves, that end what watches them when closed."""
    base: Any = kind

    def __iter__(self: Any) -> Any:  # noqa: N807 - the class's
        return self.clocknext_stream()

    def close(self: Any) -> None:
        stream = self.clocknext_stream()
        if stream is not None:
            stream.end_early()
        base.close(self)

    async def aclose(self: Any) -> None:
        stream = self.clocknext_stream()
        if stream is not None:
            await stream.end_early()
        await base.aclose(self)

    own: dict[str, Any] = {"__iter__": __iter__} if is_iterable else {"aclose": aclose}
    return type(base.__name__, (base,), {**own, "close": close, "__module__": base.__module__})
