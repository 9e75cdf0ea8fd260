"""Metering: what it adds to a call of a model's SDK and to a stream. No model is asked."""

import json
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import Any

from clocknext_core.usage.attribution import Attribution
from clocknext_transports import ClockNext
from tests.benchmarks.ours import NOWHERE
from tests.benchmarks.peers import is_installed
from tests.benchmarks.rounds import Claim, Figure, Result, Stopwatch, alternate, single
from tests.benchmarks.setting import Setting
from tests.benchmarks.typical import API_KEY, MODEL, holding

CHUNKS = 200
LIMIT = 60e-6
"""Seconds that metering may add to a call."""
USAGE = {
    "prompt_tokens": 2006,
    "completion_tokens": 300,
    "total_tokens": 2306,
    "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 120, "audio_tokens": 0},
}
ASK: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hello?"}]}


def measure(setting: Setting) -> Result:
    """Measure both, with OpenAI's SDK."""
    if not is_installed("openai"):
        return Result("Metering", "µs", {}, notes=["openai is not installed"])
    calls, streams = setting.pieces(2000), setting.pieces(40)
    contestants: dict[str, Callable[[], Figure]] = {
        "a metered call": partial(_answers, calls),
        "60 µs": lambda: Figure(LIMIT, LIMIT),
        "a stream of 200 chunks": partial(_streams, streams, is_metered=False),
        "the same, metered": partial(_streams, streams, is_metered=True),
    }
    figures = alternate([single(name, run) for name, run in contestants.items()], setting.rounds)
    claims = [
        Claim("a metered call", ("60 µs",), most=1.0),
        Claim("the same, metered", ("a stream of 200 chunks",), most=1.05),
    ]
    return Result("Metering what a model answers", "µs", figures, claims)


def _answer(number: int, **more: object) -> dict[str, object]:
    name = f"chatcmpl-{number:06x}c0ffee7f3a"
    return {"id": name, "created": 1, "model": "gpt-4o-2024-08-06", "service_tier": "default", **more}


def _answers(count: int) -> Figure:
    """Hand over so many answers."""
    made: Any = import_module("openai.types.chat").ChatCompletion

    message = {"role": "assistant", "content": "Hello.", "refusal": None}
    choices = [{"index": 0, "finish_reason": "stop", "logprobs": None, "message": message}]
    answers = [
        made.model_validate(_answer(number, object="chat.completion", choices=choices, usage=USAGE))
        for number in range(count)
    ]
    who = Attribution(customer_id="cus_123", key="api_credit")
    with _client() as client:
        watch = Stopwatch()
        for answer in answers:
            client.start_call(who).answered(answer)
        return watch.per(count)


def _streams(count: int, *, is_metered: bool) -> Figure:
    """Read so many streams to their ends."""
    import httpx

    from clocknext_transports.integrations.openai import metered

    bodies = iter([_body(number) for number in range(count)])
    headers = {"content-type": "text/event-stream"}
    transport = httpx.MockTransport(lambda _: httpx.Response(200, headers=headers, content=next(bodies)))
    own: Any = httpx.Client(transport=transport)
    with _client() as client, own as http:
        sdk: Any = import_module("openai").OpenAI(
            api_key="sk-test", base_url="http://127.0.0.1/v1", http_client=http
        )
        if is_metered:
            sdk = metered(sdk, client, customer_id="cus_123", key="api_credit")
        watch = Stopwatch()
        for _ in range(count):
            for _ in sdk.chat.completions.create(**ASK, stream=True):
                pass
        return watch.per(count)


@contextmanager
def _client() -> Generator[ClockNext, None, None]:
    client = ClockNext(API_KEY, base_url=NOWHERE, batch=holding())
    yield client
    assert not any(client.stats().unbilled.values())
    client.close(timeout=0)


def _body(number: int) -> bytes:
    """Make the bytes of a stream, as it is sent where usage is asked for."""
    delta = {"index": 0, "delta": {"content": "word "}, "finish_reason": None, "logprobs": None}
    last = {**delta, "delta": {}, "finish_reason": "stop"}
    answer = partial(_answer, number, object="chat.completion.chunk")
    chunks = [answer(choices=[delta], usage=None)] * (CHUNKS - 2)
    chunks += [answer(choices=[last], usage=None), answer(choices=[], usage=USAGE)]
    events = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
    return "".join([*events, "data: [DONE]\n\n"]).encode()
