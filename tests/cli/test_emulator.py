import signal

import httpx
import pytest

from clocknext_core import BatchPolicy
from clocknext_transports import ClockNext
from clocknext_transports.emulator import DEFAULT_API_KEY, emulator
from tests.cli.support import TIMEOUT, clocknext, environment, started


def test_what_it_prints_works() -> None:
    proxied = environment(HTTP_PROXY="http://127.0.0.1:1")
    with started("emulator", "--port", "0", "--lines", env=proxied) as process:
        assert process.stdout is not None
        printed: list[str] = []
        while not printed or not printed[-1].startswith("Ctrl-C"):
            printed.append(process.stdout.readline())
        text = "".join(printed)
        url = printed[0].split()[-1]
        assert f"export CLOCKNEXT_BASE_URL={url}\n" in text
        assert f"export CLOCKNEXT_API_KEY={DEFAULT_API_KEY}\n" in text
        assert f"curl {url}/_emulator/ledger" in text
        assert "NO_PROXY" not in text, "a loopback address is never reached through a proxy"
        body = text.partition("-d '")[2].partition("'")[0]
        headers = {"Authorization": f"Bearer {DEFAULT_API_KEY}", "Content-Type": "application/json"}
        with httpx.Client(trust_env=False, timeout=TIMEOUT) as client:
            assert client.post(f"{url}/api/v1/usage", content=body, headers=headers).status_code == 200
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=TIMEOUT)
    line, stopped = rest.splitlines()
    assert line.split()[1:] == ["billed", "cus_123", "wallet", "gpt-4o", "1200/0/0", "0.003", "USD"]
    assert (process.returncode, stopped, errors) == (0, "Stopped. Requests: 1; signals billed: 1.", "")


def test_an_output_that_is_not_read_does_not_stop_it() -> None:
    with started("emulator", "--port", "0", env=environment()) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        model = "m" * 200  # an answer for each of these lines would fill a pipe four times over
        batch = BatchPolicy(max_concurrency=20)
        with ClockNext(DEFAULT_API_KEY, base_url=url, batch=batch) as cnk:
            for number in range(1000):
                cnk.signals.wallet(customer_id="cus_123", model=model, idempotency_key=str(number))
            report = cnk.flush(timeout=TIMEOUT)
        assert (len(report.failed), report.pending) == (1000, 0)
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=TIMEOUT)
    assert "refused" not in rest
    assert rest.endswith("signals billed: 0.\n")


def test_the_page_is_where_it_says_and_quiet_is_quiet() -> None:
    with started("emulator", "--port", "0", "--quiet", env=environment()) as process:
        assert process.stdout is not None
        process.stdout.readline()
        page = process.stdout.readline().split()[1]
        url = page.removesuffix("_emulator/")
        headers = {"Authorization": f"Bearer {DEFAULT_API_KEY}"}
        with httpx.Client(trust_env=False, timeout=TIMEOUT) as client:
            assert "<title>ClockNext emulator</title>" in client.get(page).text
            browser = client.get(url, headers={"accept": "text/html,*/*"})
            assert (browser.status_code, browser.headers["location"]) == (302, "/_emulator/")
            assert client.get(url, headers=headers).status_code == 404
            refused = client.post(f"{url}api/v1/usage", json={}, headers=headers)
            assert refused.status_code == 400
            assert client.get(page, headers={"host": "box.example"}).status_code == 403
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=TIMEOUT)
    assert rest.splitlines()[-1] == "Stopped. Requests: 2; signals billed: 0."
    assert "refused" not in rest


def test_a_name_that_is_allowed_opens_the_page() -> None:
    with started("emulator", "--port", "0", "--allow-host", "Box.example", env=environment()) as process:
        assert process.stdout is not None
        process.stdout.readline()
        page = process.stdout.readline().split()[1]
        with httpx.Client(trust_env=False, timeout=TIMEOUT) as client:
            assert client.get(page, headers={"host": "box.example:1"}).status_code == 200
            assert client.get(page, headers={"host": "other.example"}).status_code == 403
        process.terminate()
        assert process.wait(TIMEOUT) == 0


def test_faults_by_chance() -> None:
    chances = ("--fault", "503=0.25", "--fault", "lost=0.25", "--seed", "7")
    seen: list[list[int | None]] = []
    for _ in range(2):
        with started("emulator", "--port", "0", *chances, env=environment()) as process:
            assert process.stdout is not None
            url = process.stdout.readline().split()[-1]
            answers: list[int | None] = []
            for _ in range(20):
                try:
                    answers.append(
                        httpx.get(f"{url}/api/v1/me", trust_env=False, timeout=TIMEOUT).status_code
                    )
                except httpx.RemoteProtocolError:
                    answers.append(None)
            seen.append(answers)
            process.terminate()
            assert process.wait(TIMEOUT) == 0
    assert seen[0] == seen[1]
    assert set(seen[0]) == {401, 503, None}


def test_it_answers_as_model_providers_too() -> None:
    with started("emulator", "--port", "0", "--models", env=environment()) as process:
        assert process.stdout is not None
        printed: list[str] = []
        while not printed or not printed[-1].startswith("Ctrl-C"):
            printed.append(process.stdout.readline())
        url = printed[0].split()[-1]
        assert f"  export OPENAI_BASE_URL={url}/v1\n" in printed
        with httpx.Client(trust_env=False, timeout=TIMEOUT) as client:
            asked = client.post(f"{url}/v1/chat/completions", json={"model": "gpt-4o", "messages": []})
            assert asked.json()["usage"]["total_tokens"] == 15
            assert client.get(f"{url}/api/v1/me").status_code == 401
        process.terminate()
        assert process.wait(TIMEOUT) == 0


def test_it_imitates_the_newer_ingest() -> None:
    arguments = ("--port", "0", "--accept-only", "thick-queued")
    with started("emulator", *arguments, env=environment()) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        headers = {"Authorization": f"Bearer {DEFAULT_API_KEY}"}
        answer = httpx.post(
            f"{url}/api/v1/signal", json={}, headers=headers, trust_env=False, timeout=TIMEOUT
        )
        assert (answer.status_code, answer.json()["result"]["status"]) == (202, "PENDING")
        process.terminate()
        assert process.wait(TIMEOUT) == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--accept-only", "fat"), "'fat' is not one of 'thin', 'thick', 'thick-queued'"),
        (("--fault", "moon=0.1"), "No fault is called 'moon'"),
        (("--fault", "503"), "'503'"),
        (("--fault", "503=much"), "'503=much'"),
        (("--fault", "999=0.1"), "status of a fault must be from 200 to 599"),
        (("--fault", "503=0.6", "--fault", "lost=0.6"), "come to no more than 1 together"),
        (("--port", "65536"), "65536 is not in the range"),
        (("--host", "192.0.2.1"), "Can't listen on 192.0.2.1"),
        (("--host", "\x1b[31m\x9b"), "Can't listen on \\x1b[31m\\x9b port 8787: it is no host name."),
        (("--host", "a..b"), "Can't listen on a..b port 8787: it is no host name."),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], says: str) -> None:
    done = clocknext("emulator", *arguments, env=environment())
    assert done.returncode == 2
    assert says in done.stderr


@pytest.mark.parametrize(("host", "address"), [("127.1", "127.0.0.1"), ("", "0.0.0.0")])
def test_the_address_that_it_prints_is_one_that_clients_take(host: str, address: str) -> None:
    with started("emulator", "--port", "0", "--host", host, env=environment()) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(f"ClockNext emulator at http://{address}:")
        while not (line := process.stdout.readline()).startswith("Ctrl-C"):
            assert line
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT) == 0


def test_a_port_that_is_taken() -> None:
    with emulator() as other:
        done = clocknext("emulator", "--port", str(other.port), env=environment())
    assert done.returncode == 2
    assert done.stderr.startswith(f"Error: Can't listen on 127.0.0.1 port {other.port}: Address already in")
    assert done.stderr.count("\n") == 1
