"""Tables in README.md and docs/ agree with the code."""

import inspect
from ast import literal_eval
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest

from clocknext_core import (
    Answer,
    BatchPolicy,
    ClockNextError,
    Config,
    Failure,
    Request,
    Response,
    RetryPolicy,
)
from clocknext_core import errors as errors_module
from clocknext_core.envelope import open_answer
from clocknext_core.errors import OTHER_RULE, SERVER_RULE, STATUS_TABLE, ErrorRule, classify
from clocknext_core.operations import USAGE_PATH
from clocknext_transports import AsyncClockNext, ClockNext, TrioClockNext
from clocknext_transports.emulator import Fault, FaultKind
from tests.docs import DOCS, README

CONFIGURATION = DOCS / "configuration.md"
CONFIG = Config("cnk_test")


def _rows(page: Path) -> list[list[str]]:
    """Return the cells of every table row of a page."""
    lines = page.read_text(encoding="utf-8").splitlines()
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("| ")
    ]


def _arguments() -> dict[str, object]:
    """Return every argument of the constructor and of the policies with its default."""
    parameters = inspect.signature(ClockNext).parameters.values()
    return {
        **{parameter.name: parameter.default for parameter in parameters},
        **{field.name: field.default for field in (*fields(BatchPolicy), *fields(RetryPolicy))},
    }


@pytest.mark.parametrize("page", [CONFIGURATION, README], ids=lambda page: page.name)
def test_every_argument_is_there_with_its_default(page: Path) -> None:
    arguments = _arguments()
    documented = {
        name: literal_eval(row[1].strip("`"))
        for row in _rows(page)
        if (name := row[0].strip("`")) in arguments
    }

    assert documented == arguments


def test_the_constructors_of_all_three_worlds_are_alike() -> None:
    signatures = [inspect.signature(client) for client in (ClockNext, AsyncClockNext, TrioClockNext)]

    assert signatures[0] == signatures[1] == signatures[2]


def _rule_of(answer: Answer) -> ErrorRule:
    request = Request("POST", USAGE_PATH, CONFIG.origin, CONFIG.json_headers, b"{}")
    error = open_answer(answer, request=request, config=CONFIG)
    assert isinstance(error, ClockNextError)
    return type(error), error.retryable


def _row(status: str, rule: ErrorRule) -> list[str]:
    kind, retryable = rule
    return [status, f"`{kind.__name__}`", "yes" if retryable else "no"]


def test_the_error_table_is_the_codes() -> None:
    rows = _rows(DOCS / "errors.md")
    table = rows[: rows.index(next(row for row in rows if row[0] == "attribute"))]
    expected = [["status", "class", "retryable"]]
    for status, rule in STATUS_TABLE.items():
        expected.append(_row(str(status), rule))
        if status == 422:
            insufficient = classify(422, "Insufficient balance.")
            expected.append(_row('422, the message says "insufficient"', insufficient))
    expected += [
        _row("5xx", SERVER_RULE),
        _row("no answer", _rule_of(Failure("The connection was refused."))),
        _row("a 2xx that is not the API's JSON object", _rule_of(Response(200, (), b"<html></html>"))),
        _row("anything else", OTHER_RULE),
    ]

    assert table == expected


def test_every_error_class_is_named() -> None:
    classes = [
        each
        for each in vars(errors_module).values()
        if isinstance(each, type) and issubclass(each, ClockNextError)
    ]
    text = (DOCS / "errors.md").read_text(encoding="utf-8")

    assert [each.__name__ for each in classes if f"`{each.__name__}`" not in text] == []


def test_every_fault_is_there() -> None:
    rows = {row[0].strip("`"): row[-1] for row in _rows(DOCS / "emulator.md")}
    kinds: tuple[FaultKind, ...] = get_args(FaultKind)

    assert {kind: rows.get(kind) for kind in kinds} == {
        kind: "yes" if Fault(kind).commits else "no" for kind in kinds
    }
