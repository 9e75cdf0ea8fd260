"""Wallets and allowances: what a customer holds, read and corrected by hand.

What the public record leaves open is decided here:
- A wallet's transactions are its entries (`GRANT` by a plan, `TOPUP`, `DEBIT`, `ADJUSTMENT`) and its signals'
  debits (`USAGE`), newest first. They add up to the balance.
- `TOPUP` and `DEBIT` have an amount above zero; that of an `ADJUSTMENT` may be negative. A first entry opens
  the wallet of a customer without one.
- An adjustment gives a customer a component they do not hold; nothing is taken off below zero, but in arrear.
"""

from collections.abc import Callable, Iterator
from decimal import Decimal
from heapq import merge
from itertools import islice
from typing import cast

from clocknext_transports.emulator.api.listings import find
from clocknext_transports.emulator.api.routes import Handled, Route
from clocknext_transports.emulator.books.books import Books
from clocknext_transports.emulator.books.envelopes import Payload, Refusal
from clocknext_transports.emulator.books.pricing import ZERO, add, plain
from clocknext_transports.emulator.books.records import Account, Balance, ItemKind, WalletEntry
from clocknext_transports.emulator.books.validation import Fields, query_limit

_WALLET = "/api/v1/customers/{}/wallet"
_TYPES = ("TOPUP", "DEBIT", "ADJUSTMENT")


def show_wallet(books: Books, call: Handled) -> Payload:
    """Return a customer's wallet and its latest transactions."""
    account = books.account(call.ids[0])
    limit = query_limit(call.query)
    return Payload(
        {
            "balance": _balance(account),
            "currencyCode": "USD",
            "transactions": [entry.as_json() for entry in islice(_transactions(account), limit)],
        }
    )


def add_entry(books: Books, call: Handled) -> Payload:
    """Book an entry in a customer's wallet."""
    account = books.account(call.ids[0])
    fields = Fields(call.body)
    fields.require("type")
    kind = fields.choice("type", _TYPES) or "TOPUP"
    signed = kind == "ADJUSTMENT"
    amount = fields.amount("amount", minimum=None if signed else 0, above=not signed, required=True) or ZERO
    fields.finish()
    change = -amount if kind == "DEBIT" else amount
    _check_bears(account.wallet or Balance(ZERO), change, "wallet", "USD")
    entry = books.book(account, kind, change, now=call.now)
    return Payload({"transaction": entry.as_json(), "balance": _balance(account)})


def _adjust(noun: ItemKind, *, tells: bool) -> Callable[[Books, Handled], Payload]:
    """Make the handler that adjusts what is left of one kind; `tells`: whether it says what remains."""

    def adjust(books: Books, call: Handled) -> Payload:
        account = books.account(call.ids[0])
        fields = Fields(call.body)
        item = fields.required_text(f"{noun}Id")
        amount = fields.amount("amount", minimum=None, required=True) or ZERO
        fields.finish()
        definition = find(books.items[noun].by_id, noun, item)
        balance = account.held[noun].get(item) or Balance(ZERO)
        _check_bears(balance, amount, noun, definition.name)
        balance.left = add(balance.left, amount)
        account.held[noun][item] = balance
        return Payload({"remaining": float(balance.left)} if tells else {})

    return adjust


def _check_bears(balance: Balance, change: Decimal, noun: str, what: str) -> None:
    if change < 0 and not balance.bears(-change):
        raise Refusal(
            422, f"Insufficient {noun} balance: {plain(-change)} {what} needed, {plain(balance.left)} left."
        )


def _balance(account: Account) -> float:
    return 0.0 if account.wallet is None else float(account.wallet.left)


def _transactions(account: Account) -> Iterator[WalletEntry]:
    usage = (
        WalletEntry(signal.id, "USAGE", -signal.customer_cost, signal.created_at)
        for signal in reversed(account.signals)
        if signal.type == "wallet"
    )
    return merge(usage, reversed(account.entries), key=lambda entry: entry.created_at, reverse=True)


ROUTES = (
    Route("GET", _WALLET, show_wallet),
    Route("POST", _WALLET, add_entry),
    *(
        Route("POST", f"/api/v1/customers/{{}}/{noun}s/adjust", _adjust(noun, tells=noun != "credit"))
        for noun in cast("tuple[ItemKind, ...]", ("credit", "outcome", "unit"))
    ),
)
