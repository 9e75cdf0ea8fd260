"""HTTP/1.1 without a socket: bytes in, bytes out. Shared by the three native transports."""

from clocknext_transports.http11.connection import MAX_ANSWER_BYTES, Connection
from clocknext_transports.http11.exchange import ENDS, Connect, Exchange, Receive, Send, Step
from clocknext_transports.http11.pool import MAX_AGE, TRUSTED_FOR, Age, Pool, Stream

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
