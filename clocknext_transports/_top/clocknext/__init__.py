"""The one name to import: everything that an application needs from the ClockNext SDK.

    from clocknext import AllowanceError, BatchPolicy, ClockNext, Tokens

Re-exports every public name of `clocknext_core`, and the three clients of `clocknext_transports`. A client is
imported when its name is first used, so that `ClockNext` loads no event loop and works without trio.
`from clocknext import *` leaves out `TrioClockNext`, which needs the optional package trio.
"""

from typing import TYPE_CHECKING

import clocknext_core
from clocknext_core import *  # noqa: F403 - `__all__` of the core is the list, and stands there alone

if TYPE_CHECKING:
    from clocknext_transports import AsyncClockNext as AsyncClockNext
    from clocknext_transports import ClockNext as ClockNext
    from clocknext_transports import TrioClockNext as TrioClockNext
else:
    # Hidden from type checkers: with a module `__getattr__` they would accept any name.
    def __getattr__(name: str) -> object:
        import clocknext_transports

        if name not in {*clocknext_transports.__all__, "TrioClockNext"}:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = client = getattr(clocknext_transports, name)
        return client

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__, "TrioClockNext"})


__all__: list[str] = ["AsyncClockNext", "ClockNext"]
__all__ += clocknext_core.__all__
