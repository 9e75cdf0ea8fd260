"""Configuration: everything is checked when it is made, and the key is never shown."""

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import FrozenInstanceError
from html.entities import codepoint2name
from random import Random
from typing import Any, get_args
from urllib.parse import quote

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from clocknext_core import BatchPolicy, Config, Origin, RetryPolicy, ValidationError
from clocknext_core.config import DEFAULT_BASE_URL, REDACTED, Overflow
from tests.core.support import KEY, config

HUGE = 10**5000
NAN = float("nan")
INFINITE = float("inf")

NOT_COUNTS: list[object] = [0, -1, 1.0, "1", True, None, HUGE, -HUGE]
NOT_SECONDS: list[object] = [-0.001, NAN, INFINITE, -INFINITE, "1", True, None, HUGE, [1]]


def made(**arguments: Any) -> Config:
    return Config(**dict[str, Any](arguments) | {"api_key": arguments.get("api_key", KEY)})


def test_the_defaults() -> None:
    default = Config(KEY)
    assert default.base_url == DEFAULT_BASE_URL == "https://app.clocknext.com"
    assert default.origin == Origin("https", "app.clocknext.com", 443)
    assert (default.path_prefix, default.mode, default.timeout) == ("", "async", 10.0)
    assert default.batch == BatchPolicy(20, 2.0, 5, 10_000, "drop_newest", 10.0, 64 * 1024 * 1024, "hold")
    assert default.retry == RetryPolicy(5, 0.2, 10.0)
    assert not default.allow_insecure_http


REFUSED: dict[tuple[Callable[..., object], str], list[object]] = {
    (BatchPolicy, "max_size"): NOT_COUNTS,
    (BatchPolicy, "max_concurrency"): NOT_COUNTS,
    (BatchPolicy, "max_queue_size"): NOT_COUNTS,
    (BatchPolicy, "max_queue_bytes"): NOT_COUNTS,
    (BatchPolicy, "max_interval"): NOT_SECONDS,
    (BatchPolicy, "block_timeout"): NOT_SECONDS,
    (BatchPolicy, "outage"): ["wait", "", None, 1, [], "HOLD", HUGE],
    (BatchPolicy, "overflow"): ["drop", "", None, 1, [], "DROP_NEWEST", HUGE],
    (RetryPolicy, "max_attempts"): NOT_COUNTS,
    (RetryPolicy, "base_delay"): NOT_SECONDS,
    (RetryPolicy, "max_delay"): NOT_SECONDS,
    (made, "timeout"): [*NOT_SECONDS, 0, 0.0],
    (made, "mode"): ["", "ASYNC", None, True, "threads", b"sync", HUGE],
    (made, "batch"): [None, {}, RetryPolicy(), 20],
    (made, "retry"): [None, {}, BatchPolicy(), 5],
    (made, "spool_window"): [*(each for each in NOT_SECONDS if each is not None), 0, 0.0],
    (made, "allow_insecure_http"): [None, 1, "yes"],
    (made, "base_url"): [None, b"https://x.example", 5],
    (made, "api_key"): [None, b"cnk_x", 5, ""],
}


@pytest.mark.parametrize(
    ("make", "argument", "value"),
    [
        pytest.param(make, argument, value, id=f"{make.__name__}.{argument}-{number}")
        for (make, argument), values in REFUSED.items()
        for number, value in enumerate(values)
    ],
)
def test_a_bad_value_is_refused_by_name(make: Callable[..., object], argument: str, value: object) -> None:
    with pytest.raises(ValidationError, match=rf"^{argument}: ") as caught:
        make(**{argument: value})
    assert caught.value.status is None
    assert KEY not in repr(caught.value)


@pytest.mark.parametrize(
    ("make", "arguments"),
    [
        (BatchPolicy, {"max_size": 1, "max_interval": 0, "max_concurrency": 1, "max_queue_size": 1}),
        (BatchPolicy, {"max_interval": 0.0, "block_timeout": 0, "max_queue_bytes": 1}),
        (RetryPolicy, {"max_attempts": 1, "base_delay": 0, "max_delay": 0}),
        (made, {"timeout": 0.001, "spool_window": 0.001}),
        (made, {"spool_window": None, "api_key": "!~"}),
        (made, {"timeout": 30, "mode": "sync", "allow_insecure_http": True}),
    ],
)
def test_the_ends_of_each_range_are_taken(
    make: Callable[..., object], arguments: Mapping[str, object]
) -> None:
    result = make(**arguments)
    assert {name: getattr(result, name) for name in arguments} == arguments


def test_there_are_four_overflow_policies() -> None:
    assert [BatchPolicy(overflow=policy).overflow for policy in get_args(Overflow)] == [
        *("drop_newest", "drop_oldest", "block", "raise")
    ]


# The API key


@pytest.mark.parametrize(
    "bad", [" ", "cnk x", "cnk_x\n", "cnk_x\r\nX-Evil: 1", "cnk_\0", "cnk_é", "cnk_\x7f", "\ud800", "cnk_\t"]
)
def test_a_key_must_be_fit_for_a_header_and_is_not_shown_when_it_is_not(bad: str) -> None:
    with pytest.raises(ValidationError, match=r"^api_key: ") as caught:
        Config(bad)
    assert bad.strip() == "" or bad not in str(caught.value)
    assert "cnk" not in str(caught.value)


def test_the_key_is_in_the_authorization_header_and_nowhere_else() -> None:
    made_config = config()
    assert KEY not in repr(made_config)
    assert dict(made_config.headers)["Authorization"] == f"Bearer {KEY}"
    assert [value for _, value in made_config.headers if KEY in value] == [f"Bearer {KEY}"]
    assert dict(made_config.headers)["Accept"] == "application/json"
    assert dict(made_config.headers)["Accept-Encoding"] == "identity"
    assert re.fullmatch(r"clocknext-sdk-python/\d+\.\d+\.\d+", dict(made_config.headers)["User-Agent"])
    assert "Content-Type" not in dict(made_config.headers)
    assert dict(made_config.json_headers)["Content-Type"] == "application/json"


def test_redaction_takes_the_key_out_of_a_text_and_leaves_the_rest() -> None:
    assert REDACTED == "cnk_[redacted]"
    assert config().redact(f"a{KEY}b{KEY}") == f"a{REDACTED}b{REDACTED}"
    assert config().redact("cnk_other") == "cnk_other"
    assert config().redact(rf"C:\{KEY}") == rf"C:\{REDACTED}"


def test_a_configuration_can_not_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        config().timeout = 1.0  # type: ignore[misc]


@pytest.mark.parametrize("key", ["cnk_plain", "cnk_a'b\\c\"d/e", "cnk_50%&=~"])
def test_the_key_is_redacted_however_it_is_spelt(key: str) -> None:
    made_of = Config(key)
    texts = [
        key,
        repr([key]),
        json.dumps([key]),
        json.dumps(json.dumps([key])),
        quote(key),
        quote(key, safe=""),
        json.dumps([key]).replace("/", "\\/"),
        json.dumps(json.dumps([key]).replace("/", "\\/")).replace("/", "\\/"),
        json.dumps([key]).replace("/", "\\u002F").replace("&", "\\u0026"),
        quote(quote(key, safe=""), safe=""),
    ]
    for text in texts:
        redacted = made_of.redact(f"before {text} after")
        assert redacted.count("cnk_[redacted]") == 1
        assert "cnk" not in redacted.replace("cnk_[redacted]", "")
        assert (redacted.startswith("before "), redacted.endswith(" after")) == (True, True)


HTML_NAMES: dict[str, str] = {chr(code): f"{name};" for code, name in codepoint2name.items()} | {
    "/": "sol;",
    "+": "plus;",
    "_": "lowbar;",
    "=": "equals;",
}
ENCODERS: dict[str, Callable[[str], str]] = {
    "JSON, all": lambda char: f"\\u{ord(char):04x}",
    "JSON, all, upper case": lambda char: f"\\u{ord(char):04X}",
    "JSON, punctuation": lambda char: char if char.isalnum() else f"\\u{ord(char):04X}",
    "a backslash before punctuation": lambda char: char if char.isalnum() else f"\\{char}",
    "URL, punctuation": lambda char: char if char.isalnum() else f"%{ord(char):02X}",
    "HTML, punctuation": lambda char: char if char.isalnum() else f"&#{ord(char)};",
    "HTML, punctuation, hexadecimal": lambda char: char if char.isalnum() else f"&#x{ord(char):X};",
    "quoted-printable, punctuation": lambda char: char if char.isalnum() else f"={ord(char):02X}",
    "Python, punctuation": lambda char: char if char.isalnum() else f"\\x{ord(char):02x}",
    "Python, long": lambda char: f"\\U{ord(char):08x}",
    "Python or JavaScript, short": lambda char: f"\\x{ord(char):02X}",
    "JavaScript, braces": lambda char: f"\\u{{{ord(char):x}}}",
    "URL, all": lambda char: f"%{ord(char):02x}",
    "URL, all, upper case": lambda char: f"%{ord(char):02X}",
    "URL, twice": lambda char: f"%25{ord(char):02x}",
    "URL, three times": lambda char: f"%2525{ord(char):02x}",
    "HTML, decimal": lambda char: f"&#{ord(char)};",
    "HTML, decimal, padded": lambda char: f"&#{ord(char):05d};",
    "HTML, hexadecimal": lambda char: f"&#x{ord(char):x};",
    "HTML, hexadecimal, upper case": lambda char: f"&#X{ord(char):X};",
    "HTML, twice": lambda char: f"&amp;#{ord(char)};",
    "HTML, names": lambda char: char if char.isalnum() or char not in HTML_NAMES else f"&{HTML_NAMES[char]}",
    "quoted-printable": lambda char: f"={ord(char):02X}",
    "quoted-printable, lower case": lambda char: f"={ord(char):02x}",
    "quoted-printable, broken lines": lambda char: f"{char}=\r\n",
}
VISIBLE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=8, max_size=40).filter(
    lambda key: "://" not in key
)


@pytest.mark.parametrize("encoder", ENCODERS)
@given(key=VISIBLE)
@example("cnk_live_9Qv4Lr7Zx/Kb2+Nw=")
@example("\\\\\\cnk/\\x")
@example("uUxX0%&=;u%")
@example("00000\\\\0")
@example("0000000\\")
@example("0000000\\u")
@example("0000000\\x5")
@example("0000000%")
@example("0000000%2")
@example("0000000&")
@example("0000000&a")
@example("0000000&#3")
@example("0000000=")
@example("0000000=3")
@example("D\\\\C2%259")
@example("#5b\\\\U5C\\;a")
def test_the_key_is_redacted_in_every_encoding(encoder: str, key: str) -> None:
    encoded = "".join(map(ENCODERS[encoder], key))
    for text in (key, encoded):
        redacted = Config(key).redact(f"< {text} >")
        assert REDACTED in redacted, redacted
        # All that may be left is backslashes before it, however they are spelt, and the end of an escape.
        left = r"< (\\|5c|5C|[uU]0*|[xX{}%&#;=\r\n0]|amp|bsol|92|25)*"
        assert re.fullmatch(left + re.escape(REDACTED) + r"(=\r\n|;|amp;|25|3[dD])* >", redacted), redacted


def test_redaction_of_a_beginning_finds_keys_that_go_on_behind_it() -> None:
    made_of = config()
    url = "".join(f"%{ord(char):02x}" for char in KEY)
    for before in range(60):
        for text in (KEY, url):
            redacted = made_of.redact("x" * before + text * 20 + "y" * 1000, limit=50)
            assert redacted.startswith(("x" * before + REDACTED * 20)[:50])
            assert KEY not in redacted
            assert "%" not in redacted
    assert made_of.redact("abc", limit=50) == "abc"
    assert made_of.redact("abcdef", limit=2) == "abc"


def test_a_redacted_beginning_is_that_of_the_whole_and_hardly_longer_than_asked_for() -> None:
    made_of, rng = config(), Random(1)
    for _ in range(300):
        text = "".join(rng.choice((KEY, "x", "yy", " ", "/" * 20)) for _ in range(rng.randrange(20)))
        whole, limit = made_of.redact(text), rng.randrange(1, 60)
        redacted = made_of.redact(text, limit=limit)
        assert whole.startswith(redacted)
        assert min(len(whole), limit + 1) <= len(redacted) <= limit + len(REDACTED)


HOSTILE = [
    "\\",
    "%",
    "%25",
    "&",
    "&amp;",
    "=",
    "=\n",
    "=3D",
    "\\u005c",
    "u005c",
    "0",
    "a",
    "&#x0",
    "&#0",
    "%5c",
]


@pytest.mark.parametrize(
    "key", ["\\\\x", "\\" * 30, "a\\b\\c", "%25%25x", "&amp;&x", "==3D=x", "a" * 30, "0" * 20]
)
@pytest.mark.parametrize("unit", HOSTILE)
def test_redaction_takes_linear_time(key: str, unit: str) -> None:
    made_of = Config(key + "!")
    size = 200_000
    began = time.perf_counter()
    made_of.redact(unit * (size // len(unit)))
    made_of.redact(key[:-1] + unit * (size // len(unit)))
    # Quadratic time would be minutes.
    assert time.perf_counter() - began < 3.0


def test_a_concurrency_of_another_word_is_shown() -> None:
    with pytest.raises(ValidationError, match=r"must be an integer or \"auto\", not 'Auto'$"):
        BatchPolicy(max_concurrency="Auto")  # type: ignore[arg-type]


def test_patience_is_what_a_call_might_have_taken_by_its_own_policy() -> None:
    assert Config(KEY, timeout=2.0, retry=RetryPolicy(max_attempts=3, max_delay=4.0)).patience == 18.0


# The base URL


@pytest.mark.parametrize(
    ("base_url", "origin", "prefix"),
    [
        ("https://app.clocknext.com/", "https://app.clocknext.com", ""),
        ("https://app.clocknext.com///", "https://app.clocknext.com", ""),
        ("HTTPS://APP.ClockNext.COM", "https://app.clocknext.com", ""),
        ("https://x.example:443", "https://x.example", ""),
        ("https://x.example:8443", "https://x.example:8443", ""),
        ("https://x.example:", "https://x.example", ""),
        ("https://x.example/billing", "https://x.example", "/billing"),
        ("https://x.example/billing/", "https://x.example", "/billing"),
        ("https://x.example/a%20b/c", "https://x.example", "/a%20b/c"),
        ("https://x.example/!/X/", "https://x.example", "/!/X"),
        ("https://x.example/~", "https://x.example", "/~"),
        ("https://under_score.example", "https://under_score.example", ""),
        ("https://x.example.", "https://x.example.", ""),
        ("https://BÜCHER.example", "https://xn--bcher-kva.example", ""),
        ("https://[2001:db8::1]:/p", "https://[2001:db8::1]", "/p"),
        ("https://bücher.example", "https://xn--bcher-kva.example", ""),
        ("https://例え.jp/p", "https://xn--r8jz45g.jp", "/p"),
        ("https://192.0.2.1", "https://192.0.2.1", ""),
        ("https://[2001:db8::1]", "https://[2001:db8::1]", ""),
        ("https://[2001:DB8::1]:8443/p/", "https://[2001:db8::1]:8443", "/p"),
        ("http://localhost:8080", "http://localhost:8080", ""),
        ("http://localhost/X/", "http://localhost", "/X"),
        ("http://LOCALHOST", "http://localhost", ""),
        ("http://127.0.0.1:80", "http://127.0.0.1", ""),
        ("http://127.8.9.10", "http://127.8.9.10", ""),
        ("http://[::1]:9", "http://[::1]:9", ""),
        ("http://[::ffff:127.0.0.1]", "http://[::ffff:127.0.0.1]", ""),
        ("https://x.example/...a/b..", "https://x.example", "/...a/b.."),
        ("https://x.example/%2f%C3%A9//a", "https://x.example", "/%2f%C3%A9//a"),
        ("https://0x.example", "https://0x.example", ""),
        ("https://1.x1", "https://1.x1", ""),
    ],
)
def test_base_urls(base_url: str, origin: str, prefix: str) -> None:
    made_config = Config(KEY, base_url)
    assert str(made_config.origin) == origin
    assert made_config.path_prefix == prefix


@pytest.mark.parametrize(
    "base_url",
    [
        *(
            "",
            " ",
            "app.clocknext.com",
            "//app.clocknext.com",
            "/api",
            "https://",
            "https:///path",
            "https:x.example",
        ),
        *("ftp://x.example", "ws://x.example", "file:///etc/passwd", "javascript:alert(1)"),
        *(
            "https://user@x.example",
            "https://user:pass@x.example",
            "https://:@x.example",
            "https://@x.example",
        ),
        *("https://x.example?a=1", "https://x.example/?", "https://x.example/#", "https://x.example/#frag"),
        *("https://x.example/a b", "https://x.example/é", "https://x.example/a\x7f", "https://x.example "),
        *(
            "https://x.example:0",
            "https://x.example:65536",
            "https://x.example:-1",
            "https://x.example:https",
        ),
        *("https://[::1", "https://[::g]", "https://[fe80::1%25eth0]", "https://::1", "https://[127.0.0.1]"),
        *(
            "https://x_.example-",
            "https://-x.example",
            "https://x..",
            "https://x\\.example",
            "https://x,y.example",
        ),
        *(
            "https://[::1]x",
            "https://[::1]x:80",
            "https://[::1].evil.example",
            "https://[::1]]",
            "https://[::1]8",
        ),
        *("https://x.exa\tmple", "https://x.example/a\nb", "\nhttps://x.example", "https://x.example\r"),
        *("https://\x00x.example", "\x1fhttps://x.example", "https://x.example\x7f"),
        *(
            "https://faß.de",
            "https://FAẞ.de",
            "https://\u03b2\u03cc\u03bb\u03bf\u03c2.gr",
            "https://a\u200cb.example",
            "https://a\u200db.ir",
        ),
        *(
            "https://\uff58.example",
            "https://x\u3002example",
            "https://x\u00ad.example",
            "https://\uff21.example",
        ),
        *("https://" + "ü" * 64 + ".example", "https://\ud800.example", "https://x.example\\@evil.example"),
        # Browsers read a last label that is a number as one of IPv4, and another host of it.
        *(
            "https://127.1",
            "https://2130706433",
            "https://0x7f000001",
            "https://0177.0.0.1",
            "https://127.0.0",
        ),
        *("https://256.1.1.1", "https://1.2.3.4.5", "https://x.example.0x", "https://127.1.", "https://x.09"),
        *("https://[v1.x]", "https://[v1.x]:80", "https://[x.example]"),
        # Browsers, and httpx, resolve dots; browsers read a backslash as a slash.
        *(
            "https://x.example/..",
            "https://x.example/a/../b",
            "https://x.example/./a",
            "https://x.example/a/.",
        ),
        *(
            "https://x.example/%2e%2E/a",
            "https://x.example/a/%2e",
            "https://x.example/.%2e",
            "https://x.example/\\a",
        ),
        *("https://x.example/%", "https://x.example/%zz", "https://x.example/%2"),
    ],
)
def test_bad_base_urls(base_url: str) -> None:
    with pytest.raises(ValidationError, match=r"^base_url: "):
        Config(KEY, base_url)


NO_SCHEME = "has no scheme: begin with https://, or with http:// for this machine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"api_key": b"cnk_x"}, "api_key: must be a string, not bytes"),
        ({"api_key": "https://api.example"}, "api_key: is an address: that is base_url"),
        ({"base_url": "app.example"}, f"base_url: {NO_SCHEME}"),
        ({"base_url": "localhost:8787"}, f"base_url: {NO_SCHEME}"),
        ({"base_url": '"https://app.example"'}, "base_url: begins with a quotation mark"),
        ({"base_url": "https://" + "ü" * 64 + ".example"}, "base_url: has no valid host name"),
        ({"base_url": "https://x,y.example"}, "base_url: has no valid host name"),
        *(
            ({"base_url": base_url}, f"base_url: {why}")
            for base_url, why in {
                "https://x.example\x7f": "must not hold blanks, tabs, line ends or other control characters",
                "https://x.example\t": "must not hold blanks, tabs, line ends or other control characters",
                "https://[::1]x": "must have an IPv6 address in its brackets, and nothing but a port behind",
                "https://x.example/a/../b": "must not have a segment . or .. in its path",
                "https://1.2.3.999": "has no valid IPv4 address: four numbers of 0 to 255",
                "https://faß.de": "must have its host name in ASCII (xn--…): IDNA 2003 and 2008 differ on it",
            }.items()
        ),
        ({"is_spool_shared": 1}, "is_spool_shared: must be True or False, not int"),
    ],
)
def test_what_is_wrong_is_said(arguments: Mapping[str, object], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        made(**arguments)
    assert caught.value.message == message


REMOTE = [
    *("http://app.clocknext.com", "http://192.168.0.1", "http://0.0.0.0", "http://128.0.0.1"),
    *(
        "http://127.evil.example",
        "http://127.0.0.1.evil.example",
        "http://localhost.evil.example",
        "http://127.1.example",
    ),
    *("http://localhost.", "http://[::2]", "http://[2001:db8::1]", "http://notlocalhost"),
]


@pytest.mark.parametrize("base_url", REMOTE)
def test_plain_http_to_anything_but_loopback_needs_permission(base_url: str) -> None:
    with pytest.raises(ValidationError, match="allow_insecure_http"):
        Config(KEY, base_url)
    assert Config(KEY, base_url, allow_insecure_http=True).origin.scheme == "http"


def test_a_final_dot_is_no_part_of_the_name_that_tls_checks() -> None:
    assert Config(KEY, "https://x.example.").origin.server_name == "x.example"
    assert Config(KEY, "https://x.example").origin.server_name == "x.example"


def test_an_origin_leaves_the_default_port_out_of_the_authority() -> None:
    assert Origin("http", "x", 80).authority == "x"
    assert Origin("http", "x", 443).authority == "x:443"
    assert Origin("https", "::1", 443).authority == "[::1]"
    assert Origin("https", "::1", 1).authority == "[::1]:1"
