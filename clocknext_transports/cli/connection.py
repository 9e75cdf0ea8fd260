"""The connection of a command: options for the address and the key, and the client made of them."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import TypeVar

import click
from rich.console import Console
from rich.text import Text

from clocknext_core import BatchPolicy, ClockNextError, Retrying, RetryPolicy
from clocknext_transports import ClockNext, TrioClockNext
from clocknext_transports.cli.errors import CallFailedError, CannotStartError
from clocknext_transports.cli.progress import retry_note
from clocknext_transports.client import environment
from clocknext_transports.client.hooks import OnRetry

R = TypeVar("R")
ClientT = TypeVar("ClientT", ClockNext, TrioClockNext)


@dataclass(frozen=True, slots=True)
class Connection:
    """The values of the options."""

    api_key: str | None = field(repr=False)
    base_url: str | None
    allow_insecure_http: bool
    timeout: float
    max_attempts: int

    def client(
        self,
        kind: type[ClientT],
        *,
        concurrency: int = 1,
        max_queue_size: int = 10_000,
        on_retry: OnRetry,
        may_be_disabled: bool = False,
    ) -> ClientT:
        """Make a client.

        Args:
            kind: Its class.
            concurrency: Most attempts in flight.
            max_queue_size: Most signals held.
            on_retry: Its hook.
            may_be_disabled: Whether the command has something to say of a client that sends nothing.

        Raises:
            CannotStartError: There is no key, an option has a bad value, or the client is switched off.
        """
        if not may_be_disabled:
            check_switched_on()
        try:
            return kind(
                self.api_key,
                base_url=self.base_url,
                timeout=self.timeout,
                batch=BatchPolicy(max_concurrency=concurrency, max_queue_size=max_queue_size),
                retry=RetryPolicy(max_attempts=self.max_attempts),
                on_retry=on_retry,
                allow_insecure_http=self.allow_insecure_http,
            )
        except ClockNextError as error:
            message = error.message
            if "allow_insecure_http=True" in message:
                message += " On the command line: --allow-insecure-http."
            raise CannotStartError(message) from None

    @contextmanager
    def opened(self) -> Generator[ClockNext, None, None]:
        """Have a client for single calls for as long as the `with` block lasts.

        Raises:
            CannotStartError: As in `client`.
            CallFailedError: A call in the block failed.
        """
        console = Console(stderr=True)

        def on_retry(event: Retrying) -> None:
            # On a terminal a user waits and wants to know why; elsewhere the line of the error is enough.
            if console.is_terminal:
                console.print(Text(retry_note(event)), soft_wrap=True)

        with self.client(ClockNext, on_retry=on_retry) as client:
            try:
                yield client
            except ClockNextError as error:
                raise CallFailedError(error) from None


def check_switched_on() -> None:
    """Refuse to begin a command that sends where the environment says to send nothing.

    A disabled client takes each signal and drops it, which no file or outbox is read for.

    Raises:
        CannotStartError: `CLOCKNEXT_DISABLED` is set, or is neither 1 nor 0.
    """
    try:
        is_disabled = environment.flag(environment.DISABLED)
    except ClockNextError as error:
        raise CannotStartError(error.message) from None
    if is_disabled:
        raise CannotStartError(
            f"The client is switched off: {environment.DISABLED} is set, so nothing is sent. Unset it to run "
            "this command."
        )


def with_connection(*, max_attempts: int = 5) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Give a command the options of a connection, and a `Connection` as its first argument.

    Args:
        max_attempts: The default of `--max-attempts`.
    """
    options = (
        click.option(
            "--api-key",
            metavar="KEY",
            help="API key. Better set CLOCKNEXT_API_KEY: process lists show it here.",
        ),
        click.option(
            "--base-url",
            metavar="URL",
            help="URL of the service. Default: CLOCKNEXT_BASE_URL, or https://app.clocknext.com.",
        ),
        click.option(
            "--allow-insecure-http",
            is_flag=True,
            help="Allow http:// to other hosts: the key is then sent unencrypted. Or set "
            "CLOCKNEXT_ALLOW_INSECURE_HTTP=1.",
        ),
        click.option(
            "--timeout",
            type=click.FloatRange(0, min_open=True),
            default=10.0,
            show_default=True,
            help="Seconds for one attempt, from connecting to the last byte.",
        ),
        click.option(
            "--max-attempts",
            type=click.IntRange(1),
            default=max_attempts,
            show_default=True,
            help="Most attempts of one request.",
        ),
    )

    def decorate(command: Callable[..., R]) -> Callable[..., R]:
        @wraps(command)
        def connected(
            *,
            api_key: str | None,
            base_url: str | None,
            allow_insecure_http: bool,
            timeout: float,
            max_attempts: int,
            **others: object,
        ) -> R:
            return command(
                Connection(api_key, base_url, allow_insecure_http, timeout, max_attempts), **others
            )

        for option in reversed(options):
            connected = option(connected)
        return connected

    return decorate
