"""Runs: which steps are recorded when, under which keys, and which one completes."""

import asyncio
import json
from typing import Any, assert_type

import pytest

from clocknext_core import EncodedSignal, PlanError, ValidationError
from clocknext_core.limits import MAX_BODY_BYTES
from clocknext_core.operations import Operation
from clocknext_core.resources.binding import Async, Blocking
from clocknext_core.resources.runs import AsyncRun, Run, Runs


class Recorder:
    """A client that only notes what it is to record."""

    is_async = False
    cancellations: tuple[type[BaseException], ...] = ()

    def __init__(self) -> None:
        self.bodies: list[dict[str, object]] = []
        self.waits: list[bool | None] = []
        self.held: list[dict[str, object]] = []

    def run(self, operation: Operation[Any], /) -> Any:
        raise AssertionError("a run makes no other calls")

    def record(self, encoded: EncodedSignal, wait: bool | None = None, /) -> Any:
        self.note(encoded, wait)

    def note(self, encoded: EncodedSignal, wait: bool | None) -> None:
        self.bodies.append(json.loads(encoded.body))
        self.waits.append(wait)

    def hold(self, encoded: EncodedSignal, /) -> None:
        self.held.append(json.loads(encoded.body))

    def make_key(self) -> str:
        return "new-run"


class AsyncRecorder(Recorder):
    is_async = True

    async def record(self, encoded: EncodedSignal, wait: bool | None = None, /) -> Any:
        self.note(encoded, wait)


def started(recorder: Recorder, run_id: str | None = None, key_prefix: str | None = None) -> Run:
    runs: Runs[Blocking] = Runs(recorder)
    return runs.start(customer_id="cus_1", model="m", run_id=run_id, key_prefix=key_prefix)


def summary(recorder: Recorder) -> list[tuple[object, object, object]]:
    return [(body["agentKey"], body.get("complete"), body["idempotencyKey"]) for body in recorder.bodies]


def test_the_last_step_of_a_block_that_ends_well_completes_the_run() -> None:
    recorder = Recorder()
    with started(recorder, run_id="run_1", key_prefix="resolved_ticket") as run:
        run.step("triage", tokens={"input": 1})
        assert recorder.bodies == []
        run.step("answer")
        assert len(recorder.bodies) == 1
    assert summary(recorder) == [
        ("resolved_ticket.triage", None, "run_1/resolved_ticket.triage/1"),
        ("resolved_ticket.answer", True, "run_1/resolved_ticket.answer/1/complete"),
    ]
    assert {body["runId"] for body in recorder.bodies} == {"run_1"}
    assert recorder.bodies[0]["inputTokens"] == 1


def test_a_block_that_raises_records_its_last_step_but_completes_nothing() -> None:
    recorder = Recorder()
    with pytest.raises(KeyError), started(recorder, run_id="run_1") as run:  # noqa: PT012 - the block is the test
        run.step("triage")
        raise KeyError("agent")
    assert summary(recorder) == [("triage", None, "run_1/triage/1")]


def test_a_resumed_run_repeats_its_keys_and_completes_under_a_new_one() -> None:
    broken, resumed = Recorder(), Recorder()
    with pytest.raises(KeyError), started(broken, run_id="run_1") as run:  # noqa: PT012 - the block is the test
        run.step("triage")
        run.step("answer")
        raise KeyError("agent")
    with started(resumed, run_id="run_1") as run:
        run.step("triage")
        run.step("answer")
    first, second = summary(broken), summary(resumed)
    assert second[0] == first[0]
    assert second[1][2] != first[1][2]
    assert second[1][1] is True


def test_a_step_taken_again_is_another_one_unless_its_ordinal_says_which() -> None:
    recorder = Recorder()
    with started(recorder, run_id="r") as run:
        run.step("a")
        run.step("a")
        run.step("a", ordinal=1)
        run.step("b")
    assert [key for _, _, key in summary(recorder)] == ["r/a/1", "r/a/2", "r/a/1", "r/b/1/complete"]


def test_an_empty_block_records_nothing() -> None:
    recorder = Recorder()
    with started(recorder) as run:
        assert run.run_id == "new-run"
    assert recorder.bodies == []


def test_a_step_is_fixed_when_it_is_taken() -> None:
    recorder, custom = Recorder(), {"n": [1]}
    with started(recorder, run_id="r") as run:
        run.step("a", custom=custom)
        custom["n"].append(2)
    assert recorder.bodies[0]["custom"] == {"n": [1]}


@pytest.mark.parametrize(
    ("argument", "given"),
    [
        ("key", {"key": " "}),
        ("tokens.input", {"key": "a", "tokens": {"input": -1}}),
        ("status", {"key": "a", "status": "LOST"}),
        ("custom", {"key": "a", "custom": {"x": float("nan")}}),
        ("custom", {"key": "a", "custom": {"x": "y" * 40_000}}),
        ("metric", {"key": "a", "metric": {"ref": "r"}}),
        ("ordinal", {"key": "a", "ordinal": 0}),
        ("key", {"key": "a" * 250}),
    ],
)
def test_a_bad_step_is_refused_at_the_call_and_leaves_the_run_as_it_was(
    argument: str, given: dict[str, Any]
) -> None:
    recorder = Recorder()
    with started(recorder, run_id="r") as run:
        key = given.pop("key")
        with pytest.raises(ValidationError, match=rf"^{argument}: "):
            run.step(key, **given)
        run.step("good")
    assert [key for _, _, key in summary(recorder)] == ["r/good/1/complete"]


def test_a_model_is_required_somewhere() -> None:
    runs: Runs[Blocking] = Runs(Recorder())
    with runs.start(customer_id="c") as run, pytest.raises(ValidationError, match=r"^model: "):
        run.step("a")


def test_steps_belong_inside_the_block() -> None:
    run = started(Recorder())
    with pytest.raises(RuntimeError):
        run.step("a")
    with run:
        run.step("a")
        with pytest.raises(RuntimeError):
            run.__enter__()
    with pytest.raises(RuntimeError):
        run.step("a")


def test_the_asynchronous_run_does_the_same() -> None:
    recorder = AsyncRecorder()
    runs: Runs[Async] = Runs(recorder)

    async def main() -> None:
        begun = runs.start(customer_id="c", run_id="r", model="m", wait=True)
        assert_type(begun, AsyncRun)
        async with begun as run:
            await run.step("a")
            await run.step("b")

    asyncio.run(main())
    assert summary(recorder) == [("a", None, "r/a/1"), ("b", True, "r/b/1/complete")]
    assert recorder.waits == [True, True]


def test_both_checkers_know_which_run_it_is() -> None:
    assert_type(started(Recorder()), Run)


STEP: dict[str, Any] = {
    "model": "of-the-step",
    "tokens": {"input": 1, "output": 2, "cache": 3},
    "status": "PENDING",
    "custom": {"feature": "x"},
    "metric": {"ref": "pages", "value": 2},
    "ordinal": 7,
}
SENT = {
    "customerId": "cus_1",
    "type": "outcome",
    "model": "of-the-step",
    "agentKey": "a",
    "runId": "r",
    "inputTokens": 1,
    "outputTokens": 2,
    "cacheTokens": 3,
    "member": "a@b.c",
    "status": "PENDING",
    "custom": {"feature": "x"},
    "pages": 2,
    "complete": True,
    "idempotencyKey": "r/a/7/complete",
}
RUN: dict[str, Any] = {"customer_id": "cus_1", "run_id": "r", "model": "of-the-run", "member": "a@b.c"}


def test_a_step_is_sent_with_all_it_was_given() -> None:
    recorder = Recorder()
    runs: Runs[Blocking] = Runs(recorder)
    with runs.start(**RUN) as run:
        run.step("a", **STEP)
    assert recorder.bodies == [SENT]
    assert recorder.waits == [None]


def test_an_awaited_step_is_sent_with_all_it_was_given() -> None:
    recorder = AsyncRecorder()
    runs: Runs[Async] = Runs(recorder)

    async def main() -> None:
        async with runs.start(**RUN) as run:
            await run.step("a", **STEP)

    asyncio.run(main())
    assert recorder.bodies == [SENT]


@pytest.mark.parametrize("wait", [None, True, False])
def test_a_step_without_more_is_sent_with_what_the_run_has(wait: bool | None) -> None:
    recorder = Recorder()
    runs: Runs[Blocking] = Runs(recorder)
    with runs.start(**RUN, wait=wait) as run:
        run.step("a")
    assert recorder.bodies == [
        {
            **{
                name: SENT[name] for name in ("customerId", "type", "agentKey", "runId", "member", "complete")
            },
            "model": "of-the-run",
            "inputTokens": 0,
            "outputTokens": 0,
            "idempotencyKey": "r/a/1/complete",
        }
    ]
    assert recorder.waits == [wait]


@pytest.mark.parametrize(
    ("argument", "bad"),
    [
        ("customer_id", " "),
        ("run_id", ""),
        ("run_id", "x" * 256),
        ("key_prefix", " "),
        ("model", ""),
        ("member", " "),
        ("wait", 1),
    ],
)
def test_a_bad_run_is_refused_at_its_start(argument: str, bad: object) -> None:
    runs: Runs[Blocking] = Runs(Recorder())
    arguments: dict[str, Any] = {**RUN, argument: bad}
    with pytest.raises(ValidationError, match=rf"^{argument}: "):
        runs.start(**arguments)


def test_a_step_can_not_have_an_empty_model_and_does_not_fall_back_to_the_runs() -> None:
    with started(Recorder()) as run, pytest.raises(ValidationError, match=r"^model: must not be blank"):
        run.step("a", model="")


@pytest.mark.parametrize("odd", [7, [("a", 1)], "a"])
@pytest.mark.parametrize("argument", ["custom", "metric"])
def test_what_must_be_a_mapping_is_one(argument: str, odd: object) -> None:
    with started(Recorder()) as run, pytest.raises(ValidationError, match=rf"^{argument}: must be a mapping"):
        run.step("a", **{argument: odd})  # type: ignore[arg-type]


def test_a_metric_is_fixed_when_the_step_is_taken() -> None:
    recorder, metric = Recorder(), {"ref": "pages", "value": 2}
    with started(recorder, run_id="r") as run:
        run.step("a", metric=metric)
        metric["value"] = 3
    assert recorder.bodies[0]["pages"] == 2
    with started(recorder) as run, pytest.raises(ValidationError, match=r"^metric: can't be encoded"):
        run.step("a", metric={"ref": "pages", "value": {1}})


def test_the_key_of_the_completing_step_may_be_as_long_as_a_key_may_be() -> None:
    recorder = Recorder()
    room = 255 - len("//1/complete") - len("agent")
    with started(recorder, run_id="r" * room) as run:
        run.step("agent")
    assert len(str(recorder.bodies[0]["idempotencyKey"])) == 255
    with (
        started(recorder, run_id="r" * (room + 1)) as run,
        pytest.raises(ValidationError, match=r"^key: is too long together with run_id"),
    ):
        run.step("agent")


def test_an_empty_asynchronous_block_records_nothing() -> None:
    recorder = AsyncRecorder()
    runs: Runs[Async] = Runs(recorder)

    async def main() -> None:
        async with runs.start(customer_id="c") as run:
            assert run.run_id == "new-run"

    asyncio.run(main())
    assert recorder.bodies == []


def test_a_run_shows_its_id() -> None:
    assert repr(started(Recorder(), run_id="run_1")) == "<Run 'run_1'>"
    runs: Runs[Async] = Runs(AsyncRecorder())
    assert repr(runs.start(customer_id="c", run_id="run_1")) == "<AsyncRun 'run_1'>"


class Cancelled(BaseException):
    """What ends a coroutine, or a thread, from outside."""


class Interrupted(Recorder):
    """A client whose calls are interrupted, or refused, by an error."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def record(self, encoded: EncodedSignal, wait: bool | None = None, /) -> Any:
        raise self.error


class AsyncInterrupted(Interrupted):
    is_async = True

    async def record(self, encoded: EncodedSignal, wait: bool | None = None, /) -> Any:
        raise self.error


def held(recorder: Recorder) -> list[object]:
    return [body["idempotencyKey"] for body in recorder.held]


def test_steps_whose_recording_is_cancelled_are_held() -> None:
    recorder = AsyncInterrupted(Cancelled())
    runs: Runs[Async] = Runs(recorder)

    async def main() -> None:
        async with runs.start(customer_id="c", run_id="r", model="m") as run:
            await run.step("a")
            with pytest.raises(Cancelled):
                await run.step("b")
            assert held(recorder) == ["r/a/1"]

    with pytest.raises(Cancelled):
        asyncio.run(main())
    assert held(recorder) == ["r/a/1", "r/b/1/complete"]


def test_the_last_step_of_a_cancelled_block_is_held_without_waiting() -> None:
    recorder = AsyncRecorder()
    runs: Runs[Async] = Runs(recorder)

    async def main() -> None:
        async with runs.start(customer_id="c", run_id="r", model="m", wait=True) as run:
            await run.step("a")
            raise Cancelled

    with pytest.raises(Cancelled):
        asyncio.run(main())
    assert (recorder.bodies, held(recorder)) == ([], ["r/a/1"])


class CancelledError(Exception):
    """What ends a coroutine in a world whose cancellations are ordinary exceptions."""


def test_where_a_cancellation_is_an_ordinary_exception_the_last_step_is_held_too() -> None:
    recorder = AsyncRecorder()
    recorder.cancellations = (CancelledError,)
    runs: Runs[Async] = Runs(recorder)

    async def main(error: Exception) -> None:
        async with runs.start(customer_id="c", run_id="r", model="m", wait=True) as run:
            await run.step("a")
            raise error

    for error in (CancelledError(), KeyError("agent")):
        with pytest.raises(type(error)):
            asyncio.run(main(error))
    assert (held(recorder), [body["idempotencyKey"] for body in recorder.bodies]) == (["r/a/1"], ["r/a/1"])


def test_a_step_that_is_interrupted_in_a_thread_is_held() -> None:
    recorder = Interrupted(Cancelled())
    with pytest.raises(Cancelled), started(recorder, run_id="r") as run:
        run.step("a")
    assert held(recorder) == ["r/a/1/complete"]


@pytest.mark.parametrize("refusal", [PlanError("no"), RuntimeError("outside the block")])
def test_a_step_that_is_refused_is_not_held(refusal: Exception) -> None:
    recorder, async_recorder = Interrupted(refusal), AsyncInterrupted(refusal)
    with pytest.raises(type(refusal)), started(recorder, run_id="r") as run:
        run.step("a")

    async def main() -> None:
        runs: Runs[Async] = Runs(async_recorder)
        async with runs.start(customer_id="c", run_id="r", model="m") as run:
            await run.step("a")

    with pytest.raises(type(refusal)):
        asyncio.run(main())
    assert recorder.held == async_recorder.held == []


@pytest.mark.parametrize("name", ["member", "complete", "idempotency_key", "colour"])
def test_a_step_takes_no_fields_but_its_own(name: str) -> None:
    with (
        started(Recorder()) as run,
        pytest.raises(TypeError, match=rf"^got an unexpected keyword argument '{name}'($|; did you mean ')"),
    ):
        run.step("a", **{name: "x"})  # type: ignore[arg-type]


def test_a_step_that_would_be_too_long_once_it_completes_is_refused_when_it_is_taken() -> None:
    recorder = Recorder()
    refused_at = None
    with started(recorder, run_id="r") as run:
        for size in range(MAX_BODY_BYTES - 400, MAX_BODY_BYTES):
            try:
                run.step("a", metric={"ref": "x", "value": "y" * size}, ordinal=1)
            except ValidationError:
                refused_at = size
                break
    assert refused_at is not None
    assert recorder.bodies[-1]["complete"] is True
    assert recorder.bodies[-1]["x"] == "y" * (refused_at - 1)


RESPONSE: dict[str, object] = {
    "id": "chatcmpl-77aa88bb",
    "model": "gpt-4o-2024-08-06",
    "service_tier": "flex",
    "usage": {"prompt_tokens": 9, "completion_tokens": 4},
}


def test_a_step_takes_a_response() -> None:
    recorder = Recorder()
    with started(recorder) as run:
        run.step("a", response=RESPONSE, custom={"feature": "x"})
        run.step("b", response=RESPONSE, model="given")
        run.step("c", response={"usage": RESPONSE["usage"]})
    sent = [(body["model"], body["inputTokens"], body.get("custom")) for body in recorder.bodies]
    usage = {"usage": {"tier": "flex"}}
    assert sent == [("gpt-4o", 9, {**usage, "feature": "x"}), ("given", 9, usage), ("m", 9, None)]
    assert [body["idempotencyKey"] for body in recorder.bodies] == [
        "new-run/a/1",
        "new-run/b/1",
        "new-run/c/1/complete",
    ]


def test_an_asynchronous_step_takes_a_response() -> None:
    recorder = AsyncRecorder()

    async def test() -> None:
        runs: Runs[Async] = Runs(recorder)
        async with runs.start(customer_id="cus_1") as run:
            await run.step("a", response=RESPONSE)

    asyncio.run(test())
    assert recorder.bodies[0]["model"] == "gpt-4o"


def test_a_response_that_can_not_be_read_is_no_step() -> None:
    recorder = Recorder()
    with started(recorder) as run:
        for arguments in ({"response": {"usage": None}}, {"response": RESPONSE, "tokens": {"input": 5}}):
            wrong: Any = arguments
            with pytest.raises(ValidationError):
                run.step("a", **wrong)
    assert recorder.bodies == []
