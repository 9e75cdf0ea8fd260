"""The type of click's decorators, where one is shared by several commands."""

from collections.abc import Callable
from typing import Protocol, TypeVar

CommandT = TypeVar("CommandT", bound=Callable[..., object])


class Decorator(Protocol):
    """Add an option or an argument to a command."""

    def __call__(self, command: CommandT, /) -> CommandT:
        """Return the command."""
        ...
