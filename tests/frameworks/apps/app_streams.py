"""FastAPI that streams a model's answer, billed to the customer that a dependency names."""

# The frameworks are not among our packages:
# mypy: ignore-errors
# pyright: basic, reportMissingImports=false

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from fastapi.responses import StreamingResponse

from clocknext import AsyncClockNext, Unbilled
from clocknext_transports.integrations.asgi import ClockNextMiddleware, billed_to


def report(unbilled: Unbilled) -> None:
    """Write what was not billed to the server's output."""
    print("unbilled", unbilled.reason, unbilled.customer_id, flush=True)


cnk = AsyncClockNext(on_unbilled=report)
app = FastAPI()
app.add_middleware(ClockNextMiddleware, cnk=cnk)


def customer_of(request: Request) -> str | None:
    """Return the customer of a request; a real application looks into its session."""
    return request.query_params.get("as")


Billed = Annotated[None, Depends(billed_to(cnk, customer_of, key="chat_credit"))]
released = asyncio.Event()


def answer(number: str) -> dict[str, Any]:
    """Return a chat completion."""
    usage = {"prompt_tokens": 8, "completion_tokens": 5, "total_tokens": 13}
    return {
        "id": f"chatcmpl-77aa88bb{number}",
        "object": "chat.completion",
        "model": "gpt-4o",
        "usage": usage,
    }


async def chunks(number: str, *, waits: bool) -> AsyncGenerator[dict[str, Any], None]:
    """Yield the chunks of one, and wait after the first."""
    kind = {"id": f"chatcmpl-77aa88bb{number}", "object": "chat.completion.chunk", "model": "gpt-4o"}
    choice = {"index": 0, "delta": {"content": "Hi"}, "finish_reason": None}
    yield {**kind, "choices": [choice], "usage": None}
    if waits:
        await released.wait()
    yield {**kind, "choices": [{**choice, "delta": {}, "finish_reason": "stop"}], "usage": None}
    yield {**kind, "choices": [], "usage": answer(number)["usage"]}


@app.get("/called/{number}")
async def called(number: str, _: Billed) -> str:
    """Call a model in a coroutine."""
    cnk.start_call().answered(answer(number))
    return "ok"


@app.get("/threaded/{number}")
def threaded(number: str, _: Billed) -> str:
    """Call a model in a thread of the server's pool."""
    cnk.start_call().answered(answer(number))
    return "ok"


@app.get("/streamed/{number}")
async def streamed(number: str, _: Billed, waits: bool = False) -> StreamingResponse:
    """Call a model while the response is sent."""

    async def body() -> AsyncGenerator[str, None]:
        async with cnk.start_call().watch_async(chunks(number, waits=waits)) as stream:
            async for chunk in stream:
                yield json.dumps(chunk) + "\n"

    return StreamingResponse(body())
