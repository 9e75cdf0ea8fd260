"""Failures that a command reports in one line."""

import click

from clocknext_core import AuthError, ClockNextError
from clocknext_transports.cli.tables import one_line
from clocknext_transports.cli.tally import describe


class CannotStartError(click.ClickException):
    """What was asked for can't be done here and now: a key that is missing, a port that is taken."""

    exit_code = 2


class CallFailedError(click.ClickException):
    """The service refused a call, or could not be reached.

    Args:
        error: How it failed.
        hint: What to do about it, a sentence. For a key that is not accepted there is one already.
    """

    exit_code = 2

    def __init__(self, error: ClockNextError, hint: str = "") -> None:
        if isinstance(error, AuthError):
            hint = "The key is that of --api-key, else of CLOCKNEXT_API_KEY."
        super().__init__(" ".join(filter(None, (one_line(describe(error)), hint))))
