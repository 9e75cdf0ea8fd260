"""The pure half of a client: what three drivers would otherwise each decide for themselves."""

from collections.abc import Callable
from typing import TypeVar

from clocknext_core.backoff import RandomSource
from clocknext_core.call import Call
from clocknext_core.checks import check_bool
from clocknext_core.config import Config
from clocknext_core.errors import ClockNextError
from clocknext_core.operations import Operation
from clocknext_core.outbox import Outbox
from clocknext_core.signals import EncodedSignal, Signal, encode
from clocknext_core.spooled import SpooledOutbox

T = TypeVar("T")


class Engine:
    """A client without its I/O: configuration, buffer, randomness and keys.

    A driver asks it what to do with a call, then drives the machine it gets.

    Args:
        config: The client's configuration.
        rng: Randomness for the jitter, such as a `random.Random`.
        make_key: Makes a new idempotency key: unique, 1 to 255 characters.
    """

    def __init__(self, config: Config, *, rng: RandomSource, make_key: Callable[[], str]) -> None:
        self.config = config
        self.outbox: Outbox | SpooledOutbox = make_outbox(config, rng)
        """The buffer. With a spool the `poll` of the spool's keeper takes the place of its own."""
        self._rng = rng
        self.make_key = make_key

    def call(self, operation: Operation[T]) -> Call[T]:
        """Begin an operation; drive the `Call` until it has settled.

        Raises:
            ClockNextError: The client is closed, or disabled.
        """
        if self.config.disabled:
            raise ClockNextError(
                "The client is disabled (disabled=True, or CLOCKNEXT_DISABLED is set): it sends nothing, so "
                "there is no answer to this call."
            )
        if self.outbox.is_closing:
            raise ClockNextError("The client is closed: make another one.")
        return Call(operation, self.config, self._rng, self.outbox.gate)

    def encode(self, signal: Signal) -> EncodedSignal:
        """Fix a signal's bytes, and its idempotency key where it has none.

        Raises:
            ValidationError: It is not a signal, or can't be sent; see `signals.encode_body`.
        """
        return encode(signal, self.make_key)

    def is_awaited(self, wait: bool | None) -> bool:
        """Return whether the call that records a signal waits for the server's answer.

        Where it does, drive `call(signal_operation(encoded))`; else give the signal to `outbox.record`.

        Args:
            wait: What the call said; `None`: as the client's mode says.

        Raises:
            ValidationError: `wait` is not a bool.
        """
        is_awaited = self.config.mode == "sync" if wait is None else check_bool("wait", wait)
        return is_awaited and not self.config.disabled  # else the outbox drops it


def make_outbox(config: Config, rng: RandomSource) -> Outbox | SpooledOutbox:
    """Make the buffer that a configuration asks for."""
    return Outbox(config, rng) if config.spool_window is None else SpooledOutbox(config, rng)
