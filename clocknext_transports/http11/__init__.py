"""HTTP/1.1 without a socket: bytes in, bytes out. Shared by the three native transports."""

from clocknext_transports.http11.exchange import (
    ENDS,
    MAX_AGE,
    MAX_ANSWER_BYTES,
    TRUSTED_FOR,
    Age,
    Connect,
    Connection,
    Exchange,
    Pool,
    Receive,
    Send,
    Step,
    Stream,
)

__all__ = [
    "ENDS",
    "MAX_AGE",
    "MAX_ANSWER_BYTES",
    "TRUSTED_FOR",
    "Age",
    "Connect",
    "Connection",
    "Exchange",
    "Pool",
    "Receive",
    "Send",
    "Step",
    "Stream",
]
