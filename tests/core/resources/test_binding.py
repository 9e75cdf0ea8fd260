"""How a method is bound: pages in both worlds, and what a resource shows of itself."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Any, TypedDict, Unpack, assert_type

import pytest

from clocknext_core import EncodedSignal, Operation, ValidationError, WalletSignal
from clocknext_core.models import Customer, TrackResult
from clocknext_core.operations import Pages, path_of
from clocknext_core.resources.binding import Async, Blocking, Resource, S, endpoint, paged, recording
from clocknext_core.resources.customers import Customers
from clocknext_core.resources.payloads import nothing
from clocknext_core.resources.signals import SignalRecords, Signals
from clocknext_core.signals import encode
from tests.core.resources.support import FakeClient, unchecked

PAGES: tuple[dict[str, object], ...] = (
    {"ok": True, "customers": [{"id": "1"}, {"id": "2"}], "nextCursor": "b"},
    {"ok": True, "customers": [], "nextCursor": "c"},
    {"ok": True, "customers": [{"id": "3"}]},
)


class Book(FakeClient):
    """A client of threads that answers with page after page."""

    def __init__(self) -> None:
        super().__init__()
        self.pages = iter(PAGES)

    def run(self, operation: Operation[Any], /) -> Any:
        self.answer = next(self.pages)
        return super().run(operation)

    @property
    def targets(self) -> list[str]:
        return [request.target for request in self.requests]

    def __repr__(self) -> str:
        return "<a book>"


class AsyncBook:
    """The same for asyncio and trio."""

    is_async = True
    cancellations: tuple[type[BaseException], ...] = ()

    def __init__(self) -> None:
        self.book = Book()

    async def run(self, operation: Operation[Any], /) -> Any:
        return self.book.run(operation)

    def record(self, encoded: EncodedSignal, wait: bool | None = None, /) -> Any:
        raise AssertionError("nothing is recorded here")

    def hold(self, encoded: EncodedSignal, /) -> None:
        raise AssertionError("no test here holds a signal")

    def make_key(self) -> str:
        return "made"


def customers_of(runner: Book | AsyncBook) -> Any:
    """The customers of either, to be called as the checkers would not have it."""
    customers: Customers[Any] = Customers(runner)
    return customers


TARGETS = [
    "/api/v1/customers?limit=2&q=x",
    "/api/v1/customers?limit=2&q=x&cursor=b",
    "/api/v1/customers?limit=2&q=x&cursor=c",
]


def test_pages_are_fetched_as_their_items_are_asked_for() -> None:
    book = Book()
    customers: Customers[Blocking] = Customers(book)
    items = assert_type(customers.iterate(limit=2, q="x"), Iterator[Customer])
    assert book.targets == []
    assert [next(items).id, next(items).id] == ["1", "2"]
    assert book.targets == TARGETS[:1]
    assert [each.id for each in items] == ["3"]
    assert book.targets == TARGETS


def test_pages_are_fetched_as_their_items_are_awaited() -> None:
    book = AsyncBook()
    customers: Customers[Async] = Customers(book)

    async def main() -> None:
        items = assert_type(customers.iterate(limit=2, q="x"), AsyncIterator[Customer])
        assert book.book.targets == []
        assert [(await anext(items)).id, (await anext(items)).id] == ["1", "2"]
        assert book.book.targets == TARGETS[:1]
        assert [each.id async for each in items] == ["3"]
        assert book.book.targets == TARGETS

    asyncio.run(main())


@pytest.mark.parametrize("runner", [Book(), AsyncBook()], ids=["blocking", "async"])
def test_a_bad_argument_of_a_paged_method_is_an_error_at_the_call(runner: Book | AsyncBook) -> None:
    customers = customers_of(runner)
    with pytest.raises(ValidationError, match=r"^limit: "):
        customers.iterate(limit=-1)


@pytest.mark.parametrize(
    ("runner", "returns"), [(Book(), Iterator[Customer]), (AsyncBook(), AsyncIterator[Customer])]
)
def test_a_paged_method_says_what_it_returns(runner: Book | AsyncBook, returns: object) -> None:
    bound = customers_of(runner).iterate
    signature = inspect.signature(bound)
    assert signature.return_annotation == returns
    assert bound.__annotations__["return"] == returns
    assert list(signature.parameters) == ["limit", "q"]
    assert not inspect.iscoroutinefunction(bound)


class Shelf(Resource[S]):
    """A resource whose paged method takes an argument by position."""

    segment = "shelves"

    @paged
    def books(self, shelf: str, /, *, limit: int) -> Pages[str]:
        """Go through a shelf."""

        def fetch(cursor: str | None) -> Operation[tuple[list[str], str | None]]:
            return Operation("GET", path_of(self.segment, shelf, query={"limit": limit}), read)

        def read(payload: object) -> tuple[list[str], str | None]:
            return [shelf], None

        return Pages(fetch)


def test_a_paged_method_is_given_its_arguments() -> None:
    book, async_book = Book(), AsyncBook()
    shelf: Shelf[Blocking] = Shelf(book)
    async_shelf: Shelf[Async] = Shelf(async_book)
    assert list(shelf.books("a", limit=5)) == ["a"]

    async def main() -> list[str]:
        return [each async for each in async_shelf.books("a", limit=5)]

    assert asyncio.run(main()) == ["a"]
    assert book.targets == async_book.book.targets == ["/api/v1/shelves/a?limit=5"]


def test_a_bound_method_says_where_it_comes_from() -> None:
    client = FakeClient()
    for bound, kind in (
        (client.customers.get, Customers),
        (client.customers.iterate, Customers),
        (client.signals.credit, SignalRecords),
    ):
        name = unchecked(bound).__name__
        assert unchecked(bound).__qualname__ == f"{kind.__name__}.{name}"
        assert unchecked(bound).__module__ == kind.__module__
        assert bound.__doc__ == vars(kind)[name].__doc__
        assert len(bound.__doc__ or "") > 50
    assert inspect.signature(client.signals.credit).return_annotation is TrackResult


def test_a_resource_shows_whose_it_is() -> None:
    assert repr(customers_of(Book())) == "<Customers of <a book>>"


def test_on_the_class_a_method_is_its_descriptor() -> None:
    assert isinstance(Customers.iterate, paged)
    assert isinstance(Customers.get, endpoint)
    assert isinstance(FakeClient().signals.__class__.track, recording)


def test_a_method_is_bound_once() -> None:
    customers = FakeClient().customers
    assert customers.get is customers.get
    assert customers.get is not FakeClient().customers.get
    signals = FakeClient().signals
    assert signals.credit is signals.credit
    assert signals.credit is not FakeClient().signals.credit


def test_a_method_that_records_is_itself_in_threads_and_a_coroutine_function_elsewhere() -> None:
    given: list[tuple[EncodedSignal, bool | None]] = []

    class AsyncClient:
        is_async = True
        cancellations: tuple[type[BaseException], ...] = ()

        def run(self, operation: Operation[Any], /) -> Any:
            raise AssertionError("nothing is carried out here")

        async def record(self, encoded: EncodedSignal, wait: bool | None = None, /) -> Any:
            given.append((encoded, wait))
            return TrackResult({}, idempotency_key="k")

        def hold(self, encoded: EncodedSignal, /) -> None:
            raise AssertionError("nothing is held here")

        def make_key(self) -> str:
            return "made"

    signals: Signals[Async] = Signals(AsyncClient())
    plain = FakeClient().signals.track
    assert inspect.iscoroutinefunction(signals.track)
    assert not inspect.iscoroutinefunction(plain)
    assert inspect.signature(signals.track) == inspect.signature(plain)
    assert signals.track.__annotations__["return"] is TrackResult
    assert signals.track is signals.track
    signal = WalletSignal(customer_id="c", model="m")
    assert asyncio.run(signals.track(signal, wait=True)).idempotency_key == "k"
    assert given == [(encode(signal, lambda: "made"), True)]


class Fields(TypedDict):
    needed: int


class Undocumented(Resource[S]):
    """A resource as `python -OO` leaves one: its methods have no docstrings."""

    @endpoint
    def make(self, **fields: Unpack[Fields]) -> Operation[None]:
        return Operation("POST", path_of(*fields), nothing)


def test_a_method_without_a_docstring_has_its_signature_all_the_same() -> None:
    client = FakeClient()
    undocumented: Undocumented[Blocking] = Undocumented(client)
    assert str(inspect.signature(undocumented.make)) == "(*, needed: int) -> None"
    assert undocumented.make.__doc__ is None
    undocumented.make(needed=1)
    assert client.requests[0].target == "/api/v1/needed"


def test_completion_shows_what_applications_call() -> None:
    client = FakeClient()

    assert [name for name in dir(client.portal) if not name.startswith("_")] == ["create_token"]
    assert {"runner", "start_call"}.isdisjoint(dir(client.signals))
    assert {"credit", "from_stream", "list", "__class__"} <= {*dir(client.signals)}
