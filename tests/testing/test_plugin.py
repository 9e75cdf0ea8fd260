"""The pytest plugin, in a pytest of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.support import environment

PLUGIN = "clocknext_transports.testing.plugin"
HEAD = """
import pytest
from clocknext_transports import ClockNext
from clocknext_transports.emulator import Catalogue, Customer, Fault, Model
"""


def run(folder: Path, tests: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run tests in a folder of their own."""
    (folder / "test_it.py").write_text(HEAD + tests, "utf-8")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        PLUGIN,
        "-p",
        "no:randomly",
        "-p",
        "no:cacheprovider",
    ]
    return subprocess.run(
        [*command, "--strict-markers", "-c", "/dev/null", "--rootdir", str(folder), *arguments, str(folder)],
        env=environment(PYTEST_DISABLE_PLUGIN_AUTOLOAD="1"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_signal_that_was_billed_is_found_without_flushing(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        """
def bill():
    with ClockNext() as cnk:
        cnk.signals.credit(customer_id="cus_123", model="gpt-4o", key="api_credit", tokens={"input": 1200})

def test_one(clocknext_ledger):
    bill()
    signal = clocknext_ledger.billed(customer_id="cus_123", key="api_credit", model="gpt-4o", input=1200)
    assert signal.customer_cost > 0
    assert clocknext_ledger.bill("cus_123").signals == 1
    assert len(clocknext_ledger.signals) == 1

def test_the_next_one_begins_empty(clocknext_ledger):
    clocknext_ledger.nothing_billed()

def test_without_closing(clocknext_ledger):
    cnk = ClockNext()
    cnk.signals.wallet(customer_id="cus_123", model="gpt-4o", tokens={"input": 7})
    clocknext_ledger.billed(input=7, type="wallet")
    cnk.close()
""",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


def test_the_nearest_signal_and_the_field_that_differs(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        """
def test_one(clocknext_ledger):
    with ClockNext() as cnk:
        cnk.signals.wallet(customer_id="cus_456", model="gpt-4o", tokens={"input": 5})
        cnk.signals.wallet(customer_id="cus_123", model="gpt-4o", tokens={"input": 1100})
    clocknext_ledger.billed(customer_id="cus_123", model="gpt-4o", input=1200, timeout=0.1)

def test_none(clocknext_ledger):
    clocknext_ledger.billed(customer_id="cus_123", timeout=0.1)

def test_something(clocknext_ledger):
    with ClockNext() as cnk:
        cnk.signals.wallet(customer_id="cus_123", model="gpt-4o", tokens={"input": 5})
    clocknext_ledger.nothing_billed()

def test_a_typing_error(clocknext_ledger):
    clocknext_ledger.billed(customer="cus_123")
""",
    )
    assert "4 failed" in done.stdout
    assert "The nearest of 2 is: customer_id='cus_123'" in done.stdout
    assert "input: expected 1200, was 1100" in done.stdout
    assert "model: expected" not in done.stdout
    assert "None was billed at all." in done.stdout
    assert "Nothing should have been billed, but there are:" in done.stdout
    assert "billed() has no field 'customer'" in done.stdout


def test_what_fails_at_the_end_and_what_allows_it(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        """
def refuse():
    with ClockNext() as cnk:
        cnk.signals.wallet(customer_id="nobody", model="gpt-4o", tokens={"input": 5})

def test_refused(clocknext_ledger):
    refuse()

def test_refused_and_asserted(clocknext_ledger):
    refuse()
    assert clocknext_ledger.refused(customer_id="nobody", status=404).message.startswith("No customer")

@pytest.mark.clocknext(allow={"refused"})
def test_refused_and_allowed(clocknext_ledger):
    refuse()

def left_open(kept=[]):
    kept.append(ClockNext())
    kept[-1].signals.wallet(customer_id="cus_123", model="gpt-4o", tokens={"input": 5})

def test_open(clocknext_ledger):
    left_open()

@pytest.mark.clocknext(allow=["open"])
def test_open_and_allowed(clocknext_ledger):
    left_open()

@pytest.mark.clocknext(mode="thick")
def test_held(clocknext_ledger):
    with ClockNext() as cnk:
        cnk.signals.wallet(customer_id="nobody", model="gpt-4o", tokens={"input": 5})

def test_not_refused(clocknext_ledger):
    clocknext_ledger.refused(status=422, timeout=0.1)
""",
        "-rA",
    )
    assert "4 passed" not in done.stdout
    lines = done.stdout.splitlines()
    errors = {line.split("::")[1].split()[0] for line in lines if line.startswith("ERROR ")}
    assert errors == {"test_refused", "test_open", "test_held"}
    failed = {line.split("::")[1].split()[0] for line in lines if line.startswith("FAILED ")}
    assert failed == {"test_not_refused"}
    assert 'clocknext: refused: 404 No customer with id "nobody".' in done.stdout
    assert "was not closed: use it in a `with` block." in done.stdout
    assert "clocknext: held: 404" in done.stdout


def test_the_marker_sets_catalogue_balances_and_faults(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        """
@pytest.mark.clocknext(balances={"cus_new": {"wallet": 0.001, "api_credit": 5}}, faults=[Fault("lost")])
def test_balances(clocknext_ledger):
    with ClockNext() as cnk:
        cnk.signals.wallet(customer_id="cus_new", model="gpt-4o", tokens={"input": 100}, wait=True)
        cnk.signals.wallet(customer_id="cus_new", model="gpt-4o", tokens={"input": 9000})
    clocknext_ledger.refused(message="insufficient", customer_id="cus_new")
    assert clocknext_ledger.server.ledger.counters.repeats == 1

MINE = Catalogue(models=[Model("mine", input=1, output=1)], customers=[Customer("c", wallet=9)])

@pytest.mark.clocknext(catalogue=MINE)
def test_catalogue(clocknext_ledger):
    with ClockNext() as cnk:
        cnk.signals.wallet(customer_id="c", model="mine", tokens={"input": 1_000_000})
    clocknext_ledger.billed(model="mine", customer_cost=1)

@pytest.mark.clocknext(balances={"c": {"nothing": 1}})
def test_unknown(clocknext_ledger):
    pass

@pytest.mark.clocknext(balance={})
def test_misspelt(clocknext_ledger):
    pass
""",
    )
    assert "2 passed, 2 errors" in done.stdout, done.stdout
    assert "balances: the catalogue has no credit, outcome or unit 'nothing'." in done.stdout
    assert "The marker clocknext has no 'balance'." in done.stdout


def test_nothing_is_imported_until_a_fixture_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import sys\n\ndef test_it():\n"
        "    names = ('clocknext_core', 'trio', 'h11')\n"
        "    assert not [name for name in sys.modules if name.startswith(names)]\n"
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        PLUGIN,
        "-p",
        "no:cacheprovider",
        "-c",
        "/dev/null",
    ]
    done = subprocess.run(
        [*command, "--rootdir", str(tmp_path), str(tmp_path)],
        env=environment(PYTEST_DISABLE_PLUGIN_AUTOLOAD="1"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_workers_of_xdist_have_servers_of_their_own(tmp_path: Path) -> None:
    pytest.importorskip("xdist", reason="pytest-xdist is not installed")
    done = run(
        tmp_path,
        """
@pytest.mark.parametrize("number", range(8))
def test_one(clocknext_ledger, number):
    with ClockNext() as cnk:
        cnk.signals.wallet(customer_id="cus_123", model="gpt-4o", tokens={"input": number + 1})
    clocknext_ledger.billed(input=number + 1)
    assert len(clocknext_ledger.signals) == 1
""",
        *("-p", "xdist", "-n", "2"),
    )
    assert "8 passed" in done.stdout, done.stdout + done.stderr
