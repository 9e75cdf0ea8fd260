"""The log of events: what is logged of each event, at which level, and what never is."""

import logging
import threading
from collections.abc import Generator
from typing import cast, get_args

import pytest

from clocknext_core import (
    AllowanceError,
    AuthError,
    BatchPolicy,
    ClockNextError,
    Config,
    Dropped,
    Emptied,
    EncodedSignal,
    FallingBehind,
    GivenUp,
    HookEvent,
    Issue,
    KeyRefused,
    Misdirected,
    NetworkError,
    NotFoundError,
    PlanError,
    Rejected,
    RequestLine,
    Retrying,
    ServerError,
    Tokens,
    Unbilled,
    ValidationError,
)
from clocknext_core.gate import OUTAGE_AFTER, Gate
from clocknext_core.signals import encode
from clocknext_core.usage.attribution import Reason
from clocknext_core.usage.reading import Reading
from clocknext_core.verdicts import Verdict
from clocknext_transports import ClockNext
from clocknext_transports.client.events_log import LEVELS, MOST, RETRIES_WINDOW, WINDOW, EventLog
from clocknext_transports.client.failures import broken_transport
from clocknext_transports.client.hooks import Hooks
from clocknext_transports.emulator import scripted
from tests.contract.answers import Answer, by_key, in_turn, priced, refused
from tests.transports.support import KEY, NATIVE, PATIENCE, Native
from tests.transports.watched import PERSONAL, QUICK, opened, signal

USUAL = frozenset(vars(logging.makeLogRecord({})))

each_kind = pytest.mark.parametrize("kind", NATIVE)


class Keeper(logging.Handler):
    """Keeps records."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        self.records.append(record)


@pytest.fixture
def keeper() -> Generator[Keeper, None, None]:
    """What the clients log."""
    handler, logger = Keeper(), logging.getLogger("clocknext")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def told(record: logging.LogRecord) -> dict[str, object]:
    """What a record has beside the usual, with its level."""
    fields = {name: value for name, value in vars(record).items() if name not in USUAL and name != "message"}
    return {"level": record.levelname, **fields}


def leave_alone(_: object) -> None:
    """See to nothing."""


@each_kind
def test_each_event_is_a_record_with_fields(kind: Native, keeper: Keeper) -> None:
    busy = in_turn(refused(409, "Busy.", result={"errorReason": "IN_PROGRESS"}), priced())
    answers: dict[str, Answer] = {"busy": busy, "poor": refused(422, "alice@acme.example is poor.")}
    with scripted([by_key(answers)]) as server, opened(kind, server.url, leave_alone) as client:
        for key in ("busy", "poor"):
            client.record(signal(key))
        client.close(PATIENCE)
        client.record(signal("late"))
    by_signal: dict[object, list[dict[str, object]]] = {}
    for record in keeper.records:
        fields = told(record)
        assert fields.pop("signal_type", "credit") == "credit"
        by_signal.setdefault(fields.pop("idempotency_key", None), []).append(fields)
    retrying, delivered = by_signal["busy"]
    assert 0.0 <= float(str(retrying.pop("delay"))) <= QUICK.max_delay
    usual = {"method": "POST", "path": "/api/v1/usage"}
    assert retrying == {
        "level": "WARNING",
        "event_name": "retrying",
        "attempt": 1,
        "error_type": "ConflictError",
        "status": 409,
        "reason": "IN_PROGRESS",
        **usual,
    }
    assert delivered == {"level": "DEBUG", "event_name": "delivered"}
    assert by_signal["poor"] == [
        {
            "level": "WARNING",
            "event_name": "rejected",
            "error_type": "PlanError",
            "status": 422,
            "reason": None,
            **usual,
        },
    ]
    assert by_signal["late"] == [{"level": "WARNING", "event_name": "dropped", "reason": "closed"}]
    flushed = by_signal[None]
    assert {(each["level"], each["event_name"]) for each in flushed} == {("INFO", "emptied")}
    assert sum(int(str(each["count"])) for each in flushed) == 1
    texts = [record.getMessage() + str(told(record)) for record in keeper.records]
    assert not [text for text in texts if any(secret in text for secret in PERSONAL)]


@each_kind
def test_an_awaited_call_logs_its_retries_alone(kind: Native, keeper: Keeper) -> None:
    answers: dict[str, Answer] = {"down": refused(503)}
    with (
        scripted([by_key(answers)]) as server,
        opened(kind, server.url, leave_alone) as client,
        pytest.raises(ServerError),
    ):
        client.record(signal("down"), wait=True)
    assert [record.getMessage().partition(". ")[0] for record in keeper.records] == [
        "ClockNext attempt 1 failed (ServerError, status 503, POST /api/v1/usage)"
    ]
    assert told(keeper.records[0])["idempotency_key"] == "down"


@each_kind
def test_an_outage_is_told_when_it_begins_and_when_it_is_over(kind: Native, keeper: Keeper) -> None:
    failures = [refused(503)] * (OUTAGE_AFTER + 2)
    with (
        scripted([in_turn(*failures, priced())]) as server,
        opened(kind, server.url, leave_alone, batch=BatchPolicy(max_size=2, max_concurrency=1)) as client,
    ):
        for key in ("a", "b"):
            client.record(signal(key))
        assert client.close(PATIENCE).delivered == 2
    lines = [(record.levelname, record.getMessage().partition(":")[0]) for record in keeper.records]
    events = [str(told(record)["event_name"]) for record in keeper.records]
    assert [line for line in lines if "works again" in line[1] or "does not work" in line[1]] == [
        ("WARNING", "ClockNext does not work, or can't be reached"),
        ("WARNING", "ClockNext works again"),
    ]
    began = told(keeper.records[events.index("outage_began")])
    assert (began["status"], began["error_type"], began["path"]) == (503, "ServerError", "/api/v1/usage")
    assert [(line[0], event) for line, event in zip(lines, events, strict=True) if event == "retrying"] == [
        ("WARNING", "retrying"),  # the first failure, and no other
        *[("DEBUG", "retrying")] * (OUTAGE_AFTER + 1),
    ]
    # Each stands before the event that it came with.
    assert events[: OUTAGE_AFTER + 1] == ["retrying"] * (OUTAGE_AFTER - 1) + ["outage_began", "retrying"]
    assert events[events.index("outage_ended") + 1] == "delivered"


REFUSED = AuthError("Unknown key alice.", status=401, reason="API_KEY_REJECTED", retryable=False)
ENCODED = encode(signal("a"), str)


@pytest.mark.parametrize(
    ("event", "told_by"),
    [
        (Rejected(ENCODED, REFUSED), "on_error and the report of flush() have"),
        (GivenUp(ENCODED, REFUSED), "on_error and the report of flush() have"),
        (KeyRefused(ENCODED, REFUSED), "on_error has"),
        (Misdirected(ENCODED, REFUSED), "on_error has"),
        (Retrying(1, 0.0, REFUSED, ENCODED), "on_retry has"),
    ],
)
def test_whatever_fails_says_why_the_outage_began_and_what_has_the_words(
    event: HookEvent, told_by: str, keeper: Keeper
) -> None:
    log = EventLog(logging.getLogger("clocknext"))
    log.watch(in_outage())
    log.admit(event)
    log.note(event)
    began, then = keeper.records
    assert told_by in then.getMessage()
    if not isinstance(event, Rejected):  # which says that ClockNext works
        assert told_by in began.getMessage()
        assert "(AuthError, status 401, API_KEY_REJECTED). Check api_key" in began.getMessage()
        assert told(began)["status"] == 401


class NoChance:
    """Randomness without any."""

    def random(self) -> float:
        """Draw nought."""
        return 0.0


def in_outage() -> Gate:
    gate = Gate(Config(KEY))
    for _ in range(OUTAGE_AFTER):
        gate.observe(Verdict.DOWN, NoChance(), sent_at=0.0, now=0.0)
    return gate


def test_another_gate_begins_without_an_outage(keeper: Keeper) -> None:
    log = EventLog(logging.getLogger("clocknext"))
    first, second = Emptied(1), Emptied(2)
    log.watch(in_outage())
    assert log.admit(first)
    log.note(first)
    log.watch(Gate(Config(KEY)))  # as in a forked child
    assert log.admit(second)
    log.note(second)
    assert [told(record)["event_name"] for record in keeper.records] == ["outage_began", "emptied", "emptied"]


def test_an_outage_that_is_over_before_it_is_written_is_told_all_the_same(keeper: Keeper) -> None:
    """Hooks and log handlers run without the lock, in a thread that may be late."""
    log = EventLog(logging.getLogger("clocknext"))
    gate, failed, delivered = in_outage(), Emptied(1), Emptied(2)
    log.watch(gate)
    log.admit(failed)
    gate.observe(Verdict.WORKS, NoChance(), sent_at=1.0, now=1.0)
    log.admit(delivered)
    for event in (failed, delivered):
        log.note(event)
    names = [told(record)["event_name"] for record in keeper.records]
    assert names == ["outage_began", "emptied", "outage_ended", "emptied"]


@pytest.mark.parametrize("detail", ["", "why."])
@pytest.mark.parametrize("reason", get_args(Reason))
def test_a_call_that_is_not_billed_is_a_warning_unless_nothing_can_be_lost(
    reason: Reason, detail: str, keeper: Keeper
) -> None:
    log = EventLog(logging.getLogger("clocknext"))
    reading = Reading(tokens=Tokens(input=1), model="gpt-4o")
    for _ in range(MOST + 2):
        log.note_unbilled(Unbilled(reason=reason, reading=reading, customer_id="cus_1", detail=detail))
    levels = [record.levelname for record in keeper.records]
    is_lost = reason not in {"cache_hit", "seen_already"} or detail != ""
    assert levels == ["WARNING"] * MOST * is_lost + ["DEBUG"] * (2 if is_lost else MOST + 2)
    message = keeper.records[0].getMessage()
    assert message.startswith(
        f"ClockNext does not bill a call to 'gpt-4o': {reason}{detail and ', '}{detail.rstrip('.')}. "
    )
    assert "cus_1" not in message
    fields = {"event_name": "unbilled", "reason": reason, "model": "gpt-4o"}
    assert told(keeper.records[0]) == {"level": levels[0], **fields}


def test_a_client_that_falls_behind_is_warned_with_the_figures(keeper: Keeper) -> None:
    EventLog(logging.getLogger("clocknext")).note(FallingBehind(700, 60.0, 900, 300, 5))
    (record,) = keeper.records
    assert record.getMessage() == (
        "ClockNext works, but more is recorded than is delivered: 700 signals are held; in 60 s 900 were "
        'recorded and 300 delivered, 5 at once. Raise BatchPolicy.max_concurrency, or set it to "auto".'
    )
    figures = {"held": 700, "seconds": 60.0, "recorded": 900, "delivered": 300, "max_concurrency": 5}
    assert told(record) == {"level": "WARNING", "event_name": "falling_behind", **figures}


def test_a_key_of_ones_own_can_forge_no_line(keeper: Keeper) -> None:
    EventLog(logging.getLogger("clocknext")).note(Dropped(encode(signal("a\nERROR b"), str), "closed"))
    assert keeper.records[0].getMessage() == (
        r"ClockNext signal 'a\nERROR b' was dropped and is not billed (closed). It was not delivered before "
        "the client was closed, or recorded after that: see close_timeout and spool."
    )


class Untouchable:
    """An encoded signal that notes when its key is read, and can't be read back from its bytes."""

    type = "credit"

    def __init__(self) -> None:
        self.looks = 0

    @property
    def idempotency_key(self) -> str:
        """Note it."""
        self.looks += 1
        return "a"


@pytest.mark.parametrize("level", [logging.WARNING, logging.ERROR])
def test_what_is_not_wanted_is_not_made(level: int) -> None:
    logger, handler, looked_at = logging.Logger("some", level), Keeper(), Untouchable()
    logger.addHandler(handler)
    log = EventLog(logger)
    log.watch(in_outage())
    event = Dropped(cast(EncodedSignal, looked_at), "closed")
    log.admit(event)
    log.note(event)
    is_wanted = level == logging.WARNING
    assert (looked_at.looks > 0, len(handler.records)) == (is_wanted, 2 * int(is_wanted)), "and the outage"


def test_what_a_transport_raises_is_logged_in_printable_characters(keeper: Keeper) -> None:
    evil = f"\x1b]0;owned\x07\u202eturned\rover {KEY}"
    try:
        try:
            raise LookupError(evil)
        except LookupError as error:
            raise ValueError(evil) from error
    except ValueError as error:
        failure = broken_transport(error, Config(KEY))
    assert failure.message == "The transport raised ValueError."
    text = keeper.records[0].getMessage()
    assert all(line.isprintable() for line in text.split("\n"))
    assert text.count(r"\x1b]0;owned\x07\u202eturned\rover") == 2
    assert KEY not in text
    assert "in test_what_a_transport_raises" in text, "still a traceback"


def test_every_event_has_a_level() -> None:
    assert {*LEVELS} == {*get_args(HookEvent)}


@pytest.mark.parametrize("wrong", ["handler", "filter"])
def test_a_logger_that_raises_stops_no_hook(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> bool:
        raise LookupError("This logging is broken.")

    logger = logging.Logger("broken", logging.DEBUG)
    handler = Keeper()
    logger.addHandler(handler)
    target: logging.Handler | logging.Logger = handler if wrong == "handler" else logger
    monkeypatch.setattr(target, "emit" if wrong == "handler" else "filter", broken)
    heard: list[int] = []
    hooks = Hooks(on_error=None, on_flush=heard.append, on_retry=None, on_drop=None)
    hooks.log = EventLog(logger)
    hooks.log.watch(in_outage())
    hooks.fire(Emptied(7))
    assert heard == [7]


class Clock:
    """Stands still unless it is set."""

    now = 0.0

    def __call__(self) -> float:
        """Read it."""
        return self.now


def test_beyond_a_number_of_records_of_a_kind_the_others_are_counted(keeper: Keeper) -> None:
    clock = Clock()
    log = EventLog(logging.getLogger("clocknext"), clock)
    encoded = encode(signal("a"), str)
    for _ in range(MOST + 3):
        log.note(Dropped(encoded, "closed"))
    log.note(Dropped(encoded, "queue_full"))  # another kind
    levels = [record.levelname for record in keeper.records]
    assert levels == ["WARNING"] * MOST + ["DEBUG"] * 3 + ["WARNING"]
    clock.now = WINDOW
    log.note(Dropped(encoded, "closed"))
    assert keeper.records[-1].levelname == "WARNING"
    assert keeper.records[-1].getMessage().endswith("(Left out before, of this kind: 3.)")
    log.finish()
    assert "left_out" not in [told(record)["event_name"] for record in keeper.records], "all were counted"
    for _ in range(MOST):
        log.note(Dropped(encoded, "closed"))
    log.finish()
    assert told(keeper.records[-1]) == {"level": "WARNING", "event_name": "left_out", "count": 1}


def test_of_failed_attempts_the_first_in_ten_minutes_is_a_warning(keeper: Keeper) -> None:
    clock = Clock()
    log = EventLog(logging.getLogger("clocknext"), clock)
    for now in (0.0, RETRIES_WINDOW - 1, RETRIES_WINDOW, RETRIES_WINDOW + 1):
        clock.now = now
        log.note(Retrying(1, 0.5, ServerError("Down.", status=503, retryable=True), None))
    assert [record.levelname for record in keeper.records] == ["WARNING", "DEBUG", "WARNING", "DEBUG"]
    log.finish()
    assert len(keeper.records) == 4, "those are no loss"


@pytest.mark.parametrize(
    ("error", "shown", "hidden"),
    [
        (NotFoundError("Not here: alice@acme.example", status=404), "Check the customer's id", "alice"),
        (PlanError("No.", status=422, reason="alice@acme.example"), "Check the customer's plan", "alice"),
        (PlanError("No.", status=422, reason="PLAN_INACTIVE"), "status 422, PLAN_INACTIVE)", "No."),
        (
            ValidationError("No.", status=400, issues=[Issue("inputTokens", "alice")]),
            "(inputTokens)",
            "alice",
        ),
        (ValidationError("No.", status=400, issues=[Issue("alice", "no")]), "Correct the signal", "alice"),
        (AllowanceError("No.", status=422), "top it up", "No."),
        (ClockNextError("No.", status=418), "status 418", "No."),
        (ServerError("alice", status=500, retryable=True), "If it lasts", "alice"),
        (
            NetworkError("Could not connect: refused.", retryable=True),
            "Could not connect: refused)",
            "status",
        ),
        (
            ServerError(
                "no", status=500, retryable=True, request=RequestLine("GET", "/x/api/v1/customers/alice")
            ),
            "GET /x/api/v1/customers)",
            "alice",
        ),
        (ServerError("no", status=500, request=RequestLine("GET", "/alice")), "GET …)", "alice"),
    ],
)
def test_a_record_has_the_facts_and_advice_and_nothing_of_what_a_server_says(
    error: ClockNextError, shown: str, hidden: str, keeper: Keeper
) -> None:
    EventLog(logging.getLogger("clocknext")).note(Rejected(encode(signal("a"), str), error))
    said = keeper.records[0].getMessage()
    assert shown in said
    assert hidden not in said


def test_a_handler_that_uses_the_client_does_not_deadlock_with_a_thread_of_the_client() -> None:
    logging_begun, done = threading.Event(), threading.Event()
    clients: list[ClockNext] = []

    class Metering(logging.Handler):
        """Meters the lines of the program, under the lock that every handler has."""

        def emit(self, record: logging.LogRecord) -> None:
            """Record a signal, once a thread of the client waits for this handler."""
            if record.name != "program":
                return
            clients[0].signals.wallet(customer_id="cus_1", model="m", idempotency_key="second")
            assert logging_begun.wait(PATIENCE)
            assert clients[0].workspace is not None
            clients[0].signals.wallet(customer_id="cus_1", model="m", idempotency_key="third")
            done.set()

    def announce(record: logging.LogRecord) -> bool:
        logging_begun.set()
        return True

    handler, package, program = Metering(), logging.getLogger("clocknext"), logging.getLogger("program")
    package.addHandler(handler)
    program.addHandler(handler)
    package.addFilter(announce)
    level = package.level
    package.setLevel(logging.DEBUG)
    try:
        with scripted([priced()]) as server:
            client = ClockNext(KEY, base_url=server.url, batch=BatchPolicy(max_size=1))
            clients.append(client)
            thread = threading.Thread(target=program.warning, args=("a line",), daemon=True)
            thread.start()
            assert done.wait(PATIENCE), "the handler waits for the client, which waits for the handler"
            thread.join(PATIENCE)
            assert client.close(PATIENCE).pending == 0
    finally:
        package.setLevel(level)
        package.removeFilter(announce)
        package.removeHandler(handler)
        program.removeHandler(handler)
