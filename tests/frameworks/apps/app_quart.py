"""Quart-Trio with a client in the module."""

# The frameworks are not among our packages:
# mypy: ignore-errors
# pyright: basic, reportMissingImports=false

from noted import HELD, note
from quart_trio import QuartTrio

from clocknext import TrioClockNext
from clocknext_transports.integrations.asgi import ClockNextMiddleware

cnk = TrioClockNext(**HELD)
app = QuartTrio(__name__)
app.asgi_app = ClockNextMiddleware(app.asgi_app, cnk)


@app.get("/<key>")
async def record(key):
    """Record a signal."""
    await cnk.signals.wallet(customer_id="cus_123", model="gpt-4o", idempotency_key=key)
    note(key)
    return key
