"""The emulator: arbitrary requests at its ledger and faults, and arbitrary bytes at its server.

Invariant: whatever is sent,

- every request is answered, by a response that HTTP can carry, in one of the two envelopes, with the status
  in it; read-backs under `/_emulator/` are JSON;
- all state can be read back over every route, and every wallet is the sum of its transactions;
- the API key is in no repr and in no read-back;
- the request after it is served: a good signal is answered as one of its state is.

Allowed exceptions:

- faults that a request has arranged spoil the answers after it, until they are cleared;
- of the newer ingest, its health, its answers to browsers and to methods and paths that its server does not
  parse have no envelope, as it is with the real one;
- what is no HTTP, or has too large a head, is answered by 400 or 431 without an envelope, and the connection
  closed.
"""

import json
from contextlib import suppress
from decimal import Decimal
from typing import Any, cast

import h11
import trio
import trio.testing

from clocknext_core import Response
from clocknext_transports.emulator import (
    AcceptOnly,
    Catalogue,
    Component,
    Credit,
    Customer,
    Faults,
    Ledger,
    Listed,
    Model,
    Outcome,
    Plan,
    Received,
    Tier,
    Unit,
)
from clocknext_transports.emulator.server.http_server import Conversation
from clocknext_transports.emulator.server.service import Service
from fuzz.decoding import Decoder, built_object, built_value, cut, expanded

MAX_BYTES = 2048
MAX_SENT = 200_000
MAX_REQUESTS = 12
NOW = 1_782_900_000.0
KEY = "cnk_fuzz_emulator"

STATES: tuple[AcceptOnly | None, ...] = (None, None, "thin", "thick", "thick-queued")
METHODS = ("POST", "POST", "POST", "PATCH", "DELETE", "GET", "PUT", "HEAD", "OPTIONS", "CONNECT", "post", "")
IDS = (
    "a",
    "b",
    "gold",
    "plan",
    "won",
    "page",
    "pur_1",
    "inv_1",
    "mem_1",
    "crd_1",
    "out_1",
    "unt_1",
    "K",
    "%00",
    "%ff",
)
PATHS = (
    *("/api/v1/usage", "/api/v1/signal", "/api/v1/customers", "/api/v1/customers/bulk", "/api/v1/units"),
    *("/api/v1/credits", "/api/v1/outcomes", "/api/v1/units-catalog", "/api/v1/plans", "/api/v1/purchases"),
    *("/api/v1/invoices", "/api/v1/payments", "/api/v1/webhooks", "/api/v1/models", "/api/v1/me"),
    *("/api/v1/portal/token", "/health", "/_emulator/faults", "/_emulator/reset", "/_emulator/ledger"),
    *("/_emulator/requests", "/api/v1/customers/{}", "/api/v1/customers/{}/members", "/api/v1/credits/{}"),
    *("/api/v1/customers/{}/members/mem_1", "/api/v1/customers/{}/wallet", "/api/v1/customers/{}/usage"),
    *("/api/v1/customers/{}/credits/adjust", "/api/v1/customers/{}/outcomes/adjust", "/api/v1/plans/{}"),
    *("/api/v1/customers/{}/units/adjust", "/api/v1/customers/{}/balances", "/api/v1/customers/{}/plan"),
    *("/api/v1/customers/{}/revenue", "/api/v1/outcomes/{}", "/api/v1/units-catalog/{}", "/api/v1/{}"),
    *("/api/v1/purchases/{}", "/api/v1/purchases/{}/cancel", "/api/v1/invoices/{}", "/api/v1/payments/{}"),
    *("/api/v1/invoices/{}/pay-link", "/api/v1/webhooks/{}", "/", "*", "", "/api/v1/%zz", "http://h/{}"),
)
QUERIES = (
    *("", "", "", "?limit=1", "?limit=0", "?limit=1e9", "?customerId=a", "?customerId=%00", "?active=true"),
    *(
        "?active=x",
        "?status=ACTIVE",
        "?q=%F0%9F%98%80",
        "?cursor=cur_2",
        "?cursor=x",
        "?range=9999d",
        "?&&=&",
    ),
)
CONTENT_TYPES = (
    "application/json",
    "application/json",
    "application/json; charset=x",
    "text/plain",
    "",
    None,
)
AUTHORISATIONS = (
    f"Bearer {KEY}",
    f"Bearer {KEY}",
    f"Bearer {KEY}",
    f"bearer  {KEY}",
    "Bearer x",
    "Bearer",
    None,
)
HEADERS = ("host", "origin", "connection", "sec-fetch-site", "access-control-request-method", "x")
HEADER_VALUES = (
    "127.0.0.1:1",
    "evil.example",
    "http://127.0.0.1:1",
    "close",
    "cross-site",
    "POST",
    "\xff",
    "",
)
WORDS = (
    *(
        "customerId",
        "type",
        "model",
        "agentKey",
        "key",
        "inputTokens",
        "outputTokens",
        "cacheTokens",
        "member",
    ),
    *("status", "custom", "idempotencyKey", "runId", "complete", "dryRun", "name", "email", "amount", "kind"),
    *("url", "threshold", "steps", "tiers", "upTo", "price", "components", "billingMode", "billingCycle"),
    *(
        "basePrice",
        "marginPercent",
        "pricePerCredit",
        "pricePerOutcome",
        "pricingType",
        "flatPrice",
        "planId",
    ),
    *("creditId", "outcomeId", "unitId", "quantity", "walletFundedArrear", "priceAdjustment", "isActive"),
    *("autoPayment", "pauseReason", "billingDate", "voidAfterMinutes", "provider", "modelId", "customers"),
    *("employeeId", "currencyCode", "notes", "ttlSeconds", "times", "probability", "seconds", "retryAfter"),
    *("bytesPerSecond", "size", "method", "path", "wallet", "credit", "outcome", "unit", "WALLET", "FLAT"),
    *(
        "CREDIT",
        "OUTCOME",
        "UNIT",
        "ADVANCE",
        "ARREAR",
        "MONTHLY",
        "FREE",
        "SLAB",
        "VOLUME",
        "TOPUP",
        "DEBIT",
    ),
    *("m", "a", "b", "gold", "won", "page", "plan", "won.it", "a@b.c", "2026-07-02", "USD", "https://x", "K"),
    *("lost", "drip", "html", "huge", "chance", "1\r\nx: y", "\x00", "\ud800", "😀", "", " ", "__proto__"),
)
TEMPLATES: tuple[dict[str, object], ...] = (
    {"customerId": "a", "type": "wallet", "model": "m", "inputTokens": 9, "outputTokens": 9},
    {"customerId": "a", "type": "credit", "model": "m", "agentKey": "gold", "inputTokens": 9,
     "outputTokens": 9},
    {"customerId": "b", "type": "outcome", "model": "m", "agentKey": "won.it", "runId": "r", "complete": True,
     "inputTokens": 9, "outputTokens": 9},
    {"customerId": "b", "agentKey": "page"},
    {"name": "A", "email": "a@b.c"},
    {"name": "G", "agentKey": "g", "basePrice": 1},
    {"name": "O", "pricePerOutcome": 1, "steps": [{"name": "S", "agentKey": "s"}]},
    {"name": "U", "agentKey": "u", "pricingType": "SLAB", "tiers": [{"upTo": None, "price": 1}]},
    {"name": "P", "billingCycle": "MONTHLY", "components": [{"type": "WALLET", "billingMode": "ADVANCE",
     "amount": 5}, {"type": "CREDIT", "billingMode": "ARREAR", "creditId": "gold"}],
     "walletFundedArrear": True},
    {"customerId": "a", "planId": "plan"},
    {"type": "TOPUP", "amount": 1},
    {"kind": "lost", "times": 2},
    {"kind": "status", "status": 429, "retryAfter": "2"},
    {"kind": "K", "url": "https://x"},
    {"provider": "openai", "modelId": "listed", "pricingMode": "AUTO"},
    {"creditId": "gold", "amount": 1},
)  # fmt: skip
READ_BACK = (
    *("/api/v1/customers", "/api/v1/credits", "/api/v1/outcomes", "/api/v1/units-catalog", "/api/v1/plans"),
    *("/api/v1/purchases", "/api/v1/invoices", "/api/v1/payments", "/api/v1/webhooks", "/api/v1/models"),
    *("/api/v1/me", "/_emulator/ledger", "/_emulator/requests", "/_emulator/faults"),
)
OF_CUSTOMER = ("", "/members", "/wallet?limit=1000", "/balances", "/plan", "/revenue", "/usage")
HEAD = b"POST /api/v1/usage HTTP/1.1\r\nhost: h\r\nauthorization: Bearer cnk_fuzz_emulator\r\n"
TOKENS = (
    b"HTTP/1.1\r\nhost: h\r\n\r\n", b"GET /", b"POST /api/v1/", b"transfer-encoding: chunked\r\n\r\n",
    b"content-length: ", b"expect: 100-continue\r\n", b"connection: close\r\n", b"upgrade: x\r\n",
    b"0\r\n\r\n", b"\r\n\r\n", b'{"a":1e400}', b"1e400", b"NaN", b"\xff\x40", b"\xff\x01", b'"\\ud800"',
)  # fmt: skip

CATALOGUE = Catalogue(
    models=[Model("m", "0.5", "1.5", "0.1", provider="openai")],
    listed=[Listed("openai", "listed")],
    credits=[Credit("gold", "0.01", 30)],
    outcomes=[Outcome("won", ["won.it", "won.too"], "0.5")],
    units=[Unit("page", "VOLUME", tiers=[Tier(2, 3), Tier(None, 1)])],
    plans=[
        Plan(
            "plan",
            wallet=1,
            wallet_funded_arrear=True,
            price_adjustment="-0.1",
            components=[
                Component("CREDIT", None, "gold", arrear=True),
                Component("UNIT", None, "page", arrear=True),
            ],
        )
    ],
    customers=[Customer("a", plan="plan"), Customer("b", wallet=1, outcomes={"won": 9}, units={"page": 9})],
    default_plan="plan",
)


def check(data: bytes) -> None:
    """Send what the bytes say, and hold what is true afterwards."""
    decoder = Decoder(data)
    state = decoder.pick(STATES)
    service = Service(Ledger(CATALOGUE, api_key=KEY, accept_only=state), Faults())
    if decoder.below(4):
        for _ in range(MAX_REQUESTS):
            if decoder.has_ended:
                break
            request = _request(decoder)
            spoilt = service.faults.pending > 0
            _check_answer(service, request, spoilt=spoilt)
    else:
        _converse(service, decoder)
    _check_state(service)
    _check_next(service, state)


# Requests at the ledger


def _request(decoder: Decoder) -> Received:
    chosen = {
        "content-type": decoder.pick(CONTENT_TYPES),
        "authorization": decoder.pick(AUTHORISATIONS),
    }
    headers = {name: value for name, value in chosen.items() if value is not None}
    for _ in range(decoder.below(3)):
        headers[decoder.pick(HEADERS)] = decoder.pick(HEADER_VALUES)
    target = decoder.pick(PATHS).replace("{}", decoder.pick(IDS)) + decoder.pick(QUERIES)
    return Received(decoder.pick(METHODS), target, headers, _body(decoder), 1)


def _body(decoder: Decoder) -> bytes:
    match decoder.below(8):
        case 0:
            return b""
        case 1:
            return json.dumps(built_value(decoder, WORDS)).encode()
        case 2:
            return json.dumps(built_object(decoder, WORDS)).encode()
        case 3:
            return decoder.pick(
                (b"{", b"[" * 5000, b'{"a":' * 300 + b"1" + b"}" * 300, b"\xff", b"NaN", b" ")
            )
        case _:
            body = dict(decoder.pick(TEMPLATES))
            for _ in range(decoder.below(4)):
                name = decoder.pick(WORDS)
                body[name] = built_value(decoder, WORDS, 3)
            raw = json.dumps(body)
            huge = decoder.pick(("1e400", "-1e400", "1e-320", "1" + "0" * 4400, '"\\ud800"'))
            return raw.replace("0.5", huge).encode()


def _check_answer(service: Service, request: Received, *, spoilt: bool) -> None:
    response = service.respond(request, now=NOW).response
    assert KEY not in repr((response, request, service.ledger, service.faults))
    if response is not None:
        _check_can_be_sent(response)
    if spoilt and not request.path.startswith("/_emulator/"):
        return
    assert response is not None
    if response.status == 204:
        return
    if service.ledger.accept_only is not None and _has_no_envelope(request, response):
        return
    content = json.loads(response.body)
    assert isinstance(content, dict)
    if "statusDetail" in content:
        assert content["statusCode"] == response.status
        assert content["statusDetail"]["status"] == ("SUCCESS" if response.status < 300 else "ERROR")
        assert isinstance(content["result"], dict)
    elif request.target.startswith("/_emulator/"):
        assert response.status == 200 or content["ok"] is False
    else:
        assert content["ok"] is (response.status < 300)
        assert content["ok"] or isinstance(content["error"], str)


def _has_no_envelope(request: Received, response: Response) -> bool:
    if request.method in {"GET", "HEAD"} and "/health" in request.target and response.status == 200:
        return True
    return response.status == 400 and b"statusDetail" not in response.body


def _check_can_be_sent(response: Response) -> None:
    headers = [(name.encode(), value.encode()) for name, value in response.headers]
    h11.Response(status_code=response.status, headers=headers)


# Bytes at the server


class Figures:
    """What a conversation needs of its server."""

    in_service = 0
    max_in_service = 0

    def note_request(self) -> None:
        """Wake no feed: no other connection is open."""

    async def next_request(self) -> None:
        """Wait as long as a feed does."""
        await trio.sleep(1)


def _converse(service: Service, decoder: Decoder) -> None:
    places = [decoder.below(65_536) for _ in range(decoder.below(4))]
    begins = decoder.below(2)
    sent = (HEAD if begins else b"") + expanded(decoder.rest(), MAX_SENT)
    # Time jumps where all wait: a fault may hold an answer back for a day.
    clock = trio.testing.MockClock(autojump_threshold=0)
    answer = trio.run(exchange, service, cut(sent, places), clock=clock)
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("host", "h")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(answer)
    connection.receive_data(b"")
    event = connection.next_event() if answer else None
    while isinstance(event, h11.InformationalResponse):
        event = connection.next_event()
    assert event is None or isinstance(event, h11.Response), event


async def exchange(service: Service, parts: list[bytes]) -> bytes:
    """Send parts, and return all that is answered."""
    ours, theirs = map(trio.SocketStream, trio.socket.socketpair())
    answer = bytearray()

    async def send() -> None:
        with suppress(trio.BrokenResourceError):  # refused before all was sent
            for part in parts:
                await ours.send_all(part)
            await ours.send_eof()

    async def receive() -> None:
        with suppress(trio.BrokenResourceError):  # a fault has reset the connection
            async for data in ours:
                answer.extend(data)

    async with ours, theirs, trio.open_nursery() as nursery:
        nursery.start_soon(send)
        nursery.start_soon(receive)
        with suppress(trio.BrokenResourceError):  # as the server does
            await Conversation(cast("Any", Figures()), theirs, theirs, 1).converse(service)
        await trio.aclose_forcefully(theirs)
    return bytes(answer)


# What is true afterwards


def _check_state(service: Service) -> None:
    service.faults.clear()
    for target in READ_BACK:
        _read(service, target)
    for customer in _read(service, "/api/v1/customers?limit=5")["customers"]:
        for part in OF_CUSTOMER:
            content = _read(service, f"/api/v1/customers/{customer['id']}{part}")
            if part.startswith("/wallet"):
                amounts = [Decimal(str(each["amount"])) for each in content["transactions"]]
                assert float(sum(amounts, Decimal(0))) == content["balance"]
    bill = service.ledger.bill()
    assert bill.as_json()["signals"] == len(service.ledger.signals)


def _read(service: Service, target: str) -> dict[str, Any]:
    response = service.respond(_good("GET", target), now=NOW).response
    assert response is not None
    assert response.status == 200, (target, response.body)
    assert KEY.encode() not in response.body
    content: dict[str, Any] = json.loads(response.body)
    return content


def _good(method: str, target: str, body: bytes = b"") -> Received:
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    return Received(method, target, headers, body)


def _check_next(service: Service, state: AcceptOnly | None) -> None:
    fresh = _good("POST", "/api/v1/customers", b'{"name": "N", "email": "n@b.c"}')
    response = service.respond(fresh, now=NOW).response
    assert response is not None
    assert response.status == 201
    customer = json.loads(response.body)["customer"]["id"]
    signal = {"customerId": customer, "type": "wallet", "model": "m", "inputTokens": 0, "outputTokens": 0}
    response = service.respond(_good("POST", "/api/v1/usage", json.dumps(signal).encode()), now=NOW).response
    assert response is not None
    # The default plan may have been retired or changed: then there is no wallet, which is a refusal too.
    assert response.status in ({200, 422} if state is None else {202})
