"""Signatures of functions that take the fields of a TypedDict: they show each field as a parameter."""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar, Unpack, get_args, get_origin, get_type_hints

F = TypeVar("F", bound=Callable[..., Any])


class _Unset:
    """Stands in signatures for the default of what is not sent when it is left out; `None` would be sent."""

    def __repr__(self) -> str:
        return "<unset>"


UNSET = _Unset()


def spell_out(function: F, default: object = None) -> F:
    """Give a function whose last parameter is `**fields: Unpack[...]` a signature that names the fields.

    Any other function stays as it is.

    Args:
        function: The function, which is returned.
        default: What is shown as the default of a field that may be left out.
    """
    if not function.__code__.co_flags & inspect.CO_VARKEYWORDS:
        return function
    signature = inspect.signature(function)
    *parameters, last = signature.parameters.values()
    if get_origin(last.annotation) is not Unpack:
        return function
    (fields,) = get_args(last.annotation)
    parameters += [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if name in fields.__required_keys__ else default,
            annotation=annotation,
        )
        for name, annotation in get_type_hints(fields).items()
    ]
    setattr(function, "__signature__", signature.replace(parameters=parameters))  # noqa: B010 - its type lacks it
    return function
