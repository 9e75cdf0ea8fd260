"""What buffering a signal costs at least: one plain function, and no library."""

import json
import os
import re
import threading
from collections import deque
from collections.abc import Mapping

HELD: deque[tuple[str, bytes]] = deque()

_LOCK = threading.Lock()
_EMAIL = re.compile(r"[^@\s]+@\S+")
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def record(
    *,
    customer_id: str,
    model: str,
    key: str,
    member: str | None = None,
    tokens: Mapping[str, int | None] | None = None,
    custom: Mapping[str, object] | None = None,
    status: str | None = None,
) -> str:
    """Validate a credit signal, make a key, encode it, and hold it; return the key."""
    for text in (customer_id, model, key):
        if not _is_text(text):
            raise ValueError("must be a string that is not blank")
    if member is not None and not _EMAIL.fullmatch(member):
        raise ValueError("must be an e-mail address")
    if status is not None and status not in ("SUCCESS", "FAILURE", "PENDING"):
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
