"""Descriptors that bind a resource's method to a client: each method is written once, for three worlds.

A resource's method builds a pure value. Bound to a client for threads it carries that out and returns the
result; bound to one for asyncio or trio it is a coroutine function. Both type checkers understand this, and
`inspect.signature` shows what is true, also where a method takes the fields of a TypedDict (see
`signatures`). A method that records a signal hands it to the client itself: it is called often, so nothing is
put around it for threads.
"""

import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from functools import cached_property, partial
from types import GenericAlias, MethodType, NoneType
from typing import (
    Any,
    ClassVar,
    Concatenate,
    Generic,
    ParamSpec,
    Protocol,
    Self,
    TypeVar,
    get_args,
    overload,
)

from clocknext_core.models import TrackResult
from clocknext_core.operations import Operation, Pages
from clocknext_core.signals import EncodedSignal
from clocknext_core.signatures import UNSET, spell_out

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S", bound="Blocking | Async")


class Blocking:
    """Marks a client whose methods return their results."""


class Async:
    """Marks a client whose methods are awaited."""


class Completed:
    """Leaves out of `dir`, and so of completion, what no application calls, but integrations and drivers."""

    _unlisted: ClassVar[frozenset[str]] = frozenset()
    """The names that are left out."""

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if name not in self._unlisted]


class Runner(Protocol):
    """What a resource needs of its client."""

    is_async: bool
    """Whether `run` and `record` are awaited."""

    @property
    def cancellations(self) -> tuple[type[BaseException], ...]:
        """Which exceptions end a coroutine from outside, besides those that are no `Exception`."""
        ...

    def run(self, operation: Operation[Any], /) -> Any:
        """Carry an operation out."""
        ...

    def record(self, encoded: EncodedSignal, wait: bool | None = None, /) -> Any:
        """Buffer a signal, or send it and wait (`None`: as the client's mode says)."""
        ...

    def hold(self, encoded: EncodedSignal, /) -> TrackResult | None:
        """Buffer a signal without waiting for anything, not even a lock: in any thread, also in a finalizer.

        A loss that shows only later is reported to `on_drop`.

        Returns:
            The result of a buffered call; `None` says nothing about it.
        """
        ...

    def make_key(self) -> str:
        """Make a new unique key, of at most 255 characters: an idempotency key, or a run's id."""
        ...


class Resource(Completed, Generic[S]):
    """A part of the API, bound to a client.

    Args:
        runner: The client.
    """

    _unlisted = frozenset({"runner"})

    def __init__(self, runner: Runner) -> None:
        self.runner = runner

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.runner!r}>"


class _Descriptor:
    """What the descriptors share: a builder, and bound functions that take its name and signature."""

    def __init__(self, build: Callable[..., Any], *, default: object = UNSET) -> None:
        self._build = build
        self._default = default
        self._published: dict[str, Mapping[str, object]] = {}
        self.__doc__ = build.__doc__

    @cached_property
    def build(self) -> Callable[..., Any]:
        """The builder. Its fields are spelled out when it is first used, not at the import of all of them."""
        return spell_out(self._build, self._default)

    def publish(
        self, instance: Resource[Any], bound: Callable[..., Any], returns: object
    ) -> Callable[..., Any]:
        """Give a bound function the builder's name, docstring and signature, but what it really returns."""
        for name, value in self._details(returns).items():
            setattr(bound, name, value)
        # This is no data descriptor, so the next look-up finds the bound function and does not come here.
        instance.__dict__[self.build.__name__] = bound
        return bound

    def _details(self, returns: object) -> Mapping[str, object]:
        """Return what a bound function has of the builder; kept, since an outbox is made for each use."""
        build = self.build
        if (details := self._published.get(repr(returns))) is None:
            signature = inspect.signature(build)
            parameters = list(signature.parameters.values())[1:]
            annotations = {each.name: each.annotation for each in parameters}
            details = self._published[repr(returns)] = {
                "__name__": build.__name__,
                "__qualname__": build.__qualname__,
                "__module__": build.__module__,
                "__doc__": build.__doc__,
                "__annotations__": {**annotations, "return": returns},
                "__signature__": signature.replace(parameters=parameters, return_annotation=returns),
            }
        return details

    def carried_out(
        self, instance: Resource[Any], carry_out: Callable[[Any], Any], returns: object
    ) -> Callable[..., Any]:
        """Bind to a function that carries out what is built."""
        build = MethodType(self.build, instance)

        def call(*args: Any, **kwargs: Any) -> Any:
            return carry_out(build(*args, **kwargs))

        async def call_async(*args: Any, **kwargs: Any) -> Any:
            return await carry_out(build(*args, **kwargs))

        return self.publish(instance, call_async if instance.runner.is_async else call, returns)

    @property
    def returned(self) -> object:
        """What the built value is a kind of: the `T` of `Operation[T]` or `Pages[T]`."""
        (kind,) = get_args(self.build.__annotations__["return"])
        return None if kind is NoneType else kind


class endpoint(_Descriptor, Generic[P, T]):  # noqa: N801 - a decorator
    """Bind a method that builds an `Operation[T]`: it returns T, or a coroutine of T."""

    def __init__(self, build: Callable[Concatenate[Any, P], Operation[T]]) -> None:
        super().__init__(build)

    @overload
    def __get__(self, instance: None, owner: type[object]) -> Self: ...
    @overload
    def __get__(self, instance: Resource[Blocking], owner: type[object]) -> Callable[P, T]: ...
    @overload
    def __get__(
        self, instance: Resource[Async], owner: type[object]
    ) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, instance: Resource[Any] | None, owner: type[object]) -> object:
        if instance is None:
            return self
        return self.carried_out(instance, instance.runner.run, self.returned)


class recording(_Descriptor, Generic[P, T]):  # noqa: N801 - a decorator
    """Bind a method that records a signal: it returns a `TrackResult`, or a coroutine of one."""

    def __init__(self, record: Callable[Concatenate[Any, P], T]) -> None:
        super().__init__(record, default=None)

    @overload
    def __get__(self, instance: None, owner: type[object]) -> Self: ...
    @overload
    def __get__(self, instance: Resource[Blocking], owner: type[object]) -> Callable[P, T]: ...
    @overload
    def __get__(
        self, instance: Resource[Async], owner: type[object]
    ) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, instance: Resource[Any] | None, owner: type[object]) -> object:
        if instance is None:
            return self
        record = self._awaited if instance.runner.is_async else self.build
        bound: Callable[..., Any] = MethodType(record, instance)
        # This is no data descriptor, so the next look-up finds the bound method and does not come here.
        instance.__dict__[self.build.__name__] = bound
        return bound

    @cached_property
    def _awaited(self) -> Callable[..., Any]:
        """The method as a coroutine function: made once, since an outbox is made for each use."""
        build = self.build

        async def record_async(instance: Resource[Any], /, *args: Any, **kwargs: Any) -> Any:
            return await build(instance, *args, **kwargs)

        for name, value in self._details(build.__annotations__["return"]).items():
            setattr(record_async, name, value)
        setattr(record_async, "__signature__", inspect.signature(build))  # noqa: B010 - the checkers know no such name
        return record_async


class paged(_Descriptor, Generic[P, T]):  # noqa: N801 - a decorator
    """Bind a method that builds `Pages[T]`: it returns an iterator over all items, or an async one."""

    def __init__(self, build: Callable[Concatenate[Any, P], Pages[T]]) -> None:
        super().__init__(build)

    @overload
    def __get__(self, instance: None, owner: type[object]) -> Self: ...
    @overload
    def __get__(self, instance: Resource[Blocking], owner: type[object]) -> Callable[P, Iterator[T]]: ...
    @overload
    def __get__(self, instance: Resource[Async], owner: type[object]) -> Callable[P, AsyncIterator[T]]: ...
    def __get__(self, instance: Resource[Any] | None, owner: type[object]) -> object:
        if instance is None:
            return self
        runner, build, item = instance.runner, partial(self.build, instance), self.returned

        def follow(pages: Pages[T]) -> Iterator[T]:
            while (operation := pages.next()) is not None:
                yield from pages.items(runner.run(operation))

        async def follow_async(pages: Pages[T]) -> AsyncIterator[T]:
            while (operation := pages.next()) is not None:
                for each in pages.items(await runner.run(operation)):
                    yield each

        # The builder runs at the call, so a bad argument is an error there and not at the first item.
        def iterate(*args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
            return follow(build(*args, **kwargs))

        def iterate_async(*args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
            return follow_async(build(*args, **kwargs))

        if runner.is_async:
            return self.publish(instance, iterate_async, GenericAlias(AsyncIterator, (item,)))
        return self.publish(instance, iterate, GenericAlias(Iterator, (item,)))
