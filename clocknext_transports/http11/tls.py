"""TLS settings of the native transports."""

import socket
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

from clocknext_core import Origin
from clocknext_transports.process.interrupts import let_pass

if TYPE_CHECKING:
    import ssl

Maker: TypeAlias = Callable[[], "ssl.SSLContext"]
"""Makes TLS settings."""

_NOT_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST")
"""What OpenSSL says of a peer that does not speak TLS."""


def explained(error: Exception) -> str:
    """Return the text of an error of a connection, with what it means where the peer does not speak TLS."""
    text = str(error)
    if any(name in text for name in _NOT_TLS):
        return f"{text} (this port speaks plain http, it seems: use http:// or the port for https)"
    return text


class Context:
    """A transport's TLS settings: those given, or the default ones, made when first needed and only once.

    Making them reads the trust store, which takes 20 ms of CPU time, and a burst of first connections needs
    them at the same time.

    Args:
        given: The user's settings.
    """

    def __init__(self, given: "ssl.SSLContext | None") -> None:
        self.made: ssl.SSLContext | None = given
        """The settings, once there are any."""
        self._lock = threading.Lock()

    async def make_in(self, in_thread: Callable[["Maker"], Awaitable["ssl.SSLContext"]]) -> "ssl.SSLContext":
        """Return the settings; an event loop has them made in a thread, since that reads files.

        Args:
            in_thread: Calls a function in a thread; it raises `RuntimeError` where none can be started.
        """
        if self.made is not None:
            return self.made
        try:
            return await in_thread(self.make)
        except RuntimeError:  # the interpreter is shutting down
            return self.make()

    def make(self) -> "ssl.SSLContext":
        """Return the settings. It may read files."""
        with self._lock:
            if self.made is None:
                self.made = default_context()
            return self.made


class Sessions:
    """The last TLS session with each origin, which the next connection resumes: it spares the certificates.

    A session belongs to the context that verified the server, so that every transport has its own. Only with
    a context of the standard library: one that verifies by other means would have nothing to verify.
    """

    def __init__(self) -> None:
        self._sessions: dict[Origin, ssl.SSLSession] = {}

    def wrap(self, context: "ssl.SSLContext", sock: socket.socket, origin: Origin) -> "ssl.SSLSocket":
        """Do the handshake, and resume the last session if the server agrees."""
        session = self._sessions.get(origin)
        if session is None:  # a context of another class may not know the argument
            return context.wrap_socket(sock, server_hostname=origin.server_name)
        try:
            return context.wrap_socket(sock, server_hostname=origin.server_name, session=session)
        except BaseException:
            self._sessions.pop(origin, None)  # it may be the reason
            raise

    def remember(self, secured: "ssl.SSLSocket", origin: Origin) -> None:
        """Keep the session of a connection that has received bytes."""
        import ssl

        if type(secured.context) is ssl.SSLContext and (session := secured.session) is not None:
            self._sessions[origin] = session


def has_only_tickets(sock: "ssl.SSLSocket") -> bool:
    """Read what has come over a connection that carried nothing yet; return whether it was TLS's own.

    A server of TLS 1.3 sends tickets for later sessions after the handshake, unasked.
    """
    import ssl

    sock.settimeout(0)
    try:
        sock.recv(1)
    except ssl.SSLWantReadError:
        return True
    except OSError as error:
        let_pass(error)
    return False


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
