"""Errors: the table of statuses, and that they travel."""

import copy
import pickle

import pytest

import clocknext_core
from clocknext_core import (
    AllowanceError,
    AuthError,
    ClockNextError,
    ConflictError,
    Issue,
    NetworkError,
    NotFoundError,
    PlanError,
    QueueFullError,
    RateLimitError,
    RequestLine,
    ServerError,
    ValidationError,
)
from clocknext_core.errors import classify

CLASSES = (
    *(ClockNextError, ValidationError, AuthError, NotFoundError, PlanError, AllowanceError, ConflictError),
    *(RateLimitError, ServerError, NetworkError, QueueFullError),
)


@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [
        (200, ClockNextError, False),
        (204, ClockNextError, False),
        (302, ClockNextError, False),
        (307, ClockNextError, False),
        (400, ValidationError, False),
        (401, AuthError, False),
        (402, ClockNextError, False),
        (403, ClockNextError, False),
        (404, NotFoundError, False),
        (405, ClockNextError, False),
        (408, ClockNextError, True),
        (409, ConflictError, True),
        (413, ClockNextError, False),
        (415, ClockNextError, False),
        (418, ClockNextError, False),
        (422, PlanError, False),
        (425, ClockNextError, False),
        (429, RateLimitError, True),
        (499, ClockNextError, False),
        (500, ServerError, True),
        (501, ServerError, True),
        (502, ServerError, True),
        (503, ServerError, True),
        (504, ServerError, True),
        (599, ServerError, True),
        (600, ClockNextError, False),
    ],
)
def test_which_class_a_status_has_and_whether_a_repeat_may_help(
    status: int, kind: type[ClockNextError], *, retryable: bool
) -> None:
    assert classify(status, "message") == (kind, retryable)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 429, 500])
def test_only_a_422_is_an_allowance(status: int) -> None:
    assert classify(422, "Insufficient") == (AllowanceError, False)
    assert classify(422, "xINSUFFICIENTx") == (AllowanceError, False)
    assert classify(422, "sufficient") == (PlanError, False)
    assert classify(status, "insufficient")[0] is not AllowanceError


def full(kind: type[ClockNextError]) -> ClockNextError:
    return kind(
        "It failed.",
        status=429,
        retryable=True,
        idempotency_key="idem",
        reason="INVALID_BODY",
        issues=[Issue("model", "is required")],
        request=RequestLine("POST", "/api/v1/usage"),
        retry_after=2.5,
    )


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_survives_pickling_and_copying_whole(kind: type[ClockNextError]) -> None:
    error = full(kind)
    error.add_note("seen by a worker")
    for twin in (
        *(pickle.loads(pickle.dumps(error, level)) for level in range(6)),
        copy.copy(error),
        copy.deepcopy(error),
    ):
        assert type(twin) is kind
        assert twin.__dict__ == error.__dict__
        assert (str(twin), repr(twin), twin.message) == ("It failed.", repr(error), "It failed.")
        assert twin.issues == (Issue("model", "is required"),)
        assert twin.request == RequestLine("POST", "/api/v1/usage")
        assert twin.retry_after == 2.5


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_is_a_public_clocknext_error(kind: type[ClockNextError]) -> None:
    assert issubclass(kind, ClockNextError)
    assert getattr(clocknext_core, kind.__name__) is kind
    assert issubclass(kind, ValueError) == (kind is ValidationError)


def test_an_error_has_defaults_and_a_readable_repr() -> None:
    bare = ClockNextError("It failed.")
    assert (bare.status, bare.retryable, bare.idempotency_key, bare.reason) == (None, False, None, None)
    assert (bare.issues, bare.request, bare.retry_after) == ((), None, None)
    assert repr(bare) == "ClockNextError('It failed.')"
    assert str(ClockNextError(message="It failed.")) == "It failed."
    assert repr(full(PlanError)) == (
        "PlanError('It failed.', status=429, reason='INVALID_BODY', idempotency_key='idem')"
    )
    assert str(RequestLine("GET", "/api/v1/customers")) == "GET /api/v1/customers"
