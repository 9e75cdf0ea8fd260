"""Operations: paths and queries as the server's URL parser reads them, bodies, and pages."""

import sys
from collections.abc import Sequence
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, unquote

import hypothesis.strategies as st
import pytest
from hypothesis import given

from clocknext_core import ClockNextError, Config, Operation, Pages, ValidationError
from clocknext_core.delivery import signal_operation, signal_request
from clocknext_core.envelope import Payload
from clocknext_core.operations import (
    MAX_PAGES,
    Method,
    QueryValue,
    json_body,
    optional_flag,
    optional_limit,
    optional_text,
    path_id,
    path_of,
)
from clocknext_core.wire import camel_case
from tests.core.support import KEY, config, encoded


def read(payload: Payload) -> Payload:
    return payload


@pytest.mark.parametrize(
    ("identifier", "path"),
    [
        ("cus_123", "/api/v1/customers/cus_123"),
        ("a b", "/api/v1/customers/a%20b"),
        ("a/b", "/api/v1/customers/a%2Fb"),
        ("a?b#c", "/api/v1/customers/a%3Fb%23c"),
        ("a%2Fb", "/api/v1/customers/a%252Fb"),
        ("é\N{GRINNING FACE}", "/api/v1/customers/%C3%A9%F0%9F%98%80"),
        ("-_.!~*'()", "/api/v1/customers/-_.!~*'()"),
        ("a+b&c=d:e@f;g,h$", "/api/v1/customers/a%2Bb%26c%3Dd%3Ae%40f%3Bg%2Ch%24"),
        ("..a", "/api/v1/customers/..a"),
        ("...", "/api/v1/customers/..."),
        ("a\r\nX: 1", "/api/v1/customers/a%0D%0AX%3A%201"),
        ("\\", "/api/v1/customers/%5C"),
    ],
)
def test_an_id_is_one_segment_of_a_path(identifier: str, path: str) -> None:
    assert path_of("customers", path_id("customer_id", identifier)) == path


@pytest.mark.parametrize("bad", ["", " ", "\n", ".", "..", None, 5, b"cus", ["x"], "\ud800", "a\udfff"])
def test_an_id_that_would_address_something_else_is_refused(bad: object) -> None:
    with pytest.raises(ValidationError, match=r"^customer_id: "):
        path_id("customer_id", bad)


@given(st.text(min_size=1))
def test_every_id_is_read_back_and_stays_within_its_segment(identifier: str) -> None:
    if not identifier.strip() or identifier in (".", ".."):
        return
    path = path_of("customers", path_id("customer_id", identifier), "plan")
    assert path.isascii()
    assert not set(path) & set(" ?#\\\r\n")
    segments = path.split("/")
    assert len(segments) == 6
    assert unquote(segments[4]) == identifier


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ({}, ""),
        ({"limit": None, "q": ""}, ""),
        ({"limit": 0}, "?limit=0"),
        ({"limit": 50, "q": None, "cursor": "cur_2=="}, "?limit=50&cursor=cur_2%3D%3D"),
        ({"active": True}, "?active=true"),
        ({"active": False}, "?active=false"),
        ({"q": "a b"}, "?q=a+b"),
        ({"q": "a+b&c=d"}, "?q=a%2Bb%26c%3Dd"),
        ({"q": "é/~*'()!"}, "?q=%C3%A9%2F%7E*%27%28%29%21"),
        ({"q": "-_."}, "?q=-_."),
    ],
)
def test_a_query_is_form_encoded(query: dict[str, QueryValue], text: str) -> None:
    assert path_of("customers", query=query) == f"/api/v1/customers{text}"


@given(st.dictionaries(st.text(min_size=1), st.text(min_size=1), max_size=4))
def test_every_query_is_read_back(query: dict[str, str]) -> None:
    _, _, text = path_of("x", query=query).partition("?")
    assert dict(parse_qsl(text, keep_blank_values=True, strict_parsing=bool(query))) == query


def test_optional_arguments_of_a_query() -> None:
    assert [optional_text("q", value) for value in (None, "", "x", " x ")] == [None, None, "x", " x "]
    assert [optional_limit(value) for value in (None, 0, 50)] == [None, 0, 50]
    assert [optional_flag("active", value) for value in (None, True, False)] == [None, True, False]
    for bad_text in (5, True, b"x", " ", "\ud800"):
        with pytest.raises(ValidationError, match=r"^q: "):
            optional_text("q", bad_text)
    for bad_limit in (-1, 1.0, "5", True, 10**5000):
        with pytest.raises(ValidationError, match=r"^limit: "):
            optional_limit(bad_limit)
    for bad_flag in (0, 1, "true"):
        with pytest.raises(ValidationError, match=r"^active: "):
            optional_flag("active", bad_flag)


# Bodies and requests


def test_the_body_of_a_write_keeps_null_and_is_named_as_on_the_wire() -> None:
    body = json_body({"tax_id": None, "address_line1": "é", "details": {"as_given": 1}})
    assert body.decode() == '{"taxId":null,"addressLine1":"é","details":{"as_given":1}}'
    assert json_body({}) == b"{}"


def test_a_field_that_can_not_be_encoded_is_refused_by_name() -> None:
    unfit: list[object] = [float("nan"), object(), {1, 2}, "\ud800", b"x", 10**5000]
    for value in unfit:
        with pytest.raises(ValidationError, match=r"^tax_id: "):
            json_body({"name": "x", "tax_id": value})


@pytest.mark.parametrize(
    ("name", "wire"),
    [
        ("tax_id", "taxId"),
        ("address_line1", "addressLine1"),
        ("id", "id"),
        ("is_active", "isActive"),
        ("x_1", "x1"),
    ],
)
def test_names(name: str, wire: str) -> None:
    assert camel_case(name) == wire


@pytest.mark.parametrize(
    ("method", "replay_safe"),
    [("GET", True), ("PUT", True), ("DELETE", True), ("POST", False), ("PATCH", False)],
)
def test_which_requests_are_safe_to_repeat(method: Method, *, replay_safe: bool) -> None:
    request = Operation(method, "/api/v1/x", read).request(config())
    assert request.replay_safe == replay_safe
    assert (
        Operation(method, "/x", read, replay_safe=not replay_safe).request(config()).replay_safe
        != replay_safe
    )


def test_a_request_has_a_content_type_only_with_a_body_and_hides_the_key() -> None:
    bare = Operation("GET", "/api/v1/x?a=1", read).request(Config(KEY, "https://x.example:8443/p/"))
    assert (bare.method, bare.target, bare.url) == (
        "GET",
        "/p/api/v1/x?a=1",
        "https://x.example:8443/p/api/v1/x?a=1",
    )
    assert "Content-Type" not in dict(bare.headers)
    assert bare.body is None
    full = Operation("POST", "/api/v1/x", read, b'{"secret":1}').request(config())
    assert dict(full.headers)["Content-Type"] == "application/json"
    assert full.body == b'{"secret":1}'
    assert dict(full.headers)["Authorization"] == f"Bearer {KEY}"
    assert KEY not in repr(full)
    assert "secret" not in repr(full)
    assert "secret" not in repr(Operation("POST", "/api/v1/x", read, b'{"secret":1}'))


def test_a_signals_operation_can_be_repeated_by_its_key() -> None:
    signal = encoded("idem")
    made = signal_operation(signal)
    request = made.request(config())
    assert (request.method, request.target, request.body) == ("POST", "/api/v1/usage", signal.body)
    assert request.replay_safe
    assert (made.idempotency_key, made.encoded) == ("idem", signal)
    assert made.request(config()) == request
    bare = Operation("GET", "/x", read)
    assert bare.idempotency_key is None
    assert signal_request(signal, Config(KEY, "https://x.example/p")) == made.request(
        Config(KEY, "https://x.example/p")
    )


def test_what_reads_an_answer_must_be_callable() -> None:
    anything: Any = "x"
    with pytest.raises(ValidationError, match=r"^read: must be callable, not str"):
        Operation("GET", "/x", anything)
    with pytest.raises(ValidationError, match=r"^read_taken: must be callable, not str"):
        Operation("GET", "/x", read, read_taken=anything)


BAD_PATHS: list[object] = [
    *("", "x", "api/v1/x", "@evil.example/x", "//evil.example/x", "https://evil.example/", "/a@b", "/x?a=@"),
    *(
        "/a b",
        "/a\tb",
        "/a\r\nX: 1",
        "/a\0",
        "/a\x7f",
        "/é",
        "/a\\b",
        "/a#b",
        "/a%2",
        "/a%zz",
        '/a"b',
        "/a<b>",
    ),
    *("/..", "/.", "/a/../b", "/a/./b", "/a/..?b=1", "/api/v1/a b", None, 5, b"/x"),
]


@pytest.mark.parametrize("path", BAD_PATHS)
def test_a_path_that_some_transport_would_take_for_another_is_refused(path: Any) -> None:
    why = "must begin with a single / and be percent-encoded|must not be blank|must be a string"
    with pytest.raises(ValidationError, match=rf"^path: ({why})"):
        Operation("GET", path, read)


@pytest.mark.parametrize(
    "path", ["/", "/x", "/a.b/..c/...", "/%2F%C3%a9", "/x?", "/x?a=b&c=%20+*?/..", "/-._~!$&'()*+,;=:/"]
)
def test_what_a_path_may_be(path: str) -> None:
    assert Operation("GET", path, read).request(config()).target == path


@pytest.mark.parametrize(
    ("argument", "given"),
    [
        ("method", {"method": "get"}),
        ("method", {"method": "GET / HTTP/1.1"}),
        ("method", {"method": None}),
        ("read", {"read": None}),
        ("body", {"body": "{}"}),
        ("replay_safe", {"replay_safe": 1}),
    ],
)
def test_an_operation_that_can_not_be_sent_is_refused_when_it_is_made(
    argument: str, given: dict[str, Any]
) -> None:
    make: Any = Operation
    with pytest.raises(ValidationError, match=rf"^{argument}: "):
        make(**{"method": "GET", "path": "/x", "read": read, **given})


# Pages


PagesByCursor: TypeAlias = dict[str | None, tuple[Sequence[int], str | None]]


class Shelf:
    """Pages by cursor, and which cursors were asked for."""

    def __init__(self, pages: PagesByCursor) -> None:
        self.pages = pages
        self.asked: list[str | None] = []

    def fetch(self, cursor: str | None) -> Operation[tuple[Sequence[int], str | None]]:
        self.asked.append(cursor)

        def read_page(payload: Payload) -> tuple[Sequence[int], str | None]:
            return self.pages[cursor]

        return Operation("GET", f"/x?cursor={cursor}", read_page)

    def collect(self) -> list[int]:
        pages = Pages(self.fetch)
        items: list[int] = []
        while (operation := pages.next()) is not None:
            page = operation.read({})
            assert not isinstance(page, ClockNextError)
            items += pages.items(page)
        assert pages.next() is None
        return items


NOTHING: Sequence[int] = ()
SHELVES: list[tuple[PagesByCursor, list[int], list[str | None]]] = [
    ({None: ([1, 2], None)}, [1, 2], [None]),
    ({None: ([1], "")}, [1], [None]),
    ({None: (NOTHING, None)}, [], [None]),
    ({None: ([1], "a"), "a": ([2], "b"), "b": ([3], None)}, [1, 2, 3], [None, "a", "b"]),
    ({None: (NOTHING, "a"), "a": (NOTHING, "b"), "b": ([3], "")}, [3], [None, "a", "b"]),
]


@pytest.mark.parametrize(("pages", "items", "asked"), SHELVES)
def test_pages_are_followed_to_their_end(
    pages: PagesByCursor, items: list[int], asked: list[str | None]
) -> None:
    shelf = Shelf(pages)
    assert shelf.collect() == items
    assert shelf.asked == asked


def test_a_cursor_that_leads_to_itself_is_an_error_and_not_an_endless_loop() -> None:
    shelf = Shelf({None: ([1], "a"), "a": ([2], "a")})
    with pytest.raises(ClockNextError) as caught:
        shelf.collect()
    assert str(caught.value) == "Pagination loop: the server repeated a cursor."
    assert shelf.asked == [None, "a"]


def test_an_end_that_is_told_twice_is_the_end() -> None:
    pages = Pages(Shelf({}).fetch)
    for cursor in (None, None, "", ""):
        assert pages.items(([1], cursor)) == [1]
        assert pages.next() is None


def test_the_next_page_can_be_asked_for_again_until_it_is_taken() -> None:
    shelf = Shelf({None: ([1], "a"), "a": ([2], None)})
    pages = Pages(shelf.fetch)
    first, again = pages.next(), pages.next()
    assert first is not None
    assert again is not None
    assert first.path == again.path
    page = first.read({})
    assert not isinstance(page, ClockNextError)
    pages.items(page)
    assert shelf.asked == [None, None]


def test_ever_new_cursors_end_with_an_error() -> None:
    pages = Pages(Shelf({}).fetch)
    for number in range(MAX_PAGES - 1):
        assert pages.items(([number], f"cursor-{number}")) == [number]
    with pytest.raises(ClockNextError, match=r"^The server sent 100000 pages and more: narrow the search"):
        pages.items(([1], "another"))
    followed: set[int] = vars(pages)["_followed"]
    assert sum(map(sys.getsizeof, followed)) < 10_000_000


def test_ever_new_cursors_of_empty_pages_end_soon() -> None:
    pages = Pages(Shelf({}).fetch)
    for number in range(999):
        assert pages.items(([], f"cursor-{number}")) == []
    assert pages.items(([1], "a")) == [1]
    for number in range(999):
        assert pages.items(([], f"other-{number}")) == []
    with pytest.raises(ClockNextError, match=r"^The server sent 1000 empty pages in a row"):
        pages.items(([], "b"))


def test_a_cursor_has_a_greatest_length() -> None:
    pages = Pages(Shelf({}).fetch)
    assert pages.items(([1], "x" * 4096)) == [1]
    with pytest.raises(ClockNextError, match=r"^The server sent a cursor of 4097 characters"):
        pages.items(([1], "y" * 4097))
