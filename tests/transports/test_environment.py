"""What the environment says: keys, addresses, and which proxy a host is reached through."""

import os

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from clocknext_core import ClockNextError, Origin, ValidationError
from clocknext_transports import ClockNext
from clocknext_transports.client.environment import (
    api_key_or_default,
    base_url_or_default,
    new_key,
    proxy_for,
)

HTTPS = Origin("https", "app.clocknext.com", 443)
HTTP = Origin("http", "app.clocknext.com", 80)

NAMES = ("CLOCKNEXT_API_KEY", "CLOCKNEXT_BASE_URL", "REQUEST_METHOD")


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if name.lower().endswith("_proxy") or name in NAMES:
            monkeypatch.delenv(name)


def setenv(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)


def test_no_proxy_is_named() -> None:
    assert proxy_for(HTTPS) is None
    assert proxy_for(HTTP) is None


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
def test_a_proxy_for_https(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    setenv(monkeypatch, **{name: "http://proxy.example:3128"})
    assert proxy_for(HTTPS) == "http://proxy.example:3128"
    assert proxy_for(HTTP) == (None if "https" in name.lower() else "http://proxy.example:3128")


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy"])
def test_a_proxy_for_http(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    setenv(monkeypatch, **{name: "http://proxy.example:3128"})
    assert proxy_for(HTTPS) is None
    assert proxy_for(HTTP) == "http://proxy.example:3128"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"https_proxy": "http://a", "HTTPS_PROXY": "http://b"}, "http://a"),
        ({"HTTPS_PROXY": "http://b", "all_proxy": "http://c"}, "http://b"),
        ({"all_proxy": "http://c", "ALL_PROXY": "http://d"}, "http://c"),
        ({"HTTPS_PROXY": "", "ALL_PROXY": "http://d"}, "http://d"),
        ({"HTTPS_PROXY": ""}, None),
        ({"HTTPS_PROXY": "proxy.example:3128"}, "http://proxy.example:3128"),
        ({"HTTPS_PROXY": "https://user:pass@proxy.example"}, "https://user:pass@proxy.example"),
        ({"HTTPS_PROXY": "http://proxy.example/"}, "http://proxy.example/"),
        # An empty lower-case name switches the upper-case one off, as for curl, urllib and httpx.
        ({"https_proxy": "", "HTTPS_PROXY": "http://b"}, None),
        ({"https_proxy": "", "HTTPS_PROXY": "http://b", "ALL_PROXY": "http://d"}, "http://d"),
        ({"all_proxy": "", "ALL_PROXY": "http://d"}, None),
    ],
)
def test_which_name_wins(
    values: dict[str, str], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    setenv(monkeypatch, **values)
    assert proxy_for(HTTPS) == expected


UNUSABLE = {
    "another scheme": "socks://127.0.0.1:7890/",
    "a file": "file:///etc/passwd",
    "a line end": "http://proxy.example:3128\n",
    "a blank": " http://proxy.example:3128",
    "quotes": '"http://proxy.example:3128"',
    "quotes, single": "'http://proxy.example:3128'",
    "no host": "http://",
    "no host, but a port": "http://:3128",
    "no port number": "http://proxy.example:port",
    "port 0": "http://proxy.example:0",
    "a large port": "proxy.example:99999",
    "a path": "http://proxy.example/proxy.pac",
    "a bracket": "http://[::1",
    "an address of the future": "http://[v1.x]:3128",
    "a long name": f"http://{'u' * 70_000}@proxy.example:3128",
    "not ASCII": "http://pröxy.example",
}


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize("what", UNUSABLE)
def test_a_proxy_that_cannot_be_used_is_an_error_that_names_its_variable(
    name: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    setenv(monkeypatch, **{name: UNUSABLE[what].replace("//", "//user:s3cret@")})
    with pytest.raises(ClockNextError, match=rf"variable {name} can't be used") as caught:
        proxy_for(HTTPS)
    assert "s3cret" not in str(caught.value)
    with pytest.raises(ClockNextError, match=rf"variable {name} can't be used"):
        ClockNext("cnk_test_key")
    setenv(monkeypatch, NO_PROXY="clocknext.com")
    assert proxy_for(HTTPS) is None, "nobody asks for it"


@pytest.mark.parametrize("is_there", [True, False])
def test_socks_needs_its_package(is_there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    setenv(monkeypatch, ALL_PROXY="socks5://proxy.example:1080")

    def find_spec(_: str) -> object:
        return object() if is_there else None

    monkeypatch.setattr("clocknext_transports.client.environment.find_spec", find_spec)
    if is_there:
        assert proxy_for(HTTPS) == "socks5://proxy.example:1080"
    else:
        with pytest.raises(ClockNextError, match=r"ALL_PROXY.*pip install 'httpx\[socks\]'"):
            proxy_for(HTTPS)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost", "LOCALHOST"])
@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_plain_http_to_this_machine_never_goes_through_a_proxy(
    name: str, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    setenv(monkeypatch, **{name: "http://proxy.example"})
    assert proxy_for(Origin("http", host, 80)) is None
    setenv(monkeypatch, HTTPS_PROXY="http://proxy.example")
    assert proxy_for(Origin("https", host, 443)) == "http://proxy.example"


def test_under_cgi_only_the_lower_case_name_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    setenv(monkeypatch, REQUEST_METHOD="GET", HTTP_PROXY="http://evil.example")
    assert proxy_for(HTTP) is None
    setenv(monkeypatch, HTTPS_PROXY="http://s", http_proxy="http://good.example")
    assert proxy_for(HTTP) == "http://good.example"
    assert proxy_for(HTTPS) == "http://s"


@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
@pytest.mark.parametrize(
    ("entries", "origin", "is_exempt"),
    [
        ("*", Origin("https", "app.clocknext.com", 443), True),
        ("app.clocknext.com", Origin("https", "app.clocknext.com", 443), True),
        ("APP.ClockNext.COM", Origin("https", "app.clocknext.com", 443), True),
        ("app.clocknext.com", Origin("https", "APP.CLOCKNEXT.COM", 443), True),
        ("clocknext.com", Origin("https", "app.clocknext.com", 443), True),
        (".clocknext.com", Origin("https", "app.clocknext.com", 443), True),
        ("*.clocknext.com", Origin("https", "app.clocknext.com", 443), True),
        ("next.com", Origin("https", "app.clocknext.com", 443), False),
        ("*next.com", Origin("https", "app.clocknext.com", 443), False),
        ("pp.clocknext.com", Origin("https", "app.clocknext.com", 443), False),
        ("app.clocknext.com.evil", Origin("https", "app.clocknext.com", 443), False),
        ("app", Origin("https", "app.clocknext.com", 443), False),
        ("com", Origin("https", "app.clocknext.com", 443), True),
        ("", Origin("https", "app.clocknext.com", 443), False),
        (" , ,", Origin("https", "app.clocknext.com", 443), False),
        ("other, app.clocknext.com ,more", Origin("https", "app.clocknext.com", 443), True),
        ("app.clocknext.com:443", Origin("https", "app.clocknext.com", 443), True),
        ("app.clocknext.com:8443", Origin("https", "app.clocknext.com", 443), False),
        (".clocknext.com:443", Origin("https", "app.clocknext.com", 443), True),
        (":443", Origin("https", "app.clocknext.com", 443), False),
        ("app.clocknext.com:", Origin("https", "app.clocknext.com", 443), False),
        ("127.0.0.1", Origin("https", "127.0.0.1", 8080), True),
        ("127.0.0.1:8080", Origin("https", "127.0.0.1", 8080), True),
        ("127.0.0.1:80", Origin("https", "127.0.0.1", 8080), False),
        ("0.0.1", Origin("https", "127.0.0.1", 8080), False),
        ("localhost", Origin("https", "127.0.0.1", 8080), False),
        ("localhost", Origin("https", "localhost", 8080), True),
        ("::1", Origin("https", "::1", 8080), True),
        ("[::1]", Origin("https", "::1", 8080), True),
        ("[::1]:8080", Origin("https", "::1", 8080), True),
        ("[::1]:80", Origin("https", "::1", 8080), False),
        ("::1:8080", Origin("https", "::1", 8080), False),
        ("::2", Origin("https", "::1", 8080), False),
        ("10.0.0.0/8", Origin("https", "10.1.2.3", 443), True),
        ("10.1.2.3/8", Origin("https", "10.200.2.3", 443), True),
        ("10.0.0.0/8", Origin("https", "11.1.2.3", 443), False),
        ("10.0.0.0/8", Origin("https", "fd00::1", 443), False),
        ("fd00::/8,10.0.0.0/8", Origin("https", "fd00::1", 443), True),
        ("fd00::/8", Origin("https", "fe00::1", 443), False),
        ("0.0.0.0/0", Origin("https", "app.clocknext.com", 443), False),
        ("10.0.0.0/33", Origin("https", "10.0.0.0", 443), False),
        ("app.clocknext.com/8", Origin("https", "app.clocknext.com", 443), False),
        ("app.clocknext.com", Origin("https", "app.clocknext.com.", 443), True),
        ("app.clocknext.com.", Origin("https", "app.clocknext.com", 443), True),
    ],
)
def test_who_is_exempt(
    name: str, entries: str, origin: Origin, is_exempt: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    setenv(monkeypatch, **{name: entries, "HTTPS_PROXY": "http://proxy.example"})
    assert (proxy_for(origin) is None) == is_exempt


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
    | st.lists(st.sampled_from(["*", ".", ":", "[", "]", "²", "٣", "9" * 5000, "::1", "app", ","])).map(
        "".join
    )
)
@example("app.clocknext.com:²")
@example("app.clocknext.com:" + "9" * 5000)
@example("[::1]:²,[")
def test_no_list_of_exemptions_raises(monkeypatch: pytest.MonkeyPatch, entries: str) -> None:
    with monkeypatch.context() as scope:
        setenv(scope, NO_PROXY=entries, HTTPS_PROXY="http://proxy.example")
        for host in ("app.clocknext.com", "::1", "127.0.0.1"):
            assert proxy_for(Origin("https", host, 443)) in (None, "http://proxy.example")


# Key and address


def test_the_key_comes_from_the_argument_then_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    setenv(monkeypatch, CLOCKNEXT_API_KEY="cnk_env")
    assert api_key_or_default(None) == "cnk_env"
    assert api_key_or_default("cnk_given") == "cnk_given"
    assert api_key_or_default("") == ""  # an explicit mistake is not papered over


@pytest.mark.parametrize("value", [None, ""])
def test_no_key_is_an_error_that_names_both_ways(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if value is not None:
        setenv(monkeypatch, CLOCKNEXT_API_KEY=value)
    with pytest.raises(ValidationError, match=r"api_key.*CLOCKNEXT_API_KEY"):
        api_key_or_default(None)


def test_the_address_comes_from_the_argument_then_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert base_url_or_default(None) == "https://app.clocknext.com"
    setenv(monkeypatch, CLOCKNEXT_BASE_URL="")
    assert base_url_or_default(None) == "https://app.clocknext.com"
    setenv(monkeypatch, CLOCKNEXT_BASE_URL="https://eu.example")
    assert base_url_or_default(None) == "https://eu.example"
    assert base_url_or_default("https://given.example") == "https://given.example"


def test_idempotency_keys_are_long_and_differ() -> None:
    made = {new_key() for _ in range(1000)}
    assert len(made) == 1000
    assert {len(key) for key in made} == {32}
