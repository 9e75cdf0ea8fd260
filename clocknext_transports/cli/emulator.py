"""`clocknext emulator`: a ClockNext on this machine, in the foreground."""

import sys
from functools import partial
from random import Random
from typing import cast, get_args

import click

from clocknext_core import Config
from clocknext_transports.cli.errors import CannotStartError
from clocknext_transports.client import environment
from clocknext_transports.emulator import (
    AcceptOnly,
    EmulatorServer,
    Fault,
    FaultKind,
    Faults,
    Ledger,
    ModelService,
    run,
)


def _fault_chances(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> list[tuple[Fault, float]]:
    """Parse `NAME=PROBABILITY`: a kind of fault or an HTTP status, and its probability."""
    chances: list[tuple[Fault, float]] = []
    for value in values:
        name, equals, probability = value.partition("=")
        if not (equals and name and _is_number(probability)):
            problem = f"{value!r}: give NAME=PROBABILITY, such as 503=0.1; 503=1 hits every request."
            raise click.BadParameter(problem, context, parameter)
        try:
            fault = Fault("status", int(name)) if name.isdecimal() else Fault(cast("FaultKind", name))
            chances.append((fault, float(probability)))
        except ValueError as error:
            raise click.BadParameter(f"{value!r}: {error}", context, parameter) from None
    return chances


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


@click.command(short_help="A ClockNext on this machine, for development and tests.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8787,
    show_default=True,
    help="TCP port; 0: a free one.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on. The emulator is not made for a network: use loopback only.",
)
@click.option(
    "--fault",
    "chances",
    metavar="NAME=PROBABILITY",
    multiple=True,
    callback=_fault_chances,
    help="A fault and its probability, such as 503=0.1 or lost=0.1. May be repeated.",
)
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="The same seed and order of requests give the same faults.",
)
@click.option(
    "--accept-only",
    type=click.Choice(get_args(AcceptOnly)),
    help="Answer signals with 202 and unpriced, as the newer ingest does in this state.",
)
@click.option(
    "--allow-host",
    "allow_hosts",
    metavar="NAME",
    multiple=True,
    help="A name with a dot by which a browser may open the page. May be repeated.",
)
@click.option(
    "--lines/--quiet",
    default=None,
    help="Print a line for each signal, or none. Default: a line if the output is a terminal.",
)
@click.option(
    "--models", is_flag=True, help="Answer as OpenAI, Anthropic and Gemini too, with made-up usage."
)
def emulator(
    *,
    port: int,
    host: str,
    chances: list[tuple[Fault, float]],
    seed: int,
    accept_only: AcceptOnly | None,
    allow_hosts: tuple[str, ...],
    lines: bool | None,
    models: bool,
) -> None:
    """Run a ClockNext on this machine that bills by the real formulas, until Ctrl-C.

    The ledger can be watched in a browser, at the address that is printed. On a terminal each signal is a
    line as well.
    Any HTTP client can use it. Its state is in memory and can be read over HTTP; it is lost when the
    emulator ends.

    Faults: a status such as 503 or 429; lost (billed, but the answer is lost); reset; latency (1 s); html,
    empty or array (200, but not the API's answer); truncated, drip, surplus, stale, gzip, huge. POST
    /_emulator/faults adds more while it runs.
    """
    faults = Faults(Random(seed))  # noqa: S311 - chance for tests, not for secrets
    try:
        for fault, probability in chances:
            faults.chance(probability, fault)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--fault") from None
    ledger = Ledger(accept_only=accept_only)
    try:
        host.encode("idna")  # binding to what can't be encoded raises a TypeError
        run(
            ledger,
            faults,
            port=port,
            host=host,
            allow_hosts=allow_hosts,
            models=ModelService() if models else None,
            # A program that starts the emulator may never read its output: a full pipe would stop the server.
            on_signal=click.echo if (sys.stdout.isatty() if lines is None else lines) else None,
            on_listening=partial(_introduce, models=models),
        )
    except OSError as error:
        raise CannotStartError(f"Can't listen on {host} port {port}: {error.strerror}.") from None
    except UnicodeError:
        raise CannotStartError(f"Can't listen on {host} port {port}: it is no host name.") from None
    click.echo(f"Stopped. Requests: {ledger.counters.requests:,}; signals billed: {len(ledger.signals):,}.")


def _introduce(server: EmulatorServer, *, models: bool) -> None:
    key, url = server.api_key, server.url
    click.echo(
        f"""\
ClockNext emulator at {url}
Ledger: {server.page_url} (open it in a browser)
API key: {key}

For the SDK and `clocknext send`:
  export {environment.BASE_URL}={url}
  export {environment.API_KEY}={key}

With curl:
  curl {url}/api/v1/usage -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' \\
    -d '{{"customerId": "cus_123", "type": "wallet", "model": "gpt-4o", "inputTokens": 1200}}'
  curl {url}/_emulator/ledger
"""
    )
    if models:
        click.echo(
            f"""\
For the SDKs of model providers, with any key:
  export OPENAI_BASE_URL={url}/v1
  export ANTHROPIC_BASE_URL={url}
  export GOOGLE_GEMINI_BASE_URL={url}
"""
        )
    origin = Config(key, base_url=url, allow_insecure_http=True).origin
    if environment.proxy_for(origin):
        click.echo(f"The environment names a proxy. Around it:\n  export NO_PROXY={origin.host}\n")
    click.echo("Ctrl-C stops it.")
