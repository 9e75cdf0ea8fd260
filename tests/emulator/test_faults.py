import gzip
import json
from collections import Counter
from random import Random
from typing import Any

import pytest

from clocknext_transports.emulator import Fault, Faults, Ledger, Received, Reply
from clocknext_transports.emulator.server.service import Service
from tests.emulator.support import EXAMPLE, NOW, received, signal

POST = received("POST", "/api/v1/usage", signal())


def kinds(faults: Faults, count: int, *, method: str = "POST", path: str = "/x") -> list[str | None]:
    decided = [faults.decide(method, path) for _ in range(count)]
    return [None if fault is None else fault.kind for fault in decided]


def test_a_script_hits_requests_in_order_and_then_ends() -> None:
    faults = Faults()
    faults.script(Fault("lost"), None, Fault("reset"))
    faults.script(Fault("status"), times=2)
    assert faults.pending == 5
    assert kinds(faults, 7) == ["lost", None, "reset", "status", "status", None, None]
    assert faults.counts == Counter(lost=1, reset=1, status=2)
    assert faults.pending == 0


def test_a_script_can_be_limited_to_a_method_and_a_path() -> None:
    faults = Faults()
    faults.script(Fault("lost"), method="POST", path="/a")
    faults.script(Fault("reset"), path="/b/*")
    assert kinds(faults, 1, method="GET", path="/a") == [None]
    assert kinds(faults, 1, path="/b") == [None]
    assert kinds(faults, 2, path="/a") == ["lost", None]
    assert kinds(faults, 2, path="/b/c") == ["reset", None]


def test_chances_keep_their_shares_and_follow_the_seed() -> None:
    def play(seed: int) -> list[str | None]:
        faults = Faults(Random(seed))
        faults.chance(0.1, Fault("lost"))
        faults.chance(0.1, Fault("status"))
        faults.chance(0.02, Fault("reset"))
        return kinds(faults, 10_000)

    first = play(7)
    assert first == play(7) != play(8)
    counts = Counter(first)
    for kind, share in (("lost", 0.1), ("status", 0.1), ("reset", 0.02)):
        assert abs(counts[kind] / 10_000 - share) < 0.01


def test_chances_come_after_scripts_and_mind_the_path() -> None:
    faults = Faults()
    faults.chance(1.0, Fault("lost"), path="/a")
    faults.script(Fault("reset"))
    assert kinds(faults, 2, path="/a") == ["reset", "lost"]
    assert kinds(faults, 1, path="/b") == [None]


def test_clearing_keeps_the_counts_and_resetting_starts_over() -> None:
    faults = Faults(Random(3))
    faults.chance(0.5, Fault("lost"))
    first = kinds(faults, 20)
    faults.script(Fault("reset"))
    faults.clear()
    assert kinds(faults, 5) == [None] * 5
    assert faults.counts["lost"] == first.count("lost") > 0
    faults.reset()
    assert faults.counts == Counter()
    faults.chance(0.5, Fault("lost"))
    assert kinds(faults, 20) == first


@pytest.mark.parametrize(
    "make",
    [
        lambda: Fault("nope"),  # type: ignore[arg-type]
        lambda: Fault("latency", seconds=-1),
        lambda: Fault("drip", bytes_per_second=0),
        lambda: Fault("huge", size=-1),
        lambda: Fault("huge", size=2**40),
        lambda: Fault("latency", seconds=float("inf")),
        lambda: Fault("latency", seconds=float("nan")),
        lambda: Fault("drip", bytes_per_second=float("inf")),
        lambda: Fault("drip", bytes_per_second=float("nan")),
        lambda: Fault("status", retry_after="1\r\nx: y"),
        lambda: Fault("status", retry_after_ms="\0"),
        lambda: Fault("status", retry_after="\ud800"),
        lambda: Fault("status", retry_after=" 1"),
        lambda: Fault("status", status=99),
        lambda: Faults().chance(1.1, Fault("lost")),
        lambda: Faults().chance(-0.1, Fault("lost")),
        lambda: Faults().chance(0.1, "lost"),  # type: ignore[arg-type]
        lambda: Faults().script(None, "lost"),  # type: ignore[arg-type]
        lambda: Faults().script(["lost"]),  # type: ignore[arg-type]
    ],
)
def test_mistakes_raise_where_they_are_made(make: object) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=r"."):
        make()


@pytest.mark.parametrize(
    "wrong",
    [
        {"status": 503.5},
        {"status": "503"},
        {"retry_after": 5},
        {"retry_after_ms": b"5"},
        {"message": 5},
        {"kind": "latency", "seconds": "1"},
        {"kind": "drip", "bytes_per_second": None},
        {"kind": "huge", "size": 1.5},
        {"kind": "lost", "commit": "yes"},
    ],
)
def test_a_value_of_the_wrong_type_raises_where_the_fault_is_made(wrong: dict[str, Any]) -> None:
    """Not at the end of the block, when the server could not answer."""
    values: dict[str, Any] = {"kind": "status", **wrong}
    with pytest.raises(ValueError, match="of a fault must be of type"):
        Fault(**values)


def test_chances_together_must_not_exceed_one() -> None:
    faults = Faults()
    faults.chance(0.7, Fault("lost"))
    with pytest.raises(ValueError, match="no more than 1"):
        faults.chance(0.4, Fault("reset"))


def spoilt(fault: Fault, request: Received = POST) -> tuple[Reply, Ledger]:
    service = Service(Ledger(EXAMPLE), Faults())
    service.faults.script(fault)
    return service.respond(request, now=NOW), service.ledger


@pytest.mark.parametrize(
    ("kind", "commits"),
    [
        ("status", False),
        ("latency", True),
        ("lost", True),
        ("reset", False),
        ("html", False),
        ("empty", False),
        ("array", False),
        ("drip", True),
        ("truncated", True),
        ("surplus", True),
        ("stale", True),
        ("gzip", True),
        ("huge", True),
    ],
)
def test_what_each_fault_leaves_in_the_ledger(kind: str, commits: bool) -> None:
    fault = Fault(kind)  # type: ignore[arg-type]
    reply, ledger = spoilt(fault)
    assert ledger.billed("idem-1") == int(commits)
    (record,) = ledger.requests
    assert record.fault == kind
    assert record.status == (None if reply.response is None else reply.response.status)
    for commit in (True, False):
        assert spoilt(Fault(kind, commit=commit))[1].billed("idem-1") == int(commit)  # type: ignore[arg-type]


def test_a_status_comes_in_the_envelope_of_the_call() -> None:
    fault = Fault("status", status=429, retry_after="Wed, 21 Oct 2015 07:28:00 GMT", retry_after_ms="7")
    response = spoilt(fault)[0].response
    assert response is not None
    assert (response.status, response.header("retry-after-ms")) == (429, "7")
    assert response.header("retry-after") == "Wed, 21 Oct 2015 07:28:00 GMT"
    assert json.loads(response.body) == {
        "statusCode": 429,
        "statusDetail": {"status": "ERROR", "message": "Too Many Requests."},
        "result": {},
    }
    legacy = spoilt(Fault("status", message="busy"), received("GET", "/api/v1/customers"))[0].response
    assert legacy is not None
    assert (legacy.status, legacy.header("retry-after")) == (503, None)
    assert json.loads(legacy.body) == {"ok": False, "error": "busy"}
    odd = spoilt(Fault("status", status=599))[0].response
    assert odd is not None
    assert b"Status 599." in odd.body


def test_answers_that_are_not_the_apis() -> None:
    page = spoilt(Fault("html", status=502))[0].response
    assert page is not None
    assert (page.status, page.header("content-type")) == (502, "text/html")
    assert page.body.startswith(b"<!doctype html>")
    empty = spoilt(Fault("empty"))[0].response
    assert empty is not None
    assert (empty.status, empty.body) == (200, b"")
    array = spoilt(Fault("array"))[0].response
    assert array is not None
    assert (array.status, json.loads(array.body)) == (200, [1, 2])


def test_answers_that_are_true_but_awkward() -> None:
    plain = spoilt(Fault("latency", seconds=3))[0]
    assert plain.response is not None
    assert plain.delay == 3
    zipped = spoilt(Fault("gzip"))[0].response
    assert zipped is not None
    assert zipped.header("content-encoding") == "gzip"
    assert gzip.decompress(zipped.body) == plain.response.body
    huge = spoilt(Fault("huge", size=100_000))[0].response
    assert huge is not None
    assert len(huge.body) == 100_000
    assert json.loads(huge.body) == json.loads(plain.response.body)


def control(service: Service, method: str, target: str, body: object = None) -> tuple[int, dict[str, object]]:
    request = received(method, f"/_emulator/{target}", body, authorization=None)
    response = service.respond(request, now=NOW).response
    assert response is not None
    content: dict[str, object] = json.loads(response.body)
    return response.status, content


def test_faults_can_be_ordered_as_json() -> None:
    service = Service(Ledger(EXAMPLE), Faults())
    script = {
        "kind": "status",
        "status": 429,
        "retryAfter": "2",
        "retryAfterMs": "5",
        "message": "m",
        "seconds": 0,
        "bytesPerSecond": 5,
        "size": 6,
        "commit": True,
        "times": 2,
        "method": "POST",
        "path": "/api/v1/usage",
    }
    assert control(service, "POST", "faults", script) == (200, {"ok": True})
    assert control(service, "GET", "faults") == (200, {"counts": {}, "pending": 2})
    assert service.faults.decide("GET", "/api/v1/usage") is None
    fault = service.faults.decide("POST", "/api/v1/usage")
    assert fault == Fault("status", 429, "2", "5", "m", 0.0, 5.0, 6, commit=True)
    assert control(service, "GET", "faults") == (200, {"counts": {"status": 1}, "pending": 1})
    assert control(service, "DELETE", "faults") == (200, {"ok": True})
    assert service.faults.pending == 0
    assert control(service, "POST", "faults", {"kind": "lost", "probability": 1})[0] == 200
    assert service.faults.decide("GET", "/") == Fault("lost")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"kind": "nope"},
        {"kind": "status", "status": 600},
        {"kind": "lost", "probability": 2},
        {"kind": "lost", "probability": 0.5, "times": 2},
        {"kind": "lost", "times": 0},
        {"kind": "latency", "seconds": "1"},
        {"kind": "latency", "seconds": -1},
        {"kind": "drip", "bytesPerSecond": 0},
        {"kind": "status", "retryAfter": "1\r\nx: y"},
        {"kind": "status", "retryAfterMs": "\0"},
        {"kind": "status", "retryAfter": "\ud800"},
        b'{"kind": "latency", "seconds": 1e999}',
        b'{"kind": "drip", "bytesPerSecond": 1e999}',
        b'{"kind": "huge", "size": 1e999}',
        {"kind": "huge", "size": 2**31},
        b'{"kind": "lost", "probability": 1e999}',
        b'{"kind": "lost", "times": 1e999}',
        b"not json",
        {"kind": "lost", "time": 3},
        {"kind": "status", "retry_after": "2"},
        {"kind": "lost", "method": "post"},
        {"kind": "lost", "path": "api/v1/usage", "probability": 0.5},
    ],
)
def test_bad_orders_are_refused(body: object) -> None:
    service = Service(Ledger(), Faults())
    status, content = control(service, "POST", "faults", body)
    assert (status, content["ok"]) == (400, False)
    assert service.faults.pending == 0


def test_a_fault_for_many_requests_takes_no_room_for_each() -> None:
    faults = Faults()
    faults.script(Fault("lost"), None, times=10**12)
    assert (faults.pending, kinds(faults, 3)) == (2 * 10**12, ["lost", None, "lost"])
    assert faults.pending == 2 * 10**12 - 3
    faults.script(times=5)
    assert faults.pending == 2 * 10**12 - 3


def test_the_number_of_orders_is_bounded() -> None:
    service = Service(Ledger(EXAMPLE), Faults())
    for _ in range(10_000):
        service.faults.script(Fault("lost"), path="/never")
    with pytest.raises(ValueError, match="10,000 scripts and chances"):
        service.faults.chance(0.1, Fault("lost"))
    assert control(service, "POST", "faults", {"kind": "lost"})[0] == 400
    assert control(service, "DELETE", "faults")[0] == 200
    assert control(service, "POST", "faults", {"kind": "lost"})[0] == 200


def test_orders_that_come_to_more_than_one_are_refused() -> None:
    service = Service(Ledger(), Faults())
    assert control(service, "POST", "faults", {"kind": "lost", "probability": 0.7})[0] == 200
    assert control(service, "POST", "faults", {"kind": "lost", "probability": 0.7})[0] == 400


def test_the_ledger_can_be_read_back_as_json() -> None:
    service = Service(Ledger(EXAMPLE), Faults())
    service.faults.script(None, Fault("lost"))
    service.respond(POST, now=NOW)
    service.respond(POST, now=NOW)
    status, content = control(service, "GET", "ledger")
    assert status == 200
    assert content["counters"] == {"requests": 2, "refused": 0, "repeats": 1, "dryRuns": 0}
    assert content["bill"] == {
        "signals": 1,
        "inputTokens": 1500,
        "outputTokens": 750,
        "cacheTokens": 250,
        "providedCost": 0.016125,
        "creditsUsed": 0.025,
        "customerCost": 0.0209625,
        "wallet": 0.0,
        "credits": {"api_credit": 0.025},
        "outcomes": {},
        "units": {},
    }
    logs = json.loads(json.dumps(content["signals"]))
    assert [log["idempotencyKey"] for log in logs] == ["idem-1"]
    customers = json.loads(json.dumps(content["customers"]))
    assert customers[0]["balances"]["credits"][0]["remaining"] == 99.975
    requests = json.loads(json.dumps(control(service, "GET", "requests")[1]["requests"]))
    assert [(r["status"], r["fault"]) for r in requests] == [(200, None), (None, "lost")]
    assert len(json.loads(json.dumps(control(service, "GET", "requests?limit=1")[1]["requests"]))) == 1
    assert control(service, "POST", "reset") == (200, {"ok": True})
    assert (service.ledger.signals, service.ledger.requests) == ((), ())
    assert service.faults.counts == Counter()
    assert control(service, "GET", "nothing")[0] == 404
