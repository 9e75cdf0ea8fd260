import signal
import sys
from dataclasses import replace

import httpx
import pytest
from click.testing import CliRunner

from clocknext_core import Response
from clocknext_transports.cli.demo import Proof, demo
from clocknext_transports.emulator import DEFAULT_API_KEY, Ledger, Received
from tests.cli.support import TIMEOUT, clocknext, environment, started


def test_it_tells_the_story_and_proves_the_bill() -> None:
    proxy = "http://127.0.0.1:1"
    env = environment(HTTP_PROXY=proxy, http_proxy=proxy, CLOCKNEXT_BASE_URL="https://nowhere.invalid")
    done = clocknext("demo", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    for told in (
        "ClockNext",
        "AsyncClockNext",
        "TrioClockNext",
        "buffered 20 signals",
        "awaited one",
        "cleared with None: notes None",
        "deleted",
        "portal",
        "RateLimitError 429",
        "NetworkError",
        "sent twice under one key, billed 1 time",
        "AllowanceError: Insufficient credit balance",
        "Every signal was billed exactly once.",
    ):
        assert told in done.stdout
    assert DEFAULT_API_KEY not in done.stdout
    assert "\x1b" not in done.stdout


def test_the_page_stays_until_it_is_interrupted() -> None:
    env = environment(BROWSER=f"{sys.executable} -c pass %s")
    with started("demo", "--open", env=env) as process:
        assert process.stdout is not None
        url = next(line.split()[4] for line in process.stdout if "until Ctrl-C" in line)
        assert "<title>ClockNext emulator</title>" in httpx.get(url, trust_env=False).text
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT) == 0


@pytest.mark.parametrize(("times", "row"), [(2, "doubled"), (0, "missing")])
def test_it_fails_when_the_ledger_says_otherwise(
    times: int, row: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Ledger.billed

    def billed(self: Ledger, idempotency_key: str) -> int:
        is_first = self.signals[0].idempotency_key == idempotency_key
        return times if is_first else honest(self, idempotency_key)

    monkeypatch.setattr(Ledger, "billed", billed)
    result = CliRunner().invoke(demo)
    assert result.exit_code == 1
    assert [line for line in result.output.splitlines() if row in line and " 1 " in line]
    assert "NOT every signal was billed exactly once." in result.output


def test_it_fails_when_the_server_does_not_tell_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Ledger.process

    def forgetful(self: Ledger, request: Received, *, now: float) -> Response:
        honest(self, replace(request, body=request.body.replace(b"idempotencyKey", b"forgotten")), now=now)
        return honest(self, request, now=now)

    monkeypatch.setattr(Ledger, "process", forgetful)
    result = CliRunner().invoke(demo)
    assert result.exit_code == 1


@pytest.mark.parametrize(
    ("figures", "holds"),
    [
        ((2, 3, 2, 0, 0, 1, 0), True),
        ((2, 3, 1, 1, 0, 0, 0), False),
        ((2, 3, 1, 0, 1, 0, 0), False),
        ((2, 3, 2, 0, 0, 0, 1), False),
        ((0, 0, 0, 0, 0, 0, 0), False),
    ],
)
def test_what_proves_the_bill(figures: tuple[int, int, int, int, int, int, int], holds: bool) -> None:
    assert Proof(*figures).holds is holds
