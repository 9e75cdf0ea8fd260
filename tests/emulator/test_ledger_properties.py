"""The ledger's books, under requests in any order, repeats of every kind, faults, and a clock set at will."""

import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, TypeVar

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from clocknext_core import ClockNextError, Config, Request
from clocknext_core.envelope import open_answer, without_ok
from clocknext_transports.emulator import AcceptOnly, Fault, Ledger
from clocknext_transports.emulator.books.envelopes import Envelope, Payload, Refusal, refuse, succeed
from tests.emulator.ledger_model import World
from tests.emulator.ledger_tables import CATALOGUE, PLANS, STEPS, UNITS
from tests.emulator.ledger_wire import USAGE, Refused
from tests.emulator.support import NOW, call, signal

T = TypeVar("T")
MODES: Sequence[AcceptOnly | None] = (None, "thin", "thick", "thick-queued")

FAULTS: Sequence[Fault] = (
    Fault("status", 409, retry_after="1"),  # the first of the same key is still in flight
    Fault("status", 503),
    Fault("reset"),
    Fault("lost"),
    Fault("status", 500, commit=True),
    Fault("latency"),
)
NO_SIGNALS: Mapping[str, tuple[dict[str, Any], Refused]] = {
    "no type": ({"type": None}, Refused(400, "type", "INVALID_BODY")),
    "negative": ({"inputTokens": -1}, Refused(400, "inputTokens", "INVALID_BODY")),
    "text": ({"outputTokens": "5"}, Refused(400, "outputTokens", "INVALID_BODY")),
    "truth": ({"cacheTokens": True}, Refused(400, "cacheTokens", "INVALID_BODY")),
    "fraction": ({"inputTokens": 1.5}, Refused(400, "inputTokens", "INVALID_BODY")),
    "too many": ({"inputTokens": 2**53}, Refused(400, "inputTokens", "INVALID_BODY")),
    "blank customer": ({"customerId": " "}, Refused(400, "customerId", "INVALID_BODY")),
    "no key": ({"agentKey": None, "type": "credit"}, Refused(400, "agentKey", "INVALID_BODY")),
    "no member": ({"member": 7}, Refused(400, "member", "INVALID_BODY")),
    "no custom": ({"custom": [1]}, Refused(400, "custom", "INVALID_BODY")),
    "long key": ({"idempotencyKey": "k" * 256}, Refused(400, "idempotencyKey", "INVALID_BODY")),
    "blank key": ({"idempotencyKey": " "}, Refused(400, "idempotencyKey", "INVALID_BODY")),
    "large custom": ({"custom": {"x": "y" * 32_768}}, Refused(413, "", "CUSTOM_TOO_LARGE")),
}


def pick(rng: Random, choices: Sequence[T]) -> T:
    return choices[rng.randrange(len(choices))]


def is_rare(rng: Random, one_in: int) -> bool:
    return rng.randrange(one_in) == one_in - 1


def customer(world: World, rng: Random) -> str:
    if is_rare(rng, 15):
        return pick(rng, ["nobody", *world.gone])
    holders = [name for name, account in world.accounts.items() if account.held]
    if holders and rng.randrange(2):
        return pick(rng, holders)
    return pick(rng, list(world.accounts) or ["nobody"])


def a_signal(world: World, rng: Random) -> dict[str, Any]:
    name = customer(world, rng)
    kind, keys = pick(rng, [("wallet", ["x"]), ("credit", ["x", "y"]), ("outcome", list(STEPS))])
    held = world.accounts[name].held if name in world.accounts else {}
    own = [item for item in held if item[0] in ("credit", "outcome")]
    if own and rng.randrange(4):  # else most signals would be for what the customer does not have
        kind, item = pick(rng, own)
        keys = [item] if kind == "credit" else [step for step, outcome in STEPS.items() if outcome == item]
    body: dict[str, Any] = {
        "customerId": name,
        "type": kind,
        "model": pick(rng, ["a", "A", "b", "B"]) if not is_rare(rng, 15) else pick(rng, ["off", "none"]),
        pick(rng, ["key", "agentKey"]): pick(rng, keys) if not is_rare(rng, 20) else "none",
        "inputTokens": pick(rng, [0, 1, 1500, 70_000]),
        "outputTokens": pick(rng, [0, 7, 20_000]),
    }
    optional: Mapping[str, Sequence[object]] = {
        "cacheTokens": [0, 333],
        "member": ["ann@acme.com"],
        "status": ["SUCCESS", "FAILURE", "PENDING"],
        "custom": [{"feature": "summarize"}],
        "seats": [3],
        "runId": ["r1", "r2"],
        "complete": [True, True, False],
    }
    body |= {name: pick(rng, values) for name, values in optional.items() if rng.randrange(2)}
    if not is_rare(rng, 6):
        body["idempotencyKey"] = f"k{rng.randrange(40)}"
    if is_rare(rng, 8):
        body["dryRun"] = pick(rng, [True, True, False])
    return body


def send_signal(world: World, rng: Random) -> None:
    world.signal(a_signal(world, rng), pick(rng, FAULTS) if is_rare(rng, 4) else None)


def send_again(world: World, rng: Random) -> None:
    """The same key: with the same body, or another, after a 409, at once or later."""
    key = f"k{rng.randrange(40)}"
    body = a_signal(world, rng) | {"idempotencyKey": key}
    body.pop("dryRun", None)
    for _ in range(rng.randint(2, 4)):
        world.signal(body, pick(rng, FAULTS) if rng.randrange(2) else None)
        if is_rare(rng, 3):
            body = a_signal(world, rng) | {"idempotencyKey": key}


def finish_run(world: World, rng: Random) -> None:
    """The last step of a run, more than once and under different keys."""
    body = a_signal(world, rng) | {
        "type": "outcome",
        "runId": pick(rng, ["r1", "r2", "r3"]),
        "complete": True,
    }
    for name in ("key", "dryRun", "idempotencyKey"):
        body.pop(name, None)
    held = world.accounts[body["customerId"]].held if body["customerId"] in world.accounts else {}
    own = [step for step, outcome in STEPS.items() if ("outcome", outcome) in held]
    for _ in range(rng.randint(2, 3)):
        world.signal(body | {"agentKey": pick(rng, own or list(STEPS))})


def send_no_signal(world: World, rng: Random) -> None:
    # The ingest leaves a signal without a type to be refused later.
    choices = sorted(NO_SIGNALS.keys() - ({"no type"} if world.accept_only is not None else set()))
    changes, refused = NO_SIGNALS[pick(rng, choices)]
    body = signal(**{"model": "a", "agentKey": "x", "idempotencyKey": "k0", **changes})
    if world.accept_only == "thin":
        return  # it looks at neither the key nor most of the body
    if is_rare(rng, 4):
        if world.accept_only is not None:  # it judges the body first
            body = signal(model="a", agentKey="x", idempotencyKey="k0")
        world.spoilt_signal(body, Refused(401, "", "API_KEY_REJECTED"), authorization="Bearer cnk_other")
    elif is_rare(rng, 4):
        world.spoilt_signal(body, Refused(415, "", "UNSUPPORTED_MEDIA_TYPE"), content_type="text/plain")
    else:
        world.spoilt_signal(body, refused)


def record_events(world: World, rng: Random) -> None:
    name, unit = customer(world, rng), pick(rng, ["none", *UNITS])
    if name in world.accounts and (
        own := [item for kind, item in world.accounts[name].held if kind == "unit"]
    ):
        unit = pick(rng, own)
    for _ in range(rng.randint(1, 4)):
        world.unit_event(name, unit, pick(rng, FAULTS) if is_rare(rng, 6) else None)


def change_customers(world: World, rng: Random) -> None:
    details: dict[str, Any] = {
        "name": pick(rng, ["Acme", "acorn", "Globex"]) if not is_rare(rng, 8) else "",
        "email": pick(rng, ["ops@acme.com", "it@globex.example"]) if not is_rare(rng, 8) else "nowhere",
        "notes": pick(rng, [None, "VIP", ""]),
        "currencyCode": pick(rng, ["EUR", "USD"]),
    }
    chosen = {name: value for name, value in details.items() if rng.randrange(2)}
    match rng.randrange(8):
        case 0:
            world.delete_customer(customer(world, rng))
        case 1 | 2 | 3 if len(world.accounts) < 7:
            world.create_customer(details if rng.randrange(4) else chosen)
        case _:
            world.update_customer(customer(world, rng), chosen)


def page(world: World, rng: Random) -> None:
    world.next_page(rng.randint(1, 3), pick(rng, ["", "", "ac", "GLOBEX", "zzz"]))


def change_members(world: World, rng: Random) -> None:
    name, email = customer(world, rng), pick(rng, ["ann@acme.com", "bob@acme.com", "eve@acme.com"])
    account = world.accounts.get(name)
    member = pick(rng, ["mem_none", *(account.members if account is not None else ())])
    world.add_member(name, email)
    if rng.randrange(2):
        world.change_member(name, member, pick(rng, ["ann@acme.com", "joe@acme.com"]))
    else:
        world.remove_member(name, member)


def book_by_hand(world: World, rng: Random) -> None:
    if rng.randrange(2):
        kind = pick(rng, ["TOPUP", "DEBIT", "ADJUSTMENT"])
        world.wallet_entry(customer(world, rng), kind, pick(rng, [0.1, 0.25, 1, 3, 0, -0.1, -2]))
    else:
        items = [("credit", "x"), ("credit", "y"), ("outcome", "o"), ("outcome", "p"), ("unit", "none")]
        item = pick(rng, [*items, *(("unit", unit) for unit in UNITS)])
        world.adjust(customer(world, rng), item, pick(rng, [1, 2, -1, -3, 0.5]) if item[0] != "unit" else 2)


def change_purchases(world: World, rng: Random) -> None:
    match rng.randrange(6):
        case 0 if world.purchases:
            world.cancel(pick(rng, world.purchases[-4:]))
        case 1 if world.purchases:
            world.pay_automatically(pick(rng, world.purchases), auto=bool(rng.randrange(2)))
        case _:
            plan = pick(rng, [*PLANS, *PLANS, *PLANS, "retired", "none"])
            world.buy(customer(world, rng), plan, auto=bool(rng.randrange(2)))


def let_time_pass(world: World, rng: Random) -> None:
    world.jump(pick(rng, [0.25, 60.0, 90_000.0, -0.5, -7200.0]) if is_rare(rng, 3) else 1.0)


OPERATIONS: Sequence[tuple[int, Callable[[World, Random], None]]] = (
    (12, send_signal),
    (3, send_again),
    (2, finish_run),
    (2, send_no_signal),
    (3, record_events),
    (4, change_customers),
    (4, page),
    (3, change_members),
    (4, book_by_hand),
    (4, change_purchases),
    (3, let_time_pass),
)


class LedgerMachine(RuleBasedStateMachine):
    """Any requests, in any order."""

    world: World

    @initialize(accept_only=st.sampled_from(MODES))
    def start(self, accept_only: AcceptOnly | None) -> None:
        self.world = World(accept_only)

    @rule(
        operation=st.sampled_from([each for weight, each in OPERATIONS for _ in range(weight)]),
        seed=st.integers(0, 10_000),
    )
    def request(self, operation: Callable[[World, Random], None], seed: int) -> None:
        operation(self.world, Random(seed))  # a seed, which a failure shows, and not an opaque generator

    @rule(limit=st.integers(1, 5), unlikely=st.integers(0, 9))
    def audit(self, limit: int, unlikely: int) -> None:
        if unlikely == 0:
            self.world.audit(limit)

    def teardown(self) -> None:
        self.world.audit()


def test_any_requests_in_any_order_keep_the_books() -> None:
    run_state_machine_as_test(
        LedgerMachine,
        settings=settings(
            max_examples=30,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )


def wander(rng: Random, steps: int, *, accept_only: AcceptOnly | None) -> World:
    """Take a seeded walk through the same requests."""
    world = World(accept_only)
    weights = [weight for weight, _ in OPERATIONS]
    for _ in range(steps):
        rng.choices(OPERATIONS, weights)[0][1](world, rng)
    world.audit(rng.randint(1, 5))
    return world


@pytest.mark.parametrize("accept_only", MODES)
def test_a_seeded_run_keeps_the_books_and_meets_every_trouble(accept_only: AcceptOnly | None) -> None:
    rng = Random(f"{accept_only}/2")
    seen: Counter[str] = Counter()
    for _ in range(20):
        seen += wander(rng, 120, accept_only=accept_only).seen
    happened = {
        *("wallet recorded", "credit recorded", "outcome recorded", "outcome billed", "run billed before"),
        *("repeat", "repeat, other body", "dry run", "refused", "insufficient", "invalid"),
        *("fault 409", "fault 503", "fault reset", "answer lost", "unit event", "in arrear"),
        *("customer created", "customer updated", "customer deleted", "paged through", "page"),
        *("member added", "member removed", "wallet entry", "adjusted", "bought", "cancelled"),
        *("invoice void", "paid", "starter money taken back", "unit event in arrear"),
        *("funded by the wallet", "wallet overdrawn"),
    }
    if accept_only is not None:
        happened -= {"repeat", "repeat, other body"}
    if accept_only == "thin":
        happened -= {"dry run", "invalid"}
    assert {name for name in happened if seen[name] < 10} == set()


def test_the_same_seed_and_requests_give_the_same_bytes() -> None:
    first, second = (wander(Random("bytes"), 150, accept_only=None).wire.log for _ in range(2))
    assert first == second
    assert len(first) > 150


def test_both_envelopes_carry_the_same() -> None:
    """Whatever a run was answered, a client reads the same out of either envelope."""
    world = wander(Random("envelopes"), 60, accept_only=None)
    config = Config("cnk_test")
    for method, target, response in world.wire.log:
        if response is None:
            continue
        request = Request(method, target, config.origin, ())
        meant = open_answer(response, request=request, config=config)
        for envelope in Envelope:
            if isinstance(meant, ClockNextError):
                assert meant.status is not None
                twin = refuse(envelope, Refusal(meant.status, meant.message), now=NOW)
                read = open_answer(twin, request=request, config=config)
                assert (type(read), str(read)) == (type(meant), str(meant))
            else:
                payload = without_ok(meant)
                twin = succeed(envelope, Payload(payload, response.status), now=NOW)
                read = open_answer(twin, request=request, config=config)
                assert not isinstance(read, ClockNextError)
                assert without_ok(read) == payload


def test_the_same_keys_from_many_threads_at_once_bill_once() -> None:
    ledger = Ledger(CATALOGUE)
    ledger.guard = threading.RLock()
    start = ledger.balance("full", "x")
    answers: list[dict[str, Any]] = []
    barrier = threading.Barrier(4)

    def send(seed: int) -> None:
        keys = [f"k{n}" for n in range(20)] * 2
        Random(seed).shuffle(keys)
        barrier.wait(60)
        for key in keys:
            body = signal(customerId="full", model="a", agentKey="x", idempotencyKey=key)
            answers.append(call(ledger, "POST", USAGE, body, now=NOW)[1]["result"]["usageLog"])

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=send, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        sys.setswitchinterval(interval)
    assert len(answers) == 160
    assert len({str(answer) for answer in answers}) == 20
    assert [ledger.billed(f"k{n}") for n in range(20)] == [1] * 20
    used = ledger.bill("full").credits["x"]
    assert start - ledger.balance("full", "x") == used > 0
    assert ledger.counters.repeats == 140
