"""The two envelopes: what is a success, and what an error says."""

import json
import math
import time
from collections.abc import Mapping
from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from clocknext_core import (
    AllowanceError,
    Answer,
    ClockNextError,
    Failure,
    Issue,
    NetworkError,
    NotFoundError,
    PlanError,
    Request,
    RequestLine,
    Response,
    ServerError,
    ValidationError,
)
from clocknext_core.config import REDACTED
from clocknext_core.envelope import MAX_MESSAGE_LENGTH, Payload, open_answer
from clocknext_core.text import printable
from tests.core.support import KEY, answer, config, refusal, success

CONFIG = config()


def request(method: str = "POST", target: str = "/api/v1/usage?limit=2") -> Request:
    return Request(method, target, CONFIG.origin, CONFIG.headers)


def opened(what: Answer, method: str = "POST") -> Payload | ClockNextError:
    return open_answer(what, request=request(method), config=CONFIG, idempotency_key="idem")


def error_of(what: Answer, method: str = "POST") -> ClockNextError:
    outcome = opened(what, method)
    assert isinstance(outcome, ClockNextError)
    return outcome


def cut(text: str) -> str:
    text = printable(text)
    return text if len(text) <= MAX_MESSAGE_LENGTH else text[: MAX_MESSAGE_LENGTH - 1] + "…"


def detail(status: object, **rest: object) -> dict[str, object]:
    return {"statusCode": 200, "statusDetail": {"status": status, "message": "said"}, **rest}


@pytest.mark.parametrize(
    ("what", "payload"),
    [
        (success({"usageLog": {"id": 1}}), {"usageLog": {"id": 1}}),
        (answer(200, detail("SUCCESS")), {}),
        (answer(200, detail("SUCCESS", result=None)), {}),
        (answer(202, detail("SUCCESS", result={"accepted": True})), {"accepted": True}),
        (answer(299, detail("SUCCESS", result={"a": 1}, ok=False)), {"a": 1}),
        (answer(200, {"ok": True, "customer": {"id": "c"}}), {"ok": True, "customer": {"id": "c"}}),
        (answer(200, {"ok": None}), {"ok": None}),
        (answer(200, b"\xef\xbb\xbf" + b'{"ok": true}'), {"ok": True}),
        (answer(204, b""), {}),
        (answer(204, "<html>"), {}),
    ],
)
def test_successes(what: Response, payload: Payload) -> None:
    assert opened(what) == payload


BARE = [answer(201, {"customer": 1}), answer(200, {}), answer(200, {"usageLog": {"id": 1}})]


@pytest.mark.parametrize("what", BARE)
def test_an_object_without_an_envelope_delivers_no_signal_and_is_a_success_elsewhere(what: Response) -> None:
    error = error_of(what)
    assert (type(error), error.status, error.retryable) == (ClockNextError, what.status, True)
    payload: object = json.loads(what.body)
    for method, target in (("GET", "/api/v1/usage?limit=2"), ("POST", "/api/v1/customers")):
        assert open_answer(what, request=request(method, target), config=CONFIG) == payload


@pytest.mark.parametrize(
    ("base", "checked"),
    [("", "base_url"), ("/billing", "base_url"), ("/api/v1", "base_url (without /api/v1)")],
)
def test_an_answer_that_is_not_the_apis_hints_at_the_address(base: str, checked: str) -> None:
    settings = replace(CONFIG, base_url=f"https://gateway.example{base}")
    for method, target in (("POST", "/api/v1/usage"), ("GET", "/api/v1/customers/c?secret=1")):
        asked = Request(method, settings.path_prefix + target, settings.origin, settings.headers)
        error = open_answer(answer(404, "<html>"), request=asked, config=settings)
        assert isinstance(error, NotFoundError)
        assert error.hint == (
            "The answer did not come from the ClockNext API at "
            f"https://gateway.example{base}{target.partition('?')[0]}: check {checked}, and the proxies, "
            "firewalls and load balancers on the way."
        )
        spoken = open_answer(refusal(404), request=asked, config=settings)
        assert isinstance(spoken, NotFoundError)
        assert spoken.hint is None


def test_no_hint_shows_the_key() -> None:
    asked = Request("GET", f"/api/v1/customers/{KEY}", CONFIG.origin, CONFIG.headers)
    error = open_answer(answer(404, "<html>"), request=asked, config=CONFIG)
    assert isinstance(error, ClockNextError)
    assert error.hint is not None
    assert KEY not in error.hint
    assert REDACTED in error.hint


def test_a_frameworks_error_is_no_envelope_and_has_its_sentence_in_its_message() -> None:
    said = {"statusCode": 404, "error": "Not Found", "message": "Route POST:/api/v1/usage not found"}
    error = error_of(answer(404, said))
    assert (type(error), error.message) == (NotFoundError, "Route POST:/api/v1/usage not found")
    assert error.hint is not None
    assert error_of(answer(404, {"ok": False, "error": "No.", "message": "other"})).message == "No."
    assert error_of(answer(404, {"error": "No.", "message": " "})).message == "No."


def test_a_refusal_keeps_the_servers_id_and_time_of_the_signal() -> None:
    result = {"signalId": "sig_1", "receivedAt": "2026-07-01T10:00:00.000Z"}
    error = error_of(refusal(400, result=result))
    assert (error.signal_id, error.received_at) == ("sig_1", "2026-07-01T10:00:00.000Z")
    none = error_of(refusal(400, result={"signalId": 1, "receivedAt": None}))
    assert (none.signal_id, none.received_at) == (None, None)


@pytest.mark.parametrize("status", [199, 300, 302])
def test_only_a_2xx_is_a_success(status: int) -> None:
    assert error_of(answer(status, detail("SUCCESS"))).status == status


@pytest.mark.parametrize("body", [b"", b"  \r\n"])
@pytest.mark.parametrize("status", [200, 202, 299])
def test_an_empty_answer_is_a_success_only_to_a_delete(status: int, body: bytes) -> None:
    assert opened(answer(status, body), "DELETE") == {}
    for method in ("GET", "POST", "PUT", "PATCH"):
        error = error_of(answer(status, body), method)
        assert (type(error), error.status, error.retryable) == (ClockNextError, status, True)


@pytest.mark.parametrize("status", [199, 300, 404, 500])
def test_an_empty_answer_to_a_delete_is_an_error_unless_it_is_a_2xx(status: int) -> None:
    assert error_of(answer(status, b""), "DELETE").status == status


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize(
    "body",
    [
        "<html>It works!</html>",
        "[]",
        '"ok"',
        "null",
        "true",
        "12",
        '{"ok": tr',
        "\0",
        b"\xff\xfe\xfd",
        "[" * 99999,
    ],
)
def test_a_2xx_that_is_not_the_apis_object_is_a_retryable_failure(body: str | bytes, method: str) -> None:
    error = error_of(answer(200, body), method)
    assert (type(error), error.status, error.retryable) == (ClockNextError, 200, True)
    assert error.message == cut(body.decode("utf-8", "replace") if isinstance(body, bytes) else body)


@pytest.mark.parametrize("status", ["ERROR", "success", "Success", "", None, 1, True, ["SUCCESS"]])
def test_a_new_envelope_succeeds_only_with_the_exact_word(status: object) -> None:
    error = error_of(answer(200, detail(status)))
    assert (type(error), error.status, error.retryable, error.message) == (ClockNextError, 200, False, "said")


@pytest.mark.parametrize("status_detail", [None, "SUCCESS", [], {}])
def test_an_object_with_status_detail_is_new_style_whatever_that_holds(status_detail: object) -> None:
    error = error_of(answer(200, {"ok": True, "statusDetail": status_detail, "error": "odd"}))
    assert (error.message, error.retryable) == ("odd", False)


def test_a_legacy_refusal_in_a_200_is_an_error() -> None:
    error = error_of(answer(200, {"ok": False, "error": "No such customer."}))
    assert (error.status, error.retryable, error.message) == (200, False, "No such customer.")


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"statusDetail": {"message": "first"}, "error": "second"}, "first"),
        ({"statusDetail": {"message": ""}, "error": "second"}, "second"),
        ({"statusDetail": {"message": "  "}, "error": "second"}, "second"),
        ({"statusDetail": {"message": {"not": "text"}}, "error": "second"}, "second"),
        ({"statusDetail": {"message": 7}, "error": "second"}, "second"),
        ({"statusDetail": "oops", "error": "second"}, "second"),
        ({"error": "second"}, "second"),
        ({"error": {"code": 5}}, '{"error": {"code": 5}}'),
        ({"error": ""}, '{"error": ""}'),
        ({}, "{}"),
        ([1], "[1]"),
        ("plain text", "plain text"),
        ("  <h1>Bad Gateway</h1>\n", "<h1>Bad Gateway</h1>"),
        ("", "Request failed with status 502."),
        (" \n ", "Request failed with status 502."),
        (b"\xff", "\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_where_the_message_comes_from(document: object, message: str) -> None:
    error = error_of(answer(502, document))
    assert (type(error), error.status, error.message) == (ServerError, 502, message)


def test_every_text_is_cut_short() -> None:
    page = "<p>" + "x" * 5000
    error = error_of(answer(502, page))
    assert len(error.message) == MAX_MESSAGE_LENGTH == 300
    assert error.message == cut(page) != page
    assert error_of(answer(502, "y" * MAX_MESSAGE_LENGTH)).message == "y" * MAX_MESSAGE_LENGTH
    long = {"errorReason": "R" * 5000, "issues": [{"field": "f" * 5000, "message": "m" * 5000}]}
    error = error_of(refusal(400, "z" * 5000, long))
    assert error.message == cut("z" * 5000)
    assert error.reason == cut("R" * 5000)
    assert error.issues == (Issue(cut("f" * 5000), cut("m" * 5000)),)
    assert error_of(Failure("f" * 5000)).message == cut("f" * 5000)


def test_an_error_takes_little_memory_whatever_the_server_sends() -> None:
    issue = {"field": "\x1b" * 500, "message": "\x1b" * 500}
    error = error_of(
        refusal(400, "\x1b" * 300_000, {"errorReason": "\x1b" * 300_000, "issues": [issue] * 1000})
    )
    assert len(error.issues) == 5
    assert len(repr(vars(error))) + len(str(error)) < 10_000
    many = error_of(refusal(400, "no", {"issues": [{"field": "f", "message": "m"}] * 5000}))
    assert len(many.issues) == 1500


def test_the_end_of_a_long_message_still_tells_an_allowance() -> None:
    assert isinstance(error_of(refusal(422, "x" * 1000 + " insufficient credits")), AllowanceError)


def test_what_an_error_says_fits_a_line_of_a_log() -> None:
    said = "two\nlines, \x1b[31mred\x07, \u202eturned"
    shown = "two\\nlines, \\x1b[31mred\\x07, \\u202eturned"
    result = {"errorReason": said, "issues": [{"field": said, "message": said}]}
    error = error_of(refusal(400, said, result))
    assert (error.message, error.reason, error.issues) == (shown, shown, (Issue(shown, shown),))
    assert error_of(answer(502, said)).message == shown
    assert error_of(Failure(said)).message == shown


def test_a_message_of_a_megabyte_is_no_burden_for_a_loop() -> None:
    for unit in ("%", "\\", "&", "=", "c", "cn", "\x1b", "ä"):
        what = answer(502, unit * (1_000_000 // len(unit)))
        best = math.inf
        for _ in range(3):
            began = time.perf_counter()
            error_of(what)
            best = min(best, time.perf_counter() - began)
        assert best < 0.05


def test_an_error_says_what_the_server_said_of_it() -> None:
    result = {
        "errorReason": "INVALID_BODY",
        "issues": [
            {"field": "inputTokens", "message": "must be an integer"},
            {"message": "no field"},
            {"field": "model"},
            "not an issue",
            {"field": 7, "message": 8},
        ],
    }
    error = error_of(refusal(400, "Invalid body.", result, retry_after="2"))
    assert isinstance(error, ValidationError)
    assert error.reason == "INVALID_BODY"
    assert error.issues == (
        Issue("inputTokens", "must be an integer"),
        Issue("", "no field"),
        Issue("7", "8"),
    )
    assert error.idempotency_key == "idem"
    assert error.request == RequestLine("POST", "/api/v1/usage")
    assert error.retry_after == 2.0


@pytest.mark.parametrize(
    "result", [{"errorReason": 5, "issues": {}}, {"issues": "x"}, {"errorReason": None}, {}]
)
def test_a_reason_and_issues_of_the_wrong_type_are_left_out(result: Mapping[str, object]) -> None:
    error = error_of(refusal(400, "no", result))
    assert (error.reason, error.issues) == (None, ())


def test_no_answer_is_a_network_error() -> None:
    error = error_of(Failure("connection refused"))
    assert isinstance(error, NetworkError)
    assert (error.status, error.retryable, error.message) == (None, True, "connection refused")
    assert error.idempotency_key == "idem"
    assert error.request == RequestLine("POST", "/api/v1/usage")


@pytest.mark.parametrize("message", ["Insufficient balance", "INSUFFICIENT", "credit is insufficient."])
def test_a_422_that_says_insufficient_is_an_allowance(message: str) -> None:
    assert isinstance(error_of(refusal(422, message)), AllowanceError)
    assert isinstance(error_of(answer(422, {"ok": False, "error": message})), AllowanceError)
    assert isinstance(error_of(refusal(422, "No such plan.")), PlanError)
    assert isinstance(error_of(refusal(404, message)), NotFoundError)


# The API key


def texts_of(error: ClockNextError) -> str:
    return repr((str(error), error, error.__dict__, error.args))


@pytest.mark.parametrize(
    "what",
    [
        refusal(401, f"Invalid API key {KEY}."),
        answer(401, {"ok": False, "error": f"{KEY}{KEY} is unknown"}),
        answer(502, f"<html>Authorization: Bearer {KEY}</html>"),
        answer(200, f"<html>Authorization: Bearer {KEY}</html>"),
        answer(502, "x" * (MAX_MESSAGE_LENGTH - 10) + KEY),
        answer(502, "x" * (MAX_MESSAGE_LENGTH - len(KEY)) + KEY + "y"),
        refusal(400, "bad", {"errorReason": KEY, "issues": [{"field": KEY, "message": f"not {KEY}"}]}),
        Failure(f"header {KEY} refused"),
    ],
)
def test_the_api_key_is_in_no_error_whoever_echoes_it(what: Answer) -> None:
    told = texts_of(error_of(what))
    assert KEY not in told
    assert KEY[: len(KEY) // 2] not in told


def test_the_api_key_is_in_no_error_when_an_echo_escapes_it() -> None:
    escaped = KEY.replace("/", "\\/")
    assert escaped != KEY
    assert escaped not in error_of(answer(502, f'{{"authorization":"Bearer {escaped}"}}')).message


def test_what_stood_around_the_key_stays() -> None:
    assert error_of(refusal(401, f"Invalid API key {KEY}.")).message == f"Invalid API key {REDACTED}."


@given(start=st.integers(MAX_MESSAGE_LENGTH - len(KEY) - 3, MAX_MESSAGE_LENGTH + 3))
def test_no_half_of_the_key_is_left_where_the_text_is_cut(start: int) -> None:
    assert KEY[:12] not in texts_of(error_of(answer(500, "x" * start + KEY + "x" * 50)))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["ok", "error", "statusDetail", "status", "message", "result", "issues", "errorReason"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(
    status=st.integers(100, 599),
    body=JSON.map(lambda document: json.dumps(document).encode()) | st.binary(max_size=60),
    headers=st.lists(
        st.tuples(st.sampled_from(["Retry-After", "retry-after-ms", "DATE"]), st.text(max_size=30))
    ),
    method=st.sampled_from(["GET", "POST", "DELETE"]),
)
def test_no_answer_whatever_it_holds_is_more_than_a_payload_or_an_error(
    status: int, body: bytes, headers: list[tuple[str, str]], method: str
) -> None:
    outcome = opened(Response(status, headers, body, received_at=1.0), method)
    if not 200 <= status <= 299:
        assert isinstance(outcome, ClockNextError)
    if isinstance(outcome, ClockNextError):
        assert outcome.status == status
        assert outcome.message
        assert outcome.retry_after is None or 0 <= outcome.retry_after <= 86400
