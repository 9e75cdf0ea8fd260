"""What the emulator's tests share: a call on a ledger, a signal, and a bare HTTP exchange."""

import http.client
import json
import socket
from collections.abc import Mapping
from typing import Any, cast

from clocknext_transports.emulator import (
    DEFAULT_API_KEY,
    Catalogue,
    Credit,
    Customer,
    Ledger,
    Model,
    Received,
)

NOW = 1_782_900_000.0
"""2026-07-01T10:00:00Z."""
KEY = f"Bearer {DEFAULT_API_KEY}"

EXAMPLE = Catalogue(
    models=[
        Model("example", input=3, output=15, cache=1.5),
        Model("retired", input=1, output=1, active=False),
    ],
    credits=[Credit("api_credit", base_price="0.645", margin_percent=30)],
    customers=[
        Customer("cus_1", wallet=10, credits={"api_credit": 100}, outcomes={"resolved_ticket": 2}),
        Customer("cus_bare"),
    ],
)


def received(
    method: str,
    target: str,
    body: object = None,
    *,
    authorization: str | None = KEY,
    content_type: str | None = "application/json",
) -> Received:
    headers: dict[str, str] = {}
    if authorization is not None:
        headers["authorization"] = authorization
    if body is not None and content_type is not None:
        headers["content-type"] = content_type
    raw = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    return Received(method, target, headers, raw)


def call(
    ledger: Ledger,
    method: str,
    target: str,
    body: object = None,
    *,
    now: float = NOW,
    authorization: str | None = KEY,
    content_type: str | None = "application/json",
) -> tuple[int, dict[str, Any]]:
    request = received(method, target, body, authorization=authorization, content_type=content_type)
    response = ledger.handle(request, now=now)
    return response.status, json.loads(response.body)


def signal(**changes: object) -> dict[str, object]:
    """A credit signal of the protocol's example; `None` leaves a field out."""
    body: dict[str, object] = {
        "customerId": "cus_1",
        "type": "credit",
        "model": "example",
        "agentKey": "api_credit",
        "inputTokens": 1500,
        "outputTokens": 750,
        "cacheTokens": 250,
        "idempotencyKey": "idem-1",
    }
    return {name: value for name, value in (body | changes).items() if value is not None}


def send(ledger: Ledger, **changes: object) -> tuple[int, dict[str, Any]]:
    return call(ledger, "POST", "/api/v1/usage", signal(**changes))


def exchange(
    connection: http.client.HTTPConnection,
    method: str,
    target: str,
    body: object = None,
    headers: Mapping[str, str] | None = None,
) -> tuple[int, bytes]:
    """One request on a connection that is kept open."""
    sent = {"authorization": KEY}
    if body is not None:
        sent["content-type"] = "application/json"
    raw = None if body is None else json.dumps(body).encode()
    connection.request(method, target, raw, sent | dict(headers or {}))
    response = connection.getresponse()
    return response.status, response.read()


def read_to_end(sock: socket.socket) -> bytes:
    """Everything until the peer closes."""
    parts: list[bytes] = []
    while part := sock.recv(65_536):
        parts.append(part)
    return b"".join(parts)


def raw_signal(**changes: object) -> bytes:
    """A signal as bytes on the wire."""
    body = json.dumps(signal(**changes)).encode()
    head = (
        "POST /api/v1/usage HTTP/1.1\r\nhost: emulator\r\n"
        f"authorization: {KEY}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def create(ledger: Ledger, path: str, body: Mapping[str, object]) -> dict[str, Any]:
    """Create something over the API and return it, whatever payload key it comes under."""
    status, content = call(ledger, "POST", f"/api/v1/{path}", dict(body))
    assert status == 201, content
    ((_, created),) = [(name, value) for name, value in content.items() if name != "ok"]
    assert isinstance(created, dict)
    return cast("dict[str, Any]", created)


def fetch(ledger: Ledger, path: str) -> dict[str, Any]:
    """Read something over the API."""
    status, content = call(ledger, "GET", f"/api/v1/{path}")
    assert status == 200, content
    return content


def refused(ledger: Ledger, method: str, path: str, body: object = None) -> tuple[int, str]:
    """Status and message of a refusal in the legacy envelope."""
    status, content = call(ledger, method, f"/api/v1/{path}", body)
    assert content["ok"] is False
    return status, content["error"]
