"""Signals: recording what is billed, and reading back what was."""

from functools import partial
from typing import Unpack

from clocknext_core.checks import check_instance, check_text
from clocknext_core.models import TrackResult, UnitRecord, UnitUsage, Usage, UsageLog
from clocknext_core.operations import Operation, json_body, optional_limit, path_of, required_text
from clocknext_core.resources.binding import Runner, S, endpoint, recording
from clocknext_core.resources.dry_run import dry_run, one_signal
from clocknext_core.resources.metering import Metering
from clocknext_core.resources.payloads import picked
from clocknext_core.signals import (
    Body,
    CreditFields,
    OutcomeFields,
    Signal,
    SignalFields,
    SignalType,
    fix,
    make_body,
)
from clocknext_core.tokens import TokensLike
from clocknext_core.usage.meter import Meter


class SignalRecords(Metering[S]):
    """The part of `Signals` that records, and asks nothing.

    Args:
        runner: The client.
        meter: What the client knows of its exchanges with models. Default: a new one.
    """

    def __init__(self, runner: Runner, meter: Meter | None = None) -> None:
        super().__init__(runner, meter)
        self._make_key = runner.make_key

    def _record(self, signal_type: SignalType, body: Body, wait: bool | None) -> TrackResult:
        """Encode a signal and have the client record it: a coroutine under asyncio and trio."""
        seed = self._meter.seed()
        make_key = self._make_key if seed is None else partial(seed.key_of, signal_type, body)
        result: TrackResult = self.runner.record(fix(signal_type, body, make_key), wait)
        return result

    @recording
    def credit(
        self,
        *,
        customer_id: str,
        model: str,
        tokens: TokensLike | None = None,
        wait: bool | None = None,
        **fields: Unpack[CreditFields],
    ) -> TrackResult:
        """Record a signal metered against a credit, charged at the model's cost plus your margin.

        Args:
            customer_id: Who is billed.
            model: Catalogue id of the model; the server matches it without case.
            key: The credit's stable key, sent as `key`. Give this or `agent_key`.
            agent_key: The same, sent as `agentKey`, as newer servers name it.
            tokens: Token counts: `Tokens`, or a mapping with `input`, `output` and `cache`. Default: 0.
            member: The member of the customer who caused it: their e-mail address, or any other string.
            status: `SUCCESS` (the server's default), `FAILURE` or `PENDING`.
            custom: A JSON object of your choice: at most 32 KiB once encoded, nested at most 100 deep.
            metric: `{"ref": name, "value": value}`, sent as a property of that name.
            idempotency_key: 1 to 255 characters; the server bills a key once. Default: one is made.
            wait: Send it now and wait for the answer. Default: as the client's `mode` says.

        Returns:
            A `TrackResult`; its `usage_log` is there only if the call waited.

        Raises:
            ValidationError: A bad argument; nothing was recorded.
            ClockNextError: The call waited, and the server refused the signal or could not be reached.
        """
        body = make_body("credit", fields, customer_id=customer_id, model=model, tokens=tokens)
        return self._record("credit", body, wait)

    @recording
    def wallet(
        self,
        *,
        customer_id: str,
        model: str,
        tokens: TokensLike | None = None,
        wait: bool | None = None,
        **fields: Unpack[SignalFields],
    ) -> TrackResult:
        """Record a signal that debits the customer's USD wallet at the model's cost, without margin.

        Arguments, result and errors are those of `credit`, without a key. `metric` is taken, so that the
        three calls are alike, but not sent: the server ignores it on wallet signals.
        """
        body = make_body("wallet", fields, customer_id=customer_id, model=model, tokens=tokens)
        return self._record("wallet", body, wait)

    @recording
    def outcome(
        self,
        *,
        customer_id: str,
        model: str,
        tokens: TokensLike | None = None,
        wait: bool | None = None,
        **fields: Unpack[OutcomeFields],
    ) -> TrackResult:
        """Record that a workflow advanced by one step; `key` (or `agent_key`) is the outcome step's.

        Arguments, result and errors are those of `credit`. Two are the outcome's own: `run_id` groups the
        steps of one run (1 to 255 characters; newer servers require it), and `complete=True` on the last step
        bills the outcome, once.
        """
        body = make_body("outcome", fields, customer_id=customer_id, model=model, tokens=tokens)
        return self._record("outcome", body, wait)

    @recording
    def track(self, signal: Signal, /, *, wait: bool | None = None) -> TrackResult:
        """Record a signal object. Where it has no idempotency key, each call makes a new one.

        Raises:
            ValidationError: It is not a signal, or can't be encoded; nothing was recorded.
            ClockNextError: The call waited, and the server refused the signal or could not be reached.
        """
        check_instance("signal", signal, Signal)
        return self._record(signal.type, signal.as_body(), wait)


class Signals(SignalRecords[S]):
    """Record signals: buffered by default, or awaited with `wait=True` (or a client in `sync` mode).

    A buffered call returns at once; the hooks and `flush` report later how the signal ended. An awaited call
    returns the server's answer, or raises its error.

    Args:
        runner: The client.
        meter: What the client knows of its exchanges with models. Default: a new one.
    """

    @endpoint
    def verify(
        self,
        signal: Signal | None = None,
        /,
        *,
        type: SignalType | None = None,  # noqa: A002 - its name on the wire, and in a file of signals
        customer_id: str | None = None,
        model: str | None = None,
        tokens: TokensLike | None = None,
        **fields: Unpack[OutcomeFields],
    ) -> Operation[UsageLog | None]:
        """Have the server check and price a signal, and record nothing: `POST /api/v1/usage` with `dryRun`.

        Nothing is billed, so it is retried like a read. An idempotency key is sent if the signal has one.

        Args:
            signal: A signal object. Or give the keywords of `credit`, `wallet` and `outcome` instead.
            type: With keywords: `credit`, `wallet` or `outcome`. Default: `wallet`, where there is no key.
            customer_id: As for `credit`.
            model: As for `credit`.
            tokens: As for `credit`.
            fields: The other keywords of a signal of that type.

        Returns:
            The price, as a log that is not kept; `None` where a 200 has none: nothing is wrong.

        Raises:
            ValidationError: It is not a signal, can't be encoded, or the server refused a field.
            NotFoundError: There is no such customer.
            PlanError: The customer's plan, the model or the key does not allow it.
            AllowanceError: A balance would not suffice.
            ClockNextError: Status 202, with a `signal_id` if the server gave one: it does not know dry runs,
                or queued the signal for a person to correct. It took the signal, and may bill it.
        """
        given = {"customer_id": customer_id, "model": model, "tokens": tokens, **fields}
        arguments = {name: value for name, value in given.items() if value is not None}
        return dry_run(one_signal(signal, type, arguments))

    @endpoint
    def unit(self, *, customer_id: str, agent_key: str, member: str | None = None) -> Operation[UnitRecord]:
        """Record one event of a unit: `POST /api/v1/units`.

        Sent at once and once, never buffered: it has no idempotency key, so a repeat would bill it twice.

        Args:
            customer_id: Who is billed.
            agent_key: The unit's key.
            member: The member of the customer who caused it, as for `credit`. Default: none.

        Raises:
            ValidationError: A bad argument, or the server refused a field.
            NotFoundError: There is no such customer.
            PlanError: The customer's plan does not have this unit.
        """
        fields = {
            "customer_id": check_text("customer_id", customer_id),
            "agent_key": check_text("agent_key", agent_key),
        }
        if member is not None and member != "":
            fields["member"] = check_text("member", member)
        return Operation("POST", path_of("units"), UnitRecord, json_body(fields))

    @endpoint
    def unit_usage(self, *, customer_id: str, limit: int | None = None) -> Operation[UnitUsage]:
        """Read a customer's events of units, and the balances: `GET /api/v1/units`.

        Args:
            customer_id: The customer's id.
            limit: How many events, the latest first. Default: the server's.

        Raises:
            ValidationError: A bad argument.
        """
        return Operation("GET", path_of("units", query=_usage_query(customer_id, limit)), UnitUsage)

    @endpoint
    def list(self, *, customer_id: str, limit: int | None = None) -> Operation[Usage]:
        """Read a customer's usage: `GET /api/v1/usage`. The latest `limit` logs; default: the server's."""
        return usage_operation(customer_id, limit)


def usage_operation(customer_id: object, limit: object) -> Operation[Usage]:
    """Make the operation that reads a customer's usage."""
    return Operation("GET", path_of("usage", query=_usage_query(customer_id, limit)), picked(Usage))


def _usage_query(customer_id: object, limit: object) -> dict[str, str | int | None]:
    return {"customerId": required_text("customer_id", customer_id), "limit": optional_limit(limit)}
