"""The emulator's page in a real browser."""

import http.client
import time
from collections.abc import Generator

import pytest

from clocknext_core import RetryPolicy
from clocknext_transports import ClockNext
from clocknext_transports.emulator import EmulatorServer, Fault, Ledger, Received, emulator
from tests.browser.chromium import Page
from tests.emulator.support import received

HOSTILE = "<img src=x onerror=document.title='broken'><script>document.title='broken'</script>"
QUICK = RetryPolicy(base_delay=0.001, max_delay=0.002)


@pytest.fixture
def server() -> Generator[EmulatorServer, None, None]:
    with emulator() as running:
        yield running


def send(server: EmulatorServer, count: int = 1, *, first: int = 0) -> None:
    for number in range(first, first + count):
        server.ledger.handle(wallet(number), now=time.time())


def wallet(number: int, **changes: object) -> Received:
    body = {
        "customerId": "cus_123",
        "type": "wallet",
        "model": "gpt-4o",
        "inputTokens": number + 1,
        "idempotencyKey": f"key-{number}",
    }
    return received("POST", "/api/v1/usage", body | changes)


def opened(browser: Page, server: EmulatorServer) -> None:
    browser.open(server.page_url)
    browser.until("document.getElementById('link').dataset.state === 'live'")
    browser.until("document.getElementById('customers').children.length")


def test_an_empty_ledger_shows_what_to_paste(browser: Page, server: EmulatorServer) -> None:
    opened(browser, server)
    (pasted,) = browser.texts("#paste")
    assert pasted.splitlines()[:2] == [
        f"export CLOCKNEXT_BASE_URL={server.url}",
        f"export CLOCKNEXT_API_KEY={server.api_key}",
    ]
    assert len(pasted.splitlines()) == 3
    program = pasted.splitlines()[2].removeprefix("python3 -c '").removesuffix("'")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLOCKNEXT_BASE_URL", server.url)
        patch.setenv("CLOCKNEXT_API_KEY", server.api_key)
        exec(compile(program, "pasted", "exec"), {})
    browser.until("document.getElementById('billed').textContent === '1'")
    browser.until("document.getElementById('empty').hidden")


def test_a_signal_is_seen_live_with_its_repeats_under_it(browser: Page, server: EmulatorServer) -> None:
    opened(browser, server)
    with ClockNext(server.api_key, base_url=server.url, retry=QUICK) as client:
        server.faults.script(Fault("status", status=503), Fault("lost"), path="/api/v1/usage")
        client.signals.credit(
            customer_id="cus_123", model="gpt-4o", key="api_credit", tokens={"input": 1500}, wait=True
        )
    browser.until("document.getElementById('repeats').textContent === '1'")
    (row,) = browser.texts(".entry")
    assert row.split("\n")[0] == "billed"
    assert "cus_123" in row
    under = browser.texts(".under li")
    assert [line.split(" · ")[1:] for line in under] == [
        ["503", "a fault on purpose, before it was processed"],
        ["no answer", "a fault on purpose: processed, and the answer was lost"],
        ["200", "a repeat, not billed again"],
    ]
    browser.click(".entry")
    browser.until("document.getElementById('detail').open")
    detail = browser.texts("#detail")[0]
    assert "1,500 * 2.5 USD / 1,000,000" in detail
    assert '"customerId": "cus_123"' in detail
    assert len(browser.texts(".dot")) == 3
    browser.press("Escape")
    browser.until("!document.getElementById('detail').open")


def test_hostile_strings_are_text(browser: Page, server: EmulatorServer) -> None:
    bodies: list[dict[str, object]] = [
        {"customerId": HOSTILE},
        {"model": HOSTILE},
        {"idempotencyKey": HOSTILE, "member": HOSTILE},
        {"custom": {HOSTILE: HOSTILE}},
    ]
    for number, body in enumerate(bodies):
        server.ledger.handle(wallet(number, **body), now=time.time())
    server.ledger.handle(
        received("POST", "/api/v1/customers", {"name": HOSTILE, "email": "a@b.c"}), now=time.time()
    )
    opened(browser, server)
    browser.until("document.querySelectorAll('.entry').length === 4")
    for number in range(4):
        browser.run(f"document.querySelectorAll('.entry')[{number}].click()")
        browser.until("document.getElementById('detail').open")
        browser.press("Escape")
        browser.until("!document.getElementById('detail').open")
    assert browser.run("document.querySelectorAll('img, body script').length") == 0
    assert "broken" not in browser.run("document.title")
    assert HOSTILE in "".join(browser.texts("body"))


def test_what_the_code_did_wrong(browser: Page, server: EmulatorServer) -> None:
    opened(browser, server)
    server.ledger.handle(wallet(0, model="gpt-9"), now=time.time())
    server.ledger.handle(wallet(1, inputTokens=0), now=time.time())
    for number in (2, 3):
        server.ledger.handle(wallet(number, custom={"response_id": "resp_1"}), now=time.time())
    browser.until("document.querySelectorAll('#mistakes > li').length === 3")
    assert browser.texts("#mistakes strong") == [
        "The model 'gpt-9' is not in the catalogue.",
        "A signal has no tokens: its model costs nothing.",
        "The response 'resp_1' was billed under two idempotency keys.",
    ]


def test_runs_customers_and_money(browser: Page, server: EmulatorServer) -> None:
    opened(browser, server)
    with (
        ClockNext(server.api_key, base_url=server.url) as client,
        client.runs.start(customer_id="cus_789", key_prefix="resolved_ticket", model="gpt-4o-mini") as run,
    ):
        run.step("triage", tokens={"input": 900})
        run.step("answer", tokens={"input": 2000})
    browser.until("document.querySelector('#runs .state.billed')")
    (shown,) = browser.texts("#runs > li")
    assert "resolved_ticket.triage" in shown
    assert "resolved_ticket.answer" in shown
    assert "2 steps" in shown
    assert browser.texts("#money") == ["0.99"]
    assert [name.split()[0] for name in browser.texts("#customers strong")][:2] == ["cus_123", "cus_456"]


def test_a_fault_by_a_button_and_its_undo(browser: Page, server: EmulatorServer) -> None:
    opened(browser, server)
    assert browser.run("document.getElementById('undo').disabled")
    browser.click("#fault-buttons button")
    browser.until("!document.getElementById('undo').disabled")
    assert server.faults.standing() == [{"kinds": ["503"], "left": 1}]
    assert browser.texts("#faults") == ["503: 1 request to come"]
    browser.click("#undo")
    browser.until("document.getElementById('undo').disabled")
    assert server.faults.standing() == []


def test_the_keyboard_alone(browser: Page, server: EmulatorServer) -> None:
    send(server, 3)
    opened(browser, server)
    browser.until("document.querySelectorAll('.entry').length === 3")
    browser.press("ArrowDown")
    browser.press("ArrowDown")
    assert browser.run("document.activeElement.dataset.number") == "2"
    browser.press("Enter")
    browser.until("document.getElementById('detail').open")
    browser.press("Escape")
    browser.until("document.activeElement.dataset.number === '2'")


def test_a_restart_and_a_reset_are_shown(browser: Page) -> None:
    with emulator() as first:
        port = first.port
        send(first)
        opened(browser, first)
        browser.until("document.getElementById('billed').textContent === '1'")
        first.ledger.reset()
        browser.until("document.getElementById('banner').innerText.includes('The ledger was reset.')")
        assert browser.texts(".entry") == []
    browser.until("document.getElementById('link').dataset.state === 'lost'")
    with emulator(port=port):
        browser.until("document.getElementById('banner').innerText.includes('was restarted')")
        browser.until("document.getElementById('link').dataset.state === 'live'")
        browser.open("about:blank")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 700, 390])
def test_no_page_is_wider_than_its_window(
    browser: Page, server: EmulatorServer, scheme: str, width: int
) -> None:
    server.ledger.handle(wallet(9, customerId="c" * 300, model="m" * 300), now=time.time())
    send(server, 2)
    browser.resize(width)
    browser.prefer(scheme)
    opened(browser, server)
    browser.until("document.querySelectorAll('.entry').length === 3")
    assert browser.run("document.documentElement.dataset.theme") == scheme
    assert browser.overflow() <= 0
    browser.click(".entry")
    browser.until("document.getElementById('detail').open")
    assert browser.overflow() <= 0
    browser.resize(1280)


def test_ten_thousand_signals_and_sixty_a_second(browser: Page) -> None:
    ledger = Ledger()
    for number in range(10_000):
        ledger.handle(wallet(number), now=time.time())
    with emulator(ledger) as server:
        opened(browser, server)
        opened(browser, server)  # the browser's own start is no part of it
        paints = "performance.getEntriesByName('first-contentful-paint')"
        browser.until(f"{paints}.length > 0")  # what is in the document may not be painted yet
        painted = browser.run(f"{paints}[0].startTime")
        assert painted < 1000  # 300 ms on an idle machine; tests share theirs
        assert len(browser.texts(".entry")) == 200
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        started_at = time.monotonic()
        for number in range(10_000, 10_120):
            request = wallet(number)
            connection.request("POST", request.target, request.body, request.headers)
            connection.getresponse().read()
            while time.monotonic() < started_at + (number - 9_999) / 60:
                browser.run("0")  # the page answers meanwhile
        sent_at = time.monotonic()
        browser.until("document.getElementById('billed').textContent === '10,120'")
        assert time.monotonic() - sent_at < 5
        connection.close()
        browser.click("#older")
        browser.until("document.querySelectorAll('.entry').length > 320")
        assert browser.texts(".entry")[0].split("\n")[0] == "billed"
        browser.open("about:blank")
