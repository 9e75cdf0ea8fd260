"""The reference has a page with an example for each resource, and each model on one of the pages."""

import inspect
import re
from collections.abc import Iterator, Sequence
from typing import Unpack, get_args, get_origin, get_type_hints

import pytest

from clocknext_core import models
from clocknext_core.models import Model
from clocknext_core.resources.binding import endpoint
from clocknext_core.signals import OutcomeFields
from clocknext_transports import ClockNext
from clocknext_transports.client.base import ClientBase
from fuzz.targets.answers import OPERATIONS
from tests.docs import DOCS

RESOURCES_PACKAGE = "clocknext_core.resources."
REFERENCE = DOCS / "api"
PAGES = {page.stem: page.read_text(encoding="utf-8") for page in REFERENCE.glob("*.md")}
DOCUMENTED = re.findall(r"^\.\. autoclass:: ([\w.]+)", "\n".join(PAGES.values()), re.MULTILINE)


def _resources() -> dict[str, type[object]]:
    """Return the resources of a client, by the attribute they are."""
    with ClockNext("cnk_test", base_url="http://127.0.0.1:1") as cnk:
        kinds: dict[str, type[object]] = {name: type(value) for name, value in vars(cnk).items()}
    return {name: kind for name, kind in kinds.items() if kind.__module__.startswith(RESOURCES_PACKAGE)}


RESOURCES = _resources()


@pytest.mark.parametrize("name", RESOURCES)
def test_a_resource_has_a_page_with_an_example_of_its_use(name: str) -> None:
    resource = RESOURCES[name]

    assert f".. autoclass:: {resource.__module__}.{resource.__qualname__}()\n" in PAGES[name]
    assert re.search(rf"^```python\n.*?\bcnk\.{name}\.\w+\(.*?^```$", PAGES[name], re.MULTILINE | re.DOTALL)
    assert f"| [`{name}`]({name}.md) |" in PAGES["resources"]


def test_every_model_is_on_one_page() -> None:
    names = {
        model.__name__
        for _, model in inspect.getmembers(models, inspect.isclass)
        if issubclass(model, Model) and model is not Model
    }
    shown = [name.rpartition(".")[2] for name in DOCUMENTED if name.startswith("clocknext_core.models.")]

    assert sorted(set(shown) - {"Items"}) == sorted(names)


def test_the_fields_of_every_write_are_on_the_page_of_its_resource() -> None:
    written: set[str] = set()
    for name, resource in RESOURCES.items():
        for _, member in inspect.getmembers(resource, lambda each: isinstance(each, endpoint)):
            for annotation in member.build.__annotations__.values():
                if get_origin(annotation) is Unpack and get_args(annotation)[0] is not OutcomeFields:
                    written |= {f"{name}: {kind}" for kind in _with_rows(get_args(annotation)[0])}
    shown = {
        f"{name}: {kind}"
        for name, page in PAGES.items()
        for kind in re.findall(
            r"^\.\. autoclass:: (clocknext_core\.resources\.\w+\.\w+)\(\)", page, re.MULTILINE
        )
    }
    assert len(written) > 12
    assert written <= shown


def _with_rows(fields: type[object]) -> Iterator[str]:
    """Name the class of some fields, and those of the rows of which one of the fields is a list."""
    yield f"{fields.__module__}.{fields.__qualname__}"
    for annotation in get_type_hints(fields).values():
        if get_origin(annotation) is Sequence:
            yield from _with_rows(get_args(annotation)[0])


def test_the_calls_that_return_the_whole_payload_are_listed() -> None:
    whole = {
        f"{name[0].lower()}{name[1:]}"
        for name, operation in OPERATIONS.items()
        if isinstance(result := operation.read({"ok": True}), Model) and "ok" in result.raw
    }
    _, _, text = PAGES["resources"].partition("So these have `ok` in `.raw`")
    assert {*re.findall(r"`(\w+\.\w+)`", text.partition("\n\n")[0])} == whole


def test_what_completion_leaves_out_is_listed() -> None:
    _, _, text = PAGES["clients"].partition("<!-- what completion leaves out -->")
    table = text.partition("<!-- end of what is left out -->")[0]

    assert set(re.findall(r"^\| `(\w+)", table, re.MULTILINE)) == ClientBase._unlisted  # pyright: ignore[reportPrivateUsage]


def test_nothing_is_on_two_pages() -> None:
    assert sorted(set(DOCUMENTED)) == sorted(DOCUMENTED)
