"""The three counts of a signal, from the names and numbers of one usage.

Names say roles (`roles.py`). Where two providers give one name two meanings, the numbers decide: a count
that is larger than the prompt is not inside it, and a total adds up in one way only.
"""

import operator
from collections.abc import Mapping
from itertools import product
from typing import Final, Literal, NamedTuple, TypeAlias, cast

from clocknext_core.checks import MAX_INT, check_int
from clocknext_core.errors import ValidationError, invalid
from clocknext_core.usage.lookup import (
    fields_of,
    first,
    get,
    is_holder,
    is_list,
    items_of,
    may_have,
    opened,
    plain_name,
    words_of,
)
from clocknext_core.usage.roles import Name, Role, role_of

Deciding: TypeAlias = Literal["total", "size", "names"]


class Field(NamedTuple):
    """A count that was read: where it is, what it is and which role it plays."""

    path: str
    value: int
    role: Role


class Placement(NamedTuple):
    """Which counts stand beside the prompt or the output instead of inside, and what said so."""

    cached: bool = False
    written: bool = False
    reasoning: bool = False
    tools: bool = True
    unexplained: int = 0
    """Tokens that the total has above all counts: reasoning that was not named."""
    by: Deciding = "names"
    by_size: frozenset[str] = frozenset()
    """Which of the four are not where their names say, because they are too large for it."""


class Counts(NamedTuple):
    """What a usage says was used, each token in exactly one of the three."""

    input: int
    """Prompt tokens that were not read from the cache."""
    output: int
    """Tokens the model made, reasoning included."""
    cache: int | None
    """Prompt tokens read from the cache; `None` where the provider said nothing about it."""
    other: Mapping[str, int]
    """What has no count in the API, or another price than its count has."""
    fields: tuple[Field, ...]
    placement: Placement
    total_alone: bool = False
    """Whether there was a total and nothing else, which is taken as input."""

    def plus(self, more: "Counts") -> "Counts":
        """Add the counts of another usage of the same model."""
        cache = None if self.cache is None is more.cache else (self.cache or 0) + (more.cache or 0)
        other = {
            name: self.other.get(name, 0) + more.other.get(name, 0) for name in {**self.other, **more.other}
        }
        return self._replace(
            input=self.input + more.input,
            output=self.output + more.output,
            cache=cache,
            other=other,
            fields=(*self.fields, *more.fields),
        )


_IN_INPUT: Final = frozenset({"cache_write_tokens", "cache_write_1h_tokens"})


def counted_in(name: str) -> str | None:
    """Return which count has what `Counts.other` names: `input`, `prompt` (cached or not) or `output`.

    `None`: it is in none, and not billed.
    """
    if name in _IN_INPUT:
        return "input"
    side, _, _ = name.partition("_")
    if side not in {"input", "output"} or role_of(name).role != "flagged":
        return None
    return "prompt" if side == "input" else "output"


COUNTED: Final = frozenset({"prompt", "output", "cached", "written", "reasoning", "tools", "total"})
IN_ANOTHER_UNIT: Final = (
    "is a count in another unit than tokens, with a price of its own: "
    "record it with signals.unit, under a unit of your plan"
)
_CACHE: Final[tuple[Role, ...]] = ("cached", "written")
_MODALITIES: Final = frozenset({"text", "audio", "image", "video"})
_PROMPT_WORDS: Final = frozenset({"prompt", "input"})
_OUTPUT_WORDS: Final = frozenset({"output", "completion", "candidates", "response"})


def as_count(path: str, value: object) -> int:
    """Take a number as a count: an integer, a whole float or Decimal, or a string of digits.

    Raises:
        ValidationError: It is none, or not from 0 to 2^53-1; the message names the path.
    """
    if type(value) is int and 0 <= value <= MAX_INT:
        return value
    return check_int(path, _whole(value), least=0)


def _whole(value: object) -> object:
    """Turn what databases and providers use for integers into one; anything else stays as it is."""
    if isinstance(value, str):
        return int(value) if value.isascii() and value.isdigit() and len(value) <= 20 else value
    if isinstance(value, bool):
        return value
    try:
        return operator.index(cast("int", value))
    except TypeError:
        pass
    ratio = getattr(value, "as_integer_ratio", None)
    if ratio is not None:
        try:
            numerator, denominator = ratio()
        except (ValueError, OverflowError):  # NaN and infinity
            return value
        if denominator == 1:
            return numerator
    return value


def is_number(value: object) -> bool:
    """Return whether a value is a number, also as databases give it back."""
    whole = _whole(value)
    return isinstance(whole, (int, float)) and not isinstance(whole, bool)


def _number(value: object) -> float | None:
    """Return a number that is no count to be checked; `None` for anything else, and for 0."""
    if type(value) is int:
        return value if value > 0 else None
    whole = _whole(value)
    if isinstance(whole, bool) or not isinstance(whole, (int, float)) or not whole > 0:
        return None
    return whole


class _Gathering:
    """The counts of one usage, as they are found."""

    def __init__(self) -> None:
        self.whole: dict[Role, int] = {}
        self.parts: dict[Role, int] = {}
        self.fields: list[Field] = []
        self.besides: set[Role] = set()
        self.never_in_total = False
        self.flagged: list[tuple[str, float]] = []
        self.usages: list[object] = []
        self.other: dict[str, int] = {}
        self.unit: str | None = None
        self.characters: str | None = None
        self.places: dict[str, str] = {}
        self.instead: list[tuple[str, Name, object]] = []
        """Counts that are taken where there is no other of their role."""
        self.unmeasured: str | None = None

    def get(self, role: Role) -> int | None:
        """Return the count of a role: the largest of its names, or its parts added up."""
        whole = self.whole.get(role)
        if role not in self.parts:
            return whole
        parts = self.parts[role]
        return parts if whole is None else max(whole, parts)

    def put(self, path: str, name: Name, value: int) -> None:
        role = name.role
        self.fields.append(Field(path, value, role))
        if name.part:
            self.parts[role] = self.parts.get(role, 0) + value
        elif value >= self.whole.get(role, 0):
            self.whole[role] = value
        if name.beside:
            self.besides.add(role)
        if name.never_in_total and value:
            self.never_in_total = True


def read_counts(usage: object, path: str = "response.usage") -> Counts:
    """Read the counts of one usage.

    Args:
        usage: The object or mapping that has the counts.
        path: What errors call it.

    Raises:
        ValidationError: The usage has no count, one that is no count, one in another unit or one whose
            meaning the numbers do not tell. The message names the field and shows no contents.
    """
    counts = _of_one(usage, path)
    # Of Anthropic's iterations, compactions alone are not in the counts beside them.
    for place, entry in enumerate(items_of(get(usage, "iterations"))):
        if get(entry, "type") != "compaction":
            continue
        counts = counts.plus(_of_one(entry, f"{path}.iterations[{place}]"))
    return counts


def _of_one(usage: object, path: str) -> Counts:
    found = _Gathering()
    billed = first(usage, "billed_units", "billedUnits")
    if is_holder(billed):
        # Billed units win: what is beside them includes what Cohere adds to a prompt and does not charge.
        _gather(found, billed, f"{path}.billed_units")
        if found.unit is None and found.get("prompt") is None and found.get("output") is None:
            _gather(found, usage, path)
    else:
        _gather(found, usage, path)
    return _settled(found, path)


def _gather(found: _Gathering, usage: object, path: str) -> None:
    """Sort the fields of a usage by role."""
    found.usages.append(usage)
    for name, value in fields_of(usage).items():
        if value is None:
            continue
        meaning, where = role_of(name), f"{path}.{name}"
        role = meaning.role
        if role in COUNTED:
            if meaning.short and not is_holder(value):
                # It may be a text of digits, or what another server counts: taken where there is no other.
                if is_number(value):
                    found.instead.append((where, meaning, value))
                continue
            if _means_another(meaning, usage):
                continue
            if role in _PARTS and type(value) is not int and _says_no_count(name, role, where, value):
                continue
            _take_count(found, meaning, where, value)
        elif role in {"prompt_details", "output_details"}:
            if is_holder(value):
                _gather_details(found, role, where, opened(value))
            else:
                _note_modalities(found, role, value)
        elif role == "tokens" and is_holder(value):
            _gather(found, value, where)
        elif role == "tokens":  # the AI SDK's of embeddings
            found.instead.append((where, Name("total"), value))
        elif role == "uncached":
            found.instead.append((where, Name("prompt", beside=True), value))
        elif role == "native":
            continue
        else:
            _take_other(found, meaning, where, name, value)
    if may_have(usage, _NATIVE):
        _gather_native(found, usage, path)
    if found.get("output") is None:
        # Titan's answer has its count of output tokens with each result.
        for place, result in enumerate(items_of(get(usage, "results"))):
            made = get(result, "tokenCount")
            if made is not None:
                where = f"{path}.results[{place}].tokenCount"
                found.put(where, Name("output", part=True), as_count(where, made))


def _says_no_count(name: str, role: Role, where: str, value: object) -> bool:
    """Return whether the name of a part has a text or a flag, which counts nothing.

    Raises:
        ValidationError: It says that a cache was hit, which may be the framework's own or the provider's.
    """
    if not isinstance(_whole(value), (bool, str)) or _COUNTING & words_of(name):
        return False
    if role == "cached" and str(value).casefold() == "true":
        raise invalid(
            where,
            "says that a cache was hit: if it is the gateway's own, the answer cost nothing; if it is the "
            "provider's, give the provider's own response",
        )
    return True


_PARTS: Final = frozenset({"cached", "written", "reasoning"})
_COUNTING: Final = frozenset({"token", "tokens", "count", "counts"})


def _means_another(meaning: Name, usage: object) -> bool:
    """Return whether a name is not the count that it says, by what is beside it."""
    only, never = meaning.only_beside, meaning.never_beside
    return (only is not None and get(usage, only) is None) or (
        never is not None and get(usage, never) is not None
    )


_NATIVES: Final[dict[str, Role]] = {
    "native_tokens_prompt": "prompt",
    "native_tokens_completion": "output",
    "native_tokens_cached": "cached",
    "native_tokens_reasoning": "reasoning",
}
_NATIVE: Final = frozenset(_NATIVES)


def _gather_native(found: _Gathering, usage: object, path: str) -> None:
    """Take OpenRouter's native counts, which it bills, instead of those it makes to compare models."""
    for name, role in _NATIVES.items():
        value = get(usage, name)
        if value is not None:
            found.whole.pop(role, None)
            found.whole.pop("total", None)  # it adds up the counts that these replace
            found.put(f"{path}.{name}", Name(role), as_count(f"{path}.{name}", value))


def _take_count(found: _Gathering, meaning: Name, where: str, value: object) -> None:
    """Take a count: a number, a group with a total and its parts, or a list by modality."""
    role = meaning.role
    is_several = type(value) is not int and (
        is_holder(value) or (role in {"cached", "written"} and is_list(value))
    )
    if not is_several:
        found.put(where, meaning, as_count(where, value))
    elif is_list(value):
        for place, entry in enumerate(items_of(value)):
            at = f"{where}[{place}]"
            count = first(entry, "token_count", "tokenCount", "inputTokens", "input_tokens")
            if count is not None:
                found.put(at, meaning._replace(part=True), as_count(at, count))
    elif role in {"prompt", "output"}:
        # The AI SDK's providers and Vertex: {"total": 10, "cacheRead": 4}. Bedrock's log has the others.
        for name in ("total", "totalTokens", "total_tokens", "inputTokenCount", "outputTokenCount"):
            total = get(value, name)
            if total is not None:
                found.put(f"{where}.{name}", meaning, as_count(f"{where}.{name}", total))
        _gather_details(found, "prompt_details" if role == "prompt" else "output_details", where, value)
    elif role in {"cached", "written"}:
        for name, inner in fields_of(value).items():
            is_part = role_of(name).role in COUNTED | {"flagged"} or "text" in words_of(name)
            if inner is not None and not is_holder(inner) and is_part:
                at = f"{where}.{name}"
                count = as_count(at, inner)
                found.put(at, meaning._replace(part=True), count)
                if role == "written" and "1h" in name and count:
                    found.other["cache_write_1h_tokens"] = count


def _gather_details(found: _Gathering, side: Role, where: str, details: object) -> None:
    """Take what the details of the prompt or of the output say; modalities are parts of a number counted."""
    prefix = "input_" if side == "prompt_details" else "output_"
    for name, value in fields_of(details).items():
        if value is None:
            continue
        meaning = role_of(name)
        role = meaning.role
        if role in {"cached", "written", "reasoning"}:
            if role == "reasoning" and prefix == "input_":
                continue
            # Beside or inside by name is said of the usage; details are of a count, and so inside.
            inside = meaning._replace(beside=False) if meaning.beside else meaning
            _take_count(found, inside, f"{where}.{name}", value)
        elif role == "flagged" and (count := _number(value)) is not None:
            words = words_of(name)
            if words & {"cache", "caches"}:
                found.flagged.append((f"{where}.{name}", count))
            else:
                plain = plain_name(name).removesuffix("_count").removeprefix(prefix)
                found.other[prefix + plain] = int(count)


def _note_modalities(found: _Gathering, side: Role, details: object) -> None:
    """Note the modalities that Gemini lists, for they may have a price of their own."""
    prefix = "input_" if side == "prompt_details" else "output_"
    for entry in items_of(details):
        modality = get(entry, "modality")
        kind = str(get(modality, "value") or modality).lower()
        number = _number(first(entry, "token_count", "tokenCount"))
        if kind in _MODALITIES - {"text"} and number is not None:
            found.other[f"{prefix}{kind}_tokens"] = int(number)


def _take_other(found: _Gathering, meaning: Name, where: str, name: str, value: object) -> None:
    """Note what is no count of tokens, where it is there: units, searches, requests without a count."""
    role = meaning.role
    if name == "cache" and is_holder(value) and may_have(value, frozenset(_READ_AND_WRITTEN)):
        for inner, part in _READ_AND_WRITTEN.items():
            if (count := get(value, inner)) is not None:
                at = f"{where}.{inner}"
                found.put(at, Name(part, beside=True), as_count(at, count))
        return
    if name == "unit" and isinstance(value, str) and value.casefold() not in {"token", "tokens"}:
        found.unit = where  # Langfuse's, which says what input and output count
    if role == "search" and is_holder(value):
        for inner, count in fields_of(value).items():
            if (number := _number(count)) is not None:
                found.other[plain_name(inner)] = int(number)
                found.places[plain_name(inner)] = f"{where}.{inner}"
        return
    values = list(fields_of(value).values()) if role == "flagged" and is_holder(value) else [value]
    number = next((number for each in values if (number := _number(each)) is not None), None)
    if number is None:
        return
    if role == "search":
        found.other[plain_name(name)] = int(number)
        found.places[plain_name(name)] = where
    elif role == "unit" and (_IN_TOKENS & words_of(name) or name == "inputImages"):
        # Genkit and Databricks count the same text in tokens too, and Genkit the images of a prompt.
        found.other[plain_name(name)] = int(number)
        found.characters = where
    elif role == "unit":
        found.unit = where
    elif role == "unmeasured":
        found.unmeasured = where
    elif role == "flagged":
        found.flagged.append((where, number))


_IN_TOKENS: Final = frozenset({"character", "characters"})
_READ_AND_WRITTEN: Final[dict[str, Role]] = {"read": "cached", "write": "written"}
"""Opencode's names for the cache, which it counts beside the prompt."""


def _modal(found: _Gathering) -> dict[str, float]:
    """Return the counts of single modalities in the usages themselves."""
    return {
        plain_name(name): number
        for usage in found.usages
        for name, value in fields_of(usage).items()
        if not _MODALITIES.isdisjoint(words_of(name)) and (number := _number(value)) is not None
    }


class _Sizes(NamedTuple):
    """The counts as they are, 0 where there is none."""

    prompt: int
    output: int
    cached: int
    written: int
    reasoning: int
    tools: int


def _settled(found: _Gathering, path: str) -> Counts:
    """Decide which counts are inside which, and make the three counts."""
    for where, name, value in found.instead:
        is_last = name.role != "total" or not (found.whole or found.parts)
        if is_last and found.get(name.role) is None:
            found.put(where, name, as_count(where, value))
    prompt, output, total = found.get("prompt"), found.get("output"), found.get("total") or None
    cached, written = found.get("cached"), found.get("written") or 0
    reasoning, tools = found.get("reasoning") or 0, found.get("tools") or 0
    sizes = _Sizes(prompt or 0, output or 0, cached or 0, written, reasoning, tools)
    if found.unmeasured is not None:
        raise invalid(
            found.unmeasured,
            "says that requests were not measured or still run, so the counts are too low: "
            "record the response of each request instead",
        )
    unit = found.unit if found.unit is not None or prompt is not None else found.characters
    if unit is not None:
        raise invalid(unit, IN_ANOTHER_UNIT)
    if prompt is None and output is None and not (cached or tools or reasoning):
        if total is not None and not found.flagged and not found.places:
            placement = Placement()
            return Counts(total, 0, None, found.other, tuple(found.fields), placement, total_alone=True)
        raise _nothing(found, path)
    if not (prompt or output or cached or written or reasoning or tools):
        raise invalid(
            path,
            "counts nothing but zeros, as servers do that can't count, and a prompt is never empty: "
            "ask the server for usage (OpenAI's streams: stream_options={'include_usage': True}), "
            "or count yourself and give tokens=",
        )
    if not (prompt or tools or (prompt == 0 and (cached or written))):
        raise invalid(
            path,
            "has no prompt count (input_tokens, prompt_tokens), so the whole prompt would go unbilled: "
            "give the final message (Anthropic: stream.get_final_message()), the last chunk (Gemini, "
            "Mistral), or the provider's own response where a gateway or a framework lost the count",
        )
    placement = _placed(found, path, sizes, total)
    _check_flagged(found, sizes, exact=total is not None and not placement.unexplained)
    if written:
        found.other["cache_write_tokens"] = written
    fresh = sizes.prompt - (0 if placement.cached else sizes.cached)
    fresh += (written if placement.written else 0) + (tools if placement.tools else 0)
    made = sizes.output + (reasoning if placement.reasoning else 0) + placement.unexplained
    # Where what is billed is given, Cohere has no price for cached tokens.
    return Counts(fresh, made, cached, found.other, tuple(found.fields), placement)


def _nothing(found: _Gathering, path: str) -> ValidationError:
    for where, _ in found.flagged:
        return _unread(where)
    if found.other:
        name = next(iter(found.other))
        return invalid(found.places.get(name, f"{path}.{name}"), IN_ANOTHER_UNIT)
    return invalid(path, "has no count of prompt or output tokens")


def _unread(where: str) -> ValidationError:
    return invalid(
        where,
        "is not known, and the total does not tell whether it is part of a number beside it: "
        "give tokens= with counts of your own, or report the shape",
    )


def _placed(found: _Gathering, path: str, sizes: _Sizes, total: int | None) -> Placement:
    """Decide what is inside the prompt and the output: by size, then by the total, then by names."""
    prompt, output, cached, written, reasoning, tools = sizes
    # A name of Anthropic's means their convention only beside their name for the prompt.
    own = "prompt" in found.besides or (
        not found.besides.isdisjoint(_CACHE)
        and not any(each.role == "prompt" and "input" not in words_of(each.path) for each in found.fields)
    )
    usual = Placement(own, own, "reasoning" in found.besides)
    if found.never_in_total and not (total is not None and _is_counted_by_google(found)):
        return usual._replace(cached=True, written=True)

    def is_possible(placement: Placement) -> bool:
        inside = (0 if placement.cached else cached) + (0 if placement.written else written)
        return inside <= prompt and (placement.reasoning or reasoning <= output)

    def added_up(placement: Placement) -> int:
        besides = (
            cached if placement.cached else 0,
            written if placement.written else 0,
            reasoning if placement.reasoning else 0,
            tools if placement.tools else 0,
        )
        return prompt + output + sum(besides)

    if is_possible(usual) and total in {None, added_up(usual)}:
        return usual

    def departures(placement: Placement) -> int:
        # The cache is one thing: read and written together before one of the two.
        apart = placement.cached != placement.written
        return sum(one != other for one, other in zip(placement[:4], usual[:4], strict=True)) + apart

    choices = [
        Placement(*besides) for besides in product((True, False), (True, False), (True, False), (True, False))
    ]
    possible = sorted(filter(is_possible, choices), key=departures)
    best = possible[0]
    if not is_possible(usual):
        moved = frozenset(
            name for name, one, other in zip(best._fields, best[:4], usual[:4], strict=False) if one != other
        )
        best = best._replace(by="size", by_size=moved)
    if total is None:
        return best
    for placement in possible:
        if added_up(placement) == total:
            return placement._replace(by="total") if added_up(placement) != added_up(best) else best
    if total < min(map(added_up, possible)):
        if reasoning > output:
            (where,) = {f.path for f in found.fields if f.role == "reasoning" and f.value == reasoning} or {
                path
            }
            raise invalid(
                where,
                "is larger than the output, and the total leaves it out: the provider prices it apart "
                "(Perplexity's deep research does): give tokens= with counts of your own",
            )
        return best
    if reasoning or not (cached or written or tools or found.flagged):
        base = next(placement for placement in possible if added_up(placement) <= total)
        return base._replace(unexplained=total - added_up(base), by="total")
    (where,) = [f.path for f in found.fields if f.role == "total"][-1:]
    raise invalid(
        where,
        "is more than the counts beside it add up to, and nothing says what the rest is: "
        "give the provider's own response, or tokens= with counts of your own",
    )


def _is_counted_by_google(found: _Gathering) -> bool:
    """Return whether the prompt has such a name as Google's, beside whose total Nova's rule does not hold."""
    names = (each.path.rpartition(".")[2] for each in found.fields if each.role == "prompt")
    return any(plain_name(name).endswith("_token_count") for name in names)


def _check_flagged(found: _Gathering, sizes: _Sizes, *, exact: bool) -> None:
    """Refuse a sibling that may be tokens that no count has."""
    prompt, output = sizes.prompt, sizes.output
    for where, value in found.flagged:
        words = words_of(where.rpartition(".")[2])
        if "cache" in words:
            raise _unread(where)
        of_prompt = bool(words & _PROMPT_WORDS)
        of_output = bool(words & _OUTPUT_WORDS)
        fits = value <= (output if of_output else prompt if of_prompt else max(prompt, output))
        if exact and fits:
            continue
        same = _PROMPT_WORDS if of_prompt else _OUTPUT_WORDS
        alike = [count for name, count in _modal(found).items() if set(name.split("_")) & same]
        if (of_prompt or of_output) and sum(alike) == (prompt if of_prompt else output):
            continue
        raise _unread(where)
