"""The check of a hook where it is given, since it may not run for days."""

import inspect
from typing import Final

from clocknext_core import ValidationError
from clocknext_core.checks import is_coroutine_function, takes

_ARGUMENTS: Final = {
    "on_error": ("error", "signal"),
    "on_flush": ("count",),
    "on_retry": ("event",),
    "on_drop": ("signal", "reason"),
    "on_unbilled": ("unbilled",),
}
"""What each hook is called with, in order."""


def check_hooks(**hooks: object) -> None:
    """Require of each hook `None`, or a plain function that can be called with the hook's arguments.

    Raises:
        ValidationError: One is something else; the message names the hook.
    """
    for name, hook in hooks.items():
        _check_hook(name, hook)


def check_returned(value: object) -> None:
    """Refuse what a hook returned if it is a coroutine, as of a lambda around a coroutine function.

    Raises:
        TypeError: It is one. It is closed: nothing is to warn of it later.
    """
    if inspect.iscoroutine(value):
        value.close()
        raise TypeError("The hook returned a coroutine: hooks are plain functions, and are not awaited.")


def _check_hook(name: str, hook: object) -> None:
    if hook is None:
        return
    if not callable(hook):
        raise ValidationError(f"{name}: must be callable, not {type(hook).__name__}")
    if is_coroutine_function(hook):
        raise ValidationError(f"{name}: must be a plain function: hooks are not awaited")
    if not takes(hook, _ARGUMENTS[name]):
        raise ValidationError(
            f"{name}: must take what it is called with, by position: ({', '.join(_ARGUMENTS[name])})"
        )
