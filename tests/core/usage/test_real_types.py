"""The providers' own packages, where they are installed: their types, filled as they fill them."""

import json
from typing import Any

import pytest

from clocknext_core import Tokens
from clocknext_core.usage.reading import read
from tests.core.usage.cases import CASES, CONVERSE_TOKENS, CONVERSE_USAGE, LANGCHAIN, MESSAGE_USAGE, Case

# Packages that warn as they are imported are no failure of ours.
pytestmark = pytest.mark.filterwarnings("ignore")


def skip_unless(module: str) -> Any:
    return pytest.importorskip(module, exc_type=ImportError)


@pytest.mark.parametrize("case", [case for case in CASES if case.kind], ids=lambda case: case.name)
def test_own_type(case: Case) -> None:
    assert case.kind
    module, name = case.kind
    kind = getattr(skip_unless(module), name)
    response = kind.model_validate(case.response)
    assert Tokens.from_usage(response) == case.tokens
    assert Tokens.from_usage(response.model_dump()) == case.tokens
    if case.model:
        assert read(response).model == case.model


@pytest.mark.parametrize(
    ("operation", "body", "tokens"), [("Converse", {"usage": CONVERSE_USAGE}, CONVERSE_TOKENS)]
)
def test_bedrock(operation: str, body: dict[str, object], tokens: Tokens) -> None:
    skip_unless("boto3")
    session = skip_unless("botocore.session").get_session()
    shape = session.get_service_model("bedrock-runtime").operation_model(operation).output_shape
    parser = skip_unless("botocore.parsers").create_parser("rest-json")
    answer = parser.parse({"status_code": 200, "headers": {}, "body": json.dumps(body).encode()}, shape)
    assert Tokens.from_usage(answer) == tokens


@pytest.mark.parametrize("provider", ["anthropic", "bedrock"])
def test_litellm(provider: str) -> None:
    types: Any = skip_unless("litellm.types.utils")
    if provider == "anthropic":
        config = skip_unless("litellm.llms.anthropic.chat.transformation").AnthropicConfig()
        usage = config.calculate_usage(usage_object=MESSAGE_USAGE, reasoning_content=None)
        expected = Tokens(input=296, output=67, cache=17102)
    else:
        config = skip_unless("litellm.llms.bedrock.chat.converse_transformation").AmazonConverseConfig()
        usage = config.transform_usage(CONVERSE_USAGE)
        expected = CONVERSE_TOKENS
    response = types.ModelResponse(model="claude-sonnet-4-5", usage=usage)
    assert Tokens.from_usage(response) == Tokens.from_usage(usage) == expected
    assert read(response).model == "claude-sonnet-4-5"
    chunk = types.ModelResponseStream(model="claude-sonnet-4-5", choices=[], usage=usage)
    assert Tokens.from_usage(chunk) == expected


def test_langchain_chunks_added_up() -> None:
    kind = skip_unless("langchain_core.messages").AIMessageChunk
    merged = kind(content="Hel") + kind(content="lo") + kind.model_validate(LANGCHAIN)
    assert Tokens.from_usage(merged) == Tokens(input=250, output=240, cache=100)


def test_gemini_interactions() -> None:
    kind = skip_unless("google.genai._gaos.types.interactions.usage").Usage
    usage = kind(
        total_input_tokens=100, total_cached_tokens=60, total_output_tokens=20, total_thought_tokens=30
    )
    assert Tokens.from_usage(usage) == Tokens(input=40, output=50, cache=60)
