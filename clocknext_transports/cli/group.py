"""The command `clocknext`: its sub-commands, and how all of them treat errors and Ctrl-C."""

import errno
import io
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import click

from clocknext_core import __version__
from clocknext_core.text import printable
from clocknext_transports.cli.balances import balances
from clocknext_transports.cli.customers import customers
from clocknext_transports.cli.demo import demo
from clocknext_transports.cli.doctor import doctor
from clocknext_transports.cli.emulator import emulator
from clocknext_transports.cli.explain import usage_commands
from clocknext_transports.cli.models import models
from clocknext_transports.cli.outbox import outbox
from clocknext_transports.cli.send import send
from clocknext_transports.cli.spool import spool
from clocknext_transports.cli.tables import say
from clocknext_transports.cli.verify import verify
from clocknext_transports.cli.whoami import whoami
from clocknext_transports.process.log import logger

_HELP: Any = getattr(click.exceptions, "NoArgsIsHelpError", ())
"""How click, from 8.2 on, shows the help of a group that is called without a command."""
_QUIET = logging.NullHandler()
"""Keeps Python from printing the client's warnings on stderr: the commands say the same in their own way."""
INTERRUPTED = 130
"""Exit status after Ctrl-C: 128 and the number of SIGINT, as shells count."""


CANT_WRITE = 2
"""Exit status where the output can't be written."""
_CANT_WRITE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="clocknext")
def cli() -> None:
    """Usage metering and billing with ClockNext: a demo, an emulator, sending, look-ups.

    \b
    clocknext demo                    see it work: no account, no network, no settings
    clocknext emulator                a ClockNext on this machine, for development and tests
    clocknext doctor                  what is wrong with key, address and clock, and what to do
    clocknext verify usage.jsonl      what the signals of a file would cost; bills nothing
    clocknext send usage.jsonl        deliver signals from a file, each billed once
    clocknext spool list PATH         signals that dead processes left on disk; `spool replay` delivers them
    clocknext outbox relay URL        deliver what transactions committed to an outbox in PostgreSQL
    clocknext usage ID                what a customer used, and what it cost
    clocknext usage explain FILE      what a model's response would be billed as, and why
    """  # noqa: D301 - click's mark of a block to leave as it is


_COMMANDS = (
    demo,
    emulator,
    doctor,
    send,
    verify,
    spool,
    outbox,
    whoami,
    models,
    customers,
    balances,
    usage_commands,
)
for _command in _COMMANDS:
    cli.add_command(_command)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status.

    Args:
        arguments: Default: the process's.
    """
    logger.addHandler(_QUIET)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a customer's name must not end a run
    try:
        # Without standalone mode, the argument of `Context.exit` is returned.
        status: object = cli.main(arguments, prog_name="clocknext", standalone_mode=False)
    except click.ClickException as error:
        if not isinstance(error, _HELP):
            # It may quote an argument, such as the name of a file. Its type is final, its value is not.
            vars(error)["message"] = printable(error.message)
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        say("Stopped.", err=True)
        return INTERRUPTED
    except OSError as error:
        if error.errno not in _CANT_WRITE:
            raise
        return _cant_write(error)
    try:
        sys.stdout.flush()
    except OSError as error:
        return _cant_write(error)
    return status if isinstance(status, int) else 0


def _cant_write(error: OSError) -> int:
    """Say that the output can't be written, and keep the interpreter from trying again at its end."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    with suppress(OSError):
        say(f"The output can't be written: {error.strerror}.", err=True)
    return CANT_WRITE
