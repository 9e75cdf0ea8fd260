"""Runs: the steps of one outcome, grouped, each under a key that a retry or a resumption finds again.

The server bills a run when a step says `complete`, and which step is the last is known only when the block
ends. So a step is held back until the next one, or the end, shows what it was.
"""

from types import TracebackType
from typing import Generic, Self, Unpack, overload

from clocknext_core.checks import MAX_ID_LENGTH, check_bool, check_id, check_int, check_keywords, check_text
from clocknext_core.errors import ClockNextError, invalid
from clocknext_core.resources.binding import Async, Blocking, Resource, Runner, S
from clocknext_core.signals import EncodedSignal, OutcomeSignal, StepFields, encode
from clocknext_core.signatures import spell_out
from clocknext_core.tokens import TokensLike
from clocknext_core.usage.meter import Meter, with_usage
from clocknext_core.usage.reading import read


class RunSteps:
    """The pure part of a run: which step is recorded when, under which key, and which one completes it.

    Args:
        customer_id: Who is billed.
        run_id: What groups the steps, 1 to 255 characters.
        key_prefix: Put before each step's key, with a dot between.
        model: The steps' model, where a step names none.
        member: The steps' member.
        wait: Whether each recording is awaited; `None`: as the client's mode says.
        meter: Says which model a response's name is.

    Raises:
        ValidationError: A bad argument.
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
        meter: Meter,
    ) -> None:
        self._meter = meter
        self.run_id: str = check_id("run_id", run_id)
        self.wait: bool | None = None if wait is None else check_bool("wait", wait)
        self._customer_id = check_text("customer_id", customer_id)
        self._key_prefix = None if key_prefix is None else check_text("key_prefix", key_prefix)
        self._model = None if model is None else check_text("model", model)
        self._member = None if member is None or member == "" else check_text("member", member)
        self._is_open = False
        self._counts: dict[str, int] = {}
        self._held: tuple[EncodedSignal, EncodedSignal] | None = None
        """The step that was taken last: as one of several, and as the one that completes the run."""

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
        fields: StepFields,
        *,
        model: str | None,
        tokens: TokensLike | None,
        response: object,
        ordinal: int | None,
    ) -> EncodedSignal | None:
        """Take a step, and return the one before it, which is to be recorded now.

        Raises:
            TypeError: A field is not a step's.
            ValidationError: A bad argument; nothing was taken.
            RuntimeError: The block has not begun, or has ended.
        """
        if not self._is_open:
            raise RuntimeError("Steps are taken inside the run's `with` block.")
        check_keywords(fields, _STEP_FIELDS)
        check_text("key", key)
        if response is not None:
            if tokens is not None:
                raise invalid("tokens", "must not be given together with response: give exactly one")
            reading = read(response)
            tokens = reading.tokens
            fields = {**fields, "custom": with_usage(fields.get("custom"), reading)}
            if model is None and reading.model is not None:
                model = self._meter.model_of(reading)
        if model is None:
            model = self._model
        if model is None:
            raise invalid("model", "is required: give it to the step, or to the run for all steps")
        agent_key = key if self._key_prefix is None else f"{self._key_prefix}.{key}"
        if ordinal is None:
            ordinal = self._counts.get(agent_key, 0) + 1
        else:
            check_int("ordinal", ordinal, least=1)
        step_key = _step_key(self.run_id, agent_key, ordinal)
        signal = OutcomeSignal(
            customer_id=self._customer_id,
            model=model,
            agent_key=agent_key,
            run_id=self.run_id,
            tokens=tokens,
            member=self._member,
            idempotency_key=step_key,
            **fields,
        )
        # Encoded now: what can't be sent is an error here, and what the caller changes later changes nothing.
        taken = (encode(signal, str), encode(signal.completed(step_key + _COMPLETING), str))
        self._counts[agent_key] = ordinal
        before, self._held = self._held, taken
        return None if before is None else before[0]

    def close(self, *, is_completed: bool) -> EncodedSignal | None:
        """End the block, and return the last step, which is to be recorded now.

        Args:
            is_completed: Whether it completes the run, which bills the outcome.
        """
        self._is_open = False
        last, self._held = self._held, None
        return None if last is None else last[is_completed]


_STEP_FIELDS = frozenset(StepFields.__annotations__)
_COMPLETING = "/complete"
"""Ends the idempotency key of the step that completes a run.

So a run that stopped after its last step and is resumed does not complete under the key of that step, which
the server has seen.
"""


def _step_key(run_id: str, agent_key: str, ordinal: int) -> str:
    key = f"{run_id}/{agent_key}/{ordinal}"
    if len(key) + len(_COMPLETING) > MAX_ID_LENGTH:
        raise invalid("key", "is too long together with run_id: their idempotency key has 255 characters")
    return key


class _Steps(Generic[S]):
    """What both kinds of run have in common."""

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

    @spell_out
    def step(
        self,
        key: str,
        /,
        *,
        model: str | None = None,
        tokens: TokensLike | None = None,
        response: object = None,
        ordinal: int | None = None,
        **fields: Unpack[StepFields],
    ) -> None:
        """Record that the run advanced by one step. It is sent when the next one comes, or the block ends.

        Args:
            key: The step's key, below the run's `key_prefix` where there is one.
            model: Catalogue id of the model. Default: the response's, as the client's `models` says, else the
                run's.
            tokens: Token counts. Default: the response's, else 0.
            response: What the model's SDK returned, in place of `tokens`: see `signals.from_response`.
            ordinal: Which time this run takes this step, from 1. Default: counted. Give it to repeat one
                exactly, as an agent does that retries.
            fields: `status`, `custom` and `metric`, as `signals.outcome` takes them.

        Raises:
            ValidationError: A bad argument; nothing was taken.
            RuntimeError: Outside the block.
        """
        before = self._steps.step(key, fields, model=model, tokens=tokens, response=response, ordinal=ordinal)
        if before is not None:
            self._record(before)

    def __enter__(self) -> Self:
        self._steps.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        last = self._steps.close(is_completed=error is None)
        if last is not None:
            self._record(last)

    def _record(self, encoded: EncodedSignal) -> None:
        try:
            self._runner.record(encoded, self._steps.wait)
        except _REFUSALS:
            raise
        except BaseException:  # such as KeyboardInterrupt
            self._runner.hold(encoded)
            raise


class AsyncRun(_Steps[Async]):
    """A run whose block is an `async with` block. Used by one task at a time.

    A step is recorded also when the block is cancelled: it is then held, not awaited.
    """

    @spell_out
    async def step(
        self,
        key: str,
        /,
        *,
        model: str | None = None,
        tokens: TokensLike | None = None,
        response: object = None,
        ordinal: int | None = None,
        **fields: Unpack[StepFields],
    ) -> None:
        """Record that the run advanced by one step; see `Run.step`."""
        before = self._steps.step(key, fields, model=model, tokens=tokens, response=response, ordinal=ordinal)
        if before is not None:
            await self._record(before)

    async def __aenter__(self) -> Self:
        self._steps.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        last = self._steps.close(is_completed=error is None)
        if last is None:
            return
        is_ordinary = error is None or isinstance(error, Exception)
        if is_ordinary and not isinstance(error, self._runner.cancellations):
            await self._record(last)
        else:  # a cancelled block must end at once
            self._runner.hold(last)

    async def _record(self, encoded: EncodedSignal) -> None:
        try:
            await self._runner.record(encoded, self._steps.wait)
        except _REFUSALS:
            raise
        except BaseException:  # cancelled: a signal that was sent already can't be billed twice under its key
            self._runner.hold(encoded)
            raise


_REFUSALS = (ClockNextError, RuntimeError)
"""What a client raises where it does not record a signal, or the server refuses it."""


class Runs(Resource[S]):
    """Group the steps of an outcome, so that it is billed once, and only if it was reached.

    Args:
        runner: The client.
        meter: What the client knows of its exchanges with models. Default: a new one.
    """

    def __init__(self, runner: Runner, meter: Meter | None = None) -> None:
        super().__init__(runner)
        self._meter = Meter() if meter is None else meter

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
                one; in seeded work, such as a task that is retried, the same as before.
            key_prefix: The outcome's key, put before each step's with a dot between.
            model: The steps' model, where a step names none.
            member: The member of the customer who caused it, as for `signals.credit`.
            wait: Send each step when it is released, and wait. Default: as the client's `mode` says.

        Raises:
            ValidationError: A bad argument.
        """
        if run_id is None:
            seed = self._meter.seed()
            run_id = self.runner.make_key() if seed is None else seed.key("run")
        steps = RunSteps(
            customer_id=customer_id,
            run_id=run_id,
            key_prefix=key_prefix,
            model=model,
            member=member,
            wait=wait,
            meter=self._meter,
        )
        return AsyncRun(self.runner, steps) if self.runner.is_async else Run(self.runner, steps)
