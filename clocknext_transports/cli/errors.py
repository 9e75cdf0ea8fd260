"""Failures that a command reports in one line."""

import click

from clocknext_core import AuthError, ClockNextError, NetworkError
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
        hint: What to do after that, a sentence; it is left out where the key is not accepted.
    """

    exit_code = 2

    def __init__(self, error: ClockNextError, hint: str = "") -> None:
        after = "" if isinstance(error, AuthError) else hint
        super().__init__(" ".join(filter(None, (describe(error), what_to_do(error), after))))


def what_to_do(error: ClockNextError) -> str:
    """Return what to do about an error in a sentence; empty where that is not known."""
    if isinstance(error, AuthError):
        return WHOSE_KEY
    if isinstance(error, NetworkError):
        return "Check --base-url, else CLOCKNEXT_BASE_URL, the network and the proxies."
    return error.hint or ""
