"""The reference has a page with an example for each resource, and each model on one of the pages."""

import inspect
import re

import pytest

from clocknext_core import models
from clocknext_core.models import Model
from clocknext_transports import ClockNext
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


def test_nothing_is_on_two_pages() -> None:
    assert sorted(set(DOCUMENTED)) == sorted(DOCUMENTED)
