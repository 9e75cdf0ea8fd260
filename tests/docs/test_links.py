"""Links of the pages beside the code lead to files and headings that there are; Sphinx checks docs/."""

import re
from pathlib import Path

import pytest

from tests.docs import README, ROOT

PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", ROOT / "CHANGELOG.md"]
LINK = re.compile(r"\]\((?P<file>[^)\s#]*)(?:#(?P<anchor>[^)\s]*))?\)")


def anchors_of(page: Path) -> set[str]:
    """The anchors that a repository's viewer gives to the headings of a page."""
    headings = re.findall(r"(?m)^#+ (.*)$", page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"(?ms)^```.*?^```$", "", page.read_text(encoding="utf-8"))
    dead = list[str]()
    for found in LINK.finditer(text):
        if "://" in found["file"] or found["file"].startswith("mailto:"):
            continue
        target = page.parent / found["file"] if found["file"] else page
        if not target.exists() or (found["anchor"] and found["anchor"] not in anchors_of(target)):
            dead.append(found[0])
    assert dead == []
