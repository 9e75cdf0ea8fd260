"""The machine of one awaited operation, in virtual time."""

from collections.abc import Sequence
from typing import Any, TypeVar

import pytest

from clocknext_core import (
    Answer,
    BatchPolicy,
    Call,
    ClockNextError,
    Closed,
    Engine,
    Failure,
    NetworkError,
    Operation,
    RateLimitError,
    Retrying,
    RetryPolicy,
    ServerError,
    Settled,
    Transmit,
    ValidationError,
    Wait,
    WaitReason,
)
from clocknext_core.config import REDACTED
from clocknext_core.delivery import signal_operation
from clocknext_core.envelope import Payload
from clocknext_core.gate import Gate
from clocknext_core.operations import Method, json_body, path_of
from tests.core.support import KEY, Dice, answer, config, counting_keys, credit, encoded, refusal, success

T = TypeVar("T")


def read(payload: Payload) -> Payload:
    return payload


def operation(method: Method = "GET", *, replay_safe: bool | None = None) -> Operation[Payload]:
    body = json_body({"name": "x"}) if method in ("POST", "PUT", "PATCH") else None
    return Operation(method, path_of("customers", "c"), read, body, replay_safe)


def call_of(made: Operation[T], retry: RetryPolicy | None = None, timeout: float = 10.0) -> Call[T]:
    settings = config(retry=retry, timeout=timeout)
    return Call(made, settings, Dice(0.0), Gate(settings))


def transmission(call: Call[Any], now: float) -> Transmit:
    output = call.poll(now=now)
    assert isinstance(output, Transmit)
    return output


def play(
    call: Call[T], answers: Sequence[Answer]
) -> tuple[Settled[Payload], list[Transmit], list[Retrying], float]:
    """Answer each attempt at once, the last answer again and again, and sleep as long as told to."""
    now = 100.0
    attempts: list[Transmit] = []
    retries: list[Retrying] = []
    while True:
        match output := call.poll(now=now):
            case Transmit():
                attempts.append(output)
                call.handle_answer(output.ticket, answers[min(len(attempts), len(answers)) - 1], now=now)
            case Retrying():
                retries.append(output)
            case Wait(until=float(until)):
                assert until > now
                now = until
            case Settled():
                assert call.poll(now=now) == Closed()
                return output, attempts, retries, now
            case _:
                raise AssertionError(f"unexpected {output}")


def test_a_call_that_is_answered_settles_with_its_value_and_then_is_closed() -> None:
    settled, attempts, retries, now = play(call_of(operation()), [success({"a": 1})])
    assert settled.unwrap() == {"a": 1}
    assert (len(attempts), retries, now) == (1, [], 100.0)


@pytest.mark.parametrize(("status", "reader"), [(200, "read"), (201, "read"), (202, "taken"), (204, "read")])
def test_an_answer_202_is_read_by_its_own_reader_where_there_is_one(status: int, reader: str) -> None:
    plain = Operation("GET", "/x", lambda _: "read")
    both = Operation("GET", "/x", lambda _: "read", read_taken=lambda _: "taken")
    for made, expected in ((plain, "read"), (both, reader)):
        call = call_of(made)
        settled, *_ = play(call, [answer(503, {}), success({}, status)])
        assert call.result(settled) == expected


def test_a_wait_of_exactly_the_patience_is_sat_through_however_the_sum_rounds() -> None:
    call = call_of(operation(), RetryPolicy(4, 0.0, 0.3))
    transmit = transmission(call, 1002.0)
    call.handle_answer(transmit.ticket, refusal(429, retry_after="41.2"), now=1002.0)
    retrying = call.poll(now=1002.0)
    assert isinstance(retrying, Retrying)
    assert retrying.delay == 41.2
    assert call.poll(now=1002.0) == Wait(1002.0 + 41.2)


def test_an_attempt_has_the_configured_time_out_as_its_deadline() -> None:
    assert transmission(call_of(operation(), timeout=2.5), 7.0).deadline_at == 9.5


def test_while_an_attempt_is_in_flight_only_its_answer_can_wake_the_call() -> None:
    call = call_of(operation())
    transmission(call, 0.0)
    assert [call.poll(now=now) for now in (0.0, 50.0, 1e9)] == [Wait(None)] * 3


def test_a_failed_attempt_is_repeated_with_the_same_request_after_exactly_its_back_off() -> None:
    call = call_of(signal_operation(encoded("idem")))
    first = transmission(call, 10.0)
    call.handle_answer(first.ticket, refusal(503), now=11.0)
    retrying = call.poll(now=11.0)
    assert isinstance(retrying, Retrying)
    assert (retrying.attempt, retrying.delay) == (1, 0.1)
    assert retrying.signal == credit("idem")
    assert isinstance(retrying.error, ServerError)
    assert retrying.error.idempotency_key == "idem"
    until = 11.0 + retrying.delay
    assert [call.poll(now=now) for now in (11.0, 11.0, 11.05, 5.0)] == [Wait(until)] * 4
    again = transmission(call, until)
    assert again.request == first.request
    assert again.request.body == first.request.body
    assert again.ticket != first.ticket


def test_back_off_doubles_up_to_its_ceiling_and_the_last_failure_is_the_outcome() -> None:
    retry = RetryPolicy(max_attempts=6, base_delay=1.0, max_delay=5.0)
    settled, attempts, retries, now = play(call_of(operation(), retry), [refusal(500, "down")])
    assert [event.delay for event in retries] == [0.5, 1.0, 2.0, 2.5, 2.5]
    assert [event.attempt for event in retries] == [1, 2, 3, 4, 5]
    assert len(attempts) == 6
    assert now == 100.0 + 8.5
    with pytest.raises(ServerError, match="down"):
        settled.unwrap()


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 415, 422, 302, 418])
def test_what_is_not_retryable_is_sent_once(status: int) -> None:
    settled, attempts, retries, _ = play(call_of(operation()), [refusal(status)])
    assert isinstance(settled.outcome, ClockNextError)
    assert (settled.outcome.status, len(attempts), retries) == (status, 1, [])


@pytest.mark.parametrize(
    ("method", "attempts_made"), [("GET", 5), ("PUT", 5), ("DELETE", 5), ("POST", 1), ("PATCH", 1)]
)
@pytest.mark.parametrize("last", [refusal(503), refusal(429), Failure("reset"), answer(200, "<html>")])
def test_only_calls_that_are_safe_to_replay_are_retried(
    method: Method, attempts_made: int, last: Answer
) -> None:
    settled, attempts, retries, _ = play(call_of(operation(method)), [last])
    assert isinstance(settled.outcome, ClockNextError)
    assert settled.outcome.retryable
    assert len(attempts) == attempts_made == len(retries) + 1


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_any_call_is_retried_when_the_server_certainly_never_processed_it(method: Method) -> None:
    answers: list[Answer] = [
        *(Failure("connection refused", processed=False), Failure("host unknown", processed=False)),
        success(),
    ]
    settled, attempts, _, _ = play(call_of(operation(method)), answers)
    assert settled.unwrap() == {}
    assert len(attempts) == 3


def test_doubt_about_one_attempt_ends_an_unsafe_call_even_after_certain_failures() -> None:
    answers = [Failure("connection refused", processed=False), Failure("connection reset")]
    settled, attempts, _, _ = play(call_of(operation("POST")), answers)
    assert isinstance(settled.outcome, NetworkError)
    assert len(attempts) == 2


def test_an_operation_can_say_itself_that_it_is_safe_or_not() -> None:
    for method, safe, attempts_made in (("POST", True, 5), ("GET", False, 1)):
        made = operation("POST" if method == "POST" else "GET", replay_safe=safe)
        _, attempts, _, _ = play(call_of(made), [refusal(503)])
        assert len(attempts) == attempts_made
        assert attempts[0].request.replay_safe is safe


@pytest.mark.parametrize("status", [429, 503, 408, 409, 500])
def test_retry_after_is_waited_for_on_every_status_and_beyond_our_own_ceiling(status: int) -> None:
    settled, attempts, retries, now = play(
        call_of(operation()), [refusal(status, retry_after="30"), success()]
    )
    assert settled.unwrap() == {}
    assert [event.delay for event in retries] == [30.0]
    assert (len(attempts), now) == (2, 130.0)


def test_a_shorter_retry_after_does_not_shorten_our_own_back_off() -> None:
    retry = RetryPolicy(base_delay=4.0)
    _, _, retries, _ = play(call_of(operation(), retry), [refusal(429, retry_after="1"), success()])
    assert [event.delay for event in retries] == [2.0]


def test_a_wait_longer_than_a_caller_would_sit_through_is_an_error_that_has_the_wait() -> None:
    call = call_of(operation())
    assert config().patience == 100.0
    settled, attempts, retries, now = play(call, [refusal(429, "slow down", retry_after="101")])
    assert isinstance(settled.outcome, RateLimitError)
    assert settled.outcome.retry_after == 101.0
    assert (len(attempts), retries, now) == (1, [], 100.0)
    just, _, _, _ = play(call_of(operation()), [refusal(429, retry_after="100"), success()])
    assert just.unwrap() == {}


def test_late_unknown_and_repeated_tickets_change_nothing() -> None:
    call = call_of(operation())
    call.handle_answer(1, success(), now=0.0)
    call.handle_answer(0, success(), now=0.0)
    first = transmission(call, 0.0)
    call.handle_answer(first.ticket + 1, success(), now=0.0)
    assert call.poll(now=0.0) == Wait(None)
    call.handle_answer(first.ticket, refusal(500), now=1.0)
    call.handle_answer(first.ticket, success(), now=1.0)
    assert isinstance(call.poll(now=1.0), Retrying)
    second = transmission(call, 2.0)
    call.handle_answer(first.ticket, success({"late": True}), now=2.0)
    assert call.poll(now=2.0) == Wait(None)
    call.handle_answer(second.ticket, success({"late": False}), now=2.0)
    settled = call.poll(now=2.0)
    assert isinstance(settled, Settled)
    assert settled.unwrap() == {"late": False}
    call.handle_answer(second.ticket, refusal(400), now=3.0)
    assert call.poll(now=3.0) == call.poll(now=9.0) == Closed()


def test_a_clock_set_back_stands_still() -> None:
    call = call_of(operation(), RetryPolicy(base_delay=2.0))
    first = transmission(call, 100.0)
    call.handle_answer(first.ticket, refusal(500), now=50.0)
    assert isinstance(call.poll(now=0.0), Retrying)
    assert call.poll(now=-5.0) == Wait(101.0)
    again = transmission(call, 101.0)
    assert again.deadline_at == 111.0


def test_one_attempt_is_all_there_is_when_the_policy_says_so() -> None:
    settled, attempts, retries, _ = play(call_of(operation(), RetryPolicy(max_attempts=1)), [refusal(503)])
    assert isinstance(settled.outcome, ServerError)
    assert (len(attempts), retries) == (1, [])


def test_a_reader_may_say_that_a_success_is_none() -> None:
    def refuse(payload: Payload) -> ClockNextError:
        return ClockNextError("The server took it instead of checking it.", status=202)

    call: Call[Payload] = call_of(Operation("GET", path_of("customers", "c"), refuse))
    settled, *_ = play(call, [success({"a": 1})])
    with pytest.raises(ClockNextError, match="took it") as caught:
        call.result(settled)
    assert caught.value.status == 202


def test_an_error_that_a_reader_makes_of_a_success_shows_no_key() -> None:
    def refuse(payload: Payload) -> ClockNextError:
        said = str(payload["signalId"])
        return ClockNextError("not so", status=202, signal_id=said, received_at=said)

    call: Call[Payload] = call_of(Operation("GET", path_of("customers", "c"), refuse))
    settled, *_ = play(call, [success({"signalId": f"{KEY}\x1b[2J"})])
    with pytest.raises(ClockNextError) as caught:
        call.result(settled)
    assert caught.value.signal_id is not None
    assert caught.value.signal_id.startswith(REDACTED)
    assert "\x1b" not in caught.value.signal_id
    assert caught.value.received_at == caught.value.signal_id


# The engine, which hands out calls


def test_an_awaited_signal_is_a_call_and_a_buffered_one_is_not() -> None:
    engine = Engine(config(), rng=Dice(0.0), make_key=counting_keys())
    assert not engine.is_awaited(None)
    assert engine.is_awaited(True)
    awaited = engine.call(signal_operation(engine.encode(credit())))
    settled, attempts, retries, _ = play(
        awaited, [refusal(500), success({"usageLog": {"id": "log_1"}, "later": 1})]
    )
    result = awaited.result(settled)
    assert (result.idempotency_key, result.queued, result.dropped) == ("key-1", False, None)
    assert result.usage_log is not None
    assert result.usage_log.id == "log_1"
    assert result.raw == {"usageLog": {"id": "log_1"}, "later": 1}
    assert len({attempt.request.body for attempt in attempts}) == 1
    assert [event.signal for event in retries] == [credit("key-1")]


def test_wait_must_be_a_bool() -> None:
    engine = Engine(config(), rng=Dice(0.0), make_key=counting_keys())
    with pytest.raises(ValidationError, match="wait"):
        engine.is_awaited(1)  # type: ignore[arg-type]


def test_a_closed_client_makes_no_more_calls() -> None:
    engine = Engine(config(BatchPolicy()), rng=Dice(0.0), make_key=counting_keys())
    engine.outbox.close(now=0.0)
    with pytest.raises(ClockNextError, match="closed"):
        engine.call(operation())
    with pytest.raises(ClockNextError, match="closed"):
        engine.call(signal_operation(encoded("a")))


def test_a_wait_says_what_it_is_for() -> None:
    call = call_of(operation(), RetryPolicy(4, 2.0, 2.0))
    transmit = transmission(call, 0.0)
    in_flight = call.poll(now=0.0)
    assert isinstance(in_flight, Wait)
    assert (in_flight.until, in_flight.reason) == (None, None)
    call.handle_answer(transmit.ticket, refusal(500), now=1.0)
    assert isinstance(call.poll(now=1.0), Retrying)
    wait = call.poll(now=1.0)
    assert isinstance(wait, Wait)
    assert wait.reason is WaitReason.BACK_OFF
