"""Keys that are found again: work that is done twice makes the same keys twice."""

from itertools import count
from typing import Final

from clocknext_core.checks import check_id
from clocknext_core.usage.exchange import digest

_KIND: Final = ("customerId", "key", "agentKey")


class Seed:
    """Makes the keys of one piece of work, such as a task, from its id.

    The same work done again makes the same keys, so that the server bills them once: the first signal of a
    kind has the same key as the first of that kind before. Signals of other kinds (type, customer, key of the
    credit or outcome) don't count, so that work which takes another path the second time loses none.

    It holds no lock: taking an ordinal is a single step of the interpreter.

    Args:
        text: The id of the work, 1 to 255 characters; it must not be that of other work.

    Raises:
        ValidationError: It is no such text.
    """

    def __init__(self, text: str) -> None:
        self.text: str = check_id("seed", text)
        self._ordinals: dict[tuple[object, ...], count[int]] = {}

    def __repr__(self) -> str:
        return f"<Seed {self.text!r}>"

    def key(self, *kind: object) -> str:
        """Make the next key of a kind."""
        return digest("seed", self.text, *kind, next(self._ordinals.setdefault(kind, count(1))))

    def key_of(self, signal_type: str, body: dict[str, object]) -> str:
        """Make the key of a signal, from its body."""
        return self.key("signal", signal_type, *(body.get(name) for name in _KIND))
