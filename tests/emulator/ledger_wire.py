"""Requests to a ledger that faults may spoil, and what is true of every answer."""

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any, TypeAlias

from clocknext_core import Response
from clocknext_transports.emulator import Fault, Faults, Ledger
from clocknext_transports.emulator.server.service import Service
from tests.emulator.support import KEY, NOW, received

Document: TypeAlias = dict[str, Any]

USAGE = "/api/v1/usage"


@dataclass(frozen=True)
class Refused:
    """What a request is refused with."""

    status: int
    says: str
    """A part of the message; for an invalid signal, the field at fault."""
    reason: str | None = None


class Wire:
    """One client of one ledger, and a wall clock that may be set at will."""

    def __init__(self, ledger: Ledger, seen: Counter[str]) -> None:
        self.ledger = ledger
        self.seen = seen
        self.service = Service(ledger, Faults())
        self.now = NOW
        self.requests = 0
        self.refusals = 0
        self.log: list[tuple[str, str, Response | None]] = []

    def respond(
        self, method: str, target: str, body: object, fault: Fault | None, **how: str | None
    ) -> Response | None:
        """Send a request as it is, into a fault or not."""
        if fault is not None:
            self.service.faults.script(fault)
        self.requests += 1
        reply = self.service.respond(received(method, target, body, **how), now=self.now)
        latest = self.ledger.requests[-1]
        assert (latest.method, latest.target, latest.at) == (method, target, self.now)
        assert KEY not in repr((reply, latest))
        self.log.append((method, target, reply.response))
        return reply.response

    def loses(self, method: str, target: str, body: Document, fault: Fault | None) -> bool:
        """Send a request that a fault keeps from the ledger, if it does: that leaves no trace."""
        if fault is None or fault.commits:
            return False
        before = self.snapshot()
        response = self.respond(method, target, body, fault)
        if response is None:
            assert fault.kind == "reset"
        else:
            self.opened(method, target, response, fault.status)
        assert self.snapshot() == before, "a fault left a trace"
        self.seen[f"fault {fault.status or fault.kind}"] += 1
        return True

    def send(
        self,
        method: str,
        target: str,
        body: Document | None = None,
        fault: Fault | None = None,
        *,
        refused: Refused | None = None,
        status: int = 200,
    ) -> Document | None:
        """Send a request that reaches the ledger, and return the payload.

        `None`: the answer was lost on its way. A refusal is returned as it is, and must leave no trace.
        """
        before = self.snapshot() if refused is not None else None
        response = self.respond(method, target, body, fault)
        if refused is not None:
            self.refusals += 1
            self.seen["refused"] += 1
            self.seen["insufficient"] += refused.says == "Insufficient"
            assert self.snapshot() == before, "a refusal left a trace"
            status = refused.status
        if fault is not None and fault.kind != "latency":
            assert response is None or response.status == fault.status
            self.seen["answer lost"] += 1
            return None
        assert response is not None
        payload, message = self.opened(method, target, response, status)
        if refused is not None:
            assert refused.says in message
            assert ("insufficient" in message.lower()) == (refused.says == "Insufficient")
        return payload

    def get(self, target: str) -> Document:
        """Read something that is there."""
        payload = self.send("GET", target)
        assert payload is not None
        return payload

    def opened(
        self, method: str, target: str, response: Response, status: int | None
    ) -> tuple[Document, str]:
        """Take an answer out of its envelope, which must be the one that the endpoint uses."""
        content: Document = json.loads(response.body)
        assert response.status == status, content
        is_success = response.status < 300
        if (method, target) == ("POST", USAGE):
            assert set(content) == {"statusCode", "statusDetail", "result"}
            detail = content["statusDetail"]
            assert content["statusCode"] == status
            assert detail["status"] == ("SUCCESS" if is_success else "ERROR")
            return content["result"], detail["message"]
        assert content.pop("ok") is is_success
        return content, content.get("error", "")

    def snapshot(self) -> Document:
        """Return all that the ledger knows, but for how often what happened."""
        return {name: part for name, part in self.ledger.as_json().items() if name != "counters"}
