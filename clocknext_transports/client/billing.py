"""Scopes: whatever calls to models start in a block are billed to one customer."""

from contextvars import ContextVar
from types import TracebackType
from typing import NamedTuple, Self
from weakref import ref

from clocknext_core.resources.calls import ModelCall
from clocknext_core.usage.attribution import Scope
from clocknext_core.usage.meter import Meter


class _Open(NamedTuple):
    """A scope that is open, and those around it."""

    meter: Meter
    """Whose scope it is: two clients bill nothing to each other's."""
    scope: Scope
    outer: "_Open | None"


_open: ContextVar[_Open | None] = ContextVar("clocknext_billing", default=None)

_within: ContextVar[tuple[Meter, ref[ModelCall]] | None] = ContextVar("clocknext_call", default=None)
"""The call that started last in this context: what starts before it ends may be a layer below it. A call that
is referred to by nothing else has ended."""


def call_around(meter: Meter) -> ModelCall | None:
    """Return the call of a client that started last in this context; `None`: there was none."""
    last = _within.get()
    return last[1]() if last is not None and last[0] is meter else None


def begun(meter: Meter, call: ModelCall) -> ModelCall:
    """Note that a call of a client starts in this context, and return it."""
    _within.set((meter, ref(call)))
    return call


def open_scope(meter: Meter) -> Scope | None:
    """Return the innermost scope of a client that this context is in; `None`: it is in none."""
    each = _open.get()
    while each is not None and each.meter is not meter:
        each = each.outer
    return None if each is None else each.scope


class Billing:
    """A block, `with` or `async with`, whose calls to models are billed to one customer.

    The block holds for its thread or task, for tasks that start in it, and for what runs in a copy of its
    context. A call that starts after its end is billed to no one, whatever context it runs in.

    Args:
        meter: The client's.
        scope: Who is billed.
    """

    def __init__(self, meter: Meter, scope: Scope) -> None:
        self._meter = meter
        self._scope = scope
        self._mine: _Open | None = None

    def __enter__(self) -> Self:
        if self._mine is not None or self._scope.has_ended:
            raise RuntimeError("A billing block is opened once: call billing() for another one.")
        self._mine = _Open(self._meter, self._scope, _open.get())
        _open.set(self._mine)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._scope.end()
        mine, self._mine = self._mine, None
        # An asynchronous generator may end in another context than it began in, with nothing to undo there.
        if mine is not None and _open.get() is mine:
            _open.set(mine.outer)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)
