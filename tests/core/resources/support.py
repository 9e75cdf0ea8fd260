"""Clients without a network: they keep each request and answer it with a payload given beforehand."""

import json
from typing import Any

from clocknext_core import Config, EncodedSignal, Operation, Request, Response
from clocknext_core.envelope import open_answer
from clocknext_core.errors import ClockNextError
from clocknext_core.resources.binding import Async, Blocking
from clocknext_core.resources.credits import Credits
from clocknext_core.resources.customers import Customers
from clocknext_core.resources.invoices import Invoices
from clocknext_core.resources.outcomes import Outcomes
from clocknext_core.resources.payments import Payments
from clocknext_core.resources.plans import Plans
from clocknext_core.resources.portal import Portal
from clocknext_core.resources.purchases import Purchases
from clocknext_core.resources.signals import Signals
from clocknext_core.resources.units import Units
from clocknext_core.resources.webhooks import Webhooks
from clocknext_core.resources.workspace import Workspace

CONFIG = Config("cnk_test")


class FakeClient:
    """A client of threads."""

    is_async = False
    cancellations: tuple[type[BaseException], ...] = ()

    def __init__(self, answer: object = None) -> None:
        self.answer: object = {"ok": True} if answer is None else answer
        self.requests: list[Request] = []
        self.credits: Credits[Blocking] = Credits(self)
        self.customers: Customers[Blocking] = Customers(self)
        self.invoices: Invoices[Blocking] = Invoices(self)
        self.outcomes: Outcomes[Blocking] = Outcomes(self)
        self.payments: Payments[Blocking] = Payments(self)
        self.plans: Plans[Blocking] = Plans(self)
        self.portal: Portal[Blocking] = Portal(self)
        self.purchases: Purchases[Blocking] = Purchases(self)
        self.signals: Signals[Blocking] = Signals(self)
        self.units: Units[Blocking] = Units(self)
        self.webhooks: Webhooks[Blocking] = Webhooks(self)
        self.workspace: Workspace[Blocking] = Workspace(self)

    def run(self, operation: Operation[Any], /) -> Any:
        request = operation.request(CONFIG)
        self.requests.append(request)
        payload = open_answer(
            Response(200, [], json.dumps(self.answer).encode()), request=request, config=CONFIG
        )
        assert not isinstance(payload, ClockNextError)
        return operation.read(payload)

    def record(self, encoded: EncodedSignal, wait: bool | None = None, /) -> Any:
        raise AssertionError("no test here records a signal")

    def hold(self, encoded: EncodedSignal, /) -> None:
        raise AssertionError("no test here holds a signal")

    def make_key(self) -> str:
        return "made"


class FakeAsyncClient:
    """A client of asyncio or trio."""

    is_async = True
    cancellations: tuple[type[BaseException], ...] = ()

    def __init__(self, answer: object = None) -> None:
        self.blocking = FakeClient(answer)
        self.customers: Customers[Async] = Customers(self)
        self.plans: Plans[Async] = Plans(self)
        self.signals: Signals[Async] = Signals(self)
        self.workspace: Workspace[Async] = Workspace(self)

    async def run(self, operation: Operation[Any], /) -> Any:
        return self.blocking.run(operation)

    async def record(self, encoded: EncodedSignal, wait: bool | None = None, /) -> Any:
        raise AssertionError("no test here records a signal")

    def hold(self, encoded: EncodedSignal, /) -> None:
        raise AssertionError("no test here holds a signal")

    def make_key(self) -> str:
        return "made"


RESOURCES = (
    Credits,
    Customers,
    Invoices,
    Outcomes,
    Payments,
    Plans,
    Portal,
    Purchases,
    Signals,
    Units,
    Webhooks,
    Workspace,
)


def unchecked(resource: object) -> Any:
    """Show a resource to the type checkers as something they know nothing of, to give it what they refuse."""
    return resource
