"""What a signal handler raises while a response is read reaches the caller, and the call is accounted for.

A response raises wherever it is looked at, one place after the other, until it is not looked at so often.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any, NoReturn, cast

import pytest

from clocknext_core.resources.calls import ModelCall
from clocknext_core.usage.attribution import Unbilled
from clocknext_core.usage.meter import Meter
from clocknext_core.usage.streams import Drain, Gatherer, Partial
from tests.core.usage.test_calls import DONE, RESPONSE, RUNNING, STREAM, started
from tests.core.usage.test_metering import WHO, AsyncClient, Client

MOST = 2000


class StruckError(Exception):
    """What the handler raises: an ordinary exception, as most time limits are."""


def let_pass(error: BaseException) -> None:
    try:
        if isinstance(error, StruckError):
            raise error
    finally:
        del error  # it would be in a cycle with its traceback, which keeps the stream


class Handler:
    """Strikes at one look of many."""

    def __init__(self, at: int) -> None:
        self.left = at

    def look(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise StruckError

    def watching(self, value: object) -> Any:
        """Make an object of an SDK of a part of a response."""
        if isinstance(value, dict):
            fields = cast("dict[str, object]", value)
            return Watched(self, {name: self.watching(each) for name, each in fields.items()})
        return (
            [self.watching(each) for each in cast("list[object]", value)]
            if isinstance(value, list)
            else value
        )


class Watched:
    """An object of an SDK, each of whose fields may be where the strike comes."""

    def __init__(self, handler: Handler, fields: dict[str, object]) -> None:
        self.__dict__.update(fields, _look=handler.look)

    def __getattribute__(self, name: str) -> Any:
        """Return a field, if no strike comes."""
        if not name.startswith("_"):
            self._look()
        return object.__getattribute__(self, name)


def strikes(use: Callable[[Handler, Client], None], client: type[Client] = Client) -> Iterator[Client]:
    """Use a client again and again, with a strike at each place; yield those that were struck."""
    for at in range(1, MOST):
        handler, used = Handler(at), client(let_pass=let_pass)
        was_struck = False
        try:
            use(handler, used)
        except StruckError:
            was_struck = True
        if was_struck:
            yield used  # when the exception, and with it the call, is gone
        elif handler.left > 0:
            return
    raise AssertionError(f"looked at {MOST} times")


def said(client: Client) -> int:
    return len(client.held) + len(client.unbilled)


Watching = Callable[[object], Any]
USES: dict[str, Callable[[ModelCall, Watching], None]] = {
    "answered": lambda call, watching: call.answered(watching(RESPONSE)),
    "retrieved": lambda call, watching: call.retrieved(watching(DONE)),
    "assembled": lambda call, watching: call.assembled(watching(RESPONSE), None),
    "assembled of chunks": lambda call, watching: call.assembled(watching(RESPONSE), map(watching, STREAM)),
    "broken off": lambda call, watching: call.broken_off("cut", watching(RESPONSE)),
    "failed": lambda call, watching: call.failed(ValueError(), watching(RESPONSE)),
}


@pytest.mark.parametrize("name", USES)
def test_a_call_that_is_struck_is_billed_or_reported_and_the_exception_goes_on(name: str) -> None:
    struck = list(strikes(lambda handler, client: USES[name](started(client), handler.watching)))
    assert len(struck) > 3
    assert {said(client) for client in struck} == {1}


def test_a_response_that_runs_is_asked_for_again_after_a_strike() -> None:
    struck = list(strikes(lambda handler, client: started(client).answered(handler.watching(RUNNING))))
    assert {said(client) for client in struck} == {1}


def read(stream: Iterable[object]) -> None:
    for _ in stream:
        pass


def left(stream: Any) -> None:
    with stream:
        next(iter(stream))


@pytest.mark.parametrize("use", [read, left])
@pytest.mark.parametrize("on_abort", ["partial", Drain()])
def test_a_stream_that_is_struck_is_billed_or_reported_and_the_exception_goes_on(
    use: Callable[[Any], None], on_abort: Any
) -> None:
    def stream(handler: Handler, client: Client) -> None:
        def chunks() -> Iterator[Any]:
            for chunk in STREAM:
                yield handler.watching(chunk)
                handler.look()

        use(client.signals.from_stream(chunks(), on_abort=on_abort, **WHO))

    struck = list(strikes(stream))
    assert len(struck) > 3
    assert {said(client) for client in struck} == {1}


@pytest.mark.parametrize("on_abort", ["partial", Drain()])
def test_a_stream_of_a_loop_that_is_struck_is_billed_or_reported(on_abort: Any) -> None:
    def stream(handler: Handler, client: Client) -> None:
        async def chunks() -> AsyncIterator[Any]:
            for chunk in STREAM:
                yield handler.watching(chunk)
                handler.look()

        async def main() -> None:
            async with client.signals.from_stream(chunks(), on_abort=on_abort, **WHO) as metered:
                await anext(aiter(metered))

        asyncio.run(main())

    struck = list(strikes(stream, AsyncClient))
    assert len(struck) > 3
    assert {said(client) for client in struck} == {1}


def test_a_ctrl_c_while_a_stream_is_drained_ends_it_and_closes_what_it_reads_from() -> None:
    closed: list[bool] = []

    class Stream:
        def __iter__(self) -> Iterator[object]:
            yield STREAM[0]
            raise KeyboardInterrupt

        def close(self) -> None:
            closed.append(True)

    client = Client(let_pass=let_pass)
    metered = client.signals.from_stream(Stream(), on_abort=Drain(), **WHO)
    next(metered)
    with pytest.raises(KeyboardInterrupt):
        metered.close()
    assert (client.reasons, closed) == (["partial"], [True])


def test_what_strikes_the_users_own_functions_goes_on() -> None:
    handler = Handler(1)

    def estimate(partial: Partial) -> None:
        handler.look()

    client = Client(let_pass=let_pass)
    stream = client.signals.from_stream(iter(STREAM[:1]), on_abort=estimate, **WHO)
    with pytest.raises(StruckError), stream:
        next(stream)
    del stream
    assert client.reasons == ["partial"]  # told when it was collected

    def report(unbilled: Unbilled) -> NoReturn:
        raise StruckError

    meter = Meter(on_unbilled=report, let_pass=let_pass)
    with pytest.raises(StruckError):
        meter.report(Unbilled(reason="no_usage"))
    assert meter.unbilled["no_usage"] == 1


def test_recording_that_is_struck_is_reported_and_the_exception_goes_on() -> None:
    client = Client(let_pass=let_pass)
    client.failure = StruckError()
    with pytest.raises(StruckError):
        started(client).answered(RESPONSE)
    assert client.reasons == ["unknown_shape"]


def test_a_gatherer_of_its_own_lets_nothing_pass() -> None:
    gatherer = Gatherer()
    gatherer.feed(Handler(1).watching(STREAM[0]))
    assert gatherer.finish("completed").unbilled is not None
