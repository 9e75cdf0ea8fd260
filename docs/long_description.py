"""The long description of the distribution: README.md, with the names of files in place of links to them.

An index shows it without the repository, where a relative link leads nowhere. The files are in the source
distribution, under the same names.
"""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

LINK = re.compile(r"(?<!!)\[(?P<text>[^\]\n]+)\]\((?P<file>(?![a-z]+:|#)[^)\s#]+)(?P<anchor>#[^)\s]*)?\)")
"""A link to a file: neither to an address nor within the page."""
NOTE = "Files named here are in the source distribution.\n\n"


def long_description(readme: str) -> str:
    """Return the text of README.md for an index."""

    def name(link: re.Match[str]) -> str:
        text, file = link["text"], link["file"]
        return f"`{file}`" if text == file else f"{text} (`{file}`)"

    title, blank, rest = LINK.sub(name, readme).partition("\n\n")
    return f"{title}{blank}{NOTE}{rest}"


class Hook(MetadataHookInterface):
    """Gives the field `readme`."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set it."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": long_description(text)}
