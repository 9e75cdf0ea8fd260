"""What buffering a signal costs without a library: in a plain function, and in a lean one.

The plain function takes what `signals.credit` takes and keeps to the same rules, as somebody would write it
who has read what the API wants, with what the standard library offers for each step. The lean one is the
least that can be called validating, and each step is the quickest that we know.
"""

import json
import os
import threading
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, cast

HELD: deque[tuple[str, bytes]] = deque()

_LOCK = threading.Lock()
_COUNTS = {"input": "inputTokens", "output": "outputTokens", "cache": "cacheTokens"}
_STATUSES = ("SUCCESS", "FAILURE", "PENDING")
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_OWN = {"customerId", "type", "model", "key", "agentKey", "member", "status", "custom", "idempotencyKey"}


def record(
    *,
    customer_id: str,
    model: str,
    key: str | None = None,
    agent_key: str | None = None,
    tokens: Mapping[str, object] | None = None,
    member: str | None = None,
    status: str | None = None,
    custom: Any = None,
    metric: Mapping[str, object] | None = None,
    idempotency_key: str | None = None,
) -> str:
    """Validate a credit signal, make a key, encode it, and hold it; return the key."""
    _check_text("customer_id", customer_id)
    _check_text("model", model)
    body: dict[str, object] = {
        "customerId": customer_id,
        "type": "credit",
        "model": model,
        "inputTokens": 0,
        "outputTokens": 0,
    }
    if (key is None) == (agent_key is None):
        raise ValueError("key: give either key or agent_key")
    if key is not None:
        _check_text("key", key)
        body["key"] = key
    if agent_key is not None:
        _check_text("agent_key", agent_key)
        body["agentKey"] = agent_key
    for name, count in (tokens or {}).items():
        if name not in _COUNTS:
            raise ValueError(f"tokens: has the unknown key {name!r}")
        if count is None:
            continue
        if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count < 2**53:
            raise ValueError(f"tokens.{name}: must be an integer from 0 to 2^53-1")
        body[_COUNTS[name]] = count
    if member is not None:
        _check_text("member", member)
        body["member"] = member
    if status is not None:
        if status not in _STATUSES:
            raise ValueError(f"status: must be one of {', '.join(_STATUSES)}")
        body["status"] = status
    if custom is not None:
        if not isinstance(custom, dict):
            raise ValueError("custom: must be a dict")
        _check_names("custom", custom)
        body["custom"] = custom
    if metric is not None:
        if set(metric) != {"ref", "value"} or metric["ref"] in _OWN:
            raise ValueError("metric: must have exactly ref and value, and ref must not be a field's name")
        _check_names("metric", {metric["ref"]: metric["value"]})
        body[str(metric["ref"])] = metric["value"]
    if idempotency_key is None:
        idempotency_key = uuid.uuid4().hex
    elif not 0 < len(idempotency_key) <= 255:
        raise ValueError("idempotency_key: must be 1 to 255 characters")
    body["idempotencyKey"] = idempotency_key
    encoded = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    if len(encoded) > 65536:
        raise ValueError("signal: must be at most 64 KiB once encoded")
    with _LOCK:
        HELD.append((idempotency_key, encoded))
    return idempotency_key


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise ValueError(f"{name}: must be a string, not {type(value).__name__}")
    if not value.strip():
        raise ValueError(f"{name}: must not be blank")


def _check_names(name: str, value: Any, depth: int = 1) -> None:
    if depth > 100:
        raise ValueError(f"{name}: must be nested at most 100 deep")
    if isinstance(value, dict):
        for key, inner in cast("dict[object, object]", value).items():
            if key == "__proto__":
                raise ValueError(f"{name}: must not hold the name __proto__")
            if key == "constructor" and isinstance(inner, dict) and "prototype" in inner:
                raise ValueError(f"{name}: must not hold prototype within constructor")
            _check_names(name, inner, depth + 1)
    elif isinstance(value, list | tuple):
        for inner in cast("Sequence[object]", value):
            _check_names(name, inner, depth + 1)


def record_leanly(
    *,
    customer_id: str,
    model: str,
    key: str,
    member: str | None = None,
    tokens: Mapping[str, int | None] | None = None,
    custom: Mapping[str, object] | None = None,
    status: str | None = None,
) -> str:
    """Do the same by half the rules: token counts of any name, custom of any type, no metric."""
    for text in (customer_id, model, key):
        if not _is_text(text):
            raise ValueError("must be a string that is not blank")
    if member is not None and not _is_text(member):
        raise ValueError("must be a string that is not blank")
    if status is not None and status not in _STATUSES:
        raise ValueError("must be a status")
    idempotency_key = os.urandom(16).hex()
    body: dict[str, object] = {"customerId": customer_id, "type": "credit", "model": model, "key": key}
    for name, count in (tokens or {}).items():
        if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count < 2**53:
            raise ValueError("must be a count")
        body[f"{name}Tokens"] = count
    if member is not None:
        body["member"] = member
    if status is not None:
        body["status"] = status
    if custom is not None:
        body["custom"] = custom
    body["idempotencyKey"] = idempotency_key
    encoded = _ENCODER.encode(body).encode()
    if len(encoded) > 65536:
        raise ValueError("is too long")
    with _LOCK:
        HELD.append((idempotency_key, encoded))
    return idempotency_key


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())
