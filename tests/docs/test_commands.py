"""Every command in README.md, docs/ and their examples is one that there is, with options that it has."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from clocknext_transports.cli.explain import UsageGroup
from clocknext_transports.cli.group import cli as main
from tests.docs import DOCS, README, ROOT
from tests.docs.test_examples import blocks_of

yaml: Any = pytest.importorskip("yaml", reason="the manifest is read with PyYAML")
SHELL = {"sh", "bash", "console", "text"}
_INLINE = re.compile(r"`(clocknext [a-z][^`\n]*)`")
_PROGRAM = re.compile(r"^(?:\S*/)?clocknext$")
_BREAKS = {"&&", "||", "|", ";"}


def commands_in(text: str) -> Iterator[list[str]]:
    """The words of each command in a line of a shell, from `clocknext` on."""
    words = shlex.split(text, comments=True)
    while words:
        first = next((place for place, word in enumerate(words) if _PROGRAM.match(word)), None)
        if first is None:
            return
        rest = words[first + 1 :]
        end = next((place for place, word in enumerate(rest) if word in _BREAKS), len(rest))
        yield rest[:end]
        words = rest[end:]


def commands_of(page: Path) -> Iterator[tuple[str, list[str]]]:
    """The commands of a page, each with the line that it is in."""
    for block in blocks_of(page):
        if block.info in SHELL:
            for line in block.code.replace("\\\n", " ").splitlines():
                for words in commands_in(line.removeprefix("$ ")) if "clocknext" in line else ():
                    yield line, words
    for found in _INLINE.finditer(page.read_text(encoding="utf-8")):
        for words in commands_in(found[1]):
            yield found[0], words


def what_is_wrong(words: list[str]) -> str | None:
    """Say which command or option there is not."""
    command: click.Command = main
    left = [word for word in words if word not in ("…", "...")]
    while isinstance(command, click.Group) and left and not left[0].startswith("--"):
        with click.Context(command) as context:
            if isinstance(command, UsageGroup) and left[0] not in command.commands:
                left.insert(0, "of")  # as it does itself
            try:
                _, found, left = command.resolve_command(context, left)
            except click.UsageError:
                return f"there is no {left[0]!r}"
        assert found is not None  # else it is an error
        command = found
    with click.Context(command) as context:
        options = {
            name for each in command.get_params(context) for name in (*each.opts, *each.secondary_opts)
        }
    given = [word.partition("=")[0].rstrip(",.") for word in left if word.startswith("--")]
    unknown = [name for name in given if name not in options]
    return f"{command.name} has no {', '.join(unknown)}" if unknown else None


PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted(DOCS.glob("**/*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_on_a_page_are_real(page: Path) -> None:
    wrong = [f"{line}: {what}" for line, words in commands_of(page) if (what := what_is_wrong(words))]
    assert wrong == []


def test_the_unit_and_the_manifest_start_what_there_is() -> None:
    unit = (DOCS / "examples" / "clocknext-relay.service").read_text(encoding="utf-8")
    (started,) = re.findall(r"(?m)^ExecStart=(.*)$", unit)
    (manifest,) = yaml.safe_load_all((DOCS / "examples" / "relay.yaml").read_text(encoding="utf-8"))
    (container,) = manifest["spec"]["template"]["spec"]["containers"]
    for words in (shlex.split(started), container["args"]):
        (command,) = commands_in(shlex.join(words))
        assert command[:2] == ["outbox", "relay"]
        assert what_is_wrong(command) is None
        with main.make_context("clocknext", [*command, "--help"], resilient_parsing=True):
            pass
        relay: Any = main.commands["outbox"]
        relay.commands["relay"].make_context(
            "relay", [*command[2:], "postgresql://u@h/d", "--api-key", "cnk_x"]
        )


def test_what_there_is_not_is_found() -> None:
    assert what_is_wrong(["outbox", "rely", "URL"]) == "there is no 'rely'"
    assert what_is_wrong(["outbox", "relay", "--concurency", "3"]) == "relay has no --concurency"
    assert [*commands_in("pip install x && .venv/bin/clocknext demo --open # shows it")] == [
        ["demo", "--open"]
    ]
    assert sum(1 for page in PAGES for _ in commands_of(page)) > 50
