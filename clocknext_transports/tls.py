"""TLS settings of the native transports."""

import ssl


def default_context() -> ssl.SSLContext:
    """Make the context for a client that verifies: the system's trust store, host names checked.

    OpenSSL's own SSL_CERT_FILE and SSL_CERT_DIR say where the trust store is if it is elsewhere.
    """
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
