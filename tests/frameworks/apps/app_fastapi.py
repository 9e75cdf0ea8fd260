"""FastAPI with a client in the module, of threads and one of asyncio."""

# The frameworks are not among our packages:
# mypy: ignore-errors
# pyright: basic, reportMissingImports=false

from fastapi import FastAPI
from noted import BATCH, note

from clocknext import AsyncClockNext, ClockNext
from clocknext_transports.integrations.asgi import ClockNextMiddleware

app = FastAPI()
cnk = ClockNext(batch=BATCH)
acnk = AsyncClockNext(batch=BATCH)
app.add_middleware(ClockNextMiddleware, cnk=cnk)
app.add_middleware(ClockNextMiddleware, cnk=acnk)


@app.get("/threads/{key}")
def record(key: str) -> str:
    """Record by threads."""
    cnk.signals.wallet(customer_id="cus_123", model="gpt-4o", idempotency_key=key)
    note(key)
    return key


@app.get("/asyncio/{key}")
async def arecord(key: str) -> str:
    """Record in a coroutine."""
    await acnk.signals.wallet(customer_id="cus_123", model="gpt-4o", idempotency_key=key)
    note(key)
    return key
