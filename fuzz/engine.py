"""One target under atheris, in a process of its own: `python -m fuzz.engine TARGET ARGUMENT...`.

It ends with status 0 when the time is up, and with another on a finding, after writing it to a file.
"""

import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Protocol, cast

from fuzz.inputs import load

INSTRUMENTED = ("clocknext_core", "clocknext_transports", "fuzz", "h11")
"""The targets count as well: much of what is tested is tables, and what came of them is seen in checks."""


class Atheris(Protocol):
    """The part of atheris that is used; it comes without types."""

    def instrument_imports(self, include: Sequence[str]) -> AbstractContextManager[None]:
        """Count branches in the packages that are imported in the block."""
        ...

    def Setup(self, arguments: Sequence[str], check: Callable[[bytes], None]) -> object:  # noqa: N802
        """Take libFuzzer's arguments and what to call."""
        ...

    def Fuzz(self) -> None:  # noqa: N802
        """Fuzz until the time is up or something is found; ends the process."""
        ...


def main(name: str, arguments: Sequence[str]) -> None:
    """Fuzz one target.

    Args:
        name: The target.
        arguments: libFuzzer's: folders of inputs, the first of which new ones are written to, and options.
    """
    atheris = cast("Atheris", import_module("atheris"))
    with atheris.instrument_imports(include=INSTRUMENTED):
        target = load(name)
    # To merge, libFuzzer starts itself again through the shell, by its first argument.
    itself = f"{shlex.quote(sys.executable)} -m fuzz.engine {name}"
    atheris.Setup([itself, *arguments], target.check)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
