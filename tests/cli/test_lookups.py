import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from clocknext_core.wire import camel_case
from clocknext_transports.cli.group import run
from clocknext_transports.emulator import (
    Catalogue,
    Customer,
    EmulatorServer,
    Fault,
    Ledger,
    Received,
    emulator,
    scripted,
)
from tests.cli.support import KEY, clocknext, connected, encoded, environment, wire

Invoke: TypeAlias = Callable[..., tuple[int, str, str]]

JSON = {"content-type": "application/json"}
DETAILS = (
    *("description", "website", "phone", "legal_name", "address_line1", "address_line2", "city", "state"),
    *("country", "pincode", "tax_id", "notes", "logo_url"),
)


@pytest.fixture
def server() -> Iterator[EmulatorServer]:
    with emulator() as running:
        yield running


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Invoke:
    """Run a command in this process, connected to a URL: its exit status, stdout and stderr."""
    for name in ("CLOCKNEXT_BASE_URL", "CLOCKNEXT_API_KEY", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "*")

    def invoke(url: str, *arguments: str, key: str = KEY) -> tuple[int, str, str]:
        monkeypatch.setenv("CLOCKNEXT_BASE_URL", url)
        monkeypatch.setenv("CLOCKNEXT_API_KEY", key)
        status = run(arguments)
        out, errors = capsys.readouterr()
        return status, out, errors

    return invoke


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def targets(server: EmulatorServer) -> list[str]:
    return [request.target for request in server.ledger.requests]


# What each shows


def test_whoami(server: EmulatorServer, invoke: Invoke) -> None:
    status, out, errors = invoke(server.url, "whoami")
    assert (status, errors) == (0, "")
    assert "organization.name  Emulated organisation\n" in out
    assert ["environment", "sandbox"] in rows(out)
    assert ["ok", "yes"] not in rows(out)
    status, out, _ = invoke(server.url, "whoami", "--json")
    me = json.loads(out)
    assert (status, me["organization"]["id"], me["environment"]) == (0, "org_emulator", "sandbox")


def test_models(server: EmulatorServer, invoke: Invoke) -> None:
    _, active, _ = invoke(server.url, "models")
    assert active.splitlines()[0] == "USD per 1,000,000 tokens"
    assert rows(active)[1] == ["Model", "Input", "Output", "Cache", "Active"]
    assert ["gpt-4o", "2.5", "10", "1.25", "yes"] in rows(active)
    assert "gpt-4 " not in active
    _, every, _ = invoke(server.url, "models", "--all")
    assert ["gpt-4", "30", "60", "0", "no"] in rows(every)
    _, out, _ = invoke(server.url, "models", "--all", "--json")
    assert {model["modelId"]: model["isActive"] for model in json.loads(out)}["gpt-4"] is False
    assert targets(server) == [
        "/api/v1/models?active=true",
        "/api/v1/models",
        "/api/v1/models",
    ]


def test_customers_are_listed_page_by_page(invoke: Invoke) -> None:
    everyone = [Customer(f"cus_{number}", name=f"Name {number}") for number in range(120)]
    with emulator(Ledger(Catalogue(customers=everyone))) as server:
        status, out, _ = invoke(server.url, "customers", "list")
        assert (status, rows(out)[0]) == (0, ["ID", "Name", "Email", "Created"])
        assert [row[0] for row in rows(out)[1:]] == [customer.id for customer in reversed(everyone)]
        assert len(targets(server)) == 3
        _, out, _ = invoke(server.url, "customers", "list", "--json", "--limit", "70")
        assert [json.loads(line)["id"] for line in out.splitlines()] == [one.id for one in everyone[:-71:-1]]
        assert len(targets(server)) == 5
        _, out, _ = invoke(server.url, "customers", "list", "--q", "name 7", "--limit", "2")
        assert [row[0] for row in rows(out)[1:]] == ["cus_79", "cus_78"]
        assert targets(server)[5:] == ["/api/v1/customers?limit=2&q=name+7"]


def test_what_came_before_a_failure_is_listed(invoke: Invoke) -> None:
    everyone = [Customer(f"cus_{number}") for number in range(60)]
    with emulator(Ledger(Catalogue(customers=everyone))) as server:
        server.faults.script(None, Fault("status", 403))
        status, out, errors = invoke(server.url, "customers", "list", "--json")
    assert (status, len(out.splitlines()), errors.count("\n")) == (2, 50, 1)


def test_a_customer(server: EmulatorServer, invoke: Invoke) -> None:
    status, out, errors = invoke(server.url, "customers", "show", "cus_123")
    assert (status, errors) == (0, "")
    assert rows(out)[:3] == [["Field", "Value"], ["id", "cus_123"], ["name", "Acme"]]
    assert "notes" not in out
    _, out, _ = invoke(server.url, "customers", "show", "cus_123", "--json")
    assert json.loads(out)["notes"] is None


def test_a_customer_is_created_with_the_fields_given_and_no_others(
    server: EmulatorServer, invoke: Invoke
) -> None:
    details = {
        name: f"some {name}"
        for name in [
            "description",
            "website",
            "phone",
            "legal_name",
            "address_line1",
            "address_line2",
            "city",
            "state",
            "country",
            "pincode",
            "tax_id",
            "notes",
            "logo_url",
        ]
    } | {"currency_code": "EUR"}
    options = [part for name, value in details.items() for part in (f"--{name.replace('_', '-')}", value)]
    create = ("customers", "create", "--name", "Wörld", "--email", "w@example.com")
    status, out, _ = invoke(server.url, *create, *options, "--json")
    created = json.loads(out)
    assert status == 0
    assert [created[name] for name in ("name", "legalName", "addressLine1", "logoUrl", "currencyCode")] == [
        "Wörld",
        "some legal_name",
        "some address_line1",
        "some logo_url",
        "EUR",
    ]
    written = server.ledger.requests[0].body
    assert written == {"name": "Wörld", "email": "w@example.com"} | {
        camel_case(name): value for name, value in details.items()
    }
    status, out, _ = invoke(server.url, *create)
    assert (status, rows(out)[2]) == (0, ["name", "Wörld"])
    assert server.ledger.requests[1].body == {"name": "Wörld", "email": "w@example.com"}


def test_balances(server: EmulatorServer, invoke: Invoke) -> None:
    status, out, errors = invoke(server.url, "balances", "cus_low")
    assert (status, errors) == (0, "")
    assert rows(out)[:3] == [
        ["Balance", "ID", "Name", "Remaining"],
        ["wallet", "USD", "0.005"],
        ["credit", "api_credit", "API", "credit", "0.25"],
    ]
    assert {row[0] for row in rows(out)[1:]} == {"wallet", "credit", "outcome", "unit"}
    _, out, _ = invoke(server.url, "balances", "cus_wallet", "--json")
    assert json.loads(out)["wallet"]["balance"] == 100


def test_usage(server: EmulatorServer, invoke: Invoke, tmp_path: Path) -> None:
    done = clocknext(
        "send",
        "-",
        "--concurrency",
        "1",
        env=connected(server.url),
        cwd=tmp_path,
        stdin=encoded([wire(inputTokens=1000), wire(type="credit", key="api_credit", model="gpt-4o")]),
    )
    assert done.returncode == 0
    status, out, errors = invoke(server.url, "usage", "cus_123")
    assert (status, errors) == (0, "")
    assert ["inputTokens", "1,120"] in rows(out)
    totals, _, logs = out.partition("\n\n")
    assert totals.startswith("Totals\n")
    (latest, first) = rows(logs)[2:]
    assert latest[1:7] == ["credit", "gpt-4o", "api_credit", "120", "30", "0"]
    assert first[1:] == ["wallet", "gpt-4o-mini", "1,000", "30", "0", "0", "0.000168", "SUCCESS"]
    _, out, _ = invoke(server.url, "usage", "cus_123", "--limit", "1", "--json")
    used = json.loads(out)
    assert (len(used["logs"]), used["totals"]["signals"]) == (1, 2)


def test_an_answer_with_less_and_more_than_documented_is_shown(invoke: Invoke) -> None:
    answers: list[dict[str, object]] = [
        {"organization": "Acme", "new": ["x"]},
        {},
        {"wallet": {"balance": "12 EUR"}, "credits": [{"remaining": None}, 7]},
        {"logs": [{"model": "m", "createdAt": 5}]},
        {"models": [{"modelId": "m\x1b[2J\u0007"}]},
    ]
    with scripted(
        [(200, {"content-type": "application/json"}, json.dumps(one).encode()) for one in answers]
    ) as (server):
        shown = [
            invoke(server.url, *arguments)
            for arguments in (("whoami",), ("whoami",), ("balances", "c"), ("usage", "c"), ("models",))
        ]
    assert [(status, errors) for status, _, errors in shown] == [(0, "")] * 5
    assert rows(shown[0][1])[1:] == [["organization", "Acme"], ["new", '["x"]']]
    assert rows(shown[2][1])[1:] == [["wallet", "USD", "12", "EUR"], ["credit"], ["credit"]]
    assert rows(shown[3][1])[-1] == ["5", "m"]
    assert rows(shown[4][1])[-1] == ["m\\x1b[2J\\x07"]


# Errors


EVERY = [
    ("whoami",),
    ("models",),
    ("customers", "list"),
    ("customers", "show", "c"),
    ("customers", "create", "--name", "n", "--email", "n@example.com"),
    ("balances", "c"),
    ("usage", "c"),
]


@pytest.mark.parametrize("arguments", EVERY, ids=" ".join)
def test_a_key_that_is_not_accepted(
    arguments: tuple[str, ...], server: EmulatorServer, invoke: Invoke
) -> None:
    for as_json in ((), ("--json",)):
        status, out, errors = invoke(server.url, *arguments, *as_json, key="cnk_wrong_key")
        assert (status, out) == (2, "")
        says = "Invalid API key. The key is that of --api-key, else of CLOCKNEXT_API_KEY."
        assert errors == f"Error: AuthError 401: {says}\n"


@pytest.mark.parametrize("arguments", [("whoami",), ("models",), ("balances", "cus_123")], ids=" ".join)
def test_an_address_that_can_not_be_right_is_told_from_one_that_is_not_there(
    arguments: tuple[str, ...], invoke: Invoke
) -> None:
    with emulator() as server:
        url = server.url
        status, _, errors = invoke(f"{url}/api/v1", *arguments)
    assert (status, errors.count("\n")) == (2, 1)
    assert "without /api/v1" in errors
    status, _, errors = invoke(url, *arguments)
    assert (status, errors.count("\n")) == (2, 1)
    assert errors.endswith("Check --base-url, else CLOCKNEXT_BASE_URL, the network and the proxies.\n")


def test_the_key_is_taken_from_the_option_first(server: EmulatorServer, invoke: Invoke) -> None:
    assert invoke(server.url, "whoami", "--api-key", KEY, key="cnk_wrong_key")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("customers", "show", "nobody"), 'NotFoundError 404: No customer with id "nobody".'),
        (("balances", "nobody"), 'NotFoundError 404: No customer with id "nobody".'),
        (("usage", "nobody"), 'NotFoundError 404: No customer with id "nobody".'),
        (("customers", "show", ".."), "ValidationError: customer_id: must not be '..'."),
        (
            ("customers", "create", "--name", " ", "--email", "n@example.com"),
            "ValidationError: name: must not be blank.",
        ),
        (
            ("customers", "create", "--name", "n", "--email", "n@example.com", "--currency-code", "x"),
            "ValidationError 400: currencyCode: must be an ISO 4217 code such as USD.",
        ),
        (("whoami", "--base-url", "http://example.com"), "must use https"),
        (("whoami", "--api-key", "cnk_with space"), "visible ASCII"),
    ],
)
def test_an_error_is_one_line(
    arguments: tuple[str, ...], error: str, server: EmulatorServer, invoke: Invoke
) -> None:
    status, out, errors = invoke(server.url, *arguments)
    assert (status, out, errors.count("\n")) == (2, "", 1)
    assert errors.startswith("Error: ")
    assert error in errors
    assert "cnk_" not in errors


def test_what_a_server_says_stays_one_line_without_the_key(invoke: Invoke) -> None:
    def echo(request: Received) -> tuple[int, dict[str, str], bytes]:
        message = f"First\nsecond\x1b[2J {request.headers['authorization']}"
        return 422, JSON, json.dumps({"ok": False, "error": message}).encode()

    with scripted([echo]) as server:
        status, out, errors = invoke(server.url, "whoami", key="cnk_live_secret")
    assert (status, out) == (2, "")
    assert errors == "Error: PlanError 422: First\\nsecond\\x1b[2J Bearer cnk_[redacted].\n"


def test_without_a_key() -> None:
    done = clocknext("whoami", env=environment())
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "CLOCKNEXT_API_KEY" in done.stderr


def test_a_server_that_is_not_there(invoke: Invoke) -> None:
    with emulator() as gone:
        url = gone.url
    status, out, errors = invoke(url, "whoami", "--max-attempts", "1")
    assert (status, out, errors.count("\n")) == (2, "", 1)
    assert errors.startswith(f"Error: NetworkError: Could not connect to {url}")


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_read_is_tried_again_and_who_waits_at_a_terminal_is_told(
    is_terminal: bool, server: EmulatorServer, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
    server.faults.script(Fault("status", 503), None)
    status, _, errors = invoke(server.url, "whoami")
    assert (status, len(targets(server))) == (0, 2)
    assert ("ServerError 503" in errors, "Trying again in" in errors) == (is_terminal, is_terminal)


def test_a_create_is_not_and_says_what_may_have_happened(server: EmulatorServer, invoke: Invoke) -> None:
    server.faults.script(Fault("lost"))
    status, out, errors = invoke(
        server.url, "customers", "create", "--name", "Lost", "--email", "n@example.com"
    )
    assert (status, out, errors.count("\n")) == (2, "", 1)
    assert errors.endswith(
        "It may have been created nevertheless: look with `clocknext customers list --q`.\n"
    )
    assert len(targets(server)) == 1


def test_json_is_ascii_whatever_the_locale(server: EmulatorServer) -> None:
    create = ("customers", "create", "--name", "日本", "--email", "n@example.com", "--json")
    done = clocknext(*create, env=connected(server.url) | {"PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()
    assert json.loads(done.stdout)["name"] == "日本"


def test_the_help_names_the_commands() -> None:
    done = clocknext("--help", env=environment())
    for command in ("balances", "customers", "models", "usage", "verify", "whoami"):
        assert f"\n  {command} " in done.stdout
