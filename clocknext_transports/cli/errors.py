"""Failures that a command reports in one line."""

import click

from clocknext_core import AuthError, ClockNextError
from clocknext_core.text import printable
from clocknext_transports.cli.tally import describe

WHOSE_KEY = "The key is that of --api-key, else of CLOCKNEXT_API_KEY."


class CannotStartError(click.ClickException):
    """The command can't begin: a key is missing, a port is taken, a file can't be read.

    Args:
        message: What is wrong, a sentence.
    """

    exit_code = 2

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class CallFailedError(click.ClickException):
    """The service refused a call, or could not be reached.

    Args:
        error: How it failed.
        hint: What to do about it, a sentence. A key that is not accepted has a hint of its own.
    """

    exit_code = 2

    def __init__(self, error: ClockNextError, hint: str = "") -> None:
        if isinstance(error, AuthError):
            hint = WHOSE_KEY
        super().__init__(" ".join(filter(None, (describe(error), hint))))
