"""What the tests of the core share: a configuration, scripted answers, signals."""

import json
from collections.abc import Callable, Mapping
from random import Random

from clocknext_core import (
    BatchPolicy,
    Config,
    CreditSignal,
    EncodedSignal,
    Request,
    Response,
    RetryPolicy,
    Signal,
)
from clocknext_core.signals import encode

KEY = "cnk_test_5ecret/+key"
"""The API key of every test: it must turn up in no repr and no error."""

JSON_TYPE = ("content-type", "application/json")


def config(
    batch: BatchPolicy | None = None, retry: RetryPolicy | None = None, timeout: float = 10.0
) -> Config:
    """Make a configuration with the tests' key."""
    return Config(KEY, batch=batch or BatchPolicy(), retry=retry or RetryPolicy(), timeout=timeout)


def answer(status: int, document: object = None, **headers: str) -> Response:
    """Make an answer: a string or bytes is sent as it is, anything else as JSON; `_` in a header is `-`."""
    if isinstance(document, bytes):
        body = document
    elif isinstance(document, str):
        body = document.encode()
    else:
        body = json.dumps(document).encode()
    return Response(
        status, [JSON_TYPE, *((name.replace("_", "-"), value) for name, value in headers.items())], body
    )


def success(result: Mapping[str, object] | None = None, status: int = 200) -> Response:
    """Make a success in the new envelope."""
    detail = {"status": "SUCCESS", "message": "ok"}
    return answer(status, {"statusCode": status, "statusDetail": detail, "result": result or {}})


def refusal(
    status: int, message: str = "no", result: Mapping[str, object] | None = None, **headers: str
) -> Response:
    """Make an error in the new envelope."""
    detail = {"status": "ERROR", "message": message}
    return answer(status, {"statusCode": status, "statusDetail": detail, "result": result or {}}, **headers)


def credit(idempotency_key: str | None = None) -> CreditSignal:
    """Make a credit signal."""
    return CreditSignal(customer_id="cus_1", model="m", key="api", idempotency_key=idempotency_key)


def no_key() -> str:
    """Stand in for a key factory that must not be asked."""
    raise AssertionError("a key was made for a signal that has one")


def encoded(signal: Signal | str) -> EncodedSignal:
    """Encode a signal, or a credit signal under a key."""
    return encode(credit(signal) if isinstance(signal, str) else signal, no_key)


def body_of(request: Request) -> object:
    """Parse the JSON body of a request."""
    assert request.body is not None
    parsed: object = json.loads(request.body)
    return parsed


def counting_keys(prefix: str = "key") -> Callable[[], str]:
    """Make a key factory that counts."""
    made = 0

    def make() -> str:
        nonlocal made
        made += 1
        return f"{prefix}-{made}"

    return make


class Dice(Random):
    """Randomness that always gives the same number."""

    def __init__(self, value: float) -> None:
        super().__init__(0)
        self.value = value

    def random(self) -> float:
        """Return the number."""
        return self.value
