"""The newer ingest in its three states, as its own answers were recorded."""

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from typing import Any

import pytest

from clocknext_core import ClockNextError, Signal
from clocknext_transports import ClockNext
from clocknext_transports.emulator import AcceptOnly, EmulatorServer, Fault, Ledger, Received, emulator
from tests.emulator.support import EXAMPLE, KEY, NOW, call, read_to_end, received, send, signal

SIGNAL = "/api/v1/signal"
STATES: tuple[AcceptOnly, ...] = ("thin", "thick", "thick-queued")
THICK: tuple[AcceptOnly, ...] = ("thick", "thick-queued")
every_state = pytest.mark.parametrize("state", STATES)


def ledger_of(state: AcceptOnly) -> Ledger:
    return Ledger(EXAMPLE, accept_only=state)


def post(
    ledger: Ledger,
    body: object,
    *,
    path: str = SIGNAL,
    authorization: str | None = KEY,
    content_type: str | None = "application/json",
) -> tuple[int, dict[str, Any]]:
    return call(ledger, "POST", path, body, authorization=authorization, content_type=content_type)


def outcome_of(ledger: Ledger, body: object, **how: Any) -> str:
    """How a signal is answered, in a word: accepted, pending, or the reason of the refusal."""
    status, content = post(ledger, body, **how)
    assert content["statusCode"] == status
    result = content["result"]
    assert {"signalId", "receivedAt"} <= set(result)
    if status == 202:
        assert content["statusDetail"]["status"] == "SUCCESS"
        return "accepted" if result.get("accepted") else str(result["status"])
    assert content["statusDetail"]["status"] == "ERROR"
    return f"{status} {result['errorReason']}"


@every_state
@pytest.mark.parametrize("path", [SIGNAL, "/api/v1/usage", "/api/v1/%73ignal?x=1"])
def test_a_signal_is_taken_at_either_path_and_billed_unseen(state: AcceptOnly, path: str) -> None:
    ledger = ledger_of(state)
    status, content = post(ledger, signal(), path=path)
    result = {"signalId": "sig_1", "receivedAt": "2026-07-01T10:00:00.000Z", "accepted": True}
    if state != "thin":
        result |= {"organizationId": "org_emulator", "apiKeyId": "key_emulator", "cached": False}
    assert (status, content) == (
        202,
        {
            "statusCode": 202,
            "statusDetail": {"status": "SUCCESS", "message": "Signal accepted for processing."},
            "result": result,
        },
    )
    assert ledger.balance("cus_1", "api_credit") == Decimal("99.975")
    assert (ledger.billed("idem-1"), ledger.held) == (1, ())


@every_state
def test_a_repeat_is_a_new_signal_and_is_billed(state: AcceptOnly) -> None:
    ledger = ledger_of(state)
    ids = [send(ledger)[1]["result"]["signalId"] for _ in range(2)]
    assert ids == ["sig_1", "sig_2"]
    assert (ledger.billed("idem-1"), ledger.counters.repeats) == (2, 0)
    assert ledger.balance("cus_1", "api_credit") == Decimal("99.95")


# What each state makes of a body. `thick-queued` answers PENDING where `thick` refuses.

ACCEPTED = "accepted"
INVALID = "400 INVALID_BODY"
MALFORMED = "400 MALFORMED_JSON"
TOO_LARGE = "413 BODY_TOO_LARGE"
WALLET = {"customerId": "cus_1", "type": "wallet", "model": "example", "inputTokens": 1, "outputTokens": 1}
RAW = json.dumps(WALLET).encode()
BODIES: list[tuple[str, object, str, str]] = [
    ("only what thin needs", {"customerId": "x", "inputTokens": 0, "outputTokens": 0}, ACCEPTED, ACCEPTED),
    ("no customer", WALLET | {"customerId": None}, INVALID, INVALID),
    ("blank customer", WALLET | {"customerId": " \u00a0\ufeff"}, INVALID, INVALID),
    ("zero width is not blank", WALLET | {"customerId": "\u200b"}, ACCEPTED, ACCEPTED),
    ("no count", {"customerId": "cus_1", "type": "wallet", "model": "example"}, INVALID, INVALID),
    ("count as text", WALLET | {"inputTokens": "1"}, INVALID, INVALID),
    ("count as truth", WALLET | {"inputTokens": True}, INVALID, INVALID),
    ("fraction", WALLET | {"inputTokens": 1.5}, INVALID, INVALID),
    ("whole fraction", WALLET | {"inputTokens": 2.0}, ACCEPTED, ACCEPTED),
    ("largest", WALLET | {"inputTokens": 2**53 - 1}, ACCEPTED, ACCEPTED),
    ("too large", WALLET | {"inputTokens": 2**53}, INVALID, INVALID),
    ("exponent", RAW.replace(b'"inputTokens": 1', b'"inputTokens": 1e3'), ACCEPTED, ACCEPTED),
    ("infinite", RAW.replace(b'"inputTokens": 1', b'"inputTokens": 1e400'), INVALID, INVALID),
    ("cache as text", WALLET | {"cacheTokens": "1"}, ACCEPTED, INVALID),
    ("type without case", WALLET | {"type": " Wallet "}, ACCEPTED, ACCEPTED),
    ("unknown type", WALLET | {"type": "unit"}, ACCEPTED, INVALID),
    ("type is null", WALLET | {"type": None}, ACCEPTED, INVALID),
    ("no type", {"customerId": "x", "inputTokens": 1, "outputTokens": 1, "key": ""}, ACCEPTED, INVALID),
    ("no model", {**WALLET, "model": ""}, ACCEPTED, INVALID),
    ("credit without key", WALLET | {"type": "credit"}, ACCEPTED, INVALID),
    ("credit with key", WALLET | {"type": "credit", "key": "api_credit"}, ACCEPTED, ACCEPTED),
    ("empty agent key, key", WALLET | {"agentKey": "", "key": "api_credit"}, ACCEPTED, ACCEPTED),
    ("blank agent key, key", WALLET | {"agentKey": " ", "key": "api_credit"}, ACCEPTED, INVALID),
    ("outcome without run", WALLET | {"type": "outcome", "agentKey": "a"}, ACCEPTED, INVALID),
    ("outcome", WALLET | {"type": "outcome", "agentKey": "a", "runId": "r"}, ACCEPTED, ACCEPTED),
    ("long run", WALLET | {"runId": "r" * 256}, ACCEPTED, INVALID),
    ("complete as text", WALLET | {"complete": "true"}, ACCEPTED, INVALID),
    ("any member", WALLET | {"member": "nobody"}, ACCEPTED, ACCEPTED),
    ("empty member", WALLET | {"member": ""}, ACCEPTED, ACCEPTED),
    ("member as number", WALLET | {"member": 1}, ACCEPTED, INVALID),
    ("any status", WALLET | {"status": "DONE"}, ACCEPTED, ACCEPTED),
    ("custom as list", WALLET | {"custom": [1]}, ACCEPTED, INVALID),
    ("largest custom", WALLET | {"custom": {"x": "y" * (32 * 1024 - 8)}}, ACCEPTED, ACCEPTED),
    ("custom too large", WALLET | {"custom": {"x": "y" * (32 * 1024 - 7)}}, ACCEPTED, "413 CUSTOM_TOO_LARGE"),
    ("blank idempotency key", WALLET | {"idempotencyKey": " "}, ACCEPTED, INVALID),
    ("long idempotency key", WALLET | {"idempotencyKey": "k" * 256}, ACCEPTED, INVALID),
    ("dry run as text", WALLET | {"dryRun": "yes"}, ACCEPTED, INVALID),
    ("metric", WALLET | {"voice_ai": "w"}, ACCEPTED, ACCEPTED),
    ("array", b"[]", INVALID, INVALID),
    ("null", b"null", INVALID, INVALID),
    ("empty", b"", "400 EMPTY_BODY", "400 EMPTY_BODY"),
    ("blank", b" \n", MALFORMED, MALFORMED),
    ("cut", b'{"a":', MALFORMED, MALFORMED),
    ("NaN", RAW.replace(b'"inputTokens": 1', b'"inputTokens": NaN'), MALFORMED, MALFORMED),
    ("mark", b"\xef\xbb\xbf" + RAW, ACCEPTED, ACCEPTED),
    ("not UTF-8", RAW.replace(b"cus_1", b"cus_\xff"), ACCEPTED, ACCEPTED),
    ("proto", RAW.replace(b"}", b',"__proto__":1}'), MALFORMED, MALFORMED),
    ("escaped proto", RAW.replace(b"}", b',"__pr\\u006fto__":1}'), MALFORMED, MALFORMED),
    ("deep proto", RAW.replace(b"}", b',"custom":{"a":[{"__proto__":1}]}}'), MALFORMED, MALFORMED),
    ("constructor", RAW.replace(b"}", b',"constructor":{"prototype":1}}'), MALFORMED, MALFORMED),
    ("only constructor", RAW.replace(b"}", b',"constructor":1}'), ACCEPTED, ACCEPTED),
    ("proto as value", RAW.replace(b"}", b',"a":"__proto__"}'), ACCEPTED, ACCEPTED),
    ("largest body", RAW.ljust(64 * 1024), ACCEPTED, ACCEPTED),
    ("body too large", RAW.ljust(64 * 1024 + 1), TOO_LARGE, TOO_LARGE),
]


@pytest.mark.parametrize(("name", "body", "thin", "thick"), BODIES, ids=[row[0] for row in BODIES])
def test_what_each_state_makes_of_a_body(name: str, body: object, thin: str, thick: str) -> None:
    assert outcome_of(ledger_of("thin"), body) == thin
    assert outcome_of(ledger_of("thick"), body) == thick
    queued = ledger_of("thick-queued")
    assert outcome_of(queued, body) == ("accepted" if thick == ACCEPTED else "PENDING")
    if thick != ACCEPTED:
        (held,) = queued.held
        assert f"{held.status}" == thick[:3]
        assert json.loads(json.dumps(queued.as_json()))["held"][0]["signalId"] == held.signal_id


@every_state
@pytest.mark.parametrize(
    ("authorization", "thin", "thick"),
    [
        (None, "401 API_KEY_MISSING", "401 API_KEY_MISSING"),
        ("", "401 API_KEY_MISSING", "401 API_KEY_MISSING"),
        ("Bearer", "401 API_KEY_MISSING", "401 API_KEY_MISSING"),
        ("Bearer  ", "401 API_KEY_MISSING", "401 API_KEY_MISSING"),
        ("Basic cnk_test_emulator", "401 API_KEY_MISSING", "401 API_KEY_MISSING"),
        ("cnk_test_emulator", "401 API_KEY_MISSING", "401 API_KEY_MISSING"),
        ("bearer   cnk_test_emulator", ACCEPTED, ACCEPTED),
        ("BEARER\tcnk_test_emulator", ACCEPTED, ACCEPTED),
        ("Bearer cnk_other", ACCEPTED, "401 API_KEY_REJECTED"),
        ("Bearer cnk_test_expired", ACCEPTED, "401 API_KEY_REJECTED"),
    ],
)
def test_which_keys_are_let_in(state: AcceptOnly, authorization: str | None, thin: str, thick: str) -> None:
    expected = thin if state == "thin" else thick
    assert outcome_of(ledger_of(state), WALLET, authorization=authorization) == expected
    if authorization is None:
        assert outcome_of(ledger_of(state), b"{", authorization=None) == "401 API_KEY_MISSING"


@pytest.mark.parametrize(
    ("content_type", "body", "expected"),
    [
        (None, WALLET, "415 UNSUPPORTED_MEDIA_TYPE"),
        ("text/plain", WALLET, "415 UNSUPPORTED_MEDIA_TYPE"),
        ("application/vnd.api+json", WALLET, "415 UNSUPPORTED_MEDIA_TYPE"),
        ("text/plain", b"", "415 UNSUPPORTED_MEDIA_TYPE"),
        (None, b"", INVALID),
        ("APPLICATION/JSON ; charset=latin1", WALLET, ACCEPTED),
    ],
)
def test_only_json_is_read(content_type: str | None, body: object, expected: str) -> None:
    for state in ("thin", "thick"):
        assert outcome_of(ledger_of(state), body, content_type=content_type) == expected
    queued = "accepted" if expected == ACCEPTED else "PENDING"
    assert outcome_of(ledger_of("thick-queued"), body, content_type=content_type) == queued


def test_the_issues_have_the_texts_of_the_service_and_the_message_names_the_first() -> None:
    body = {
        "customerId": "",
        "type": "outcome",
        "key": 1,
        "inputTokens": -1,
        "outputTokens": "5",
        "runId": "r" * 256,
        "custom": 1,
        "dryRun": 1,
    }
    status, content = post(ledger_of("thick"), body)
    assert (status, content["statusDetail"]["message"]) == (400, "model: must have required property 'model'")
    assert [(issue["field"], issue["message"]) for issue in content["result"]["issues"]] == [
        ("model", "must have required property 'model'"),
        ("agentKey", "must have required property 'agentKey'"),
        ("customerId", "must NOT have fewer than 1 characters"),
        ("customerId", 'must match pattern "\\S"'),
        ("inputTokens", "must be >= 0"),
        ("outputTokens", "must be integer"),
        ("key", "must be string"),
        ("runId", "must NOT have more than 255 characters"),
        ("custom", "must be object"),
        ("dryRun", "must be boolean"),
    ]
    thin = post(ledger_of("thin"), {"customerId": 1, "inputTokens": 2**53})[1]
    assert [(issue["field"], issue["message"]) for issue in thin["result"]["issues"]] == [
        ("outputTokens", "must have required property 'outputTokens'"),
        ("customerId", "must be string"),
        ("inputTokens", "must be <= 9007199254740991"),
    ]
    assert post(ledger_of("thin"), b"[]")[1]["statusDetail"]["message"] == "must be object"
    assert post(ledger_of("thick"), {**WALLET, "type": 1})[1]["result"]["issues"] == [
        {"field": "type", "message": "must be string"},
        {"field": "type", "message": "must be equal to one of the allowed values"},
    ]


def test_pending_says_nothing_of_the_reason() -> None:
    ledger = ledger_of("thick-queued")
    status, content = post(ledger, WALLET | {"inputTokens": -1})
    assert (status, content) == (
        202,
        {
            "statusCode": 202,
            "statusDetail": {"status": "SUCCESS", "message": "Processing in the queue."},
            "result": {"signalId": "sig_1", "receivedAt": "2026-07-01T10:00:00.000Z", "status": "PENDING"},
        },
    )
    (held,) = ledger.held
    assert (held.signal_id, held.status, held.issues[0].field) == ("sig_1", 400, "inputTokens")
    assert ledger.signals == ()


@every_state
def test_what_cannot_be_billed_is_taken_and_held(state: AcceptOnly) -> None:
    ledger = ledger_of(state)
    assert outcome_of(ledger, WALLET | {"model": "unheard-of"}) == ACCEPTED
    assert outcome_of(ledger, WALLET | {"customerId": "nobody"}) == ACCEPTED
    held = [(each.status, each.message) for each in ledger.held]
    assert held == [
        (422, 'Model "unheard-of" is not a valid model.'),
        (404, 'No customer with id "nobody".'),
    ]
    assert ledger.signals == ()


def test_keys_and_types_are_settled_without_case() -> None:
    for state in STATES:
        ledger = ledger_of(state)
        body = signal(type=" CREDIT ", agentKey=None, key="API_Credit", model="EXAMPLE", status="DONE")
        assert outcome_of(ledger, body) == ACCEPTED
        (booked,) = ledger.signals
        assert (booked.type, booked.key, booked.status) == ("credit", "api_credit", "SUCCESS")


def test_a_dry_run_is_taken_like_any_signal_and_thin_bills_it() -> None:
    for state in STATES:
        ledger = ledger_of(state)
        assert outcome_of(ledger, WALLET | {"dryRun": True}) == ACCEPTED
        assert (len(ledger.signals), ledger.counters.dry_runs) == ((1, 0) if state == "thin" else (0, 1))


@every_state
@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", SIGNAL),
        ("PUT", SIGNAL),
        ("DELETE", "/api/v1/signal?x=1"),
        ("POST", "/"),
        ("POST", "/api/v1/signal/"),
        ("POST", "/API/v1/signal"),
        ("PUT", "/api/v1/usage"),
        ("POST", "/health"),
        ("GET", "*"),
    ],
)
def test_a_wrong_method_is_a_path_that_is_not_there(state: AcceptOnly, method: str, target: str) -> None:
    status, content = call(ledger_of(state), method, target, authorization=None)
    assert (status, content["statusDetail"]["message"]) == (404, f"Route {method} {target} not found.")
    assert content["result"] == {
        "errorReason": "NOT_FOUND",
        "signalId": "sig_1",
        "receivedAt": "2026-07-01T10:00:00.000Z",
    }


UNROUTED: list[tuple[str, object, str | None, str]] = [
    ("valid", {"a": 1}, "application/json", "404 NOT_FOUND"),
    ("no signal", b"[]", "application/json; charset=utf-8", "404 NOT_FOUND"),
    ("empty", b"", "application/json", "400 EMPTY_BODY"),
    ("cut", b"{", "application/json", MALFORMED),
    ("proto", b'{"__proto__":1}', "application/json", MALFORMED),
    ("over 64 KiB", b'"%b"' % (b"a" * 70_000), "application/json", "404 NOT_FOUND"),
    ("over 1 MiB", b'"%b"' % (b"a" * 1024 * 1024), "application/json", TOO_LARGE),
    ("cut text", b"{", "text/plain", "404 NOT_FOUND"),
    ("text over 1 MiB", b"a" * (1024 * 1024 + 1), "text/plain", TOO_LARGE),
    ("another type", b"{", "application/xml", "404 NOT_FOUND"),
    ("no type at all", b"{", "json", "415 UNSUPPORTED_MEDIA_TYPE"),
    ("empty type", b"{", "", "415 UNSUPPORTED_MEDIA_TYPE"),
    ("no header", b"{", None, "404 NOT_FOUND"),
]


@every_state
@pytest.mark.parametrize(
    ("body", "kind", "expected"), [row[1:] for row in UNROUTED], ids=[row[0] for row in UNROUTED]
)
def test_a_body_is_read_before_its_path_is_missed(
    state: AcceptOnly, body: object, kind: str | None, expected: str
) -> None:
    for method, target in (("POST", "/nothing"), ("PUT", SIGNAL), ("DELETE", "/health")):
        response = ledger_of(state).handle(received(method, target, body, content_type=kind), now=NOW)
        content = json.loads(response.body)
        assert f"{response.status} {content['result']['errorReason']}" == expected
        closes = expected in {"400 EMPTY_BODY", MALFORMED, TOO_LARGE}
        assert (response.header("connection") == "close") is closes


@every_state
def test_methods_without_a_body_have_none_read(state: AcceptOnly) -> None:
    for method, expected in (("GET", 404), ("TRACE", 404), ("PROPFIND", 404), ("QUERY", 400)):
        assert call(ledger_of(state), method, "/nothing", b"{")[0] == expected
    refused = call(ledger_of(state), "QUERY", "/nothing", b"{}", content_type=None)
    assert (refused[0], refused[1]["result"]["errorReason"]) == (400, "BAD_REQUEST")


@every_state
@pytest.mark.parametrize(
    "target", [f"{SIGNAL}#x", f"{SIGNAL}?a#b", f"http://h{SIGNAL}", f"HTTPS://h:1{SIGNAL}?x"]
)
def test_a_target_may_have_an_authority_and_a_fragment(state: AcceptOnly, target: str) -> None:
    assert call(ledger_of(state), "POST", target, WALLET)[0] == 202


@every_state
def test_its_health_needs_no_key_and_has_no_envelope(state: AcceptOnly) -> None:
    ledger = ledger_of(state)
    for target in ("/health", "/health/", "/health?x=1"):
        assert call(ledger, "GET", target, authorization=None)[1]["status"] == "ok"
    assert call(ledger, "GET", "/health", now=NOW + 1.5)[1] == {"status": "ok", "uptime": 1.5}
    assert call(Ledger(), "GET", "/health")[0] == 404


@every_state
def test_the_other_calls_are_those_of_the_payments_application(state: AcceptOnly) -> None:
    ledger = ledger_of(state)
    assert call(ledger, "GET", "/api/v1/customers/cus_1")[0] == 200
    assert call(ledger, "GET", "/api/v1/usage?customerId=cus_1")[1]["logs"] == []
    assert call(ledger, "GET", "/api/v1/me", authorization=None)[1]["ok"] is False


@every_state
def test_a_reset_stays_in_the_state(state: AcceptOnly) -> None:
    ledger = ledger_of(state)
    send(ledger, model="unheard-of")
    ledger.reset()
    assert (ledger.held, send(ledger)[0]) == ((), 202)


@pytest.mark.parametrize("state", ["", "thickly", True, False, 1])
def test_a_state_that_is_not_known_is_a_mistake(state: Any) -> None:
    with pytest.raises(ValueError, match="accept_only must be one of thin, thick, thick-queued"):
        Ledger(accept_only=state)


def test_a_ledger_says_its_own_state() -> None:
    with (
        pytest.raises(ValueError, match="Give accept_only to the Ledger"),
        emulator(Ledger(), accept_only="thin"),
    ):
        pytest.fail("it started all the same")
    with emulator(accept_only="thick") as server:
        assert server.ledger.accept_only == "thick"


# HTTP


def answer(ledger: Ledger, request: Received) -> tuple[int, dict[str, str]]:
    response = ledger.handle(request, now=NOW)
    return response.status, dict(response.headers)


@every_state
def test_a_body_that_makes_no_sense_closes_the_connection(state: AcceptOnly) -> None:
    nonsense: list[object] = [b"{", b"", RAW.ljust(70_000), RAW.replace(b"}", b',"__proto__":1}')]
    for body in nonsense:
        assert answer(ledger_of(state), received("POST", SIGNAL, body))[1]["connection"] == "close"
    sense: list[object] = [RAW, b"[]", WALLET | {"inputTokens": -1}]
    for body in sense:
        headers = answer(ledger_of(state), received("POST", SIGNAL, body))[1]
        assert (headers["connection"], headers["keep-alive"]) == ("keep-alive", "timeout=72")
        assert headers["content-type"] == "application/json; charset=utf-8"
    request = received("POST", SIGNAL, RAW)
    request.headers["connection"] = "close"
    headers = answer(ledger_of(state), request)[1]
    assert (headers["connection"], "keep-alive" in headers) == ("close", False)


@every_state
def test_browsers_may_ask_whether_they_may(state: AcceptOnly) -> None:
    ask = Received("OPTIONS", SIGNAL, {"origin": "https://x", "access-control-request-method": "POST"})
    status, headers = answer(ledger_of(state), ask)
    assert (status, headers["access-control-allow-origin"]) == (204, "https://x")
    assert headers["access-control-allow-methods"] == "GET,HEAD,POST"
    assert "access-control-allow-headers" not in headers
    ask.headers["access-control-request-headers"] = "content-type"
    assert answer(ledger_of(state), ask)[1]["access-control-allow-headers"] == "content-type"
    assert answer(ledger_of(state), Received("OPTIONS", SIGNAL))[0] == 400
    sent = received("POST", SIGNAL, WALLET)
    sent.headers["origin"] = "https://x"
    assert answer(ledger_of(state), sent)[1]["access-control-allow-origin"] == "https://x"


@every_state
@pytest.mark.parametrize(
    ("method", "target"), [("post", SIGNAL), ("FOO", SIGNAL), ("POST", "/api/%zz"), ("GET", "/api/%ff")]
)
def test_what_its_server_does_not_parse_has_no_envelope(state: AcceptOnly, method: str, target: str) -> None:
    status, content = call(ledger_of(state), method, target, WALLET)
    assert (status, content["statusCode"], content["error"]) == (400, 400, "Bad Request")


@pytest.fixture(params=[None, *STATES])
def server(request: pytest.FixtureRequest) -> Iterator[EmulatorServer]:
    with emulator(accept_only=request.param) as running:
        yield running


def raw(server: EmulatorServer, request: bytes) -> tuple[bytes, dict[str, Any]]:
    """Send bytes, and read what comes until the server closes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as wire:
        wire.sendall(request)
        head, _, body = read_to_end(wire).partition(b"\r\n\r\n")
    return head.splitlines()[0], json.loads(body)


@pytest.mark.parametrize("target", ["/health", "/nothing"])
def test_an_answer_without_its_body_has_the_length_of_it(server: EmulatorServer, target: str) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as wire:
        wire.sendall(b"HEAD %b HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n" % target.encode())
        head, _, body = read_to_end(wire).lower().partition(b"\r\n\r\n")
    assert (b"content-length: " in head, b"transfer-encoding" in head, body) == (True, False, b"")


def head_of(size: int) -> bytes:
    """A head of so many bytes, as Node counts them: the target, names and values."""
    fixed = len("/") + len("host") + len("h") + len("connection") + len("close") + len("x")
    filler = "a" * (size - fixed)
    return f"GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\nx: {filler}\r\n\r\n".encode()


def test_a_head_over_16_kib_is_431_without_an_envelope(server: EmulatorServer) -> None:
    assert raw(server, head_of(16 * 1024 - 1))[0].startswith(b"HTTP/1.1 404 ")
    for size in (16 * 1024, 70_000, 1_000_000):
        line, content = raw(server, head_of(size))
        assert line == b"HTTP/1.1 431 Request Header Fields Too Large"
        assert content == {
            "error": "Request Header Fields Too Large",
            "message": "Exceeded maximum allowed HTTP header size",
            "statusCode": 431,
        }
    assert len(server.ledger.requests) == 1


@pytest.mark.parametrize(
    "request_line",
    [
        b"garbage",
        b"GET / HTTP/9.9\r\nhost: h",
        b"GET / HTTP/1.1",
        b"GET / HTTP/1.1\r\nhost h",
        b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: x",
        b"POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\ncontent-length: 5",
    ],
)
def test_what_is_not_http_has_no_envelope(server: EmulatorServer, request_line: bytes) -> None:
    line, content = raw(server, request_line + b"\r\n\r\n")
    assert line == b"HTTP/1.1 400 Bad Request"
    assert content == {"error": "Bad Request", "message": "Client Error", "statusCode": 400}
    assert server.ledger.requests == ()


def test_of_two_keys_the_first_counts() -> None:
    with (
        emulator(accept_only="thick") as server,
        closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)) as connection,
    ):
        connection.putrequest("GET", "/api/v1/me")
        for key in (server.api_key, "cnk_other"):
            connection.putheader("Authorization", f"Bearer {key}")
        connection.endheaders()
        assert connection.getresponse().status == 200


@every_state
def test_our_client_sees_every_answer(state: AcceptOnly) -> None:
    failures = list[tuple[ClockNextError, Signal]]()
    with emulator(accept_only=state) as server:
        with ClockNext(
            server.api_key,
            base_url=server.url,
            on_error=lambda error, signal: failures.append((error, signal)),
        ) as cnk:
            taken = cnk.signals.credit(
                customer_id="cus_123", model="gpt-4o", agent_key="api_credit", wait=True
            )
            assert (taken.accepted, taken.mending, taken.usage_log) == (True, False, None)
            assert taken.received_at is not None
            cnk.signals.outcome(
                customer_id="cus_123", model="gpt-4o", agent_key="x", idempotency_key="buffered"
            )
            cnk.flush(timeout=10)
        expected = [] if state == "thin" else ["buffered"]
        assert [signal.idempotency_key for _, signal in failures] == expected
        assert server.ledger.bill("cus_123").signals == 1
        assert len(server.ledger.held) == (0 if state == "thick" else 1)


def test_faults_reach_the_ingest_too() -> None:
    with emulator(accept_only="thin") as server:
        server.faults.script(Fault("lost"))
        with ClockNext(server.api_key, base_url=server.url) as cnk:
            cnk.signals.wallet(customer_id="cus_123", model="gpt-4o", idempotency_key="once", wait=True)
        # The answer was lost and the signal sent again: here that is billed twice.
        assert server.ledger.billed("once") == 2


CHUNKED = b"POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "template",
    [
        b"GET / HTTP/1.1\r\nhost: h\r\na: %b\0\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: h\r\na: %b\rb\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: h\r\na: b%b\x7f\r\n\r\n",
        CHUNKED + b"0\r\na: %b\0\r\n\r\n",
        CHUNKED + b"1;%b\n\r\n{\r\n0\r\n\r\n",
        CHUNKED + b"1;" + b"x" * 3000,
    ],
)
def test_a_long_line_of_blanks_is_refused_at_once(template: bytes) -> None:
    """h11 takes the square of its length, which is half a minute here."""
    request = template % (b" " * 60_000) if b"%b" in template else template
    with emulator() as server:
        line, _ = raw(server, request)
        assert line.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 431 "))


def test_chunks_of_any_size_are_one_body() -> None:
    sizes = (1, 7, 500, 1023, 1024, 1025, 4000)
    body = json.dumps({"name": "A" * 5000, "email": "a@b.c"}).encode()
    head = CHUNKED.replace(b"/ HTTP", b"/api/v1/customers HTTP").replace(
        b"host: h", f"host: h\r\ncontent-type: application/json\r\nauthorization: {KEY}".encode()
    )
    with emulator() as server:
        for size in sizes:
            parts = [body[start : start + size] for start in range(0, len(body), size)]
            chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
            close = b"GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n"
            with socket.create_connection(("127.0.0.1", server.port), timeout=10) as wire:
                wire.sendall(head + chunks + b"0\r\n\r\n" + close)
                answers = read_to_end(wire)
            assert answers.count(b"HTTP/1.1 ") == 2
            assert answers.startswith(b"HTTP/1.1 201 ")
