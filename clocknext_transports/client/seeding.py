"""Seeded work: a task that is retried or delivered again finds its keys again."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar

from clocknext_core.usage.seeds import Seed

_seed: ContextVar[Seed | None] = ContextVar("clocknext_seed", default=None)

current_seed: Callable[[], Seed | None] = _seed.get
"""Returns what makes the keys of the work that is being done in this context; `None`: they are random."""


@contextmanager
def seeded(text: str) -> Generator[Seed, None, None]:
    """Make the keys of a block from a text, such as the id of a task, for all clients.

    It is for keys of signals and ids of runs that are not given, and for calls to models whose responses have
    no id. The block done again, in this process or another, makes the same keys, so that nothing is billed
    twice. Tasks of an event loop that start in the block, and threads that run in a copy of its context, make
    their keys by it as well. Record signals of one kind (type, customer and key) in the same order each time.

    Args:
        text: 1 to 255 characters: the id of the work, which no other work may have.

    Raises:
        ValidationError: It is no such text.
    """
    seed = Seed(text)
    before = _seed.get()
    _seed.set(seed)
    try:
        yield seed
    finally:
        if _seed.get() is seed:  # a generator may end in another context than it began in
            _seed.set(before)
