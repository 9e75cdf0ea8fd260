"""Mistakes in setting up an integration of a server: refused at once, or told in words that help."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from clocknext import AsyncClockNext, ClockNext, ValidationError
from clocknext_transports.integrations.asgi import ClockNextMiddleware, billed_to
from clocknext_transports.integrations.flask import init_app
from clocknext_transports.integrations.hosting import block_for
from clocknext_transports.integrations.watching import starting
from tests.frameworks.support import needs


@pytest.fixture
def cnk() -> Iterator[ClockNext]:
    with ClockNext(disabled=True) as client:
        yield client


def by_middleware(cnk: ClockNext, **details: Any) -> object:
    app: Any = print
    return ClockNextMiddleware(app, cnk, customer=lambda scope: "cus_123", **details)


def by_dependency(cnk: ClockNext, **details: Any) -> object:
    pytest.importorskip("fastapi")
    return billed_to(cnk, lambda: "cus_123", **details)


def by_flask(cnk: ClockNext, **details: Any) -> None:
    flask = pytest.importorskip("flask")
    init_app(flask.Flask("shop"), cnk, customer=lambda: "cus_123", **details)


def start_calls(cnk: ClockNext) -> object:
    """Every integration of an SDK begins its calls with this."""
    return starting(cnk, {}, "openai")


@pytest.mark.parametrize("set_up", [by_middleware, by_dependency, by_flask, start_calls])
@pytest.mark.parametrize("given", [None, "cnk_key", str])
def test_what_is_no_client_is_refused_at_once(set_up: Callable[..., object], given: object) -> None:
    with pytest.raises(ValidationError, match=r"^cnk: must be a client of ClockNext, not an object of type "):
        set_up(given)


@pytest.mark.parametrize("set_up", [by_middleware, by_dependency, by_flask, start_calls])
@pytest.mark.parametrize("given", [ClockNext, AsyncClockNext])
def test_a_class_in_place_of_a_client_is_told_so(set_up: Callable[..., object], given: type) -> None:
    name = given.__name__
    with pytest.raises(ValidationError, match=rf"^cnk: is the class {name}: make a client, {name}\(\)$"):
        set_up(given)


@pytest.mark.parametrize("set_up", [by_middleware, by_dependency, by_flask])
@pytest.mark.parametrize(
    ("details", "error", "said"),
    [
        ({"credit": "chat"}, TypeError, "unexpected keyword argument 'credit'"),
        ({"keys": "chat"}, TypeError, "unexpected keyword argument 'keys'; did you mean 'key'?"),
        ({"key": 5}, ValidationError, "^key: "),
        ({"type": "wallets"}, ValidationError, "^type: "),
        ({"key": "chat", "custom": {"__proto__": 1}}, ValidationError, "^custom"),
    ],
)
def test_details_that_no_request_could_be_billed_by_are_refused_at_once(
    cnk: ClockNext, set_up: Callable[..., object], details: Any, error: type[Exception], said: str
) -> None:
    pytest.importorskip("fastapi")
    with pytest.raises(error, match=said):
        set_up(cnk, **details)
    set_up(cnk, type="wallet", member="a@b.c")
    set_up(cnk, key="chat.step", type="outcome", custom={"a": 1})
    set_up(cnk)  # the customer's function may give the key


@pytest.mark.parametrize(
    ("customer", "details", "said"),
    [
        (5, {"key": "chat"}, "customer: must return a customer's id, which is a string, a mapping"),
        ({"customer": "cus_123"}, {"key": "chat"}, "customer: must return a mapping with customer_id"),
        ({"customer_id": "cus_123", "keys": "chat"}, {}, "'keys'; did you mean 'key'?"),
        ("cus_123", {}, "key: is required, but for type='wallet': give it where the integration is set up"),
        ({"customer_id": "cus_123", "type": "credit"}, {}, "key: is required"),
    ],
)
def test_what_a_function_says_of_the_customer_is_refused_in_words_that_name_it(
    cnk: ClockNext, caplog: pytest.LogCaptureFixture, customer: Any, details: Any, said: str
) -> None:
    with block_for(cnk, customer, details):
        assert cnk.billed_here() is None
    assert said in caplog.text
    assert "billing()" not in caplog.text


@pytest.mark.parametrize("customer", ["cus_123", {"customer_id": "cus_123", "key": "chat"}])
def test_a_function_that_says_who_is_billed_is_believed(cnk: ClockNext, customer: Any) -> None:
    with block_for(cnk, customer, {"key": "chat"}):
        billed = cnk.billed_here()
    assert billed is not None
    assert (billed.customer_id, billed.key) == ("cus_123", "chat")


@needs("fastapi")
def test_a_dependency_without_depends_says_so(cnk: ClockNext) -> None:
    fastapi: Any = pytest.importorskip("fastapi")
    app = fastapi.FastAPI()
    with pytest.raises(TypeError, match=r"Depends\(billed_to\(…\)\)"):
        app.get("/chat", dependencies=[billed_to(cnk, lambda: "cus_123", key="chat")])(print)


def test_a_function_that_is_none_is_refused(cnk: ClockNext) -> None:
    nothing: Any = None
    for set_up in (partial(init_app, None), billed_to):
        with pytest.raises(ValidationError, match=r"^customer: must be a function"):
            set_up(cnk, customer=nothing)


@needs("fastapi")
def test_a_coroutine_function_is_refused_where_nothing_awaits_it(cnk: ClockNext) -> None:
    async def customer() -> str:
        return "cus_123"

    awaited: Any = customer
    with pytest.raises(ValidationError, match=r"^customer: must be a plain function"):
        init_app(None, cnk, customer=awaited)
    billed_to(cnk, customer)


def of_a_request(request: Any) -> str:
    return str(request.user)


def of_nothing() -> str:
    return "cus_123"


def test_a_function_that_can_not_be_called_is_refused_where_it_is_given(cnk: ClockNext) -> None:
    given: Any = of_a_request
    called = "customer: must take what it is called with"
    with pytest.raises(ValidationError, match=f"^{called}, which is no argument"):
        init_app(None, cnk, customer=given)
    nothing: Any = of_nothing
    with pytest.raises(ValidationError, match=rf"^{called}, by position: \(scope\)"):
        ClockNextMiddleware(nothing, cnk, customer=nothing)


@pytest.mark.parametrize("name", ["custmer", "customer_id"])
def test_a_misspelt_customer_is_told_so(cnk: ClockNext, name: str) -> None:
    app: Any = print
    given: Any = of_nothing
    with pytest.raises(TypeError, match=f"argument '{name}'; did you mean 'customer'\\?$"):
        ClockNextMiddleware(app, cnk, **{name: given})


@needs("flask")
def test_what_is_no_application_of_flask_is_refused(cnk: ClockNext) -> None:
    flask: Any = pytest.importorskip("flask")

    def customer() -> str:
        return "cus_123"

    for given, kind in ((None, "NoneType"), ("shop", "str"), (flask.Flask, "type"), (print, "builtin_funct")):
        said = f"^app: must be an application of Flask, or a blueprint, not an object of type {kind}"
        with pytest.raises(ValidationError, match=said):
            init_app(given, cnk, customer=customer)
    shop = flask.Flask("shop")
    with shop.app_context():
        init_app(flask.current_app, cnk, customer=customer)
    init_app(flask.Blueprint("chat", "shop"), cnk, customer=customer)
