"""The key of an exchange with a model: the same exchange, seen twice, is billed once."""

import hashlib
from collections.abc import Callable
from string import ascii_lowercase
from typing import Final

from clocknext_core.checks import check_int
from clocknext_core.usage.attribution import Attribution, Origin
from clocknext_core.usage.reading import Reading
from clocknext_core.wire import encode_json

_SHORTEST: Final = 8
"""Characters that an id has at least: with fewer, other responses have it too."""
_FEWEST_DIGITS: Final = 10
_PLACEHOLDERS: Final = ("fake", "dummy", "placeholder", "mock", "unknown", "undefined", "default", "example")
"""Words that are in no id that a server draws."""


def is_trusted(response_id: str | None) -> bool:
    """Return whether an id tells a response from all others.

    It does not where servers count or draw small numbers (LMDeploy's `1`, Ollama's `chatcmpl-523`), or where
    a framework fills in a constant (OpenAI Agents' `__fake_id__` for streamed chat).
    """
    if response_id is None:
        return False
    text = response_id.strip().lower()
    bare = text.lstrip(ascii_lowercase)
    # What comes before the first dash tells whose it is: chatcmpl-, msg_.
    bare = bare.lstrip("-_") if bare[:1] in {"-", "_"} else text
    if len(bare) < _SHORTEST:
        return False
    for word in _PLACEHOLDERS:
        if word in text:
            return False
    if len(set(bare) - {"-", "_"}) < 2:  # zeros all along
        return False
    return not (bare.isdigit() and len(bare) < _FEWEST_DIGITS)


def is_constant(response_id: str) -> bool:
    """Return whether an id is a placeholder that every response has, and not a number that comes again."""
    text = response_id.strip().lower()
    return not text.strip("0-_") or any(word in text for word in _PLACEHOLDERS)


_BY_HAND: Final = Origin()


def exchange_key(
    reading: Reading,
    attribution: Attribution,
    *,
    make_key: Callable[[], str],
    origin: Origin | None = None,
    known_by: Callable[[], str] | None = None,
) -> str:
    """Make the idempotency key of what a response is billed as.

    - An id that is trusted counts with customer, type and key alone: layers rename models and lose cached
      counts.
    - An id that is not trusted counts with the three counts, and with the scope where there is one. Calls of
      one scope whose answers look alike are numbered, since each of them is charged. Without a scope the time
      counts that the response says it was made; and where it says none and its id is a constant, the client,
      so that what one process has recorded is not taken for recorded for ever.
    - Without an id the scope counts, and which call of it this is.
    - Else the key is random: nothing tells this exchange from another one.

    Args:
        reading: What the response says.
        attribution: Who is billed.
        make_key: Makes a random key.
        origin: The call, as it was captured when it started. Default: none, the answer is given by hand.
        known_by: Returns what tells this client, or the work that it does, from others. Default: nothing
            does.

    Returns:
        A key of at most 255 characters.
    """
    call = _BY_HAND if origin is None else origin
    billed = [attribution.customer_id, attribution.type, attribution.key or attribution.agent_key]
    response_id, tokens = reading.response_id, reading.tokens
    if is_trusted(response_id):
        return digest("id", response_id, *billed)
    if response_id is not None and (call.alike is None or call.scope_id is not None):
        counts = (tokens.input, tokens.output, tokens.cache or 0)
        further: tuple[object, ...] = ()
        if call.scope_id is None and reading.created_at is not None:
            further = (reading.created_at,)
        elif call.scope_id is None and known_by is not None and is_constant(response_id):
            further = (known_by(),)
        alike = digest("counts", response_id, call.scope_id, *billed, *counts, *further)
        place = call.place_of(alike)
        return alike if place == 1 else digest(alike, place)
    if call.scope_id is not None:
        return digest("scope", call.scope_id, call.ordinal, *billed)
    return make_key()


def digest(*parts: object) -> str:
    """Make a key of JSON values: the same for the same ones."""
    return "x-" + hashlib.sha256(encode_json(parts)).hexdigest()[:40]


class Seen:
    """Remembers the last exchanges that were recorded, so that a second layer can say `seen_already`.

    The server bills a key once; this saves the request. It holds no lock: adding is one step of the
    interpreter.

    Args:
        limit: How many keys are remembered; the oldest are forgotten first.

    Raises:
        ValidationError: `limit` is not an integer of at least 1.
    """

    def __init__(self, limit: int = 10_000) -> None:
        self._limit = check_int("limit", limit, least=1)
        self._keys: dict[str, object] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, key: str) -> bool:
        """Remember a key; return whether it is new."""
        mine = object()
        if self._keys.setdefault(key, mine) is not mine:
            return False
        while len(self._keys) > self._limit:
            self._keys.pop(next(iter(self._keys)), None)
        return True

    def forget(self, key: str) -> None:
        """Forget a key whose exchange was not recorded after all."""
        self._keys.pop(key, None)
