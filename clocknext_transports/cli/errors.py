"""Failures that a command reports in one line."""

import click


class CannotStartError(click.ClickException):
    """What was asked for can't be done here and now: a key that is missing, a port that is taken."""

    exit_code = 2
