"""The retry budget: how much repeating all signals together may do.

Back-off spaces the repeats of one signal; the budget bounds the repeats of all, so that a service which
fails every second request is not sent twice as many for it. It is a bucket of tokens: a repeat takes some, an
answer that shows the service working gives some back. An empty bucket fails no signal. It parks them: they
stay held, and then one repeat at a time goes out unpaid, so that there is always a way back.

The figures are those of the AWS SDKs.
"""

from collections.abc import Mapping

from clocknext_core.verdicts import Verdict

CAPACITY = 500
"""Tokens of a full bucket: some 35 repeats at once."""

FIRST_ATTEMPT = 1
"""Tokens that a first attempt gives when it shows the service working."""

PRICES: Mapping[Verdict, int] = {
    Verdict.WORKS: 14,
    Verdict.BUSY: 5,
    Verdict.DOWN: 14,
    Verdict.MISDIRECTED: 14,
    Verdict.UNCLEAR: 14,
}
"""Tokens of a repeat, by what the failed attempt before it showed. A busy service said when to come back, so
that repeat is the likeliest to succeed. A repeat that shows the service working gives its price back."""


class Budget:
    """A bucket of tokens, full at first."""

    def __init__(self) -> None:
        self.tokens: int = CAPACITY
        """What is left."""
        self._has_loan = False

    def allows(self, price: int) -> bool:
        """Tell whether a repeat may go out now: it can be paid, or none that could not is in flight."""
        return self.tokens >= price or not self._has_loan

    def take(self, price: int) -> bool:
        """Pay for a repeat. Return whether it was paid; else it is the one on loan."""
        if self.tokens >= price:
            self.tokens -= price
            return True
        self._has_loan = True
        return False

    def end_loan(self) -> None:
        """Note that the repeat on loan is in flight no longer."""
        self._has_loan = False

    def give(self, tokens: int) -> None:
        """Put tokens back; what a full bucket can't hold is lost."""
        self.tokens = min(self.tokens + tokens, CAPACITY)
