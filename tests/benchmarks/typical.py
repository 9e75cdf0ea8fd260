"""The typical signal that everything is measured with, and the client that holds it back."""

from typing import Literal, TypedDict

from clocknext_core import BatchPolicy

API_KEY = "cnk_benchmark"
PATH = "/api/v1/usage"
MODEL = "llama-3.3-70b-versatile"
NEVER = 86_400.0


class Arguments(TypedDict):
    """What `signals.credit` is given."""

    customer_id: str
    model: str
    key: str
    member: str
    tokens: dict[str, int | None]
    custom: dict[str, object]


def arguments(number: int, *, model: str = MODEL) -> Arguments:
    """Make the arguments of one signal, sharing nothing with another one's, as in a real program."""
    return {
        "customer_id": f"cus_{number:012}",
        "model": model,
        "key": "api_credit",
        "member": f"person.{number:06}@acme.example",
        "tokens": {"input": 1000 + number, "output": 340, "cache": 0},
        "custom": {"feature": "summarize"},
    }


def body(number: int, *, model: str = MODEL) -> bytes:
    """Make the body that carries such a signal, as the library does."""
    return (
        f'{{"customerId":"cus_{number:012}","type":"credit","model":"{model}","inputTokens":{1000 + number},'
        f'"outputTokens":340,"cacheTokens":0,"key":"api_credit","member":"person.{number:06}@acme.example",'
        f'"custom":{{"feature":"summarize"}},"idempotencyKey":"{number:032x}"}}'
    ).encode()


def holding(concurrency: int | Literal["auto"] = 5) -> BatchPolicy:
    """Make a policy under which nothing is sent before a flush."""
    return BatchPolicy(
        max_size=10**9,
        max_interval=NEVER,
        max_concurrency=concurrency,
        max_queue_size=10**9,
        max_queue_bytes=10**12,
    )
