"""Switches of the environment, and mistakes of the first hour: the message says what to do."""

import asyncio
import functools
import subprocess
import sys
from collections.abc import Coroutine
from typing import Any
from unittest.mock import Mock

import httpx
import pytest
import trio

from clocknext_core import ValidationError
from clocknext_transports import AsyncClockNext, ClockNext, TrioClockNext
from clocknext_transports.emulator import emulator
from tests.cli.support import environment
from tests.transports.support import KEY

URL = "http://127.0.0.1:1"
PROGRAM = """
from clocknext_transports import ClockNext
with ClockNext() as cnk:
    cnk.signals.wallet(customer_id="cus_123", model="gpt-4o", tokens={"input": 1})
"""


@pytest.mark.parametrize(
    ("level", "said"),
    [("debug", ["was delivered", "No signal is held any more"]), ("info", ["No signal is held any more"])],
)
def test_the_log_on_stderr(level: str, said: list[str]) -> None:
    with emulator() as server:
        settings = environment(
            CLOCKNEXT_BASE_URL=server.url, CLOCKNEXT_API_KEY=server.api_key, CLOCKNEXT_LOG=level
        )
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], env=settings, capture_output=True, text=True, check=True
        )
    lines = done.stderr.splitlines()
    assert len(lines) == len(said)
    for line, words in zip(lines, said, strict=True):
        assert words in line
        assert " clocknext " in line
    assert server.api_key not in done.stderr


@pytest.mark.parametrize("word", ["loud", "10"])
def test_another_word_for_the_log_is_one_warning_and_no_error(word: str) -> None:
    with emulator() as server:
        settings = environment(
            CLOCKNEXT_BASE_URL=server.url, CLOCKNEXT_API_KEY=server.api_key, CLOCKNEXT_LOG=word
        )
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM * 2], env=settings, capture_output=True, text=True, check=True
        )
        assert len(server.ledger.signals) == 2
    assert done.stderr == (
        f"CLOCKNEXT_LOG: is ignored: it must be debug, info, warning or error, not {word!r}\n"
    )


HEARD = """
import logging, sys
theirs = logging.StreamHandler(sys.stdout)
theirs.setFormatter(logging.Formatter("%(levelname)s"))
logging.basicConfig(level=logging.INFO, handlers=[theirs])
from clocknext_transports import ClockNext
ClockNext("cnk_x")
for level in ("info", "warning", "error"):
    getattr(logging.getLogger("clocknext"), level)("said")
"""


@pytest.mark.parametrize(
    ("level", "said"),
    [("info", ["INFO", "WARNING", "ERROR"]), ("Warning", ["WARNING", "ERROR"]), ("error", ["ERROR"])],
)
def test_the_log_on_stderr_begins_at_its_level_and_takes_nothing_from_others(
    level: str, said: list[str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HEARD],
        env=environment(CLOCKNEXT_LOG=level),
        capture_output=True,
        text=True,
        check=True,
    )
    assert [line.split()[3] for line in done.stderr.splitlines()] == said
    assert done.stdout.split() == ["INFO", "WARNING", "ERROR"]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "CLOCKNEXT_DISABLED",
            "maybe",
            "^CLOCKNEXT_DISABLED: must be 1, true, yes or on, or else 0, false, no or off, .*, not 'maybe'$",
        ),
        ("CLOCKNEXT_ALLOW_INSECURE_HTTP", "2", "^CLOCKNEXT_ALLOW_INSECURE_HTTP: must be 1, true"),
    ],
)
def test_a_switch_with_another_value_is_an_error(
    name: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError, match=message):
        ClockNext(KEY)


@pytest.mark.parametrize(
    ("value", "is_on"), [("1", True), ("TRUE", True), ("On", True), ("0", False), ("off", False), ("", False)]
)
def test_disabled_by_the_environment(value: str, is_on: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOCKNEXT_DISABLED", value)
    assert ClockNext(KEY).config.disabled is is_on


def test_plain_http_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError, match="CLOCKNEXT_ALLOW_INSECURE_HTTP=1"):
        ClockNext(KEY, base_url="http://emulator:8787")
    monkeypatch.setenv("CLOCKNEXT_ALLOW_INSECURE_HTTP", "1")
    assert ClockNext(KEY, base_url="http://emulator:8787").config.allow_insecure_http


@pytest.mark.parametrize("name", ["disabled", "allow_insecure_http"])
def test_a_switch_that_is_no_bool(name: str) -> None:
    with pytest.raises(ValidationError, match=f"^{name}: must be True or False, not str$"):
        ClockNext(KEY, **{name: "yes"})  # type: ignore[arg-type]


def test_an_httpx_client_is_told_to_be_wrapped() -> None:
    with (
        httpx.Client() as client,
        pytest.raises(ValidationError, match=r"transport=HttpxTransport\(client\)"),
    ):
        ClockNext(KEY, transport=client)  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match=r"transport=AsyncHttpxTransport\(client\)"):
        AsyncClockNext(KEY, transport=httpx.AsyncClient())  # type: ignore[arg-type]


def uses(client: AsyncClockNext | TrioClockNext) -> list[Coroutine[Any, Any, object]]:
    return [
        client.__aenter__(),
        client.signals.wallet(customer_id="c", model="m"),
        client.customers.get("c"),
        client.check(),
        client.flush(),
        client.close(),
    ]


def test_asyncios_client_under_trio_names_the_right_one() -> None:
    async def main() -> None:
        for use in uses(AsyncClockNext(KEY, base_url=URL)):
            with pytest.raises(RuntimeError, match="under trio use TrioClockNext"):
                await use

    trio.run(main)


def test_trios_client_under_asyncio_names_the_right_one() -> None:
    async def main() -> None:
        for use in uses(TrioClockNext(KEY, base_url=URL)):
            with pytest.raises(RuntimeError, match="under asyncio use AsyncClockNext"):
                await use

    asyncio.run(main())


def test_a_proxy_that_is_down_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    with ClockNext(KEY, base_url="https://api.example") as client:
        (problem,) = client.check().problems
    assert problem.what.startswith("Could not connect to 127.0.0.1, the proxy for https://api.example: ")


def test_https_to_a_port_that_speaks_http_says_so() -> None:
    with emulator() as server, ClockNext(KEY, base_url=server.url.replace("http:", "https:")) as client:
        (problem,) = client.check().problems
    assert "this port speaks plain http, it seems" in problem.what


@pytest.mark.parametrize("around", ['"{}"', "'{}'", "{}\n", " {}", "{}\r\n", '"{}'])
@pytest.mark.parametrize(
    ("variable", "value"), [("CLOCKNEXT_API_KEY", KEY), ("CLOCKNEXT_BASE_URL", "https://x.example")]
)
@pytest.mark.parametrize("client", [ClockNext, AsyncClockNext, TrioClockNext])
def test_what_is_around_a_variable_is_said_with_its_name(
    client: Any, variable: str, value: str, around: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOCKNEXT_API_KEY", KEY)
    monkeypatch.setenv(variable, around.format(value))
    with pytest.raises(ValidationError, match=rf"^{variable}: must not begin or end with a quote") as caught:
        client()
    assert value not in str(caught.value)


@pytest.mark.parametrize("around", ['"{}"', "'{}'", "{}\n", " {}", '"{}'])
@pytest.mark.parametrize("client", [ClockNext, AsyncClockNext, TrioClockNext])
def test_so_is_what_is_around_a_key_that_is_given(client: Any, around: str) -> None:
    with pytest.raises(ValidationError) as caught:
        client(around.format(KEY), base_url=URL)
    assert str(caught.value) == "api_key: must not begin or end with a quote, a blank or a line end"


@pytest.mark.parametrize(
    ("argument", "value", "problem"),
    [
        ("base_url", "localhost:8787", "has no scheme"),
        ("base_url", "http://emulator:8787", "must use https"),
        ("api_key", "cnk_\u00e9", "must consist of visible ASCII characters"),
    ],
)
@pytest.mark.parametrize("client", [ClockNext, AsyncClockNext, TrioClockNext])
def test_a_bad_value_is_told_with_the_name_of_where_it_came_from(
    client: Any, argument: str, value: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"api_key": KEY, "base_url": URL}
    with pytest.raises(ValidationError, match=f"^{argument}: {problem}"):
        client(**given | {argument: value})
    variable = f"CLOCKNEXT_{argument.upper()}"
    monkeypatch.setenv(variable, value)
    del given[argument]
    with pytest.raises(ValidationError, match=f"^{variable}: {problem}"):
        client(**given)
    monkeypatch.setenv("CLOCKNEXT_API_KEY", KEY)
    with pytest.raises(ValidationError, match=r"^base_url: has no scheme"):
        client(base_url="localhost:8787")  # given, so it is not the variable's


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("apikey", "; did you mean api_key?"),
        ("baseUrl", "; did you mean base_url?"),
        ("batch_size", "; did you mean batch=BatchPolicy(max_size=…)?"),
        ("key", "; did you mean api_key?"),
        ("max_queue_size", "; did you mean batch=BatchPolicy(max_queue_size=…)?"),
        ("max_retries", "; did you mean retry=RetryPolicy(max_attempts=…)?"),
        ("time_out", "; did you mean timeout?"),
        ("url", "; did you mean base_url?"),
        ("colour", ""),
    ],
)
@pytest.mark.parametrize("client", [ClockNext, AsyncClockNext, TrioClockNext])
def test_an_unknown_argument_names_the_class_and_what_was_meant(client: Any, given: str, hint: str) -> None:
    for kind in (client, type("Mine", (client,), {})):
        with pytest.raises(TypeError) as caught:
            kind(KEY, **{given: "x"})
        assert str(caught.value) == f"{kind.__name__}() got an unexpected keyword argument {given!r}{hint}"


@pytest.mark.parametrize("client", [ClockNext, AsyncClockNext, TrioClockNext])
def test_a_second_argument_by_position_is_told_how_to_be_given(client: Any) -> None:
    with pytest.raises(TypeError) as caught:
        client(KEY, URL)
    says = "takes one argument by position, api_key: give the others by name, such as base_url="
    assert str(caught.value) == f"{client.__name__}() {says}"


@pytest.mark.parametrize("client", [ClockNext, AsyncClockNext, TrioClockNext])
def test_an_empty_path_is_no_spool(client: Any) -> None:
    with pytest.raises(ValidationError, match=r"^spool: must not be empty"):
        client(KEY, base_url=URL, spool="")


def _takes_nothing() -> None:
    pass


def _wants_names(*, error: object, signal: object) -> None:
    del error, signal


def _wraps_more(*given: object) -> None:
    del given


def _with_a_database(database: object, error: object, signal: object) -> None:
    del database, error, signal


functools.update_wrapper(_wraps_more, _with_a_database)


@pytest.mark.parametrize("client", [ClockNext, AsyncClockNext, TrioClockNext])
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("on_error", "error, signal"),
        ("on_flush", "count"),
        ("on_retry", "event"),
        ("on_drop", "signal, reason"),
        ("on_unbilled", "unbilled"),
    ],
)
def test_a_hook_that_can_not_take_its_arguments_is_refused(client: Any, name: str, arguments: str) -> None:
    hooks: list[Any] = [_takes_nothing, _with_a_database, _wants_names]
    for hook in hooks:
        with pytest.raises(ValidationError) as caught:
            client(KEY, base_url=URL, **{name: hook})
        assert str(caught.value) == f"{name}: must take what it is called with, by position: ({arguments})"


def test_hooks_of_any_kind_are_taken() -> None:
    seen: list[object] = []
    hooks: list[Any] = [print, seen.append, Mock(), functools.partial(print, end=""), dict, _wraps_more]
    for hook in hooks:
        ClockNext(KEY, base_url=URL, on_flush=hook)
    ClockNext(KEY, base_url=URL, on_error=_wraps_more)
