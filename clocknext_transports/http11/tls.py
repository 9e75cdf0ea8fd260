"""TLS settings of the native transports."""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl

_NOT_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST")
"""What OpenSSL says of a peer that does not speak TLS."""


def explained(error: Exception) -> str:
    """Return the text of an error of a connection, with what it means where the peer does not speak TLS."""
    text = str(error)
    if any(name in text for name in _NOT_TLS):
        return f"{text} (this port speaks plain http, it seems: use http:// or the port for https)"
    return text


def default_context() -> "ssl.SSLContext":
    """Make the context for a client that verifies: the system's trust store, host names checked.

    OpenSSL's own SSL_CERT_FILE and SSL_CERT_DIR say where the trust store is if it is elsewhere.
    SSLKEYLOGFILE has no effect: it would have the secrets of every connection written to a file.
    """
    import ssl  # a plain connection needs none of it

    # Not ssl.create_default_context, which heeds SSLKEYLOGFILE. This class verifies by default.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if sys.version_info >= (3, 13):  # as ssl.create_default_context does from then on
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_STRICT
    context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    return context
