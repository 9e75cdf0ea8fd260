"""From the name of a model in a response to the name in your catalogue.

Providers answer with a dated version (`gpt-4o-2024-08-06`) of what was asked for, and routers with a prefix.
This is for names read from responses: a `model=` that was given is never changed.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import chain
from typing import Final, Literal, TypeAlias, cast

from clocknext_core.checks import check_text, is_coroutine_function, shown, takes
from clocknext_core.errors import invalid

ModelNames: TypeAlias = Mapping[str, str] | Callable[[str], str] | Literal["undated", "workspace"] | None
"""How names from responses become names of the catalogue.

`"undated"` (the default) drops a date at the end, `"workspace"` looks into the workspace's catalogue, a
mapping or a function says it, and `None` leaves them as they are. A mapping may have names with a service
tier, such as `{"gpt-4o:batch": "gpt-4o-batch"}`: what has another price is another model there."""

_MONTH: Final = r"(0[1-9]|1[0-2])"
_DAY: Final = r"(0[1-9]|[12]\d|3[01])"
_DATE: Final = (  # compiled when it is first used, as the prefix: most programs read no names
    rf"[-@_:]("
    rf"20\d\d[-_]?{_MONTH}[-_]?{_DAY}"  # gpt-4o-2024-08-06, claude-3-haiku-20240307
    rf"|{_MONTH}-20\d\d"  # command-r-08-2024
    rf"|{_MONTH}-?{_DAY}"  # gpt-4-0613, gemini-2.5-flash-preview-05-20
    rf"|2[3-9]{_MONTH}"  # mistral-large-2411
    rf")(-v\d+(:\d+)?)?$"  # Bedrock's version after the date
)
_PREFIX: Final = r"(?i)^([\w.-]+/)+|^([a-z]{2,6}\.)?[a-z0-9]+\.(?=[a-z])"


@lru_cache(maxsize=512)
def without_date(name: str) -> str:
    """Drop the date at the end of a model's name, and the version that Bedrock puts after it.

    `gpt-4o-2024-08-06` becomes `gpt-4o`; a name without a date stays as it is.
    """
    return re.sub(_DATE, "", name) or name


def check_model_names(models: object) -> ModelNames:
    """Require `"undated"`, `"workspace"`, a mapping of names, a function or `None`.

    Raises:
        ValidationError: It is none of these, a mapping of anything but strings, or a function that is a
            coroutine function or can't be called with a name.
    """
    if callable(models):
        return _check_function(models)
    if models is None or models in ("undated", "workspace"):
        return cast("ModelNames", models)
    if not isinstance(models, Mapping):
        kind = type(models).__name__
        raise invalid("models", f'must be "undated", "workspace", a mapping, a function or None, not {kind}')
    for name in chain.from_iterable(cast("Mapping[object, object]", models).items()):
        if not isinstance(name, str) or not name.strip():
            raise invalid("models", f"must map names to names: {shown(name)} is none")
    return cast("Mapping[str, str]", models)


def _check_function(function: Callable[..., object]) -> Callable[[str], str]:
    """Require what can be seen of a function now: the first response may come days later."""
    if is_coroutine_function(function):
        raise invalid("models", "must be a plain function: it is not awaited")
    if not takes(function, ("name",)):
        raise invalid("models", "must take what it is called with, by position: (name)")
    return cast("Callable[[str], str]", function)


def renamed(
    name: str, models: ModelNames, known: Iterable[str] | None = None, *, tier: str | None = None
) -> str:
    """Return the name to record for a name that a response has.

    Args:
        name: The model as the response names it.
        models: A mapping is asked for the name, then for the name without its date, with the tier before
            without it; a name it has not stays as it is. A function is asked. `"workspace"` takes the first
            of the exact name, the name without its date and the name without its provider's prefix that the
            catalogue has.
        known: The ids in the workspace's catalogue, for `"workspace"`; `None` while they are not known, and
            then the date is dropped.
        tier: The service tier that the response names, for a mapping.

    Raises:
        ValidationError: A function returned something else than a name.
    """
    if models is None:
        return name
    if models == "undated":
        return without_date(name)
    if models == "workspace":
        return without_date(name) if known is None else match(name, known) or without_date(name)
    if callable(models):
        return check_text("models(name)", models(name))
    names = (name, without_date(name))
    asked = (*(f"{each}:{tier}" for each in names), *names)
    return next((models[each] for each in asked if each in models), name)


def match(name: str, known: Iterable[str]) -> str | None:
    """Find a model in a catalogue: by its exact id, then without date, then without provider's prefix.

    The server matches ids without case, and so does this. `None`: the catalogue has none of these.
    """
    ids = {each.casefold(): each for each in known}
    return next((ids[each.casefold()] for each in candidates(name) if each.casefold() in ids), None)


def candidates(name: str) -> Iterator[str]:
    """Yield the names that a model may have in a catalogue, the most exact first."""
    yield name
    yield without_date(name)
    bare = re.sub(_PREFIX, "", name)
    yield bare
    yield without_date(bare)
