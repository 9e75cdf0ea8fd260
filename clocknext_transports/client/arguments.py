"""The arguments of a client's class: an error names the class that was called, and the argument meant."""

from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from typing import Any, TypeVar, cast

from clocknext_core import BatchPolicy, RetryPolicy
from clocknext_core.errors import unexpected

F = TypeVar("F", bound=Callable[..., None])

_ELSEWHERE = {
    "batch_size": "batch=BatchPolicy(max_size=…)",
    "endpoint": "base_url",
    "flush_interval": "batch=BatchPolicy(max_interval=…)",
    "host": "base_url",
    "http_client": "transport",
    "key": "api_key",
    "max_retries": "retry=RetryPolicy(max_attempts=…)",
    "token": "api_key",
    "url": "base_url",
}
"""What other libraries call these arguments, and how they are given here."""


def explained(init: F) -> F:
    """Have a constructor of one positional argument say which of its arguments was meant.

    Python names the class that defines it, which for a client is one that users never see.
    """
    known = init.__code__.co_varnames[1 : init.__code__.co_argcount + init.__code__.co_kwonlyargcount]

    @wraps(init)
    def checked(self: object, *positional: Any, **named: Any) -> None:
        called = f"{type(self).__name__}()"
        if len(positional) > 1:
            raise TypeError(
                f"{called} takes one argument by position, {known[0]}: give the others by name, such as "
                f"{known[1]}="
            )
        for name in named:
            if name not in known:
                raise unexpected(name, _meanings(known), function=called)
        init(self, *positional, **named)

    return cast("F", checked)


def _meanings(known: tuple[str, ...]) -> dict[str, str]:
    """Return what a hint says, by the name that was probably meant."""
    return (
        {each.name: f"batch=BatchPolicy({each.name}=…)" for each in fields(BatchPolicy)}
        | {each.name: f"retry=RetryPolicy({each.name}=…)" for each in fields(RetryPolicy)}
        | _ELSEWHERE
        | {name: name for name in known}
    )
