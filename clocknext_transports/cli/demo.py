"""`clocknext demo`: the whole story against an emulator in this process, and the proof from its ledger."""

import asyncio
import time
import webbrowser
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypedDict

import click
import trio
from rich.console import Console
from rich.table import Table
from rich.text import Text

from clocknext_core import (
    AllowanceError,
    ClockNextError,
    CreditSignal,
    FlushReport,
    NotFoundError,
    OutcomeSignal,
    Retrying,
    RetryPolicy,
    Signal,
    Tokens,
    TrackResult,
    WalletSignal,
)
from clocknext_transports import AsyncClockNext, ClockNext, TrioClockNext
from clocknext_transports.asyncio import NativeTransport as AsyncioTransport
from clocknext_transports.cli.connection import check_switched_on
from clocknext_transports.cli.stop import stopped_by_signals
from clocknext_transports.cli.tally import describe
from clocknext_transports.emulator import EmulatorServer, Fault, Ledger, emulator
from clocknext_transports.sync import NativeTransport
from clocknext_transports.trio import NativeTransport as TrioTransport

USAGE = "/api/v1/usage"
RETRY = RetryPolicy(base_delay=0.05)
RETRY_AFTER = 0.5
"""Seconds the server asks to be left alone for."""
PAGE_TIMEOUT = 5.0
"""Seconds to wait for a browser."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What the ledger says about the signals that were sent: each must have been billed exactly once."""

    sent: int
    requests: int
    """Requests with a signal that the server saw, repeats and refused ones included."""
    billed: int
    """Signals billed exactly once."""
    doubled: int
    missing: int
    refused: int
    """Signals the server refused, as it should."""
    unexpected: int
    """Bills for no signal that was accepted: for a refused one, or for none at all."""

    @classmethod
    def of(cls, ledger: Ledger, accepted: Sequence[str], refused: Sequence[str]) -> "Proof":
        """Ask the ledger.

        Args:
            ledger: The books of the server.
            accepted: Idempotency keys of all signals the server took, each once.
            refused: Those of the signals it refused.
        """
        times = [ledger.billed(key) for key in accepted]
        return cls(
            sent=len(accepted),
            requests=sum(request.method == "POST" and request.target == USAGE for request in ledger.requests),
            billed=times.count(1),
            doubled=sum(count > 1 for count in times),
            missing=times.count(0),
            refused=len(refused),
            unexpected=len(ledger.signals) - sum(times),
        )

    @property
    def holds(self) -> bool:
        """Whether every signal was billed exactly once, and nothing else was."""
        return self.sent > 0 and self.billed == self.sent and not self.unexpected

    def table(self) -> Table:
        """Make the table to show."""
        table = Table("From the ledger")
        table.add_column("Signals", justify="right")
        for name, count in (
            ("sent and accepted", self.sent),
            ("requests seen", self.requests),
            ("billed once", self.billed),
            ("doubled", self.doubled),
            ("missing", self.missing),
            ("refused, as they should be", self.refused),
            ("billed, but not accepted", self.unexpected),
        ):
            table.add_row(name, str(count))
        return table


class Story:
    """The steps, and the keys of the signals they sent.

    Args:
        server: A running emulator, fresh.
        console: The console to print to.
    """

    def __init__(self, server: EmulatorServer, console: Console) -> None:
        self._server = server
        self._console = console
        self._steps = 0
        self.accepted: list[str] = []
        self.refused: list[str] = []

    def tell(self) -> None:
        """Go through all steps.

        Raises:
            ClockNextError: A call failed that should not have.
        """
        self._step("Signals under threads: ClockNext")
        self._threads()
        self._step("Signals under asyncio: AsyncClockNext")
        asyncio.run(self._asyncio())
        self._step("Signals under trio: TrioClockNext")
        trio.run(self._trio)
        self._step("A customer's life")
        self._customer()
        self._step("A token for the customer portal")
        self._portal()
        self._step("429 Too Many Requests, waited out")
        self._rate_limit()
        self._step("A lost answer, and no second bill")
        self._lost_answer()
        self._step("An allowance that runs out")
        self._allowance()

    # All transports are given: a proxy that the environment names has no business here.

    def _threads(self) -> None:
        with self._client() as client:
            buffered = [client.signals.track(signal) for signal in _batch()]
            self._show_buffered(buffered, client.pending)
            self._show_flushed(client.flush())
            self._show_awaited(client.signals.credit(**_SUMMARY, wait=True))

    async def _asyncio(self) -> None:
        key, url = self._server.api_key, self._server.url
        async with AsyncClockNext(key, base_url=url, retry=RETRY, transport=AsyncioTransport()) as client:
            buffered = [await client.signals.track(signal) for signal in _batch()]
            self._show_buffered(buffered, client.pending)
            self._show_flushed(await client.flush())
            self._show_awaited(await client.signals.credit(**_SUMMARY, wait=True))

    async def _trio(self) -> None:
        key, url = self._server.api_key, self._server.url
        async with TrioClockNext(key, base_url=url, retry=RETRY, transport=TrioTransport()) as client:
            buffered = [await client.signals.track(signal) for signal in _batch()]
            self._show_buffered(buffered, client.pending)
            self._show_flushed(await client.flush())
            self._show_awaited(await client.signals.credit(**_SUMMARY, wait=True))

    def _customer(self) -> None:
        with self._client() as client:
            created = client.customers.create(name="Wonka", email="ops@wonka.example", notes="New")
            customer_id = created.id or ""
            self._say(f"created {created.id}: {created.name}, {created.email}, notes {created.notes!r}")
            self._say(f"read back: {client.customers.get(customer_id).name}")
            updated = client.customers.update(customer_id, notes="VIP", city="Bern")
            self._say(f"updated: notes {updated.notes!r}, city {updated.city!r}")
            cleared = client.customers.update(customer_id, notes=None)
            self._say(f"cleared with None: notes {cleared.notes!r}, city still {cleared.city!r}")
            page = client.customers.list(limit=2)
            self._say(f"listed, first page: {', '.join(each.name or '' for each in page.customers)}")
            names = [each.name or "" for each in client.customers.iterate(limit=2)]
            self._say(f"iterated, all pages: {', '.join(names)}")
            client.customers.delete(customer_id)
            try:
                client.customers.get(customer_id)
            except NotFoundError as error:
                self._say(f"deleted: {error.message} (NotFoundError)")

    def _portal(self) -> None:
        with self._client() as client:
            token = client.portal.create_token(customer_id="cus_123", ttl_seconds=600)
        self._say(f"a token for cus_123, good for {token.expires_in} s, safe to hand to a browser")

    def _rate_limit(self) -> None:
        fault = Fault("status", status=429, retry_after=str(RETRY_AFTER))
        self._server.faults.script(fault, path=USAGE)
        with self._client(self._show_retry) as client:
            started_at = time.monotonic()
            self._show_awaited(client.signals.credit(**_SUMMARY, wait=True))
        self._say(f"{time.monotonic() - started_at:.2f} s in all: never before the server said")

    def _lost_answer(self) -> None:
        self._server.faults.script(Fault("lost"), path=USAGE)
        with self._client(self._show_retry) as client:
            result = client.signals.credit(**_SUMMARY, wait=True)
        self._show_awaited(result)
        self._say(
            f"sent twice under one key, billed {self._server.ledger.billed(result.idempotency_key)} time"
        )

    def _allowance(self) -> None:
        low: _Credit = {**_SUMMARY, "customer_id": "cus_low"}
        with self._client() as client:
            try:
                for _ in range(10):
                    self._show_awaited(client.signals.credit(**low, wait=True))
            except AllowanceError as error:
                self.refused.append(error.idempotency_key or "")
                self._say(f"AllowanceError: {error.message}")
            else:
                raise ClockNextError("The allowance did not run out.")

    def _client(self, on_retry: Callable[[Retrying], object] | None = None) -> ClockNext:
        return ClockNext(
            self._server.api_key,
            base_url=self._server.url,
            retry=RETRY,
            on_retry=on_retry,
            transport=NativeTransport(),
        )

    def _step(self, title: str) -> None:
        self._steps += 1
        self._console.print()
        self._console.print(Text(f"{self._steps}. {title}", "bold cyan"))

    def _say(self, text: str) -> None:
        self._console.print(Text(f"   {text}"), soft_wrap=True)

    def _show_buffered(self, results: Sequence[TrackResult], pending: int) -> None:
        self.accepted += [result.idempotency_key for result in results]
        self._say(f"buffered {len(results)} signals: every call returned at once, {pending} held")

    def _show_flushed(self, report: FlushReport) -> None:
        self._say(
            f"flushed: {report.delivered} delivered, {len(report.failed)} failed, {report.pending} pending"
        )

    def _show_awaited(self, result: TrackResult) -> None:
        self.accepted.append(result.idempotency_key)
        log = result.usage_log
        if log is not None:
            self._say(f"awaited one: {log.credits_used} credits used, {log.customer_cost} USD charged")

    def _show_retry(self, event: Retrying) -> None:
        failed = f"attempt {event.attempt} failed: {describe(event.error)}"
        self._say(f"{failed} Again in {event.delay:.2f} s")


class _Credit(TypedDict):
    customer_id: str
    model: str
    key: str
    tokens: Tokens


_SUMMARY: _Credit = {
    "customer_id": "cus_123",
    "model": "gpt-4o",
    "key": "api_credit",
    "tokens": Tokens(input=200, output=50),
}


def _batch() -> list[Signal]:
    """Make a batch of the three types."""
    tokens = Tokens(input=1200, output=340, cache=64)
    credit = CreditSignal(**_SUMMARY, member="alice@acme.com", custom={"feature": "summarize"})
    wallet = WalletSignal(customer_id="cus_456", model="openai/gpt-oss-120b", tokens=tokens)
    steps = [
        OutcomeSignal(
            customer_id="cus_789", model="gpt-4o-mini", key=f"resolved_ticket.{step}", tokens=tokens
        )
        for step in ("triage", "answer", "confirm")
    ]
    return [*[credit] * 12, *[wallet] * 5, *steps]


def _show_page(server: EmulatorServer, console: Console) -> None:
    """Open the ledger in a browser, and wait a moment for it, so that the story is seen as it happens."""
    if not webbrowser.open(server.page_url):
        console.print(Text(f"No browser was found: open {server.page_url}"), soft_wrap=True)
    give_up_at = time.monotonic() + PAGE_TIMEOUT
    while server.connections == 0 and time.monotonic() < give_up_at:
        time.sleep(0.05)


def _keep_page(console: Console, server: EmulatorServer) -> None:
    """Wait for Ctrl-C: the page is gone with the server."""
    with stopped_by_signals() as stop:
        console.print(Text(f"The ledger is at {server.page_url} until Ctrl-C."), soft_wrap=True)
        stop.wait()


@click.command(short_help="See it work: no account, no network, no settings.")
@click.option("--open", "open_page", is_flag=True, help="Show the ledger in a browser, until Ctrl-C.")
def demo(*, open_page: bool) -> None:
    """Show the SDK at work against an emulator in this process, and prove the bill from its ledger.

    Needs no account, no network and no settings, and takes a few seconds. Exit status 0 only if every signal
    was billed exactly once.
    """
    check_switched_on()
    console = Console(highlight=False)
    with emulator() as server:
        console.print(Text(f"A ClockNext emulator runs at {server.url}."))
        if open_page:
            _show_page(server, console)
        story = Story(server, console)
        try:
            story.tell()
        except ClockNextError as error:
            raise click.ClickException(f"The story ended early: {error!r}") from error
        proof = Proof.of(server.ledger, story.accepted, story.refused)
        console.print()
        console.print(proof.table())
        if proof.holds:
            console.print(Text("Every signal was billed exactly once.", "bold green"))
            console.print(Text("Next: clocknext emulator, and your own program against it."), soft_wrap=True)
        else:
            console.print(Text("NOT every signal was billed exactly once.", "bold red"))
        if open_page:
            _keep_page(console, server)
    if not proof.holds:
        click.get_current_context().exit(1)
