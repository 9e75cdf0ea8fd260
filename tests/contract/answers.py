"""Answers for a scripted server, and the signals that ask for them."""

import json
import time
from collections.abc import Callable, Mapping
from threading import Lock
from typing import TypeAlias

from clocknext_core import Response, TrackResult
from clocknext_transports.emulator import Hold, OnHold, Received, Reply, ScriptedServer
from tests.contract.clients import Client

Answerer: TypeAlias = Callable[[Received], Reply | OnHold]
Answer: TypeAlias = Reply | OnHold | Answerer

_JSON = {"content-type": "application/json"}


def priced(**log: object) -> Reply:
    """Answer a signal with its usage log."""
    return _reply(200, {"usageLog": {"id": "log_1", **log}}, "SUCCESS", "Request processed successfully.", {})


def priced_by_nothing() -> Reply:
    """Answer a signal without a usage log."""
    return _reply(200, {"usageLog": None}, "SUCCESS", "Request processed successfully.", {})


def taken(**result: object) -> Reply:
    """Answer that a signal was taken and is not priced yet: 202."""
    return _reply(202, result, "SUCCESS", "Accepted.", {})


def refused(
    status: int,
    message: str = "No.",
    headers: Mapping[str, str] | None = None,
    result: Mapping[str, object] | None = None,
) -> Reply:
    """Answer with an error."""
    return _reply(status, result or {}, "ERROR", message, headers or {})


def found(**customer: object) -> Reply:
    """Answer a read of a customer, in the legacy envelope."""
    return _json_reply(200, {"ok": True, "customer": {"id": "cus_1", **customer}}, {})


def by_key(answers: Mapping[str, Answer], otherwise: Reply | OnHold | None = None) -> Answerer:
    """Answer each signal as its idempotency key says; any other with a price, or as told."""
    default = otherwise or priced()

    def answer(request: Received) -> Reply | OnHold:
        chosen = answers.get(key_of(request), default)
        return chosen(request) if callable(chosen) else chosen

    return answer


def in_turn(*answers: Reply | OnHold) -> Answerer:
    """Answer one after the other, the last one again and again."""
    left = list(answers)

    def answer(_: Received) -> Reply | OnHold:
        return left.pop(0) if len(left) > 1 else left[0]

    return answer


def held(gate: Hold, answer: Reply | None = None) -> OnHold:
    """Answer when a gate is released."""
    return OnHold(gate, answer or priced())


def counted(gate: Hold) -> OnHold:
    """Answer at once, and count the request in at the gate."""
    gate.release()
    return held(gate)


class Timed:
    """An answer that notes when each request came, by its key.

    Args:
        answer: What it answers.
    """

    def __init__(self, answer: Answerer) -> None:
        self._answer = answer
        self._lock = Lock()
        self._times: list[tuple[str, float]] = []

    def __call__(self, request: Received) -> Reply | OnHold:
        with self._lock:
            self._times.append((key_of(request), time.monotonic()))
        return self._answer(request)

    @property
    def times(self) -> list[tuple[str, float]]:
        """When they came, in order, on the clock of `time.monotonic`."""
        with self._lock:
            return list(self._times)


def key_of(request: Received) -> str:
    """Read the idempotency key of a signal; empty for any other request."""
    body: dict[str, object] = json.loads(request.body or b"{}")
    return str(body.get("idempotencyKey", ""))


def sent_to(server: ScriptedServer) -> list[str]:
    """List the idempotency keys of the requests a server has seen, in order; empty for what is no signal."""
    return [key_of(request) for request in server.requests]


async def record(
    client: Client, key: str, *, wait: bool | None = None, custom: Mapping[str, object] | None = None
) -> TrackResult:
    """Record a credit signal under a key."""
    return await client.signals.credit(
        customer_id="cus_123",
        model="gpt-4o",
        key="api_credit",
        tokens={"input": 10, "output": 5},
        idempotency_key=key,
        wait=wait,
        custom=custom,
    )


async def record_all(client: Client, keys: list[str]) -> None:
    """Record a credit signal under each key, in order."""
    for key in keys:
        await record(client, key)


def _reply(status: int, result: object, word: str, message: str, headers: Mapping[str, str]) -> Reply:
    detail = {"status": word, "message": message}
    return _json_reply(status, {"statusCode": status, "statusDetail": detail, "result": result}, headers)


def _json_reply(status: int, document: object, headers: Mapping[str, str]) -> Reply:
    return Reply(Response(status, tuple({**_JSON, **headers}.items()), json.dumps(document).encode()))
