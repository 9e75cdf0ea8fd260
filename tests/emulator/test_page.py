"""The emulator's page without a browser: what it shows of a ledger, its routes, its feed."""

import http.client
import json
from typing import Any, cast

import pytest

from clocknext_core import OutcomeSignal, WalletSignal
from clocknext_transports import ClockNext
from clocknext_transports.emulator import Fault, Faults, Ledger, emulator
from clocknext_transports.emulator.page.files import page_file
from clocknext_transports.emulator.page.line import line_of
from clocknext_transports.emulator.page.view import MAX_BEHIND, MAX_SENT, View
from clocknext_transports.emulator.server.service import Service
from tests.emulator.support import EXAMPLE, NOW, call, received, send, signal


def service(ledger: Ledger | None = None) -> Service:
    return Service(ledger or Ledger(EXAMPLE), Faults(), server_id="one", on_signal=lambda _: None)


def post(one: Service, **changes: object) -> int | None:
    reply = one.respond(received("POST", "/api/v1/usage", signal(**changes)), now=NOW)
    return None if reply.response is None else reply.response.status


def get(one: Service, path: str, **headers: str) -> tuple[int, dict[str, Any]]:
    request = received("GET", f"/_emulator/{path}")
    request.headers.update(headers)
    response = one.respond(request, now=NOW).response
    assert response is not None
    return response.status, json.loads(response.body)


def entries(one: Service) -> list[dict[str, Any]]:
    return cast("list[dict[str, Any]]", get(one, "entries?before=999999")[1]["entries"])


def states(entry: dict[str, Any]) -> list[str]:
    return [attempt["state"] for attempt in entry["attempts"]]


def test_repeats_are_under_their_original_and_not_billed_again() -> None:
    one = service()
    assert [post(one), post(one), post(one, idempotencyKey="idem-2")] == [200, 200, 200]
    second, first = entries(one)
    assert (second["key"], second["count"], second["repeats"]) == ("idem-2", 1, 0)
    assert (first["state"], first["count"], first["repeats"]) == ("billed", 2, 1)
    assert states(first) == ["billed", "repeat"]
    assert one.ledger.counters.repeats == 1


@pytest.mark.parametrize(
    ("kind", "expected"), [("lost", ["failed", "repeat"]), ("status", ["failed", "billed"])]
)
def test_what_a_fault_did(kind: Any, expected: list[str]) -> None:
    one = service()
    one.faults.script(Fault(kind))
    post(one)
    (entry,) = entries(one)
    assert entry["state"] == ("billed" if kind == "lost" else "failed")
    post(one)
    (entry,) = entries(one)
    assert (entry["state"], states(entry)) == ("billed", expected)


def test_a_signal_without_a_key_is_an_entry_each_time() -> None:
    one = service()
    post(one, idempotencyKey=None)
    post(one, idempotencyKey=None)
    assert [(entry["key"], entry["state"], entry["cost"] is None) for entry in entries(one)] == [
        (None, "billed", False),
        (None, "billed", False),
    ]


def test_refused_held_and_dry_runs() -> None:
    one = service()
    post(one, customerId="nobody")
    post(one, dryRun=True)
    assert [(entry["state"], entry["message"]) for entry in entries(one)] == [
        ("dry run", "priced, and not billed"),
        ("refused", 'No customer with id "nobody".'),
    ]
    ingest = service(Ledger(EXAMPLE, accept_only="thin"))
    post(ingest)
    post(ingest, customerId="nobody", idempotencyKey="idem-2")
    post(ingest, idempotencyKey=None)
    assert [entry["state"] for entry in entries(ingest)] == ["billed", "held", "billed"]


def test_the_price_is_worked_out_with_its_numbers() -> None:
    one = service()
    post(one)
    (entry,) = entries(one)
    status, detail = get(one, f"entry?number={entry['id']}")
    assert status == 200
    assert [(step["label"], step["working"], step["result"]) for step in detail["price"]] == [
        ("input tokens", "1,500 * 3 USD / 1,000,000", "0.0045 USD"),
        ("output tokens", "750 * 15 USD / 1,000,000", "0.01125 USD"),
        ("cache tokens", "250 * 1.5 USD / 1,000,000", "0.000375 USD"),
        ("cost of the tokens", "their sum", "0.016125 USD"),
        ("credits used", "0.016125 USD / 0.645 USD per credit", "0.025 credits"),
        ("charged", "0.025 * 0.8385 USD per credit (0.645 + 30 %)", "0.0209625 USD"),
    ]
    assert json.loads(detail["request"]["body"]) == signal()
    assert json.loads(detail["attempts"][0]["answer"])["statusCode"] == 200
    assert detail["attempts"][0]["after"] == 0
    assert "authorization" not in json.dumps(detail).lower()


def test_prices_of_wallets_and_outcomes() -> None:
    with emulator() as server:
        with ClockNext(server.api_key, base_url=server.url, mode="sync") as client:
            client.signals.track(WalletSignal(customer_id="cus_123", model="gpt-4o", tokens={"input": 400}))
            for complete in (None, True):
                client.signals.track(
                    OutcomeSignal(
                        customer_id="cus_123",
                        model="gpt-4o",
                        key="resolved_ticket.triage",
                        run_id="run-1",
                        complete=complete,
                    )
                )
        view = View(server.ledger)
        view.update()
        shown = view.since(0)
        priced = [view.detail(number) for number in (1, 2, 3)]
    workings = [[step["working"] for step in cast("dict[str, Any]", each)["price"]] for each in priced]
    assert workings[0][-1] == "the cost, without margin"
    assert workings[1][-1].endswith("billed when the run is complete")
    assert workings[2][-1].endswith("which this step completes")
    (run,) = cast("list[dict[str, Any]]", shown["runs"])
    assert (run["id"], run["count"], run["billed"], run["cost"]) == ("run-1", 2, True, "0.99")
    assert [step["complete"] for step in run["steps"]] == [False, True]


def test_the_rates_may_have_changed_since() -> None:
    ledger = Ledger(EXAMPLE)
    send(ledger)
    from clocknext_transports.emulator import Model

    ledger.add_model(Model("example", input=99, output=15))
    view = View(ledger)
    view.update()
    detail = view.detail(1)
    assert detail is not None
    assert cast("Any", detail["price"])[0]["working"] == "the rates of the model have changed since"


def test_what_is_new_since_the_last_time() -> None:
    ledger = Ledger(EXAMPLE)
    view = View(ledger)
    view.update()
    assert view.since(view.change)["entries"] == []
    send(ledger)
    before = view.change
    ((entry, attempt),) = view.update()
    assert (entry.state, attempt.state) == ("billed", "billed")
    news = cast("dict[str, Any]", view.since(before))
    assert [each["id"] for each in news["entries"]] == [1]
    assert [each["id"] for each in news["customers"]] == ["cus_1"]
    assert news["counters"]["billed"] == 1
    assert view.update() == []
    assert view.since(view.change)["customers"] == []


def test_bars_are_parts_of_the_highest_balance_seen() -> None:
    ledger = Ledger(EXAMPLE)
    view = View(ledger)
    send(ledger, type="wallet", agentKey=None, inputTokens=1_000_000, outputTokens=0, cacheTokens=0)
    view.update()
    customers = cast("list[dict[str, Any]]", view.since(0)["customers"])
    bars = {bar["name"]: bar for each in customers if each["id"] == "cus_1" for bar in each["bars"]}
    assert (bars["wallet, USD"]["left"], bars["wallet, USD"]["part"]) == ("7", 0.7)


def test_a_reset_and_a_customer_that_is_gone_begin_a_page_anew() -> None:
    ledger = Ledger(EXAMPLE)
    view = View(ledger)
    send(ledger)
    view.update()
    epochs = [view.epoch]
    call(ledger, "DELETE", "/api/v1/customers/cus_bare")
    view.update()
    epochs.append(view.epoch)
    ledger.reset()
    view.update()
    epochs.append(view.epoch)
    assert len(set(epochs)) == 3
    assert view.resets == 1
    assert view.since(0)["entries"] == []


def test_a_page_that_is_opened_late_has_little_to_read() -> None:
    """Reading a request takes the server some 30 µs, and the first paint would wait for all of them."""
    one = Service(Ledger(EXAMPLE), Faults())
    assert get(one, "entry?number=1")[0] == 404
    for round_ in ("first", "second"):
        for number in range(MAX_BEHIND + 1):
            post(one, idempotencyKey=f"{round_}-{number}")
        assert get(one, "entry?number=1")[1]["key"] == f"{round_}-0"
        one.ledger.reset()


def test_older_entries_come_page_by_page() -> None:
    ledger = Ledger(EXAMPLE)
    for number in range(MAX_SENT + 50):
        send(ledger, idempotencyKey=f"k{number}")
    view = View(ledger)
    view.update()
    newest = cast("list[dict[str, Any]]", view.since(0)["entries"])
    assert [newest[0]["id"], newest[-1]["id"], len(newest)] == [MAX_SENT + 50, 51, MAX_SENT]
    older = cast("list[dict[str, Any]]", view.older(51)["entries"])
    assert [older[0]["id"], older[-1]["id"]] == [50, 1]


def test_mistakes_are_found_once_each_with_their_number() -> None:
    one = service()
    post(one, model="gpt-9")
    post(one, model="gpt-9", idempotencyKey="2")
    post(one, agentKey="API credits", idempotencyKey="3")
    post(one, customerId="nobody", idempotencyKey="4")
    post(one, inputTokens=0, outputTokens=0, cacheTokens=0, idempotencyKey="5")
    for key in ("6", "6", "7"):
        post(one, custom={"responseId": "r"}, idempotencyKey=key)
    post(one, idempotencyKey=None)
    post(one, inputTokens=-1, idempotencyKey="8")
    post(one, inputTokens=100_000_000, type="wallet", agentKey=None, idempotencyKey="9")
    one.respond(received("POST", "/api/v1/usage", signal(), authorization="Bearer cnk_wrong"), now=NOW)
    view = View(one.ledger)
    view.update()
    found = {mistake.what: mistake.count for mistake in view.mistakes.found.values()}
    assert list(found.items())[:6] == [
        ("The model 'gpt-9' is not in the catalogue.", 2),
        ("There is no key 'API credits'.", 1),
        ("There is no customer 'nobody'.", 1),
        ("A signal has no tokens: its model costs nothing.", 1),
        ("The response 'r' was billed under two idempotency keys.", 1),
        ("A signal has no idempotency key.", 1),
    ]
    assert "The allowance of 'cus_1' ran out." in found
    assert "The API key was refused." in found
    assert len(found) == 9
    post(one, idempotencyKey="7", inputTokens=7)
    for tokens in (-1, 8, 8):  # what was refused and corrected is sent again
        post(one, idempotencyKey="10", inputTokens=tokens)
    view.update()
    assert [*view.mistakes.found][9:10] == ["twice 7"]
    assert view.mistakes.found["twice 7"].what == (
        "Under the key '7' came another signal, which is not billed."
    )
    assert "twice 10" not in view.mistakes.found
    assert all(mistake.remedy for mistake in view.mistakes.found.values())


def test_a_line_of_the_terminal_is_printable_and_says_how_it_ended() -> None:
    lines: list[str] = []
    one = Service(Ledger(EXAMPLE), Faults(), on_signal=lines.append)
    post(one)
    post(one)
    post(one, customerId="\x1b[2J" + "x" * 99, idempotencyKey="2")
    assert [line.split("  ")[1].strip() for line in lines] == ["billed", "repeat", "refused"]
    assert lines[0].endswith("0.0209625 USD")
    assert lines[1].endswith("billed before, not again")
    assert all(line.isprintable() for line in lines)
    assert r"\x1b[2J" in lines[2]
    assert line_of.__module__.endswith("page.line")


def test_the_files_say_that_nothing_else_may_be_loaded() -> None:
    sizes = 0
    for name in ("", "page.css", "page.js"):
        response = page_file(name, now=NOW)
        assert response is not None
        sizes += len(response.body)
        policy = response.header("content-security-policy")
        assert policy is not None
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert response.header("x-content-type-options") == "nosniff"
        assert b"http://" not in response.body.replace(b"http://www.w3.org", b"")
        assert b"https://" not in response.body
    assert sizes < 60_000
    assert page_file("../view.py", now=NOW) is None


def test_the_script_sets_no_html() -> None:
    response = page_file("page.js", now=NOW)
    assert response is not None
    for word in (b"innerHTML", b"outerHTML", b"insertAdjacentHTML", b"document.write", b"eval("):
        assert word not in response.body


@pytest.mark.parametrize("path", ["", "page.js", "events", "entries?before=1", "entry?number=1"])
@pytest.mark.parametrize(
    "headers",
    [{"host": "evil.example"}, {"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}],
)
def test_the_page_is_closed_to_other_web_pages(path: str, headers: dict[str, str]) -> None:
    request = received("GET", f"/_emulator/{path}")
    request.headers.update(headers)
    reply = service().respond(request, now=NOW)
    assert reply.response is not None
    assert (reply.response.status, reply.feed) == (403, None)


def test_an_entry_that_is_not_there_and_a_number_that_is_none() -> None:
    one = service()
    assert get(one, "entry?number=7")[0] == 404
    assert get(one, "entry?number=x")[0] == 400
    assert get(one, "entries")[0] == 400


def test_faults_are_undone_one_by_one() -> None:
    faults = Faults()
    faults.script(Fault("lost"), times=2)
    faults.chance(0.5, Fault("status", 429))
    assert faults.standing() == [
        {"kinds": ["lost"], "left": 2},
        {"kinds": ["429"], "probability": 0.5},
    ]
    assert faults.undo()
    assert faults.standing() == [{"kinds": ["lost"], "left": 2}]
    faults.decide("GET", "/")
    assert faults.standing() == [{"kinds": ["lost"], "left": 1}]
    assert faults.undo()
    assert not faults.undo()
    assert faults.decide("GET", "/") is None


def test_the_feed_tells_what_changes_while_it_is_open() -> None:
    with emulator() as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        connection.request("GET", "/_emulator/events")
        response = connection.getresponse()
        assert response.getheader("content-type") == "text/event-stream"

        def event() -> dict[str, Any]:
            while not (line := response.readline()).startswith(b"data: "):
                assert line, "the feed has ended"
            return cast("dict[str, Any]", json.loads(line.removeprefix(b"data: ")))

        first = event()
        assert (first["full"], first["counters"]["billed"]) == (True, 0)
        with ClockNext(server.api_key, base_url=server.url) as client:
            client.signals.wallet(customer_id="cus_123", model="gpt-4o", tokens={"input": 1}, wait=True)
        second = event()
        assert (second["full"], second["counters"]["billed"], len(second["entries"])) == (False, 1, 1)
        assert second["server"] == first["server"]
        server.faults.script(Fault("lost"))
        assert event()["faults"] == [{"kinds": ["lost"], "left": 1}]
        server.ledger.reset()
        assert event()["full"]
        connection.close()
