import json
import subprocess
from pathlib import Path

import pytest

from clocknext_transports.emulator import EXPIRED_API_KEY, emulator
from tests.cli.support import COMMAND, KEY, TIMEOUT, clocknext, connected, environment


def test_nothing_is_wrong() -> None:
    with emulator() as server:
        done = clocknext("doctor", env=connected(server.url))
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("clocknext 0.")
    assert "key: CLOCKNEXT_API_KEY" in lines
    assert "organisation: Emulated organisation (sandbox)" in lines
    assert lines[-1] == "Nothing is wrong."
    assert KEY not in done.stdout


def test_what_is_wrong_and_what_to_do() -> None:
    with emulator() as server:
        done = clocknext("doctor", "--api-key", EXPIRED_API_KEY, env=connected(server.url))
    assert done.returncode == 1
    assert "key: --api-key" in done.stdout
    assert "PROBLEM with the key: This API key has expired. It is that of api_key" in done.stdout
    assert EXPIRED_API_KEY not in done.stdout


def test_the_address_of_the_emulators_page_is_not_the_apis() -> None:
    with emulator() as server:
        done = clocknext("doctor", env=connected(f"{server.url}/_emulator/"))
    assert done.returncode == 1
    assert "PROBLEM with the address: Status 404: No such endpoint: GET /_emulator/api/v1/me." in done.stdout
    assert "check base_url" in done.stdout


def test_for_machines() -> None:
    done = clocknext("doctor", "--json", env=connected("http://127.0.0.1:1"))
    assert done.returncode == 1
    read = json.loads(done.stdout)
    assert (read["ok"], read["problems"][0]["subject"]) == (False, "address")


def test_without_a_key() -> None:
    done = clocknext("doctor", env=environment())
    assert done.returncode == 2
    assert "CLOCKNEXT_DISABLED=1" in done.stderr


def test_plain_http_elsewhere_names_the_option() -> None:
    done = clocknext("whoami", env=connected("http://emulator:8787"))
    assert done.returncode == 2
    assert "On the command line: --allow-insecure-http." in done.stderr


@pytest.mark.parametrize("value", ["503", "=0.5", "503=", "503=often"])
def test_a_fault_without_its_probability(value: str) -> None:
    done = clocknext("emulator", "--fault", value, env=environment())
    assert done.returncode == 2
    assert f"{value!r}: give NAME=PROBABILITY, such as 503=0.1" in done.stderr


@pytest.mark.parametrize("command", [("--help",), ("demo",)])
def test_an_output_that_is_full(command: tuple[str, ...]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*COMMAND, *command],
            env=environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=TIMEOUT,
            check=False,
        )
    assert (done.returncode, done.stderr) == (2, b"The output can't be written: No space left on device.\n")
