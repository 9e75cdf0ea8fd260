"""What a test gives the catalogue, the ledger and the faults is checked where it is given."""

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from random import Random
from typing import Any

import pytest

from clocknext_transports.emulator import (
    Catalogue,
    Completion,
    Credit,
    Customer,
    Fault,
    Faults,
    Ledger,
    Listed,
    Model,
    Outcome,
    Plan,
    Step,
    Tier,
    Unit,
    model_server,
    scripted,
)
from clocknext_transports.emulator.models.service import ModelService


def of(kind: Any, /, *args: Any, **kwargs: Any) -> Callable[[], object]:
    """Return the call, to be made later."""
    return lambda: kind(*args, **kwargs)


def entered(make: Callable[..., AbstractContextManager[object]], given: object) -> object:
    """Start a server."""
    return make(given).__enter__()


LOST = Fault("lost")
PATHS = "such as '/api/v1/usage' or '/api/v1/*'"
MISTAKES = [
    (of(Credit, "api_credit", 0), "The base_price of the credit 'api_credit' must be above 0; not 0."),
    (of(Credit, "c", -1), "The base_price of the credit 'c' must be above 0; not -1."),
    (of(Credit, "c", "much"), "The base_price of the credit 'c' must be a number; not 'much'."),
    (of(Credit, "c", float("nan")), "The base_price of the credit 'c' must be a finite number; not nan."),
    (of(Credit, "c", True), "The base_price of the credit 'c' must be a number; not True."),
    (of(Credit, "c", None), "The base_price of the credit 'c' must be a number; not None."),
    (of(Credit, "c", 1, price=-1), "The price of the credit 'c' must be at least 0; not -1."),
    (of(Credit, "c", 1, []), "The margin_percent of the credit 'c' must be a number; not []."),
    (of(Credit, 7, 1), "The key of a credit must be a string; not 7."),
    (of(Credit, " ", 1), "The key of a credit must not be blank."),
    (of(Model, "m", -1, 1), "The input of the model 'm' must be at least 0; not -1."),
    (of(Model, "m", 1, "-1"), "The output of the model 'm' must be at least 0; not '-1'."),
    (of(Model, "m", 1, 1, -0.5), "The cache of the model 'm' must be at least 0; not -0.5."),
    (of(Model, None, 1, 1), "The id of a model must be a string; not None."),
    (of(Listed, "openai", "m", -1), "The input of the listed model 'm' must be at least 0; not -1."),
    (of(Listed, 7, "m"), "The provider of a listed model must be a string; not 7."),
    (of(Outcome, "o", "first", 1), "The steps of the outcome 'o' must be a list or tuple; not 'first'."),
    (of(Outcome, "o", [7], 1), "The steps of the outcome 'o' must each be a str or a Step; not 7."),
    (of(Outcome, "o", ["s"], -1), "The price of the outcome 'o' must be at least 0; not -1."),
    (of(Unit, "u", flat_price=-1), "The flat_price of the unit 'u' must be at least 0; not -1."),
    (
        of(Unit, "u", tiers=Tier(1, 1)),
        "The tiers of the unit 'u' must be a list or tuple; not Tier(up_to=1, price=1).",
    ),
    (of(Unit, "u", "BAND"), "The pricing of the unit 'u' must be one of FLAT, SLAB, VOLUME; not 'BAND'."),
    (of(Plan, ""), "The id of a plan must not be blank."),
    (of(Plan, "p", wallet="x"), "The wallet of the plan 'p' must be a number; not 'x'."),
    (of(Plan, "p", units={"u": "x"}), "The units of the plan 'p' must have numbers; 'u' has 'x'."),
    (of(Customer, 7), "The id of a customer must be a string; not 7."),
    (
        of(Customer, "x", credits=["gold"]),
        "The credits of the customer 'x' must be a mapping of ids to numbers, as {'c': 9}; not ['gold'].",
    ),
    (
        of(Customer, "x", credits={"c": None}),
        "The credits of the customer 'x' must have numbers; 'c' has None.",
    ),
    (of(Customer, "x", outcomes={1: 1}), "The outcomes of the customer 'x' must have ids; not 1."),
    (
        of(Customer, "x", wallet=float("inf")),
        "The wallet of the customer 'x' must be a finite number; not inf.",
    ),
    (of(Catalogue, customers=["x"]), "The customers of a catalogue must each be a Customer; not 'x'."),
    (of(Catalogue, customers="x"), "The customers of a catalogue must be a list or tuple; not 'x'."),
    (of(Catalogue, models=["gpt-4o"]), "The models of a catalogue must each be a Model; not 'gpt-4o'."),
    (of(Catalogue, models=None), "The models of a catalogue must be a list or tuple; not None."),
    (of(Catalogue, credits={"c": 1}), "The credits of a catalogue must be a list or tuple; not {'c': 1}."),
    (of(Catalogue, listed=[7]), "The listed of a catalogue must each be a Listed; not 7."),
    (of(Catalogue, default_plan=7), "The default_plan of a catalogue must be a string; not 7."),
    (
        of(Catalogue, customers=[Customer("a"), Customer("b"), Customer("a", wallet=1)]),
        "The customers of a catalogue must differ; two are called 'a'.",
    ),
    (
        of(Catalogue, models=[Model("GPT-X", 1, 1), Model("gpt-x", 2, 2)]),
        "The models of a catalogue must differ; two are called 'gpt-x'.",
    ),
    (
        of(Catalogue, credits=[Credit("c", 1), Credit("c", 2)]),
        "The credits of a catalogue must differ; two are called 'c'.",
    ),
    (
        of(Catalogue, customers=[Customer("a", credits={"nope": 5})]),
        "The customer 'a' has credits that the catalogue lacks: 'nope'. It has 'api_credit', 'chat_credit'.",
    ),
    (
        of(Catalogue, units=(), customers=[Customer("a", units={"nope": 5})]),
        "The customer 'a' has units that the catalogue lacks: 'nope'. It has none.",
    ),
    (
        of(Ledger, {}),
        "A Ledger takes a Catalogue: Ledger(Catalogue(customers=[…])); it got a dict.",
    ),
    (
        of(Ledger, "cnk_1"),
        "A Ledger takes a Catalogue: Ledger(Catalogue(customers=[…])); it got a str.",
    ),
    (
        of(Ledger().renew, []),
        "A Ledger takes a Catalogue: Ledger(Catalogue(customers=[…])); it got a list.",
    ),
    (of(Ledger().add_customer, "x"), "The customer to add must be a Customer; not 'x'."),
    (of(Ledger().add_model, "x"), "The model to add must be a Model; not 'x'."),
    (of(Ledger().add_credit, "x"), "The credit to add must be a Credit; not 'x'."),
    (of(Ledger().add_outcome, "x"), "The outcome to add must be an Outcome; not 'x'."),
    (of(Ledger().add_unit, "x"), "The unit to add must be a Unit; not 'x'."),
    (of(Ledger().add_plan, "x"), "The plan to add must be a Plan; not 'x'."),
    (of(Faults, 7), "Faults() takes a Random: Faults(Random(7)); not 7."),
    (of(Faults, 0), "Faults() takes a Random: Faults(Random(7)); not 0."),
    *(
        (of(add, *arguments, **where), f"The {name} of a fault must be the {name} of a request, {message}")
        for add, arguments in ((Faults().script, (LOST,)), (Faults().chance, (0.5, LOST)))
        for where, name, message in (
            ({"method": "post"}, "method", "such as 'POST'; not 'post'."),
            ({"method": 5}, "method", "such as 'POST'; not 5."),
            ({"path": "api/v1/usage"}, "path", f"{PATHS}; not 'api/v1/usage'."),
            ({"path": "/api/v1/usage?a=1"}, "path", f"{PATHS}; not '/api/v1/usage?a=1'."),
            ({"path": ["/api"]}, "path", f"{PATHS}; not ['/api']."),
        )
    ),
    (of(Completion, 5), "The text of a completion must be of type str; not 5."),
    (of(Completion, input_tokens="3"), "The input_tokens of a completion must be of type int; not '3'."),
    (of(Completion, output_tokens=1.5), "The output_tokens of a completion must be of type int; not 1.5."),
    (of(Completion, cached_tokens=True), "The cached_tokens of a completion must be of type int; not True."),
    (of(Completion, model=1), "The model of a completion must be of type str or None; not 1."),
    (of(Completion, has_usage=1), "The has_usage of a completion must be of type bool; not 1."),
    (of(Completion, delay="1"), "The delay of a completion must be of type int or float; not '1'."),
    (of(Completion, tool_calls="x"), "The tool_calls of a completion must be a list or tuple; not 'x'."),
    (of(Completion, tool_calls=["x"]), "The tool_calls of a completion must each be a ToolCall; not 'x'."),
    (of(entered, model_server, "x"), "The answers of a model server must each be a Completion; not 'x'."),
    (of(ModelService().script, []), "The answers of a model server must each be a Completion; not []."),
    (of(entered, scripted, "x"), "The answers of a scripted server must be a list or tuple; not 'x'."),
]


@pytest.mark.parametrize(("call", "message"), MISTAKES, ids=[message for _, message in MISTAKES])
def test_a_mistake_is_named_where_it_is_made(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()


def test_a_customer_who_is_not_in_a_list_is_shown_in_short() -> None:
    customers: Any = Customer("x")
    with pytest.raises(
        ValueError, match=r"^The customers of a catalogue must be a list or tuple; not Cust.{1,60}\.$"
    ):
        Catalogue(customers=customers)


def test_an_unknown_customer_is_named_with_some_that_are_known() -> None:
    with pytest.raises(KeyError, match=r"No customer 'zz'; there are 'a'\."):
        Ledger(Catalogue(customers=[Customer("a")])).balance("zz", "api_credit")
    with pytest.raises(KeyError, match=r"No customer 'zz'; there are none\."):
        Ledger(Catalogue(customers=())).balance("zz")
    many = Ledger(Catalogue(customers=[Customer(f"c{n}") for n in range(9)]))
    with pytest.raises(KeyError, match=r"there are 'c0', 'c1', 'c2', 'c3', 'c4' and 4 more\."):
        many.balance("zz")


def test_what_a_customer_does_not_hold_is_named_with_what_they_do() -> None:
    ledger = Ledger(Catalogue(customers=[Customer("a", wallet=1, credits={"api_credit": 1}), Customer("b")]))
    with pytest.raises(KeyError, match=r"Customer 'a' holds no 'gold'; they hold 'wallet', 'api_credit'\."):
        ledger.balance("a", "gold")
    with pytest.raises(KeyError, match=r"Customer 'b' holds no 'wallet'; they hold none\."):
        ledger.balance("b")


def test_what_is_right_stays_right() -> None:
    Credit("c", "0.01", price=0)
    Model("m", 0, 0.0, "0")
    Outcome("o", ("a", Step("b", "B")), 0)
    Unit("u", "SLAB", tiers=[Tier(None, 1)])
    Customer("c", wallet=-1, credits={"x": "0.5"})
    Faults(Random(7))
    # The default customers and plans hold the default credits, and stay where a test gives its own credits.
    ledger = Ledger(Catalogue(credits=[Credit("mine", 1)]))
    assert ledger.balance("cus_low") > 0
    # A definition's id, where it is another than its key, is what customers hold.
    own = Catalogue(credits=[Credit("key", 1, id="id")], customers=[Customer("a", credits={"id": 3})])
    assert Ledger(own).balance("a", "key") == 3
