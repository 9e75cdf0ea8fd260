"""Exceptions of the program's signal handlers, which pass through whatever the main thread is doing.

A handler may raise any exception: most time limits raise an ordinary one, some a `TimeoutError`. Raised in
the midst of our code, it must not be taken for a failure of the transport, or of a hook.
"""

import signal
import threading
from functools import partial
from types import CodeType
from typing import Any, Protocol


class Lock(Protocol):
    """What is taken and released."""

    def acquire(self, blocking: bool = ..., /) -> bool:
        """Take it; return whether it was."""
        ...


NOT_BLOCKING = (False,)
"""For `(has_lock,) = map(lock.acquire, NOT_BLOCKING)`, which takes a lock and takes note of it in one step.

With a call of `acquire` a signal handler may raise between the two, and the lock stays locked for ever.
"""
BLOCKING = (True,)


def is_interrupt(error: BaseException) -> bool:
    """Return whether an exception is a signal handler's, or a Ctrl-C, and its caller must have it.

    Ask where it was caught: the handler is looked for among the functions that it came through. One that is
    not written in Python can't be found, other than Python's own for Ctrl-C.
    """
    return _interrupt_in(error) is not None


def let_pass(error: BaseException) -> None:
    """Raise a signal handler's exception again; call it first of all where an exception was caught.

    What was caught may have the handler's as its cause: Python's codecs and httpx raise others in its place.
    """
    if (interrupt := _interrupt_in(error)) is None:
        return
    try:
        raise interrupt
    finally:
        # In a cycle with its traceback, it would keep what its frames hold until the garbage collector comes.
        del error, interrupt


def _interrupt_in(error: BaseException | None) -> BaseException | None:
    """Return what a signal handler has raised: an exception or its cause."""
    if threading.current_thread() is not threading.main_thread():
        return None  # handlers run in the main thread
    handlers = {_code(signal.getsignal(number)) for number in signal.valid_signals()} - {None}
    seen: set[int] = set()  # causes may go round in a circle
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        trace = error.__traceback__
        if isinstance(error, KeyboardInterrupt):
            return error
        while trace is not None:
            if trace.tb_frame.f_code in handlers:
                return error
            trace = trace.tb_next
        error = error.__cause__
    return None


def take(lock: Lock, *, is_free: bool = False) -> None:
    """Take a lock again that a `with` block has released, and raise what a signal handler raises after that.

    Args:
        lock: The lock.
        is_free: It may be held by a thread that does not exist, and is taken without waiting.
    """
    interrupt: BaseException | None = None
    is_over = False
    while not is_over:
        try:
            (is_taken,) = map(lock.acquire, NOT_BLOCKING if is_free else BLOCKING)
            is_over = is_taken or is_free
        except BaseException as error:
            if not is_interrupt(error):
                raise
            interrupt = error
    if interrupt is not None:
        raise interrupt


def _code(handler: Any) -> CodeType | None:
    """Return the code of a signal handler: of a function, a method, a partial, or an object's `__call__`."""
    while isinstance(handler, partial):
        handler = handler.func
    function = getattr(handler, "__func__", handler)
    code = getattr(function, "__code__", None)
    if code is None and callable(handler):
        code = getattr(type(handler).__call__, "__code__", None)
    return code if isinstance(code, CodeType) else None
