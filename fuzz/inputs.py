"""Where inputs are, and how one is replayed: without the fuzzer, on any version of Python."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

ROOT = Path(__file__).parent
TARGETS = ("answers", "retry_after", "http11", "lines", "outbox", "emulator", "origins")


class Target(Protocol):
    """What a module of a target has."""

    __doc__: str
    MAX_BYTES: int
    TOKENS: tuple[bytes, ...]
    check: Callable[[bytes], None]


def load(name: str) -> Target:
    """Import a target."""
    return cast("Target", import_module(f"fuzz.targets.{name}"))


def corpus(name: str) -> Path:
    """Return the folder of inputs that together reach what the target can reach."""
    return ROOT / "corpus" / name


def findings(name: str) -> Path:
    """Return the folder of inputs that once failed."""
    return ROOT / "findings" / name


def committed(name: str) -> list[Path]:
    """List a target's inputs."""
    return [path for folder in (corpus(name), findings(name)) for path in sorted(folder.glob("*"))]
