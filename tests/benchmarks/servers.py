"""The server that answers everything alike, as fast as can be had: nginx, or else processes of our own."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from tempfile import TemporaryDirectory

import trustme

from tests.benchmarks.baselines import HOST
from tests.benchmarks.children import ANSWER
from tests.benchmarks.processes import child_command, read_line, running
from tests.benchmarks.typical import PATH, body

PROCESSES = 2
START_TIMEOUT = 5.0

_CONFIGURATION = """
daemon off;
master_process off;
pid {folder}/pid;
error_log stderr crit;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder};
    proxy_temp_path {folder};
    fastcgi_temp_path {folder};
    uwsgi_temp_path {folder};
    scgi_temp_path {folder};
    keepalive_timeout 1d;
    keepalive_requests 1000000000;
    server {{
        listen {host}:{port}{tls};
        default_type application/json;
        location / {{ return 200 '{answer}'; }}
    }}
}}
"""


@dataclass(frozen=True)
class Server:
    """A server that runs."""

    name: str
    """What it is, for the table."""
    port: int
    scheme: str = "http"

    @property
    def url(self) -> str:
        """Where it is."""
        return f"{self.scheme}://{HOST}:{self.port}"


@contextmanager
def constant_server(certificate: str | None = None) -> Generator[Server, None, None]:
    """Run nginx where it is installed and starts, else the fallback.

    Args:
        certificate: A PEM file with a key and its certificates. Without one, plain HTTP.
    """
    with ExitStack() as stack:
        try:
            server = stack.enter_context(nginx_server(certificate))
        except (OSError, RuntimeError):
            server = stack.enter_context(fallback_server(certificate=certificate))
        yield server


@contextmanager
def trusted_certificate() -> Generator[str, None, None]:
    """Make a certificate for this host, as a PEM file, which clients trust that are made meanwhile."""
    authority = trustme.CA()
    certificate = authority.issue_cert(HOST)
    before = os.environ.get("SSL_CERT_FILE")
    with (
        certificate.private_key_and_cert_chain_pem.tempfile() as held,
        authority.cert_pem.tempfile() as trusted,
    ):
        os.environ["SSL_CERT_FILE"] = trusted
        try:
            yield held
        finally:
            del os.environ["SSL_CERT_FILE"]
            if before is not None:
                os.environ["SSL_CERT_FILE"] = before


@contextmanager
def nginx_server(certificate: str | None = None) -> Generator[Server, None, None]:
    """Run nginx with a configuration of its own.

    Raises:
        FileNotFoundError: It is not installed.
        RuntimeError: It did not start.
    """
    command = shutil.which("nginx", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin")))
    if command is None:
        raise FileNotFoundError("nginx is not installed")
    shown = subprocess.run([command, "-v"], check=True, stderr=subprocess.PIPE, text=True).stderr
    with TemporaryDirectory() as folder, socket.create_server((HOST, 0)) as probe:
        port: int = probe.getsockname()[1]
        probe.close()
        configuration = Path(folder) / "nginx.conf"
        tls = "" if certificate is None else _TLS.format(certificate=certificate)
        configuration.write_text(
            _CONFIGURATION.format(folder=folder, host=HOST, port=port, tls=tls, answer=ANSWER.decode())
        )
        with running([command, "-p", folder, "-c", str(configuration)]) as process:
            scheme = "http" if certificate is None else "https"
            _await(scheme, port, process)
            yield Server(shown.strip().rpartition(" ")[2], port, scheme)


_TLS = " ssl; ssl_certificate {certificate}; ssl_certificate_key {certificate}"


@contextmanager
def fallback_server(seconds: float = 0.0, *, certificate: str | None = None) -> Generator[Server, None, None]:
    """Run processes of our own that share a socket.

    Args:
        seconds: How long each answer takes.
        certificate: As for `constant_server`.
    """
    with socket.create_server((HOST, 0)) as listener, ExitStack() as stack:
        port: int = listener.getsockname()[1]
        descriptor = listener.fileno()
        tls = [] if certificate is None else [certificate]
        command = child_command("serve-constantly", str(descriptor), str(seconds), *tls)
        processes = [stack.enter_context(running(command, pass_fds=[descriptor])) for _ in range(PROCESSES)]
        scheme = "http" if certificate is None else "https"
        _await(scheme, port, processes[0])
        yield Server(f"{PROCESSES} processes of our own (no nginx)", port, scheme)


@contextmanager
def slow_server() -> Generator[Server, None, None]:
    """Run the server whose answers take the time that the signal's model says."""
    with running(child_command("serve-slowly")) as process:
        yield Server("one of our own, a thread for each connection", int(read_line(process)))


def _await(scheme: str, port: int, process: "subprocess.Popen[str]") -> None:
    """Wait until a server answers."""
    given_up_at = time.monotonic() + START_TIMEOUT
    while process.poll() is None:
        connection = HTTPConnection(HOST, port) if scheme == "http" else HTTPSConnection(HOST, port)
        try:
            connection.request("POST", PATH, body(0))
            connection.getresponse().read()
        except (OSError, HTTPException):
            if time.monotonic() > given_up_at:
                break
            time.sleep(0.02)
            continue
        finally:
            connection.close()
        return
    raise RuntimeError("The server did not start.")
