"""The page on security: each protection has a test, and the test is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text("utf-8")


def test_each_protection_names_a_test_that_exists() -> None:
    tables = re.findall(r"\| protection \| test \|\n\|---\|---\|\n((?:\|.*\n)+)", PAGE)
    rows = [row for table in tables for row in table.splitlines()]
    assert len(rows) > 30
    for row in rows:
        named = re.fullmatch(r"\| .+ \| `(tests/[\w/]+\.py)::(test_\w+)` \|", row)
        assert named is not None, row
        source = (ROOT / named[1]).read_text("utf-8")
        assert re.search(rf"^(async )?def {named[2]}\(", source, re.MULTILINE), row


def test_the_policy_says_how_to_report() -> None:
    policy = (ROOT / "SECURITY.md").read_text("utf-8")
    for heading in ("## Report a weakness", "## In scope", "## Out of scope"):
        assert heading in policy
