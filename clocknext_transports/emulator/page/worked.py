"""The price of one signal, worked out with its numbers, line by line."""

from decimal import Decimal

from clocknext_transports.emulator.books.books import Books
from clocknext_transports.emulator.books.pricing import Rates, exact, plain, price_wallet
from clocknext_transports.emulator.books.records import Booked


def worked_out(books: Books, signal: Booked) -> list[dict[str, str]]:
    """Return the steps from tokens to price. Each has a `label`, the `working` and the `result`.

    Args:
        books: The records, whose catalogue has the rates.
        signal: A recorded signal.
    """
    steps: list[dict[str, str]] = []
    found = books.models.get(signal.model.casefold())
    if found is not None:
        steps += _tokens(signal, found[1])
    steps.append(_step("cost of the tokens", "their sum", f"{plain(signal.provided_cost)} USD"))
    match signal.type:
        case "wallet":
            steps.append(
                _step("charged to the wallet", "the cost, without margin", _usd(signal.customer_cost))
            )
        case "credit":
            steps += _credit(books, signal)
        case "outcome":
            working = (
                f"the price of the outcome {signal.outcome}, which this step completes"
                if signal.bills_outcome
                else f"a step of the outcome {signal.outcome}: billed when the run is complete"
            )
            steps.append(_step("charged", working, _usd(signal.customer_cost)))
    if signal.wallet_debit and signal.type != "wallet":
        steps.append(_step("taken from the wallet", "usage in arrear", _usd(signal.wallet_debit)))
    return steps


def _tokens(signal: Booked, rates: Rates) -> list[dict[str, str]]:
    counts = (signal.input_tokens, signal.output_tokens, signal.cache_tokens)
    if price_wallet(rates, *counts).provided_cost != signal.provided_cost:
        return [_step("tokens", "the rates of the model have changed since", "")]
    each = zip(("input", "output", "cache"), counts, (rates.input, rates.output, rates.cache), strict=True)
    return [
        _step(
            f"{name} tokens",
            f"{count:,} * {plain(rate)} USD / 1,000,000",
            _usd(price_wallet(Rates(rate, rate, rate), count, 0, 0).provided_cost),
        )
        for name, count, rate in each
        if count
    ]


def _credit(books: Books, signal: Booked) -> list[dict[str, str]]:
    credit = books.credits.by_key.get(signal.key or "")
    used = f"{plain(signal.credits_used)} credits"
    if credit is None:
        return [_step("credits", "the credit is gone from the catalogue", used)]
    base = plain(exact(credit.base_price))
    price = plain(credit.price_per_credit)
    why = f" ({base} + {plain(exact(credit.margin_percent))} %)" if credit.price is None else ""
    return [
        _step("credits used", f"{plain(signal.provided_cost)} USD / {base} USD per credit", used),
        _step(
            "charged",
            f"{plain(signal.credits_used)} * {price} USD per credit{why}",
            _usd(signal.customer_cost),
        ),
    ]


def _usd(amount: Decimal) -> str:
    return f"{plain(amount)} USD"


def _step(label: str, working: str, result: str) -> dict[str, str]:
    return {"label": label, "working": working, "result": result}
