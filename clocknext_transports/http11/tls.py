"""TLS settings of the native transports."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl


def default_context() -> "ssl.SSLContext":
    """Make the context for a client that verifies: the system's trust store, host names checked.

    OpenSSL's own SSL_CERT_FILE and SSL_CERT_DIR say where the trust store is if it is elsewhere.
    """
    import ssl  # a plain connection needs none of it

    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
