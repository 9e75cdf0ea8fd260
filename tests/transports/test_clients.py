"""What the three clients check, show and choose when they are made."""

import asyncio
import functools
import inspect
import os
import pydoc
import sys
from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeAlias

import pytest

from clocknext_core import BatchPolicy, ClockNextError, RetryPolicy, ValidationError
from clocknext_transports import AsyncClockNext, ClockNext, TrioClockNext
from tests.transports.support import KEY

Client: TypeAlias = type[ClockNext] | type[AsyncClockNext] | type[TrioClockNext]
CLIENTS: tuple[Client, ...] = (ClockNext, AsyncClockNext, TrioClockNext)

each_client = pytest.mark.parametrize("client", CLIENTS, ids=["sync", "asyncio", "trio"])


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if name.lower().endswith("_proxy") or name.startswith("CLOCKNEXT_"):
            monkeypatch.delenv(name)


def plain_hook(*_: object) -> None:
    """Will do."""


async def coroutine_hook(*_: object) -> None:
    """Would have to be awaited."""


class AsyncCallable:
    """An object whose call would have to be awaited."""

    async def __call__(self, *_: object) -> None:
        """Be awaited."""


@each_client
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("api_key", ""),
        ("api_key", "cnk_\n"),
        ("api_key", "cnk é"),
        ("api_key", 7),
        ("base_url", ""),
        ("base_url", "app.clocknext.com"),
        ("base_url", "ftp://app.clocknext.com"),
        ("base_url", "https://"),
        ("base_url", "https://user:pass@app.clocknext.com"),
        ("base_url", "https://app.clocknext.com?x"),
        ("base_url", "https://app.clocknext.com:99999"),
        ("base_url", "http://app.clocknext.com"),
        ("base_url", "https://a..b"),
        ("base_url", f"https://{'a' * 64}.example"),
        ("base_url", 7),
        ("mode", "batch"),
        ("mode", None),
        ("timeout", 0),
        ("timeout", -1.0),
        ("timeout", float("nan")),
        ("timeout", float("inf")),
        ("timeout", "10"),
        ("timeout", True),
        ("batch", {"max_size": 3}),
        ("retry", 5),
        ("allow_insecure_http", "yes"),
        ("on_error", "print"),
        ("on_flush", 1),
        ("on_retry", coroutine_hook),
        ("on_drop", functools.partial(coroutine_hook, 1)),
        ("on_error", AsyncCallable()),
    ],
)
def test_a_bad_argument_is_named(client: Client, name: str, value: object) -> None:
    arguments: dict[str, Any] = {"api_key": KEY, name: value}
    with pytest.raises(ValidationError, match=f"^{name}: ") as caught:
        client(**arguments)
    assert KEY not in str(caught.value)
    assert caught.value.status is None
    assert isinstance(caught.value, ValueError)


@each_client
def test_a_bad_key_is_not_shown(client: Client) -> None:
    with pytest.raises(ValidationError) as caught:
        client(f"{KEY}\n")
    assert KEY not in repr(caught.value)


@each_client
def test_no_key_anywhere_names_both_ways(client: Client) -> None:
    with pytest.raises(ClockNextError, match=r"api_key.*CLOCKNEXT_API_KEY"):
        client()


@each_client
def test_key_and_address_come_from_the_environment(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOCKNEXT_API_KEY", KEY)
    monkeypatch.setenv("CLOCKNEXT_BASE_URL", "https://eu.example/billing/")
    made = client()
    assert made.config.headers[0] == ("Authorization", f"Bearer {KEY}")
    assert (str(made.config.origin), made.config.path_prefix) == ("https://eu.example", "/billing")


@each_client
def test_the_defaults(client: Client) -> None:
    config = client(KEY).config
    assert str(config.origin) == "https://app.clocknext.com"
    assert (config.mode, config.timeout, config.batch, config.retry) == (
        "async",
        10.0,
        BatchPolicy(),
        RetryPolicy(),
    )


@each_client
def test_the_repr_shows_no_key(client: Client) -> None:
    made = client(KEY, base_url="https://eu.example")
    shown = repr(made)
    assert "https://eu.example" in shown
    assert "pending=0" in shown
    for thing in (made, made.config, vars(made)):
        assert KEY not in repr(thing)


@each_client
@pytest.mark.parametrize("hook", [plain_hook, functools.partial(plain_hook, "x"), print])
def test_anything_plain_and_callable_is_a_hook(client: Client, hook: Callable[..., object]) -> None:
    assert client(KEY, on_error=hook, on_flush=hook, on_retry=hook, on_drop=hook).pending == 0


@each_client
def test_a_method_of_a_list_is_a_hook_for_what_has_one_argument(client: Client) -> None:
    hook = list[object]().append
    assert client(KEY, on_flush=hook, on_retry=hook, on_unbilled=hook).pending == 0


@each_client
@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_a_proxy_without_httpx_is_refused(client: Client, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "http://user:s3cret@proxy.example:3128")
    for package in ("httpx", "httpx2"):
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "clocknext_transports.httpx", raising=False)
    with pytest.raises(ClockNextError, match=r"pip install 'clocknext\[httpx\]'") as caught:
        client(KEY)
    assert "s3cret" not in str(caught.value)
    monkeypatch.setenv("NO_PROXY", "app.clocknext.com")
    assert client(KEY).pending == 0


def public(thing: object) -> set[str]:
    return {name for name in dir(thing) if not name.startswith("_")}


@each_client
def test_completion_shows_what_applications_call(client: Client) -> None:
    made = client(KEY)
    resources = {name for name in vars(made) if hasattr(vars(made)[name], "runner")}

    assert len(resources) == 13
    methods = {"billing", "check", "close", "connect", "flush", "run", "stats"}
    assert public(made) == resources | methods | {"close_timeout", "config", "nowait", "pending"}
    assert public(made.nowait) == {"signals"}
    assert public(made.nowait.signals) == {
        *("credit", "wallet", "outcome", "track"),
        *("from_response", "from_result", "from_stream"),
    }


@each_client
def test_what_completion_leaves_out_is_there(client: Client) -> None:
    made = client(KEY)

    assert [name for name in made._unlisted if not hasattr(made, name)] == []  # pyright: ignore[reportPrivateUsage]


def explained(thing: object) -> dict[str, str]:
    """Return what `help` says of each argument, by the first section on arguments in it."""
    text = pydoc.plain(pydoc.render_doc(thing))
    _, _, section = text.replace(" |", "").partition("Args:\n")
    section = section.partition("Raises:")[0]
    entries: dict[str, str] = {}
    indent = len(section) - len(section.lstrip())
    for line in section.splitlines():
        if line[indent : indent + 1].strip():
            name, _, entries[name.strip()] = line.partition(": ")
        elif entries:
            entries[[*entries][-1]] += f" {line.strip()}"
    return entries


@each_client
def test_help_explains_every_argument(client: Client) -> None:
    entries = explained(client.__init__)

    assert pydoc.plain(pydoc.render_doc(client)).count("api_key: The secret key") == 1
    assert [*entries] == [*inspect.signature(client).parameters]
    for name, text in entries.items():
        # Of the hooks the first says it for all.
        assert "efault" in text or name.startswith("on_"), name
    for name in ("timeout", "close_timeout"):
        assert "Seconds" in entries[name]


@pytest.mark.parametrize("policy", [BatchPolicy, RetryPolicy])
def test_help_explains_every_field_of_a_policy(policy: type[BatchPolicy] | type[RetryPolicy]) -> None:
    entries = explained(policy)

    assert [*entries] == [field.name for field in fields(policy)]
    for field in fields(policy):
        shown = "64 MiB" if field.name == "max_queue_bytes" else field.default
        text = entries[field.name].replace(",", "")
        default = f"{shown:g}" if isinstance(shown, int | float) else str(shown)
        assert "efault" in text, field.name
        assert default in text, field.name


def test_the_client_of_threads_in_an_async_with_says_what_to_use() -> None:
    async def enter() -> None:
        untyped: Any = ClockNext(KEY)
        async with untyped:
            pass

    with pytest.raises(
        TypeError, match="ClockNext is used with `with`, not with `async with`: use AsyncClockNext"
    ):
        asyncio.run(enter())
