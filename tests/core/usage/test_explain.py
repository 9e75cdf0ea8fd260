"""Why a response is read as it is; objects of every kind; and hints for what can't be read."""

from types import SimpleNamespace as Thing
from typing import Any, ClassVar

import pytest

from clocknext_core import Tokens, ValidationError
from clocknext_core.usage.counts import Field, counted_in
from clocknext_core.usage.reading import explain, read
from tests.core.usage.shapes import chat, message, response


def reasons(usage: object) -> tuple[str, ...]:
    explanation = explain({"usage": usage})
    assert explanation.error is None
    assert explanation.reading == read({"usage": usage})
    return explanation.reasons


def test_the_fields_that_were_read() -> None:
    explanation = explain(chat({"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}))
    assert explanation.fields == (
        Field("response.usage.prompt_tokens", 9, "prompt"),
        Field("response.usage.completion_tokens", 4, "output"),
        Field("response.usage.total_tokens", 13, "total"),
    )
    assert explanation.reasons == ("no cached tokens: the response says nothing about a cache",)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (
            {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 3}},
            ["the cached tokens are inside the prompt: that is what the provider's names mean"],
        ),
        (
            {
                "input_tokens": 9,
                "output_tokens": 4,
                "cache_read_input_tokens": 3,
                "cache_creation_input_tokens": 2,
            },
            [
                "the cached tokens are beside the prompt: that is what the provider's names mean",
                "cache writes are beside the prompt: that is what the provider's names mean",
                "tokens written to the cache are billed as input; the premium on them is not billed",
            ],
        ),
        (
            {"prompt_tokens": 9, "completion_tokens": 4, "cached_tokens": 30},
            ["the cached tokens are beside the prompt: they are more than the count they would be in"],
        ),
        (  # xAI's
            {
                "prompt_tokens": 32,
                "completion_tokens": 9,
                "total_tokens": 135,
                "prompt_tokens_details": {"cached_tokens": 6},
                "completion_tokens_details": {"reasoning_tokens": 94},
            },
            [
                "the cached tokens are inside the prompt: that is what the provider's names mean",
                "the reasoning tokens are beside the output: they are more than the count they would be in",
            ],
        ),
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 4,
                "total_tokens": 15,
                "completion_tokens_details": {"reasoning_tokens": 2},
            },
            [
                "the reasoning tokens are beside the output: the total adds up only so",
                "no cached tokens: the response says nothing about a cache",
            ],
        ),
        (
            {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 20},
            [
                "the total has 7 more than all counts: reasoning, added to the output",
                "no cached tokens: the response says nothing about a cache",
            ],
        ),
    ],
)
def test_the_reasons(usage: object, expected: list[str]) -> None:
    assert list(reasons(usage)) == expected


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("cache_write_tokens", "input"),
        ("cache_write_1h_tokens", "input"),
        ("input_audio_tokens", "prompt"),
        ("output_image_tokens", "output"),
        ("input_characters", None),
        ("image_gen_output_tokens", None),
        ("web_search_requests", None),
        ("citation_tokens", None),
    ],
)
def test_which_count_has_what_has_no_field_of_its_own(name: str, count: str | None) -> None:
    assert counted_in(name) == count


def test_a_total_alone_is_explained() -> None:
    explanation = explain({"data": [], "usage": {"total_tokens": 5}})
    assert explanation.reasons[0] == "there is a total and no other count: of embeddings, it is the prompt"


def test_what_can_not_be_read_is_explained_by_its_error() -> None:
    explanation = explain({"usage": {"prompt_tokens": "many"}})
    assert (explanation.reading, explanation.fields, explanation.reasons) == (None, (), ())
    assert explanation.error == "response.usage.prompt_tokens: must be an integer, not str"


class Message:
    """As protocol buffers have it: a descriptor names the fields, which are no attributes of its own."""

    __slots__ = ("_values",)

    def __init__(self, **values: object) -> None:
        self._values = values

    @property
    def DESCRIPTOR(self) -> object:  # noqa: N802 - as protobuf calls it
        return Thing(fields=[Thing(name=name) for name in self._values])

    def __getattr__(self, name: str) -> object:
        try:
            return self._values[name]
        except KeyError:
            raise AttributeError(name) from None


class Plus:
    """As proto-plus has it: a message inside."""

    def __init__(self, inner: object) -> None:
        self._pb = inner

    def __getattr__(self, name: str) -> object:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._pb, name)


class Slotted:
    __slots__ = "prompt_tokens"  # noqa: PLC0205 - one name need not be in a list

    def __init__(self, prompt_tokens: int) -> None:
        self.prompt_tokens = prompt_tokens


class Computed:
    """As xai-sdk has it: the usage is a property, and so is what must not be computed."""

    @property
    def text(self) -> str:
        raise RuntimeError

    @property
    def usage(self) -> object:
        return Message(prompt_tokens=9, completion_tokens=4, cached_prompt_text_tokens=3)


class Extended:
    """As pydantic has it: fields beyond those declared are kept apart."""

    def __init__(self) -> None:
        self.__pydantic_extra__ = {"prompt_tokens": 9, "completion_tokens": 4}

    def __getattr__(self, name: str) -> object:
        if name == "__pydantic_extra__":
            raise AttributeError(name)
        try:
            return self.__pydantic_extra__[name]
        except KeyError:
            raise AttributeError(name) from None


class Model:
    """As pydantic has it: a class that declares its fields, and extra ones apart from them."""

    __pydantic_fields__: ClassVar[dict[str, object]] = {}
    __pydantic_extra__: dict[str, object] | None = None

    def __init__(self, extra: dict[str, object] | None = None, **fields: object) -> None:
        self.__dict__.update(fields)
        self.__pydantic_extra__ = extra

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"{name} is no field: to ask for it takes long")

    @property
    def total_tokens(self) -> int:
        return 13


@pytest.mark.parametrize(
    ("given", "tokens"),
    [
        (Thing(usage=Message(prompt_tokens=9, completion_tokens=4)), Tokens(input=9, output=4)),
        (Thing(usage=Plus(Message(prompt_tokens=9, completion_tokens=4))), Tokens(input=9, output=4)),
        (Thing(usage=Slotted(9)), Tokens(input=9)),
        (Thing(usage=Extended()), Tokens(input=9, output=4)),
        (Computed(), Tokens(input=6, output=4, cache=3)),
        (Thing(usage=Thing(prompt_tokens=9.0, completion_tokens=4)), Tokens(input=9, output=4)),
    ],
)
def test_objects_of_every_kind(given: object, tokens: Tokens) -> None:
    assert read(given).tokens == tokens


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": 9, "tokens": 5}, Tokens(input=9)),
        ({"prompt_tokens": 9, "total_tokens": {"odd": 1}}, Tokens(input=9)),
        ({"prompt_tokens": 9, "cacheTokensDetails": [{"modality": "TEXT"}]}, Tokens(input=9)),
        ({"prompt_tokens": 9, "prompt_tokens_details": {"reasoning_tokens": 4}}, Tokens(input=9)),
        (
            {"prompt_tokens": 9, "cache_creation": {"note": "x", "ephemeral_5m_input_tokens": None}},
            Tokens(input=9),
        ),
        ({"prompt_tokens": 9, "promptTokensDetails": [{"modality": "AUDIO"}]}, Tokens(input=9)),
        ({"prompt_tokens": 9, "server_tool_use": {"web_search_requests": None}}, Tokens(input=9)),
        ({"prompt_tokens": 9, "image_tokens": 0, "images": 0, "requests": 1}, Tokens(input=9)),
        ({"input_tokens": 9, "details": {"cache_read_tokens": 4}}, Tokens(input=5, cache=4)),
        ({"inputTextTokenCount": 9, "results": [{"outputText": "Hi"}]}, Tokens(input=9)),
        ({"prompt_tokens": 9, "tokens": 50}, Tokens(input=9)),
        ({"prompt_tokens": 9, "completion_tokens": 4, "input_characters": 40}, Tokens(input=9, output=4)),
        (
            {"prompt_tokens": 9, "prompt_cache_hit_tokens": 4, "prompt_cache_miss_tokens": 5},
            Tokens(input=5, cache=4),
        ),
        (
            {
                "prompt_cache_hit_tokens": 4,
                "prompt_cache_miss_tokens": 5,
                "completion_tokens": 2,
                "total": 11,
            },
            Tokens(input=5, output=2, cache=4),
        ),
        ({"uncached_input_tokens": 5, "cached_input_tokens": 4}, Tokens(input=5, cache=4)),
        ({"uncached_input_tokens": None, "input_tokens": 5}, Tokens(input=5)),
        (
            {"prompt_tokens": 9, "completion_tokens": 9, "cache_read_input_tokens": 3},
            Tokens(input=6, output=9, cache=3),
        ),
    ],
)
def test_what_says_nothing_changes_nothing(usage: object, tokens: Tokens) -> None:
    assert read({"usage": usage}).tokens == tokens


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"usage": {"cached_tokens": 0, "image_tokens": 9}}, "image_tokens: is not known"),
        ({"usage": {"inputTokens": {"noCache": 3}, "outputTokens": {"total": 4}}}, "no prompt count"),
        (
            {"usage": {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13, "image_tokens": 50}},
            "is not known",
        ),
        ({"usage": {"prompt_tokens": 9, "completion_tokens": 4, "output_audio_tokens": 3}}, "is not known"),
        ({"choices": [None], "usage": None}, "stream_options"),
        ({"metadata": {"billableCharacterCount": 9}}, "another unit"),
        (Thing(parse=lambda: None, headers={}), "what its parse() returns"),
        (Thing(usage=lambda: None), "It is a run"),
        (Thing(stream=[]), "It is a stream"),
        ({"type": "error", "error": {"type": "overloaded_error"}}, "costs nothing"),
        ({"error": {"message": "too many", "type": "requests"}}, "an error of the provider's"),
        ('{"usage": {"prompt_tokens": 9}}', "json.loads()"),
        (b"{}", "json.loads()"),
        ({"usage": {"tokens": "many"}}, "response.usage.tokens: must be an integer"),
        ({"usage": {"tokens": 9}}, "a total and no other count"),
        (message(None, stop_reason=None), "stop_reason is null"),
        (response(None, status="in_progress"), "its status is in_progress"),
        ({"usage": {"tokens": {"output_tokens": 3}}}, "no prompt count"),
    ],
)
def test_hints(given: Any, says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        read(given)
    assert says in caught.value.message


def test_a_second_usage_that_can_not_be_read_is_passed_over() -> None:
    usage = {"input_tokens": 9, "output_tokens": 4, "total_tokens": 13}
    for other in ({"prompt_tokens": "?"}, {"prompt_tokens": 50, "cached_tokens": 3}, {"prompt_tokens": 9}):
        given = {"usage_metadata": usage, "response_metadata": {"token_usage": other}}
        assert read(given).tokens == Tokens(input=9, output=4)


def test_a_model_of_pydantics_is_not_asked_for_what_it_has_not() -> None:
    declared = Model(usage=Model(prompt_tokens=9, completion_tokens=4))
    extra = Model({"usage": Model({"prompt_tokens": 9}, completion_tokens=4)})
    assert read(declared).tokens == read(extra).tokens == Tokens(input=9, output=4)


class Named(Model):
    """A model whose class has an id for its objects."""

    @property
    def response_id(self) -> str:
        return "of the class"


@pytest.mark.parametrize(
    ("response", "response_id"),
    [
        (Model(usage=Model(prompt_tokens=9), id="declared"), "declared"),
        (Model({"response_id": "extra"}, usage=Model(prompt_tokens=9)), "extra"),
        (Named(usage=Model(prompt_tokens=9)), "of the class"),
        (Named({"generation_id": "extra"}, usage=Model(prompt_tokens=9)), "of the class"),
        (Model(usage=Model(prompt_tokens=9), other="id"), None),
    ],
    ids=["declared", "extra", "of the class", "of the class, with others", "nowhere"],
)
def test_a_name_of_a_model_of_pydantics_is_found_wherever_it_is(
    response: Model, response_id: str | None
) -> None:
    assert read(response).response_id == response_id
