"""Work that is done again makes the same keys, of signals, runs and calls to models."""

from collections.abc import Callable

import pytest

from clocknext_core import ValidationError
from clocknext_core.resources.binding import Blocking
from clocknext_core.resources.runs import Runs
from clocknext_core.usage.seeds import Seed
from tests.core.usage.shapes import CHAT_USAGE, chat
from tests.core.usage.test_metering import Client


def keys_of(work: Callable[[Client], object], seed: str | None = "task-1") -> list[str]:
    """Return the keys of the signals that some work records."""
    made = None if seed is None else Seed(seed)
    client = Client(seed=lambda: made)
    work(client)
    return [each.idempotency_key for each in client.recorded]


def credit(client: Client, customer: str = "cus_1", key: str = "chat", **more: object) -> None:
    client.signals.credit(customer_id=customer, key=key, model="gpt-4o", **more)  # type: ignore[arg-type]


def twice(client: Client) -> None:
    credit(client)
    credit(client)


def test_the_same_work_makes_the_same_keys_and_other_work_makes_others() -> None:
    first, again, other = keys_of(twice), keys_of(twice), keys_of(twice, "task-2")
    assert first == again
    assert len({*first, *other}) == 4
    assert keys_of(twice, None) == ["random-1", "random-2"]


def test_signals_of_another_kind_do_not_shift_the_keys() -> None:
    def detour(client: Client) -> None:
        credit(client, "cus_2")
        credit(client, key="image")
        client.signals.credit(customer_id="cus_1", agent_key="chat", model="gpt-4o")
        client.signals.wallet(customer_id="cus_1", model="gpt-4o")
        twice(client)

    made = keys_of(detour)
    assert made[4:] == keys_of(twice)
    assert len({*made}) == 6


def test_a_key_that_is_given_is_kept() -> None:
    assert keys_of(lambda client: credit(client, idempotency_key="mine")) == ["mine"]


def test_a_response_without_an_id_has_a_key_of_the_work() -> None:
    def answer(client: Client, customer: str = "cus_1") -> None:
        client.signals.from_response(chat(CHAT_USAGE, id=None), customer_id=customer, key="chat")

    def answers(client: Client) -> None:
        answer(client)
        answer(client)
        answer(client, "cus_2")

    made = keys_of(answers)
    assert made == keys_of(answers)
    assert len({*made}) == 3
    assert keys_of(answers, None) == ["random-1", "random-2", "random-3"]


def test_a_run_is_resumed_under_the_same_id() -> None:
    def run(client: Client) -> None:
        runs: Runs[Blocking] = Runs(client, client.meter)
        with runs.start(customer_id="cus_1", model="gpt-4o") as each:
            each.step("search")
            each.step("answer")
        with runs.start(customer_id="cus_1", model="gpt-4o") as each:
            each.step("search")

    made = keys_of(run)
    assert made == keys_of(run)
    assert len({*made}) == 3
    assert made != keys_of(run, "task-2")


@pytest.mark.parametrize("text", ["", "x" * 256, 7, None])
def test_a_seed_is_an_id(text: object) -> None:
    with pytest.raises(ValidationError, match="seed"):
        Seed(text)  # type: ignore[arg-type]


def test_its_keys_are_those_of_every_version() -> None:
    """An upgrade between two deliveries of a task must not bill it twice."""
    seed = Seed("task-1")
    body: dict[str, object] = {"customerId": "cus_1", "key": "api_credit", "model": "gpt-4o"}
    assert [
        seed.key("run"),
        seed.key("run"),
        seed.key_of("credit", body),
        seed.key_of("wallet", body),
    ] == KEYS


KEYS = [
    "x-c13e93248d5348f2f423ee8134c9d168be751db8",
    "x-c17ba4368e3486945d6c5e6b02d0398ac1d9bf1b",
    "x-430c2bd0564201a2d9774279cde527e9838642d1",
    "x-b9c7b53029237608f99a36afd44b7bcd50a9f831",
]


def test_it_shows_its_text() -> None:
    assert repr(Seed("task-1")) == "<Seed 'task-1'>"
