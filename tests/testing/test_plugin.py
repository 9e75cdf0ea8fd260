"""The pytest plugin, in a pytest of its own."""

import socket
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


def run(folder: Path, tests: str, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
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
        "no:cacheprovider",
    ]
    return subprocess.run(
        [*command, "--strict-markers", "-c", "/dev/null", "--rootdir", str(folder), *arguments, str(folder)],
        env=environment(PYTEST_DISABLE_PLUGIN_AUTOLOAD="1", **variables),
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
    assert "balances of 'nothing', and the catalogue no such credit, outcome or unit." in done.stdout
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


def test_what_clients_of_earlier_tests_send_is_in_no_later_ledger(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        """
import subprocess, sys

KEPT = []
PROCESS = '''
import sys
from clocknext_transports import ClockNext
cnk = ClockNext()
sys.stdin.readline()
cnk.signals.wallet(customer_id="nobody", model="gpt-4o", tokens={"input": 8})
cnk.flush()
print(cnk.stats().delivered)
cnk.close()
'''

@pytest.mark.clocknext(allow={"open", "held"}, balances={"mine": {"wallet": 1}})
def test_first(clocknext_ledger):
    KEPT.append(ClockNext())
    KEPT[0].signals.wallet(customer_id="mine", model="gpt-4o", tokens={"input": 7})
    KEPT.append(subprocess.Popen([sys.executable, "-c", PROCESS], stdin=-1, stdout=-1, text=True))

@pytest.mark.clocknext(faults=[Fault("status")])
def test_second(clocknext_ledger, caplog):
    older, process = KEPT
    older.flush()
    assert older.stats().delivered == 1
    assert process.communicate("\\n", timeout=30) == ("1\\n", None)
    older.close()
    assert not caplog.records
    clocknext_ledger.nothing_billed()
    assert not clocknext_ledger.server.ledger.requests
    with ClockNext() as cnk:
        cnk.signals.wallet(customer_id="cus_123", model="gpt-4o", tokens={"input": 7})
    assert clocknext_ledger.billed(input=7).customer_id == "cus_123"
    assert len(clocknext_ledger.server.ledger.requests) == 2  # the fault hit this client

def test_a_wrong_key_is_refused(clocknext_ledger):
    with ClockNext("cnk_mine") as cnk:
        cnk.signals.wallet(customer_id="cus_123", model="gpt-4o", tokens={"input": 7})
    clocknext_ledger.refused(status=401)

def test_a_client_of_an_earlier_test(clocknext_ledger):
    KEPT.append(ClockNext())
    KEPT[-1].signals.wallet(customer_id="cus_123", model="gpt-4o", tokens={"input": 7})
    KEPT[-1].flush()

def test_the_same_in_another_test(clocknext_ledger):
    KEPT[-1].signals.wallet(customer_id="cus_123", model="gpt-4o", tokens={"input": 7})
    clocknext_ledger.billed(input=7, timeout=0.1)
""",
    )
    assert "1 failed, 4 passed, 1 error" in done.stdout, done.stdout + done.stderr
    assert "pending=1> bills to the test that it was made in: close it there" in done.stdout


AT_IMPORT = """
cnk = ClockNext()

def chat():
    cnk.signals.wallet(customer_id="cus_123", model="gpt-4o", tokens={"input": 7})

def test_one(clocknext_ledger):
    chat()
    clocknext_ledger.billed(input=7, timeout=1)

def test_what_is_left_to_be_sent(clocknext_ledger):
    chat()

def test_is_not_in_the_next_ledger(clocknext_ledger):
    clocknext_ledger.nothing_billed()
"""


def test_a_client_made_at_import_is_named_where_a_test_misses_a_signal(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as live:
        url = f"http://127.0.0.1:{live.getsockname()[1]}"
        done = run(
            tmp_path,
            AT_IMPORT + "\ndef test_end():\n    cnk.close(0)\n",
            CLOCKNEXT_API_KEY="cnk_live",
            CLOCKNEXT_BASE_URL=url,
        )
    assert "1 failed, 3 passed" in done.stdout, done.stdout + done.stderr
    assert f"ClockNext {url} pending=1> does not bill to this ledger: it was made before" in done.stdout
    assert "Set `clocknext_session = true`" in done.stdout


@pytest.mark.parametrize("arguments", [(), ("-p", "xdist", "-n", "2")], ids=["alone", "xdist"])
def test_with_a_server_from_the_start_clients_made_at_import_bill_to_the_test(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    if arguments:
        pytest.importorskip("xdist", reason="pytest-xdist is not installed")
    done = run(
        tmp_path,
        AT_IMPORT
        + """
import os

@pytest.mark.parametrize("number", range(4))
def test_all_use_the_same_server(clocknext_server, clocknext_ledger, number):
    assert cnk.config.base_url == os.environ["CLOCKNEXT_BASE_URL"] == clocknext_server.url
    assert "CLOCKNEXT_DISABLED" not in os.environ
    cnk.signals.wallet(customer_id="cus_123", model="gpt-4o", tokens={"input": number + 1})
    clocknext_ledger.billed(input=number + 1)
    assert len(clocknext_ledger.signals) == 1

@pytest.mark.parametrize("number", range(2))
def test_without_a_ledger(number):
    chat()

def test_what_that_left_is_not_in_this_one(clocknext_ledger):
    clocknext_ledger.nothing_billed()
""",
        *("-o", "clocknext_session=true", *arguments),
        CLOCKNEXT_API_KEY="cnk_live",
        CLOCKNEXT_BASE_URL="http://127.0.0.1:9",
        CLOCKNEXT_DISABLED="1",
    )
    assert "10 passed" in done.stdout, done.stdout + done.stderr


def test_with_a_server_from_the_start_conftests_find_it(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("from clocknext_transports import ClockNext\ncnk = ClockNext()\n")
    done = run(
        tmp_path,
        """
def test_it(clocknext_server):
    from conftest import cnk
    assert cnk.config.base_url == clocknext_server.url
""",
        *("-o", "clocknext_session=true"),
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_what_an_asyncio_client_made_at_import_still_holds_fails_the_test(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        """
from clocknext_transports.asyncio import AsyncClockNext

cnk = AsyncClockNext()

def test_one(clocknext_ledger):
    import asyncio
    asyncio.run(record())

async def record():
    cnk.nowait.signals.wallet(customer_id="cus_123", model="gpt-4o", tokens={"input": 7})
""",
        *("-o", "clocknext_session=true"),
    )
    assert "1 passed, 1 error" in done.stdout, done.stdout + done.stderr
    assert "holds 1 of this test, which the next test would see" in done.stdout


def test_a_marker_without_the_ledger_it_is_about_fails_its_test_alone(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        """
@pytest.mark.clocknext(allow={"open"})
def test_alone(): pass

@pytest.mark.clocknext(allow={"open"})
class TestClass:
    def test_one(self): pass
    def test_two(self, clocknext_ledger): pass
""",
        "-rE",
    )
    assert "2 passed, 1 error" in done.stdout, done.stdout + done.stderr
    assert (
        "The marker clocknext is about the fixture clocknext_ledger: take that as an argument." in done.stdout
    )


MISTAKES = (
    ('faults=["lost"]', "takes faults=a list of Fault, such as [Fault(\"lost\")]; not ['lost']."),
    ('faults=Fault("lost")', 'takes faults=a list of Fault, such as [Fault("lost")]; not Fault('),
    ('allow="refused"', "takes allow=a set of 'held', 'refused', 'open'; not 'refused'."),
    ('allow={"refuse"}', "takes allow=a set of 'held', 'refused', 'open'; not {'refuse'}."),
    ("allow={'open': 1}", "takes allow=a set of 'held', 'refused', 'open'; not {'open': 1}."),
    ("allow=None", "takes allow=a set of 'held', 'refused', 'open'; not None."),
    ('mode="thinn"', "takes mode='thin' or 'thick' or 'thick-queued'; not 'thinn'."),
    ("mode=[]", "takes mode='thin' or 'thick' or 'thick-queued'; not []."),
    ("catalogue={}", "takes catalogue=a Catalogue; not {}."),
    ("balances={'c': 1}", "takes balances={customer: {'wallet' or the key"),
    ("balances={'c': {'wallet': '1'}}", "takes balances={customer: {'wallet' or the key"),
    ("balances=[]", "takes balances={customer: {'wallet' or the key"),
    ("balances={'c': {'walet': 1}}", "has balances of 'walet', and the catalogue no such credit"),
    ("{}", "The marker clocknext takes keywords only."),
)


def test_a_mistake_in_the_marker_is_an_error_of_its_test_and_of_no_other(tmp_path: Path) -> None:
    tests = [
        f"@pytest.mark.clocknext({argument})\ndef test_{number}(clocknext_ledger): pass\n"
        for number, (argument, _) in enumerate(MISTAKES)
    ]
    good = "def test_good(clocknext_ledger): clocknext_ledger.nothing_billed()\n"
    done = run(tmp_path, "\n".join([*tests, good]), "-rE", "-W", "error")
    assert f"1 passed, {len(MISTAKES)} errors" in done.stdout, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("The marker clocknext")]
    assert len(lines) == len(MISTAKES)
    for line, (_, says) in zip(lines, MISTAKES, strict=True):
        assert says in line
