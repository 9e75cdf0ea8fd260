"""The program on each integration's page runs, with the real package."""

import gc

import pytest

from tests.docs.test_examples import WITH_PACKAGES

pytestmark = pytest.mark.filterwarnings("ignore")

PACKAGES = {
    "openai": "openai",
    "azure": "openai",
    "anthropic": "anthropic",
    "litellm": "litellm",
    "langchain": "langchain_openai",
    "openai_agents": "agents",
    "pydantic_ai": "pydantic_ai",
    "google_genai": "google.genai",
    "bedrock": "boto3",
    "opentelemetry": "opentelemetry.sdk",
}
FRAMEWORKS = {
    "asgi": "fastapi",
    "flask": "flask",
    "django": "django",
    "celery": "celery",
    "aws-lambda": "clocknext",
    "rq": "clocknext",
    "quart-trio": "quart_trio",
    "jupyter": "clocknext",
}
"""Whose pages `tests/frameworks` runs, which has the packages."""


def test_every_page_is_run() -> None:
    assert {page.stem for page in WITH_PACKAGES.glob("*.md")} == {"index", *PACKAGES, *FRAMEWORKS}


@pytest.mark.parametrize("name", PACKAGES)
def test_the_program_on_the_page_runs(name: str) -> None:
    pytest.importorskip(PACKAGES[name], exc_type=ImportError)
    exec(compile(program_of(name), f"{name}.md", "exec"), {"__name__": "__main__"})
    gc.collect()


def program_of(name: str) -> str:
    """Return the first program of a page."""
    text = (WITH_PACKAGES / f"{name}.md").read_text(encoding="utf-8")
    return text.partition("```python\n")[2].partition("```\n")[0]
