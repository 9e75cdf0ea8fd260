"""A ClockNext that runs on loopback, bills by the real formulas, and fails on request.

```python
from clocknext_transports.emulator import Fault, emulator

with emulator() as server:
    server.faults.script(Fault("lost"))
    ...  # talk to server.url with server.api_key
    assert server.ledger.bill("cus_123").signals == 1
```

The ledger is pure and works without a server: `Ledger().handle(request, now=...)`. Only a server needs trio.
"""

from clocknext_transports.emulator.api.exchange import Hold, Received, Reply, Responder
from clocknext_transports.emulator.api.ingest import AcceptOnly
from clocknext_transports.emulator.api.ledger import (
    DEFAULT_API_KEY,
    EXPIRED_API_KEY,
    Bill,
    Ledger,
    RequestRecord,
)
from clocknext_transports.emulator.books.catalogue import (
    Catalogue,
    Component,
    Credit,
    Customer,
    Listed,
    Model,
    Outcome,
    Plan,
    Step,
    Unit,
)
from clocknext_transports.emulator.books.pricing import Tier
from clocknext_transports.emulator.books.records import Booked, Counters, Held, Totals, UnitEvent
from clocknext_transports.emulator.server.faults import Fault, FaultKind, Faults
from clocknext_transports.emulator.server.scripted import Answer, OnHold, ScriptedServer, scripted
from clocknext_transports.emulator.server.server import EmulatorServer, emulator, run, serve

__all__ = [
    "DEFAULT_API_KEY",
    "EXPIRED_API_KEY",
    "AcceptOnly",
    "Answer",
    "Bill",
    "Booked",
    "Catalogue",
    "Component",
    "Counters",
    "Credit",
    "Customer",
    "EmulatorServer",
    "Fault",
    "FaultKind",
    "Faults",
    "Held",
    "Hold",
    "Ledger",
    "Listed",
    "Model",
    "OnHold",
    "Outcome",
    "Plan",
    "Received",
    "Reply",
    "RequestRecord",
    "Responder",
    "ScriptedServer",
    "Step",
    "Tier",
    "Totals",
    "Unit",
    "UnitEvent",
    "emulator",
    "run",
    "scripted",
    "serve",
]
