"""Exceptions of the program's signal handlers, which pass through whatever the main thread is doing.

A handler may raise any exception: most time limits raise an ordinary one, some a `TimeoutError`. Raised in
the midst of our code, it must not be taken for a failure of the transport, or of a hook.
"""

import signal
import threading
from functools import partial
from types import CodeType
from typing import Any


def is_interrupt(error: BaseException) -> bool:
    """Return whether an exception is a signal handler's, or a Ctrl-C, and its caller must have it.

    Ask where it was caught: the handler is looked for among the functions that it came through. One that is
    not written in Python can't be found, other than Python's own for Ctrl-C.
    """
    if threading.current_thread() is not threading.main_thread():
        return False  # handlers run in the main thread
    if isinstance(error, KeyboardInterrupt):
        return True
    handlers = {_code(signal.getsignal(number)) for number in signal.valid_signals()} - {None}
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code in handlers:
            return True
        trace = trace.tb_next
    return False


def let_pass(error: BaseException) -> None:
    """Raise an exception again where it is a signal handler's; call it first of all where one was caught."""
    if is_interrupt(error):
        raise error


def _code(handler: Any) -> CodeType | None:
    """Return the code of a signal handler: of a function, a method, a partial, or an object's `__call__`."""
    while isinstance(handler, partial):
        handler = handler.func
    function = getattr(handler, "__func__", handler)
    code = getattr(function, "__code__", None)
    if code is None and callable(handler):
        code = getattr(type(handler).__call__, "__code__", None)
    return code if isinstance(code, CodeType) else None
