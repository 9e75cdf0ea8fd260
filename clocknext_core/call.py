"""The machine of one awaited operation: its attempts, and what each answer means for it."""

from typing import Generic, TypeAlias, TypeVar

from clocknext_core.backoff import RandomSource, next_delay
from clocknext_core.config import Config
from clocknext_core.envelope import open_answer
from clocknext_core.errors import ClockNextError
from clocknext_core.messages import Answer, Failure
from clocknext_core.operations import Operation
from clocknext_core.outputs import Closed, Retrying, Settled, Ticket, Transmit, Wait

T = TypeVar("T")

CallOutput: TypeAlias = Transmit | Retrying | Settled[T] | Wait | Closed


class Call(Generic[T]):
    """One operation and its attempts.

    Poll it and do what the output says, until it has settled. A failed attempt is repeated after its back-off
    when the failure is retryable and a repeat is harmless: the operation is safe to replay, or it is certain
    that the server never processed the attempt. It fails at once where the server asks for a longer wait
    than the caller would sit through (`Config.patience`); the error then has the wait.

    Args:
        operation: What to carry out.
        config: Time-out, retry policy and where to send it.
        rng: Randomness for the jitter.
    """

    def __init__(self, operation: Operation[T], config: Config, rng: RandomSource) -> None:
        self._operation = operation
        self._config = config
        self._rng = rng
        self._request = operation.request(config)
        self._now = float("-inf")
        self._attempt = 0
        """Attempts started; the number of the latest is its ticket."""
        self._in_flight = False
        self._next_at: float | None = float("-inf")
        """When the next attempt may start; `None` while one is in flight, and in the end."""
        self._retrying: Retrying | None = None
        self._outcome: T | ClockNextError | None = None
        self._is_settled = False
        self._is_told = False

    def poll(self, *, now: float) -> CallOutput[T]:
        """Return the next output; `Wait` when there is none until then, `Closed` after `Settled`."""
        self._advance(now)
        if self._retrying is not None:
            event, self._retrying = self._retrying, None
            return event
        if self._is_settled:
            if self._is_told:
                return Closed()
            self._is_told = True
            return Settled(self._attempt, self._outcome)  # type: ignore[arg-type]  # set together with the flag
        if self._next_at is None or self._next_at > self._now:
            return Wait(self._next_at)
        self._next_at = None
        self._attempt += 1
        self._in_flight = True
        return Transmit(self._attempt, self._request, self._now + self._config.timeout)

    def handle_answer(self, ticket: Ticket, answer: Answer, *, now: float) -> None:
        """Take the answer to an attempt, or its failure. A late or unknown ticket is a no-op."""
        self._advance(now)
        if not self._in_flight or ticket != self._attempt:
            return
        self._in_flight = False
        outcome = open_answer(
            answer,
            request=self._request,
            config=self._config,
            idempotency_key=self._operation.idempotency_key,
        )
        if isinstance(outcome, ClockNextError):
            self._fail(outcome, certainly_unprocessed=isinstance(answer, Failure) and not answer.processed)
        else:
            self._settle(self._operation.read(outcome))

    def _fail(self, error: ClockNextError, *, certainly_unprocessed: bool) -> None:
        delay = next_delay(error, self._attempt, self._config.retry, self._rng)
        replay_safe = self._request.replay_safe or certainly_unprocessed
        if delay is None or not replay_safe or delay > self._config.patience:
            self._settle(error)
            return
        self._retrying = Retrying(self._attempt, delay, error, self._operation.signal)
        self._next_at = self._now + delay

    def _settle(self, outcome: T | ClockNextError) -> None:
        self._outcome = outcome
        self._is_settled = True

    def _advance(self, now: float) -> None:
        self._now = max(self._now, now)
