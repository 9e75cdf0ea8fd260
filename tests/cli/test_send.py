import gzip
import http.server
import json
import signal
import threading
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path
from random import Random

import pytest

from clocknext_transports.cli.errors import WHOSE_KEY
from clocknext_transports.cli.send import GO_ON
from clocknext_transports.emulator import (
    EmulatorServer,
    Fault,
    Faults,
    Hold,
    Ledger,
    OnHold,
    Received,
    emulator,
    scripted,
)
from tests.cli.support import (
    EXAMPLE,
    KEY,
    TIMEOUT,
    besides_progress,
    clocknext,
    connected,
    encoded,
    entries,
    environment,
    ledger_of,
    many,
    started,
    until,
    wire,
)

USAGE = "/api/v1/usage"
ACCEPTED = json.dumps({"statusDetail": {"status": "SUCCESS"}, "result": {}}).encode()


@pytest.fixture
def server() -> Iterator[EmulatorServer]:
    with emulator() as running:
        yield running


@pytest.fixture
def usage(tmp_path: Path) -> Path:
    return tmp_path / "usage.jsonl"


def billed(ledger: Ledger) -> Counter[str | None]:
    return Counter(one.idempotency_key for one in ledger.signals)


def is_once(ledger: Ledger, count: int) -> bool:
    """Whether so many signals were billed, each once."""
    found = billed(ledger)
    return len(found) == count and set(found.values()) == {1}


@pytest.fixture
def emulator_process() -> Iterator[str]:
    """The URL of `clocknext emulator`, run as a process and ended by Ctrl-C."""
    with started("emulator", "--port", "0", env=environment()) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert first.startswith("ClockNext emulator at http://127.0.0.1:")
        yield first.split()[-1]
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=TIMEOUT)
        assert rest.splitlines()[-1].startswith("Stopped. ")
        assert (process.returncode, errors) == (0, "")


def test_the_example_sent_twice_is_billed_once(emulator_process: str, usage: Path) -> None:
    usage.write_bytes(EXAMPLE.read_bytes())
    count = len(EXAMPLE.read_bytes().splitlines())
    for before in (0, count):
        done = clocknext("send", usage, env=connected(emulator_process))
        assert (done.returncode, besides_progress(done.stderr)) == (0, "")
        assert f"{count} delivered, 0 refused." in done.stdout
        assert ("Cost (USD)" in done.stdout) is not bool(before)
        assert (f"Billed before: {count}." in done.stdout) is bool(before)
        assert KEY not in done.stdout
    ledger = ledger_of(emulator_process)
    keys = Counter(one["idempotencyKey"] for one in ledger["signals"])
    assert len(keys) == count
    assert set(keys.values()) == {1}
    assert ledger["counters"]["requests"] == 2 * count
    assert ledger["counters"]["refused"] == 0
    assert [path.name for path in usage.parent.iterdir()] == ["usage.jsonl"]


def test_lines_that_are_appended_are_the_ones_in_the_table(server: EmulatorServer, usage: Path) -> None:
    usage.write_bytes(many(3))
    clocknext("send", usage, env=connected(server.url))
    usage.write_bytes(many(3) + encoded([wire(model="gpt-4o", inputTokens=1_000_000, outputTokens=0)]))
    done = clocknext("send", usage, env=connected(server.url))
    rows = [line.replace("│", " ").split() for line in done.stdout.splitlines()]
    assert ["total", "1", "1,000,000", "0", "0", "2.500000"] in rows
    assert "4 delivered, 0 refused." in done.stdout
    assert "Billed before: 3." in done.stdout


def test_sums_are_as_billed(server: EmulatorServer, usage: Path) -> None:
    usage.write_bytes(
        encoded([wire(model="gpt-4o", inputTokens=1_000_000, outputTokens=0, cacheTokens=2)] * 3)
    )
    done = clocknext("send", usage, env=connected(server.url))
    assert f"{server.ledger.bill().customer_cost:,.6f}" == "7.500008"
    rows = [line.replace("│", " ").split() for line in done.stdout.splitlines()]
    assert ["wallet", "3", "3,000,000", "0", "6", "7.500008"] in rows
    assert ["total", "3", "3,000,000", "0", "6", "7.500008"] in rows


@pytest.mark.parametrize("command", ["send", "verify"])
def test_a_key_that_comes_twice_is_billed_and_summed_once(
    server: EmulatorServer, usage: Path, command: str
) -> None:
    first = wire(idempotencyKey="inv-1")
    usage.write_bytes(encoded([first, first, wire(idempotencyKey="inv-1", inputTokens=800_000)]))
    done = clocknext(command, usage, "--concurrency", "1", env=connected(server.url))
    assert done.returncode == 1
    rows = [line.replace("│", " ").split() for line in done.stdout.splitlines()]
    assert {(*row[1:4],) for row in rows if row[:1] == ["total"]} == {("1", "120", "30")}
    said = usage.with_name("usage.jsonl.refused.jsonl").read_text() if command == "send" else done.stderr
    assert "idempotencyKey: is that of line 1, which says something else: one is billed" in said
    if command == "send":
        assert "Billed before: 1." in done.stdout
        assert len(server.ledger.signals) == 1


def test_refused_lines_are_written_down_and_the_rest_delivered(server: EmulatorServer, usage: Path) -> None:
    usage.write_bytes(
        b"\xef\xbb\xbf"
        + encoded([wire(), {"type": "wallet"}]).replace(b"\n", b"\r\n")
        + b"\r\n \n"
        + b"not json\n"
        + b'{"customerId": "\xff"}\n'
        + encoded(
            [
                wire(customerId="cus_nobody"),
                wire(type="credit", key="api_credit", customerId="cus_low", inputTokens=10**9),
                wire(model="gpt-9"),
                wire(custom={"x": "a" * 40_000}),
                wire(custom={"x": "\u00e9" * 16_000}),
                [1, 2],
            ]
        )
        + encoded([wire()]).strip()
    )
    done = clocknext("send", usage, env=connected(server.url))
    assert (done.returncode, done.stderr) == (1, "")
    assert "3 delivered, 8 refused." in done.stdout
    assert is_once(server.ledger, 3)
    refused_file = usage.with_name("usage.jsonl.refused.jsonl")
    assert str(refused_file) in done.stdout
    refused = {entry["line"]: entry for entry in entries(refused_file)}
    assert {number: entry["reason"][:38] for number, entry in refused.items()} == {
        2: "ValidationError: customer_id: is requi",
        5: "ValidationError: line: is not JSON: Ex",
        6: "ValidationError: line: is not UTF-8 at",
        7: "NotFoundError 404: No customer with id",
        8: "AllowanceError 422: Insufficient credi",
        9: 'PlanError 422: Model "gpt-9" is not a ',
        10: "ValidationError: custom: must be at mo",
        12: "ValidationError: line: is not a JSON o",
    }
    assert refused[2]["original"] == '{"type": "wallet"}'
    assert refused[6]["original"] == '{"customerId": "\\xff"}'
    assert json.loads(refused[7]["original"])["customerId"] == "cus_nobody"
    for kind in ("AllowanceError 422", "NotFoundError 404", "PlanError 422", "ValidationError"):
        assert kind in done.stdout


def test_mending_a_refused_line_in_place_bills_nothing_twice(server: EmulatorServer, usage: Path) -> None:
    usage.write_bytes(encoded([wire(), wire(customerId="cus_124"), wire(), wire()]))
    assert clocknext("send", usage, env=connected(server.url)).returncode == 1
    usage.write_bytes(encoded([wire(), wire(customerId="cus_456"), wire(), wire(), wire()]))
    assert clocknext("send", usage, env=connected(server.url)).returncode == 0
    assert is_once(server.ledger, 5)
    assert not usage.with_name("usage.jsonl.refused.jsonl").exists()


def test_standard_input(server: EmulatorServer, tmp_path: Path) -> None:
    data = many(30) + b"{}\n"
    for _ in range(2):
        done = clocknext("send", "-", env=connected(server.url), cwd=tmp_path, stdin=data)
        assert done.returncode == 1
    assert is_once(server.ledger, 30)
    assert [entry["line"] for entry in entries(tmp_path / "stdin.refused.jsonl")] == [31]
    done = clocknext("send", "-", "--refused", "r", env=connected(server.url), cwd=tmp_path, stdin=b"{}")
    assert done.returncode == 1
    assert [entry["original"] for entry in entries(tmp_path / "r")] == ["{}"]


def test_a_file_and_standard_input_share_their_keys(server: EmulatorServer, usage: Path) -> None:
    usage.write_bytes(many(5))
    assert clocknext("send", usage, env=connected(server.url)).returncode == 0
    other = clocknext("send", "-", env=connected(server.url), cwd=usage.parent, stdin=many(5))
    assert other.returncode == 0
    assert is_once(server.ledger, 5)
    apart = clocknext("send", usage, "--source", "tuesday", env=connected(server.url))
    assert apart.returncode == 0
    assert is_once(server.ledger, 10)


def test_faults_cost_no_signal_and_bill_none_twice(usage: Path) -> None:
    faults = Faults(Random(3))
    faults.chance(0.1, Fault("lost"))
    faults.chance(0.1, Fault("status"))
    faults.chance(0.05, Fault("reset"))
    usage.write_bytes(many(100))
    with emulator(Ledger(), faults) as server:
        done = clocknext("send", usage, env=connected(server.url))
        assert (done.returncode, is_once(server.ledger, 100)) == (0, True)
        assert min(faults.counts[kind] for kind in ("lost", "status", "reset")) > 0
        assert server.max_in_service <= 8


def test_no_more_in_flight_than_asked_for(server: EmulatorServer, usage: Path) -> None:
    usage.write_bytes(many(60))
    assert clocknext("send", usage, "--concurrency", "2", env=connected(server.url)).returncode == 0
    assert server.max_in_service <= 2
    assert server.connections <= 2


# Stopping


def test_a_key_that_is_not_accepted_stops_at_once(server: EmulatorServer, usage: Path) -> None:
    usage.write_bytes(many(500))
    done = clocknext("send", usage, "--api-key", "cnk_wrong_key", env=connected(server.url))
    assert done.returncode == 2
    assert done.stderr == f"Stopped: AuthError 401: Invalid API key. {WHOSE_KEY} {GO_ON}\n"
    assert "cnk_" not in done.stdout + done.stderr
    assert 1 <= len(server.ledger.requests) <= 8
    assert [path.name for path in usage.parent.iterdir()] == ["usage.jsonl"]


def test_a_server_that_is_not_there_stops(usage: Path) -> None:
    with emulator() as gone:
        url = gone.url
    usage.write_bytes(many(500))
    done = clocknext("send", usage, "--max-attempts", "2", env=connected(url))
    assert done.returncode == 2
    assert done.stderr.startswith(f"Stopped: NetworkError: Could not connect to {url}: [Errno ")
    assert done.stderr.endswith(f"{GO_ON}\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"customerId,model\ncus_123,gpt-4o\n", "it begins with 'customerId,model'"),
        (gzip.compress(many(3)), "gunzip -c FILE"),
        (b"[\n  {\n", "it is a JSON array"),
        (b'[{"customerId": "cus_123"}]', "it is a JSON array"),
        (b'{\n  "customerId": "cus_123"\n}\n', "its objects take several lines"),
        (b"\xff\xfe{\0", "UTF-16"),
        (b"PK\x03\x04\n", "zip"),
    ],
    ids=["csv", "gzip", "indented", "array", "objects", "utf-16", "zip"],
)
@pytest.mark.parametrize("command", ["send", "verify"])
def test_another_kind_of_file_is_one_message(
    server: EmulatorServer, usage: Path, command: str, content: bytes, says: str
) -> None:
    usage.write_bytes(content)
    done = clocknext(command, usage, env=connected(server.url))
    assert done.returncode == 2
    assert done.stderr.startswith("The input is not JSON Lines: it")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert server.ledger.requests == ()
    assert [path.name for path in usage.parent.iterdir()] == ["usage.jsonl"]


def test_a_file_of_refused_lines_is_one_message(server: EmulatorServer, usage: Path) -> None:
    usage.write_bytes(b'{"customerId": "nobody", "type": "wallet", "model": "gpt-4o", "inputTokens": 1}\n')
    assert clocknext("send", usage, env=connected(server.url)).returncode == 1
    refused = usage.with_name("usage.jsonl.refused.jsonl")
    before = len(server.ledger.requests)
    for command in ("send", "verify"):
        done = clocknext(command, refused, env=connected(server.url))
        assert done.returncode == 2
        assert "The input lists lines that were refused. Mend them in the file they are of" in done.stderr
        assert done.stderr.count("\n") == 1
    assert len(server.ledger.requests) == before
    assert {path.name for path in usage.parent.iterdir()} == {usage.name, refused.name}


class NoApi(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.send_response(302)
        self.send_header("Location", "https://elsewhere.example/")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
def not_the_api() -> Generator[str, None, None]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), NoApi) as other:
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{other.server_port}"
        other.shutdown()
        thread.join()


def test_an_address_that_is_not_the_api_stops(not_the_api: str, usage: Path) -> None:
    usage.write_bytes(many(500))
    done = clocknext("send", usage, env=connected(not_the_api))
    assert done.returncode == 2
    assert done.stderr.startswith("Stopped: ClockNextError 302: ")


def test_ctrl_c_lets_those_in_flight_end(usage: Path) -> None:
    gate = Hold()
    usage.write_bytes(many(100))
    with scripted([OnHold(gate, (200, {"content-type": "application/json"}, ACCEPTED))]) as server:
        with started("send", usage, env=connected(server.url)) as process:
            assert process.stderr is not None
            assert gate.wait_arrived(TIMEOUT, count=8)
            process.send_signal(signal.SIGINT)
            told = process.stderr.readline()
            assert told.startswith("Stopping: waiting up to 5 s for what is in flight (8)")
            gate.release()
            out, errors = process.communicate(timeout=TIMEOUT)
        assert (process.returncode, errors) == (130, f"Interrupted. {GO_ON}\n")
        assert "8 delivered, 0 refused." in out
        assert len(server.requests) == 8


def test_ctrl_c_and_the_same_command_again_bills_each_once(server: EmulatorServer, usage: Path) -> None:
    usage.write_bytes(many(100))
    server.faults.script(*[None] * 20, *[Fault("latency", seconds=3600)] * 8, path=USAGE)
    with started("send", usage, env=connected(server.url)) as process:
        assert process.stderr is not None
        until(lambda: ledger_of(server.url)["counters"]["requests"] == 28)
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline().startswith("Stopping: ")
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, errors) == (130, f"Interrupted. {GO_ON}\n")
    assert "20 delivered, 0 refused." in out
    assert is_once(server.ledger, 28)
    assert clocknext("send", usage, env=connected(server.url)).returncode == 0
    assert is_once(server.ledger, 100)
    assert server.ledger.counters.repeats == 28


def test_lines_that_trickle_in_are_sent_as_they_come(server: EmulatorServer, tmp_path: Path) -> None:
    with started("send", "-", env=connected(server.url), cwd=tmp_path) as process:
        assert process.stdin is not None
        process.stdin.write(many(3).decode())
        process.stdin.flush()
        until(lambda: len(ledger_of(server.url)["signals"]) == 3)
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT) == 130
        out, errors = process.communicate(timeout=TIMEOUT)
    assert "3 delivered, 0 refused." in out
    assert errors.splitlines()[-1] == f"Interrupted. {GO_ON}"


# Usage, and the key


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "Missing argument 'FILE'"),
        (("nosuch.jsonl",), "'nosuch.jsonl' does not exist"),
        (("usage.jsonl", "--concurrency", "0"), "0 is not in the range"),
        (("usage.jsonl", "--timeout", "0"), "0.0 is not in the range"),
        (("usage.jsonl", "--refused", "usage.jsonl"), "can't go to the input itself"),
        (
            ("usage.jsonl", "--refused", "nosuch/r"),
            "Refused lines can't be written to nosuch/r: No such file",
        ),
        (("usage.jsonl", "--api-key", "cnk_with space"), "visible ASCII"),
        (("usage.jsonl", "--base-url", "http://example.com"), "must use https"),
        (("usage.jsonl", "--base-url", "ftp://example.com"), "must be an absolute https:// URL"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], says: str, usage: Path) -> None:
    usage.write_bytes(many(1))
    done = clocknext("send", *arguments, env=connected("http://127.0.0.1:1"), cwd=usage.parent)
    assert done.returncode == 2
    assert says in done.stderr
    assert "cnk_" not in done.stdout + done.stderr
    assert usage.read_bytes() == many(1)


def test_without_a_key(usage: Path) -> None:
    usage.write_bytes(many(1))
    done = clocknext("send", usage, env=environment())
    assert done.returncode == 2
    assert done.stderr.startswith("Error: api_key: is required")
    assert done.stderr.count("\n") == 1
    assert "CLOCKNEXT_API_KEY" in done.stderr


def test_a_server_that_echoes_the_key_gets_it_into_no_output(usage: Path) -> None:
    def echo(request: Received) -> tuple[int, dict[str, str], bytes]:
        message = f"Denied to {request.headers['authorization']}"
        body = {"statusDetail": {"status": "ERROR", "message": message}, "result": {"errorReason": message}}
        return 422, {"content-type": "application/json"}, json.dumps(body).encode()

    usage.write_bytes(many(3))
    with scripted([echo]) as server:
        done = clocknext("send", usage, env=connected(server.url, "cnk_live_secret"))
    assert done.returncode == 1
    written = usage.with_name("usage.jsonl.refused.jsonl").read_text("utf-8")
    assert "Denied to Bearer cnk_[redacted]" in written
    assert "cnk_live_secret" not in written + done.stdout + done.stderr


def test_the_help_tells_of_keys_and_of_exit_statuses() -> None:
    done = clocknext("send", "--help", env=environment(CLOCKNEXT_API_KEY="cnk_live_secret"))
    assert done.returncode == 0
    for told in ("bills nothing twice", "inserted or removed", "FILE.refused.jsonl", "130", "--source"):
        assert told in " ".join(done.stdout.split())
    assert "cnk_live_secret" not in done.stdout


def test_pending_lines_are_counted_apart_named_and_written_to_a_file(usage: Path) -> None:
    good, bad = wire(), wire(type="outcome", key="no_run")  # the ingest wants a runId
    usage.write_bytes(encoded([good, bad, good, bad]))
    earlier = usage.with_name("usage.jsonl.pending.jsonl")
    earlier.write_text("of an earlier run")
    with emulator(accept_only="thick-queued") as server:
        done = clocknext("send", usage, "--concurrency", "1", env=connected(server.url))
        assert done.returncode == 1
        said = done.stdout
        assert "2 delivered, 2 pending, 0 refused." in said
        assert "Lines 2, 4 PENDING: " in said
        found = entries(earlier)
        assert [(entry["line"], json.loads(str(entry["original"]))) for entry in found] == [
            (2, bad),
            (4, bad),
        ]
        assert all("PENDING" in entry["reason"] and entry["signalId"] for entry in found)
        assert earlier.stat().st_mode & 0o777 == 0o600
        assert not usage.with_name("usage.jsonl.refused.jsonl").exists()
        usage.write_bytes(encoded([good]))
        assert (
            clocknext("send", usage, "--refused", "r", env=connected(server.url), cwd=usage.parent).returncode
            == 0
        )
    assert not usage.with_name("r.pending.jsonl").exists()
    assert earlier.exists(), "it belongs to another run"
