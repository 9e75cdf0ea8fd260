"""`clocknext doctor`: what is wrong with key, address and clock, and what to do about it."""

import os
import platform
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version

import click

from clocknext_core import CheckReport, ClockNextError, __version__
from clocknext_transports import ClockNext
from clocknext_transports.cli.connection import Connection, with_connection
from clocknext_transports.cli.tables import json_option, print_json, say
from clocknext_transports.client import environment

_OPTIONAL = ("h11", "trio", "httpx", "h2", "opentelemetry-api")


@click.command(short_help="What is wrong with key, address and clock, and what to do.")
@with_connection(max_attempts=1)
@json_option
def doctor(connection: Connection, *, as_json: bool) -> None:
    """Ask the service once who the key belongs to, and say what is wrong and what to do about it.

    It checks the address, the API key, the clock, and whether the organisation is a sandbox or live. Nothing
    is billed.

    \b
    Exit status
    0  nothing is wrong
    1  something is
    2  wrong usage, such as no key
    """  # noqa: D301 - click's mark of a block to leave as it is
    with connection.client(ClockNext, on_retry=_ignore, may_be_disabled=True) as client:
        report = client.check()
        proxy = _proxy(client)
    if as_json:
        print_json({**asdict(report), "ok": report.ok})
    else:
        _show(connection, report, proxy)
    click.get_current_context().exit(0 if report.ok else 1)


def _show(connection: Connection, report: CheckReport, proxy: str) -> None:
    say(f"clocknext {__version__}, Python {platform.python_version()}, {_installed()}")
    say(f"key: {_source(connection.api_key, '--api-key', environment.API_KEY)}")
    say(f"address from: {_source(connection.base_url, '--base-url', environment.BASE_URL)}")
    say(f"proxy: {proxy}")
    for line in str(report).splitlines():
        say(line)
    say("Nothing is wrong." if report.ok else "See the problems above.")


def _installed() -> str:
    return ", ".join(f"{name} {_version(name)}" for name in _OPTIONAL)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _source(option: str | None, name: str, variable: str) -> str:
    if option is not None:
        return name
    return variable if os.environ.get(variable) else "not set"


def _proxy(client: ClockNext) -> str:
    try:
        return "none" if environment.proxy_for(client.config.origin) is None else "named by the environment"
    except ClockNextError as error:
        return error.message


def _ignore(event: object) -> None:
    """Say nothing of retries: a check is sent once."""
