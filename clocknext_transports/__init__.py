"""Clients and transports of the ClockNext SDK: the part that does I/O, over `clocknext_core`.

`ClockNext` is for threads, `AsyncClockNext` for asyncio, `TrioClockNext` for trio. Each is imported when it
is first asked for, so none loads what another one needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clocknext_core import __version__ as __version__
    from clocknext_transports.asyncio import AsyncClockNext as AsyncClockNext
    from clocknext_transports.sync import ClockNext as ClockNext
    from clocknext_transports.trio import TrioClockNext as TrioClockNext
else:
    # Hidden from type checkers, which would take it for leave to import any name.
    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            client: object = getattr(import_module(_HOMES[name]), name)
        except ModuleNotFoundError as error:
            if error.name != "trio":
                raise
            hint = f"{name} needs trio: pip install 'clocknext[trio]'"
            raise ModuleNotFoundError(hint, name=error.name) from None
        globals()[name] = client
        return client


__all__ = ["AsyncClockNext", "ClockNext"]  # a star import must not need trio

_HOMES = {
    "ClockNext": "clocknext_transports.sync",
    "AsyncClockNext": "clocknext_transports.asyncio",
    "TrioClockNext": "clocknext_transports.trio",
    "__version__": "clocknext_core",
}


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
