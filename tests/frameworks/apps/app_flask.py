"""Flask: sync and async views, clients in the module, streams."""

# The frameworks are not among our packages:
# mypy: ignore-errors
# pyright: basic, reportMissingImports=false

from flask import Flask, Response, request
from noted import HELD, note

from clocknext import AsyncClockNext, BatchPolicy, ClockNext
from clocknext_transports.integrations import flask as integration

cnk = ClockNext(**HELD, on_unbilled=lambda unbilled: print("unbilled", unbilled.reason, flush=True))
acnk = AsyncClockNext(**HELD)
eager = AsyncClockNext(batch=BatchPolicy(max_size=5))
app = Flask(__name__)
integration.init_app(app, cnk, customer=lambda: request.args.get("as"), key="chat_credit")

USAGE = {"prompt_tokens": 8, "completion_tokens": 5, "total_tokens": 13}


def answer(number):
    """Return a chat completion."""
    return {
        "id": f"chatcmpl-77aa88bb{number}",
        "object": "chat.completion",
        "model": "gpt-4o",
        "usage": USAGE,
    }


@app.get("/sync/<key>")
def sync(key):
    """Record by threads."""
    cnk.signals.wallet(customer_id="cus_123", model="gpt-4o", idempotency_key=key)
    note(key)
    return key


@app.get("/async/<key>")
async def asynchronous(key):
    """Record in a loop of this request's own, which ends before anything is sent."""
    await acnk.signals.wallet(customer_id="cus_123", model="gpt-4o", idempotency_key=key)
    note(key)
    return key


@app.get("/eager/<key>")
async def at_once(key):
    """Record in a loop of this request's own, which may end while something is sent."""
    await eager.signals.wallet(customer_id="cus_123", model="gpt-4o", idempotency_key=key)
    note(key)
    return key


@app.get("/called/<number>")
def called(number):
    """Call a model."""
    cnk.start_call().answered(answer(number))
    return "ok"


@app.get("/async-called/<number>")
async def async_called(number):
    """Call a model in a coroutine."""
    cnk.start_call().answered(answer(number))
    return "ok"


@app.get("/streamed/<number>")
def streamed(number):
    """Call a model while the response is sent."""

    def body():
        yield "a"
        cnk.start_call().answered(answer(number))
        yield "b"

    return Response(body())
