"""TLS: who is trusted, what is checked, and that everything else fails closed."""

import gc
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import trustme

from clocknext_core import (
    Answer,
    ClockNextError,
    Config,
    Failure,
    NetworkError,
    Response,
    ValidationError,
    WalletSignal,
)
from clocknext_core.envelope import open_answer
from clocknext_transports.http11.tls import default_context
from tests.transports.support import (
    JSON,
    KEY,
    KINDS,
    NATIVE,
    PATIENCE,
    SOON,
    Kind,
    Native,
    Peer,
    Wire,
    answer,
    answer_once,
    carrier,
    client,
    keep_answering,
    request,
    serving,
    trusting,
)

each_kind = pytest.mark.parametrize("kind", KINDS)
each_native = pytest.mark.parametrize("kind", NATIVE)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module", name="trusting")
def trusting_fixture(authority: trustme.CA) -> ssl.SSLContext:
    return trusting(authority)


@pytest.fixture(scope="module")
def certified(authority: trustme.CA) -> ssl.SSLContext:
    """A server's context with a certificate for the loopback names."""
    return serving(authority, "localhost", "127.0.0.1")


@pytest.fixture
def only_trust(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the environment say that the system's trust store holds the authority."""
    store = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(os.fspath(store))
    monkeypatch.setenv("SSL_CERT_FILE", os.fspath(store))


def named(peer: Peer, host: str = "localhost") -> str:
    return f"https://{host}:{peer.port}"


def as_network_error(outcome: Answer) -> NetworkError:
    assert isinstance(outcome, Failure), outcome
    error = open_answer(outcome, request=request("https://localhost"), config=Config(KEY))
    assert isinstance(error, NetworkError)
    assert error.retryable
    assert KEY not in repr(error)
    return error


@each_kind
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_trusted_certificate_is_accepted(
    kind: Kind, host: str, certified: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    with Peer(keep_answering(), tls=certified) as peer, carrier(kind, ssl_context=trusting) as carry:
        for _ in range(3):
            outcome = carry(request(named(peer, host)))
            assert isinstance(outcome, Response), outcome
    assert peer.connections == (1 if kind in NATIVE else 3)
    assert {seen.headers["authorization"] for seen in peer.requests} == {f"Bearer {KEY}"}


@each_native
@pytest.mark.usefixtures("only_trust")
def test_the_default_context_heeds_the_systems_trust_store(kind: Native, certified: ssl.SSLContext) -> None:
    with Peer(keep_answering(), tls=certified) as peer, carrier(kind) as carry:
        outcome = carry(request(named(peer)))
    assert isinstance(outcome, Response), outcome


@each_native
def test_an_unknown_authority_fails_closed(kind: Native, certified: ssl.SSLContext) -> None:
    with Peer(keep_answering(), tls=certified) as peer, carrier(kind) as carry:
        outcome = carry(request(named(peer)))
        assert "certificate" in as_network_error(outcome).message.lower()
        assert peer.wait_ended(1)
    assert not peer.requests
    assert isinstance(outcome, Failure)
    assert outcome.processed is False


@each_kind
def test_another_authority_fails_closed(kind: Kind, certified: ssl.SSLContext) -> None:
    other = trusting(trustme.CA())
    with Peer(keep_answering(), tls=certified) as peer, carrier(kind, ssl_context=other) as carry:
        as_network_error(carry(request(named(peer))))
        assert peer.wait_ended(1)
    assert not peer.requests


@each_kind
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_wrong_host_name_fails_closed(
    kind: Kind, host: str, authority: trustme.CA, trusting: ssl.SSLContext
) -> None:
    other = serving(authority, "elsewhere.example", "127.0.0.2")
    with Peer(keep_answering(), tls=other) as peer, carrier(kind, ssl_context=trusting) as carry:
        as_network_error(carry(request(named(peer, host))))
        assert peer.wait_ended(1)
    assert not peer.requests


@each_native
@pytest.mark.usefixtures("only_trust")
def test_a_wrong_host_name_fails_closed_by_default(kind: Native, authority: trustme.CA) -> None:
    with Peer(keep_answering(), tls=serving(authority, "elsewhere.example")) as peer, carrier(kind) as carry:
        as_network_error(carry(request(named(peer))))
        assert peer.wait_ended(1)
    assert not peer.requests


@each_kind
def test_the_server_is_told_the_host_name(
    kind: Kind, authority: trustme.CA, trusting: ssl.SSLContext
) -> None:
    context = serving(authority, "localhost")
    names: list[str | None] = []

    def note(_: ssl.SSLObject, name: str | None, __: ssl.SSLContext) -> None:
        names.append(name)

    context.sni_callback = note
    with Peer(keep_answering(), tls=context) as peer, carrier(kind, ssl_context=trusting) as carry:
        assert isinstance(carry(request(named(peer))), Response)
    assert names == ["localhost"]


@each_native
@pytest.mark.usefixtures("only_trust")
def test_only_http_1_1_is_offered(kind: Native, authority: trustme.CA) -> None:
    context = serving(authority, "localhost")
    context.set_alpn_protocols(["h2", "http/1.1"])
    chosen: list[str | None] = []

    def script(wire: Wire) -> None:
        assert isinstance(wire.sock, ssl.SSLSocket)
        chosen.append(wire.sock.selected_alpn_protocol())
        wire.read()
        wire.send(answer())

    with Peer(script, tls=context) as peer, carrier(kind) as carry:
        assert isinstance(carry(request(named(peer))), Response)
    assert chosen == ["http/1.1"]


@each_kind
def test_plain_http_where_https_is_expected_fails(kind: Kind, trusting: ssl.SSLContext) -> None:
    def script(wire: Wire) -> None:
        wire.sock.recv(65536)
        wire.send(answer(JSON, status="400 Bad Request"))

    with Peer(script) as peer, carrier(kind, ssl_context=trusting) as carry:
        as_network_error(carry(request(named(peer))))
    assert not peer.requests


@each_kind
# httpcore leaves the socket that is being secured to the garbage collector when it is cancelled.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_deadline_covers_the_handshake(kind: Kind, trusting: ssl.SSLContext) -> None:
    with Peer(lambda wire: wire.wait_for_end()) as peer, carrier(kind, ssl_context=trusting) as carry:
        began = time.monotonic()
        as_network_error(carry(request(named(peer)), timeout=0.3))
        assert time.monotonic() - began < SOON
        assert peer.wait_ended(1)
    gc.collect()  # a socket left behind is to fail this test, not a later one


@each_native
def test_the_deadline_covers_a_handshake_that_drips(kind: Native, trusting: ssl.SSLContext) -> None:
    with (
        Peer(lambda wire: wire.drip(b"\x16\x03\x03\x10\x00" + b"\x02" * 2000)) as peer,
        carrier(kind, ssl_context=trusting) as carry,
    ):
        began = time.monotonic()
        as_network_error(carry(request(named(peer)), timeout=0.3))
        assert time.monotonic() - began < SOON
        assert peer.wait_ended(1)


@each_native
def test_the_deadline_covers_a_request_read_slowly(
    kind: Native, certified: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    def read_slowly(wire: Wire) -> None:
        while wire.sock.recv(16_384) and not wire.peer.stopped.wait(0.05):
            pass

    with Peer(read_slowly, tls=certified) as peer, carrier(kind, ssl_context=trusting) as carry:
        began = time.monotonic()
        as_network_error(carry(request(named(peer), body=b" " * 16_000_000), timeout=0.5))
        assert time.monotonic() - began < SOON


@each_native
def test_an_answer_that_a_third_party_cuts_off_is_no_delivery(
    kind: Native, certified: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    # Many servers end without a TLS closing alert, so only the JSON tells that something is missing.
    script = answer_once(answer(JSON[:5], framed=False))
    with Peer(script, tls=certified) as peer, carrier(kind, ssl_context=trusting) as carry:
        sent = request(named(peer))
        error = open_answer(carry(sent), request=sent, config=Config(KEY))
    assert isinstance(error, ClockNextError)
    assert error.retryable


@each_native
@pytest.mark.parametrize("surplus", [b"x", answer(b'{"ok": true, "poisoned": true}')], ids=["byte", "answer"])
def test_surplus_in_a_record_of_its_own_retires_the_connection(
    kind: Native, surplus: bytes, certified: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    sent = threading.Semaphore(0)

    def script(wire: Wire) -> None:
        wire.read()
        wire.send(answer(), surplus)
        sent.release()
        wire.wait_for_end()

    with Peer(script, tls=certified) as peer, carrier(kind, ssl_context=trusting) as carry:
        for _ in range(3):
            outcome = carry(request(named(peer)))
            assert isinstance(outcome, Response), outcome
            assert outcome.body == JSON
            assert sent.acquire(timeout=PATIENCE)  # else the surplus may come after the next request has gone
    assert [seen.connection for seen in peer.requests] == [1, 2, 3]


def say_408(wire: Wire) -> None:
    wire.send(answer(status="408 Request Timeout"))


@each_native
@pytest.mark.parametrize("end", [Wire.close, say_408])
def test_an_idle_connection_that_the_peer_ends_is_replaced(
    kind: Native, end: Callable[[Wire], None], certified: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    answered, ended = threading.Event(), threading.Event()

    def script(wire: Wire) -> None:
        wire.read()
        wire.send(answer())
        if wire.number == 1:
            assert answered.wait(SOON)
            end(wire)
            ended.set()
        wire.wait_for_end()

    with Peer(script, tls=certified) as peer, carrier(kind, ssl_context=trusting) as carry:
        assert isinstance(carry(request(named(peer))), Response)
        answered.set()
        assert ended.wait(SOON)
        outcome = carry(request(named(peer)))
        assert isinstance(outcome, Response), outcome
        assert outcome.status == 200
    assert [seen.connection for seen in peer.requests] == [1, 2]


@each_native
@pytest.mark.usefixtures("only_trust")
def test_an_old_protocol_version_is_refused(kind: Native, authority: trustme.CA) -> None:
    context = serving(authority, "localhost")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with Peer(keep_answering(), tls=context) as peer, carrier(kind) as carry:
        as_network_error(carry(request(named(peer))))
    assert not peer.requests


@pytest.mark.parametrize(
    "url", ["http://api.example", "http://192.0.2.1:8080", "http://[2001:db8::1]", "http://localhost.example"]
)
def test_plain_http_to_another_host_must_be_asked_for(url: str) -> None:
    with pytest.raises(ValidationError, match="allow_insecure_http"):
        Config(KEY, base_url=url)
    assert Config(KEY, base_url=url, allow_insecure_http=True).origin.scheme == "http"


@pytest.mark.parametrize(
    "url", ["http://localhost:1", "http://127.0.0.1", "http://127.8.9.1:80", "http://[::1]:8080"]
)
def test_plain_http_to_this_host_is_allowed(url: str) -> None:
    assert Config(KEY, base_url=url).origin.scheme == "http"


# Closing


@each_native
def test_closing_does_not_wait_for_a_handshake(kind: Native, trusting: ssl.SSLContext) -> None:
    """Close a client whose attempt hangs in the handshake: nothing of it may be left."""
    connected = threading.Event()

    def script(wire: Wire) -> None:
        wire.sock.recv(1)
        connected.set()
        wire.wait_for_end()

    with Peer(script) as peer, client(kind, named(peer), ssl_context=trusting) as made:
        made.record(WalletSignal(customer_id="cus_1", model="m"))
        assert connected.wait(SOON)
        began = time.monotonic()
        assert made.close(0.1).pending == 1
        assert time.monotonic() - began < SOON
        assert peer.wait_ended(1)
        assert not [thread for thread in threading.enumerate() if thread.name == "clocknext"]


# Names with a final dot


@each_kind
def test_a_final_dot_of_the_host_is_no_part_of_the_name_that_is_verified(
    kind: Kind, certified: ssl.SSLContext, trusting: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.getaddrinfo

    def look_up(host: str | bytes, *rest: Any, **more: Any) -> Any:
        return real("127.0.0.1" if host in ("localhost.", b"localhost.") else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with Peer(keep_answering(), tls=certified) as peer, carrier(kind, ssl_context=trusting) as carry:
        outcome = carry(request(named(peer, "localhost.")))
        assert isinstance(outcome, Response), outcome
    with (
        Peer(keep_answering(), tls=serving(trustme.CA(), "localhost")) as peer,
        carrier(kind, ssl_context=trusting) as carry,
    ):
        as_network_error(carry(request(named(peer, "localhost."))))
    assert not peer.requests


# What the environment can't have


@each_native
@pytest.mark.usefixtures("only_trust")
def test_the_secrets_of_connections_are_never_written_to_a_file(
    kind: Native, certified: ssl.SSLContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = tmp_path / "keys.log"
    monkeypatch.setenv("SSLKEYLOGFILE", os.fspath(keys))
    with Peer(keep_answering(), tls=certified) as peer, carrier(kind) as carry:
        assert isinstance(carry(request(named(peer))), Response)
    assert not keys.exists()


def test_the_default_context_verifies_as_pythons_own_does() -> None:
    ours, pythons = default_context(), ssl.create_default_context()
    for name in ("verify_mode", "check_hostname", "verify_flags", "minimum_version", "options"):
        assert getattr(ours, name) == getattr(pythons, name), name


# A context that verifies while it wraps, as truststore's did


class WrappingContext(ssl.SSLContext):
    """Looks for the peer's certificate as soon as a socket is wrapped."""

    def wrap_socket(self, *arguments: Any, **options: Any) -> ssl.SSLSocket:
        wrapped = super().wrap_socket(*arguments, **options)
        if not wrapped.getpeercert():
            wrapped.close()
            raise ssl.SSLCertVerificationError("Peer sent no certificates to verify")
        return wrapped


def test_a_context_may_verify_while_it_wraps(authority: trustme.CA, certified: ssl.SSLContext) -> None:
    context = WrappingContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=authority.cert_pem.bytes().decode())
    with Peer(keep_answering(), tls=certified) as peer, carrier("sync", ssl_context=context) as carry:
        outcome = carry(request(named(peer)))
    assert isinstance(outcome, Response), outcome


# Sessions, and bursts


def one_request_each(resumed: list[bool]) -> Callable[[Wire], None]:
    """Make a script that answers one request of a connection, and notes whether its session was resumed."""

    def script(wire: Wire) -> None:
        assert isinstance(wire.sock, ssl.SSLSocket)
        resumed.append(bool(wire.sock.session_reused))
        wire.read()
        wire.send(answer(JSON, "Connection: close"))

    return script


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_new_connection_of_threads_resumes_the_last_session(
    version: ssl.TLSVersion, authority: trustme.CA, trusting: ssl.SSLContext
) -> None:
    context = serving(authority, "localhost", "127.0.0.1")
    context.maximum_version = version
    resumed: list[bool] = []
    script = one_request_each(resumed)
    with (
        Peer(script, tls=context) as peer,
        Peer(script, tls=context) as other,
        carrier("sync", ssl_context=trusting) as carry,
    ):
        for each in (peer, peer, peer, other, peer):
            assert isinstance(carry(request(named(each))), Response)
    assert resumed == [False, True, True, False, True]


def test_a_session_that_the_server_does_not_know_excuses_no_certificate(
    authority: trustme.CA, trusting: ssl.SSLContext
) -> None:
    resumed: list[bool] = []
    first, second = (serving(authority, "localhost") for _ in range(2))
    with (
        Peer(one_request_each(resumed), tls=first) as peer,
        carrier("sync", ssl_context=trusting) as carry,
    ):
        assert isinstance(carry(request(named(peer))), Response)
        peer.tls = second
        assert isinstance(carry(request(named(peer))), Response)
        peer.tls = serving(trustme.CA(), "localhost")
        for _ in range(2):
            assert "certificate" in as_network_error(carry(request(named(peer)))).message.lower()
    assert resumed == [False, False]


@each_native
@pytest.mark.usefixtures("only_trust")
def test_a_burst_makes_the_settings_once_and_opens_its_connections_in_parallel(
    kind: Native, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[None] = []
    together = threading.Barrier(5)
    context = serving(authority, "localhost")

    def wait_for_all(*_: object) -> None:
        together.wait(SOON)  # no handshake goes on before all have begun

    context.sni_callback = wait_for_all

    def make() -> ssl.SSLContext:
        made.append(None)
        return default_context()

    monkeypatch.setattr("clocknext_transports.http11.tls.default_context", make)
    with Peer(keep_answering(), tls=context) as peer, carrier(kind) as carry, ThreadPoolExecutor(5) as pool:
        for outcome in pool.map(carry, [request(named(peer))] * 5):
            assert isinstance(outcome, Response), outcome
    assert peer.connections == 5
    assert len(made) == 1
