"""FastAPI with a client in the module, of threads or of asyncio."""

# The frameworks are not among our packages:
# mypy: ignore-errors
# pyright: basic, reportMissingImports=false

import os

from fastapi import FastAPI
from noted import BATCH, note

from clocknext import AsyncClockNext, ClockNext
from clocknext_transports.integrations.asgi import ClockNextMiddleware

app = FastAPI()
if os.environ["CLIENT"] == "threads":
    cnk = ClockNext(batch=BATCH)
    app.add_middleware(ClockNextMiddleware, cnk=cnk)

    @app.get("/{key}")
    def record(key: str) -> str:
        cnk.signals.wallet(customer_id="cus_123", model="gpt-4o", idempotency_key=key)
        note(key)
        return key

else:
    acnk = AsyncClockNext(batch=BATCH)
    app.add_middleware(ClockNextMiddleware, cnk=acnk)

    @app.get("/{key}")
    async def arecord(key: str) -> str:
        await acnk.signals.wallet(customer_id="cus_123", model="gpt-4o", idempotency_key=key)
        note(key)
        return key
