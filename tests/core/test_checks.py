"""Checks of arguments return what they were given, and show of a bad one no more than a little."""

import pytest

from clocknext_core import ValidationError
from clocknext_core.checks import (
    MAX_INT,
    check_bool,
    check_email,
    check_id,
    check_int,
    check_number,
    check_seconds,
    check_text,
    shown,
)
from clocknext_core.errors import unexpected
from clocknext_core.signals import make_signal


def test_what_is_right_is_returned_as_it_is() -> None:
    assert check_text("a", " x ") == " x "
    assert check_id("a", "x" * 255) == "x" * 255
    assert check_email("a", "a@b") == "a@b"
    assert [check_int("a", value, least=0) for value in (0, MAX_INT)] == [0, MAX_INT]
    assert [check_bool("a", value) for value in (True, False)] == [True, False]
    assert [check_number("a", value) for value in (-1, 0.5)] == [-1, 0.5]
    assert [check_seconds("a", value) for value in (0, 0.5)] == [0, 0.5]
    assert check_seconds("a", 0.1, positive=True) == 0.1


@pytest.mark.parametrize(
    ("value", "wrong"),
    [(7, "must be a string, not int"), (" ", "must not be blank"), ("a@", "must be an e-mail address")],
)
def test_what_is_no_address_is_told_for_what_it_is(value: object, wrong: str) -> None:
    with pytest.raises(ValidationError, match=rf"^a: {wrong}$"):
        check_email("a", value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("x", "'x'"),
        ("'", '"\'"'),
        ("x" * 60, repr("x" * 60)),
        ("x" * 61, repr("x" * 59 + "…")),
        (7, "an object of type int"),
        (None, "an object of type NoneType"),
    ],
)
def test_a_bad_value_is_shown_if_it_is_a_text_and_cut_if_it_is_long(value: object, text: str) -> None:
    assert shown(value) == text


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("idempotency", "idempotency_key"),
        ("token", "tokens"),
        ("memeber", "member"),
        ("costum", "custom"),
        ("colour", None),
    ],
)
def test_an_unknown_keyword_is_told_from_the_one_that_is_meant(given: str, meant: str | None) -> None:
    hint = f"; did you mean {meant!r}?" if meant else ""
    with pytest.raises(TypeError) as caught:
        make_signal("wallet", {"customer_id": "c", "model": "m", given: "x"})
    assert str(caught.value) == f"got an unexpected keyword argument {given!r}{hint}"


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("customer", "did you mean 'customer_id'?"),
        ("output_tokens", "did you mean tokens={'output': …}?"),
        ("timestamp", "a signal has no time of its own: the service records when it arrives"),
    ],
)
def test_an_argument_that_others_have_is_told_what_stands_for_it(given: str, hint: str) -> None:
    with pytest.raises(TypeError) as caught:
        make_signal("wallet", {"customer_id": "c", "model": "m", given: "x"})
    assert str(caught.value) == f"got an unexpected keyword argument {given!r}; {hint}"
    assert str(unexpected(given, ["retry"])) == f"got an unexpected keyword argument {given!r}"


def test_the_hint_may_say_how_what_is_meant_is_given_and_to_what() -> None:
    known = {"retries": "retry=…"}
    assert str(unexpected("retires", known, function="f()")) == (
        "f() got an unexpected keyword argument 'retires'; did you mean retry=…?"
    )
    assert (
        str(unexpected("colour", known, function="f()")) == "f() got an unexpected keyword argument 'colour'"
    )
