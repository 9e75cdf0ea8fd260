"""Runs: the steps of one outcome, grouped, each under a key that a retry or a resumption finds again.

The server bills a run when a step says `complete`, and which step is the last is known only when the block
ends. So a step is held back until the next one, or the end, shows what it was.
"""

import json
from collections.abc import Mapping
from types import TracebackType
from typing import Generic, Protocol, Self, overload

from clocknext_core.binding import Async, Blocking, Resource, Runner, S
from clocknext_core.bodies import SignalStatus
from clocknext_core.checks import MAX_ID_LENGTH, check_id, check_int, check_mapping, check_text
from clocknext_core.encoding import encode_json
from clocknext_core.envelope import as_object
from clocknext_core.errors import invalid
from clocknext_core.operations import Recording
from clocknext_core.signals import OutcomeSignal, encode
from clocknext_core.tokens import TokensLike


class RunSteps:
    """The pure part of a run: which step is recorded when, under which key, and which one completes it.

    Args:
        customer_id: Who is billed.
        run_id: What groups the steps, 1 to 255 characters.
        key_prefix: Put before each step's key, with a dot between.
        model: The steps' model, where a step names none.
        member: The steps' member.
        wait: Whether each recording is awaited; `None`: as the client's mode says.
    """

    def __init__(
        self,
        *,
        customer_id: str,
        run_id: str,
        key_prefix: str | None,
        model: str | None,
        member: str | None,
        wait: bool | None,
    ) -> None:
        self.run_id = check_id("run_id", run_id)
        self._customer_id = check_text("customer_id", customer_id)
        self._key_prefix = None if key_prefix is None else check_text("key_prefix", key_prefix)
        self._model = None if model is None else check_text("model", model)
        self._member = member
        self._wait = wait
        self._is_open = False
        self._counts: dict[str, int] = {}
        self._held: OutcomeSignal | None = None

    def open(self) -> None:
        """Begin the block.

        Raises:
            RuntimeError: It is open already.
        """
        if self._is_open:
            raise RuntimeError("The run's block has begun already.")
        self._is_open = True

    def step(
        self,
        key: str,
        *,
        model: str | None,
        tokens: TokensLike | None,
        status: SignalStatus | None,
        custom: Mapping[str, object] | None,
        metric: Mapping[str, object] | None,
        ordinal: int | None,
    ) -> Recording | None:
        """Take a step, and return the one before it to be recorded.

        Raises:
            ValidationError: A bad argument; nothing was taken.
            RuntimeError: The block has not begun, or has ended.
        """
        if not self._is_open:
            raise RuntimeError("Steps are taken inside the run's `with` block.")
        check_text("key", key)
        if model is None:
            model = self._model
        if model is None:
            raise invalid("model", "is required: give it to the step, or to the run for all steps")
        agent_key = key if self._key_prefix is None else f"{self._key_prefix}.{key}"
        if ordinal is None:
            ordinal = self._counts.get(agent_key, 0) + 1
        else:
            check_int("ordinal", ordinal, least=1)
        signal = OutcomeSignal(
            customer_id=self._customer_id,
            model=model,
            agent_key=agent_key,
            run_id=self.run_id,
            tokens=tokens,
            member=self._member,
            status=status,
            custom=None if custom is None else _copied("custom", custom),
            metric=None if metric is None else _copied("metric", metric),
            idempotency_key=_step_key(self.run_id, agent_key, ordinal),
        )
        encode(signal, lambda: "")  # what can't be sent is an error now, not when the step is released
        self._counts[agent_key] = ordinal
        before, self._held = self._held, signal
        return self._recording(before)

    def close(self, *, completed: bool) -> Recording | None:
        """End the block, and return the last step to be recorded; `completed`: as the one that bills."""
        self._is_open = False
        last, self._held = self._held, None
        if last is not None and completed:
            last = last.completed(f"{last.idempotency_key}/complete")
        return self._recording(last)

    def _recording(self, signal: OutcomeSignal | None) -> Recording | None:
        return None if signal is None else Recording(signal, self._wait)


def _copied(name: str, value: Mapping[str, object]) -> dict[str, object]:
    """Copy a JSON object, which the caller may change before the step is released."""
    check_mapping(name, value)
    try:
        return as_object(json.loads(encode_json(dict(value))))
    except ValueError as error:
        raise invalid(name, f"can't be encoded as JSON: {error}") from None


def _step_key(run_id: str, agent_key: str, ordinal: int) -> str:
    """Derive a step's idempotency key.

    The completing one has a key of its own: a run that broke off after its last step and is resumed must
    not have its completion taken for a repeat of that step.
    """
    key = f"{run_id}/{agent_key}/{ordinal}"
    if len(key) + len("/complete") > MAX_ID_LENGTH:
        raise invalid("key", "is too long together with run_id: their idempotency key has 255 characters")
    return key


class _Steps(Generic[S]):
    """What both kinds of run are made of."""

    def __init__(self, runner: Runner, steps: RunSteps) -> None:
        self._runner = runner
        self._steps = steps

    @property
    def run_id(self) -> str:
        """What groups the steps. Keep it to resume the run elsewhere."""
        return self._steps.run_id

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.run_id!r}>"


class Run(_Steps[Blocking]):
    """A run whose block is a `with` block. Used by one thread at a time."""

    def step(
        self,
        key: str,
        /,
        *,
        model: str | None = None,
        tokens: TokensLike | None = None,
        status: SignalStatus | None = None,
        custom: Mapping[str, object] | None = None,
        metric: Mapping[str, object] | None = None,
        ordinal: int | None = None,
    ) -> None:
        """Record that the run advanced by one step. It is sent when the next one comes, or the block ends.

        Args:
            key: The step's key, below the run's `key_prefix` where there is one.
            model: Catalogue id of the model. Default: the run's.
            tokens: Token counts. Default: 0.
            status: `SUCCESS` (the server's default), `FAILURE` or `PENDING`.
            custom: Anything of your own: a JSON object of at most 32 KiB once encoded.
            metric: `{"ref": name, "value": value}`.
            ordinal: Which time this run takes this step, from 1. Default: counted. Give it to repeat one
                exactly, as an agent does that retries.

        Raises:
            ValidationError: A bad argument; nothing was taken.
            RuntimeError: Outside the block.
        """
        before = self._steps.step(
            key, model=model, tokens=tokens, status=status, custom=custom, metric=metric, ordinal=ordinal
        )
        if before is not None:
            self._runner.record(before)

    def __enter__(self) -> Self:
        self._steps.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        last = self._steps.close(completed=error is None)
        if last is not None:
            self._runner.record(last)


class AsyncRun(_Steps[Async]):
    """A run whose block is an `async with` block. Used by one task at a time."""

    async def step(
        self,
        key: str,
        /,
        *,
        model: str | None = None,
        tokens: TokensLike | None = None,
        status: SignalStatus | None = None,
        custom: Mapping[str, object] | None = None,
        metric: Mapping[str, object] | None = None,
        ordinal: int | None = None,
    ) -> None:
        """Record that the run advanced by one step; see `Run.step`."""
        before = self._steps.step(
            key, model=model, tokens=tokens, status=status, custom=custom, metric=metric, ordinal=ordinal
        )
        if before is not None:
            await self._runner.record(before)

    async def __aenter__(self) -> Self:
        self._steps.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        last = self._steps.close(completed=error is None)
        if last is not None:
            await self._runner.record(last)


class KeyMaker(Runner, Protocol):
    """A client that can make an id for a run."""

    def make_key(self) -> str:
        """Make a new unique key, of at most 255 characters."""
        ...


class Runs(Resource[S]):
    """Group the steps of an outcome, so that it is billed once, and only if it was reached.

    Args:
        runner: The client.
    """

    def __init__(self, runner: KeyMaker) -> None:
        super().__init__(runner)
        self._make_key = runner.make_key

    @overload
    def start(
        self: "Runs[Blocking]",
        *,
        customer_id: str,
        run_id: str | None = None,
        key_prefix: str | None = None,
        model: str | None = None,
        member: str | None = None,
        wait: bool | None = None,
    ) -> Run: ...
    @overload
    def start(
        self: "Runs[Async]",
        *,
        customer_id: str,
        run_id: str | None = None,
        key_prefix: str | None = None,
        model: str | None = None,
        member: str | None = None,
        wait: bool | None = None,
    ) -> AsyncRun: ...
    def start(
        self,
        *,
        customer_id: str,
        run_id: str | None = None,
        key_prefix: str | None = None,
        model: str | None = None,
        member: str | None = None,
        wait: bool | None = None,
    ) -> Run | AsyncRun:
        """Begin a run: a context manager (asynchronous under asyncio and trio) whose `step` records steps.

        Each step's idempotency key is derived from the run, the step and how often the run took it, so an
        agent that crashes and resumes under the same `run_id` records nothing twice. If the block ends
        without an exception, the last step completes the run, which bills the outcome, once.

        Args:
            customer_id: Who is billed.
            run_id: 1 to 255 characters. Give the one of a run that broke off to resume it. Default: a new
                one.
            key_prefix: The outcome's key, put before each step's with a dot between.
            model: The steps' model, where a step names none.
            member: E-mail of the member of the customer who caused it.
            wait: Send each step when it is released, and wait. Default: as the client's `mode` says.

        Raises:
            ValidationError: A bad argument.
        """
        steps = RunSteps(
            customer_id=customer_id,
            run_id=self._make_key() if run_id is None else run_id,
            key_prefix=key_prefix,
            model=model,
            member=member,
            wait=wait,
        )
        return AsyncRun(self.runner, steps) if self.runner.is_async else Run(self.runner, steps)
