"""The machine of one awaited operation: its attempts, and what each answer means for it."""

from typing import Generic, TypeAlias, TypeVar

from clocknext_core.backoff import RandomSource, retry_delay
from clocknext_core.config import Config
from clocknext_core.envelope import Payload, clean_text, open_answer, request_line
from clocknext_core.errors import ClockNextError, RateLimitError
from clocknext_core.gate import Gate
from clocknext_core.messages import Answer, Failure, Response
from clocknext_core.operations import Operation
from clocknext_core.outputs import Closed, Retrying, Settled, Ticket, Transmit, Wait, WaitReason

T = TypeVar("T")

CallOutput: TypeAlias = Transmit | Retrying | Settled[Payload] | Wait | Closed


class Call(Generic[T]):
    """One operation and its attempts.

    Poll it and do what the output says, until it has settled. A failed attempt is repeated after its back-off
    when the failure is retryable and a repeat is harmless: the operation is safe to replay, or it is certain
    that the server never processed the attempt. A Retry-After is valid for the host: no attempt starts
    before it is over, whichever request it answered. The call fails at once if that wait is longer than
    `Config.patience`; the error then has the wait.

    Args:
        operation: What to carry out.
        config: Time-out, retry policy and where to send it.
        rng: Randomness for the jitter.
        gate: The host's, shared with all that is sent there.
    """

    def __init__(self, operation: Operation[T], config: Config, rng: RandomSource, gate: Gate) -> None:
        self._operation = operation
        self._config = config
        self._rng = rng
        self._gate = gate
        self._request = operation.request(config)
        self._read = operation.read
        self._now = float("-inf")
        self._attempt = 0
        """Attempts started; the number of the latest is its ticket."""
        self._in_flight = False
        self._next_at: float | None = float("-inf")
        """When the next attempt may start; `None` while one is in flight, and once the call is over."""
        self._retrying: Retrying | None = None
        self._outcome: Payload | ClockNextError | None = None
        self._is_settled = False
        self._has_reported = False

    def poll(self, *, now: float) -> CallOutput:
        """Return the next output; `Wait` when there is none until then, `Closed` after `Settled`."""
        self._advance(now)
        if self._retrying is not None:
            event, self._retrying = self._retrying, None
            return event
        starts_at = None if self._next_at is None else max(self._next_at, self._gate.paused_until)
        if starts_at is not None and starts_at > self._now + self._config.patience:
            self._settle(self._too_long(starts_at - self._now))
        if self._is_settled:
            if self._has_reported:
                return Closed()
            self._has_reported = True
            return Settled(self._attempt, self._outcome)  # type: ignore[arg-type]  # set together with the flag
        if starts_at is None:
            return Wait(None)
        if starts_at > self._now:
            is_held_back = starts_at != self._next_at
            return Wait(starts_at, WaitReason.GATE if is_held_back else WaitReason.BACK_OFF)
        self._next_at = None
        self._attempt += 1
        self._in_flight = True
        return Transmit(self._attempt, self._request, self._now + self._config.timeout)

    def result(self, settled: Settled[Payload]) -> T:
        """Read the result of the payload that the call has settled with, or raise its error.

        This runs the operation's `read`, which may be the user's: call it without any lock.
        """
        outcome = self._read(settled.unwrap())
        if isinstance(outcome, ClockNextError):
            outcome.signal_id = clean_text(outcome.signal_id, self._config)
            outcome.received_at = clean_text(outcome.received_at, self._config)
            raise outcome
        return outcome

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
            if (
                self._operation.read_taken is not None
                and isinstance(answer, Response)
                and answer.status == 202
            ):
                self._read = self._operation.read_taken
            self._settle(outcome)

    def _fail(self, error: ClockNextError, *, certainly_unprocessed: bool) -> None:
        if error.retry_after is not None:
            self._gate.pause(error.retry_after, self._rng, now=self._now)
        is_last = not error.retryable or self._attempt >= self._config.retry.max_attempts
        if is_last or not (self._request.replay_safe or certainly_unprocessed):
            self._settle(error)
            return
        delay = retry_delay(error, self._attempt, self._config.retry, self._rng)
        if delay > self._config.patience:
            self._settle(error)
            return
        self._retrying = Retrying(self._attempt, delay, error, self._operation.encoded)
        self._next_at = self._now + delay

    def _too_long(self, wait: float) -> ClockNextError:
        return RateLimitError(
            f"The service asked for no requests for another {wait:.0f} seconds; "
            + ("none was sent." if not self._attempt else f"{self._attempt} had been sent before."),
            retryable=True,
            idempotency_key=self._operation.idempotency_key,
            request=request_line(self._request, self._config),
            retry_after=wait,
        )

    def _settle(self, outcome: Payload | ClockNextError) -> None:
        self._outcome = outcome
        self._is_settled = True
        self._next_at = None

    def _advance(self, now: float) -> None:
        self._now = max(self._now, now)
