"""Wallets and allowances: a customer's balances, read and corrected by hand.

A known rule: the amount of a wallet entry is above zero, and its type gives the sign.

Guesses, where the public record says nothing:
- A wallet's transactions are its entries (`GRANT` by a plan, `TOPUP`, `DEBIT`, `ADJUSTMENT`) and the debits
  of usage (`USAGE`), newest first. They add up to the balance.
- A `DEBIT` is taken off, the other types are added. A first entry opens the wallet of a customer without one.
- An adjustment of an allowance gives a customer a component that they do not hold. No debit takes a balance
  below zero, except in arrear.
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
    """Enter an amount in a customer's wallet."""
    account = books.account(call.ids[0])
    fields = Fields(call.body)
    fields.require("type")
    kind = fields.choice("type", _TYPES) or "TOPUP"
    amount = fields.amount("amount", above=True, required=True) or ZERO
    fields.finish()
    change = -amount if kind == "DEBIT" else amount
    _check_bears(account.wallet or Balance(ZERO), change, "wallet", "USD")
    entry = books.book(account, kind, change, now=call.now)
    return Payload({"transaction": entry.as_json(), "balance": _balance(account)})


def _adjust(noun: ItemKind, *, shows_rest: bool) -> Callable[[Books, Handled], Payload]:
    """Make the handler that adjusts a balance of one kind.

    Args:
        noun: The kind.
        shows_rest: Whether the handler returns the new balance.
    """

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
        return Payload({"remaining": float(balance.left)} if shows_rest else {})

    return adjust


def _check_bears(balance: Balance, change: Decimal, noun: str, what: str) -> None:
    if change < 0 and not balance.bears(-change):
        raise Refusal(
            422, f"Insufficient {noun} balance: {plain(-change)} {what} needed, {plain(balance.left)} left."
        )


def _balance(account: Account) -> float:
    return 0.0 if account.wallet is None else float(account.wallet.left)


def _transactions(account: Account) -> Iterator[WalletEntry]:
    signals = (
        WalletEntry(signal.id, "USAGE", -signal.wallet_debit, signal.created_at)
        for signal in reversed(account.signals)
        if signal.type == "wallet" or signal.wallet_debit
    )
    events = (
        WalletEntry(event.id, "USAGE", -event.wallet_debit, event.created_at)
        for event in reversed(account.events)
        if event.wallet_debit
    )
    entries = reversed(account.entries)
    return merge(signals, events, entries, key=lambda entry: entry.created_at, reverse=True)


ROUTES = (
    Route("GET", _WALLET, show_wallet),
    Route("POST", _WALLET, add_entry),
    *(
        Route("POST", f"/api/v1/customers/{{}}/{noun}s/adjust", _adjust(noun, shows_rest=noun != "credit"))
        for noun in cast("tuple[ItemKind, ...]", ("credit", "outcome", "unit"))
    ),
)
