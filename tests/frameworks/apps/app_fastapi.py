"""FastAPI with a client in the module, of threads and one of asyncio."""

# The frameworks are not among our packages:
# mypy: ignore-errors
# pyright: basic, reportMissingImports=false

import signal
import sys

from fastapi import FastAPI
from noted import HELD, note

from clocknext import AsyncClockNext, ClockNext
from clocknext_transports.integrations.asgi import ClockNextMiddleware

app = FastAPI()
cnk = ClockNext(**HELD)
acnk = AsyncClockNext(**HELD)
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


def serve(port: int) -> None:
    """Serve, in a program whose own handler of SIGTERM exits."""
    import uvicorn

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    uvicorn.run(app, port=port, log_level="error")
