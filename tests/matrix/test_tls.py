"""Row 14, with real handshakes: who can't prove to be the service gets no request, and nothing is lost."""

import os
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme

from tests.contract import worlds
from tests.contract.answers import record_all
from tests.contract.worlds import World
from tests.life.support import wait_until
from tests.matrix.support import (
    AT_ONCE,
    KEYS,
    PERSISTENT,
    Billing,
    attempts_by_key,
    bodies_at,
    check_billed_once,
)
from tests.transports.support import Peer, serving, trusting

ATTEMPTS = 3


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """The authority that all clients trust."""
    return trustme.CA()


@pytest.fixture(autouse=True)
def _only_trust(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the authority the only one that the native transports, and httpx, know."""
    store = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(os.fspath(store))
    monkeypatch.setenv("SSL_CERT_FILE", os.fspath(store))
    monkeypatch.setattr(worlds, "_ssl_context", lambda: trusting(authority))


def of_another_authority(_: trustme.CA) -> ssl.SSLContext:
    return serving(trustme.CA(), "localhost")


def for_another_host(authority: trustme.CA) -> ssl.SSLContext:
    return serving(authority, "elsewhere.example", "127.0.0.1")


def out_of_date(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued = authority.issue_cert("localhost", not_after=datetime(2020, 1, 1, tzinfo=UTC))
    issued.configure_cert(context)
    return context


class Replaceable:
    """A server's context whose certificate can be replaced while it serves.

    Args:
        first: What it serves with at first.
    """

    def __init__(self, first: ssl.SSLContext) -> None:
        self.current = first
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.sni_callback = self._choose

    def _choose(self, connection: ssl.SSLObject, _: str | None, __: ssl.SSLContext) -> None:
        connection.context = self.current


@pytest.mark.parametrize("made", [of_another_authority, for_another_host, out_of_date])
async def test_row_14_bad_certificate(
    world: World, made: Callable[[trustme.CA], ssl.SSLContext], authority: trustme.CA
) -> None:
    """No request, so no key, goes to it; the signals are held until the certificate is in order."""
    replaceable, billing = Replaceable(made(authority)), Billing()
    with Peer(billing, tls=replaceable.context) as peer:
        url = f"https://localhost:{peer.port}"
        async with world.open(url, batch=AT_ONCE, retry=PERSISTENT) as client:
            await record_all(client, KEYS)
            await world.hooked(lambda seen: len(seen) >= ATTEMPTS)
            assert peer.requests == []
            assert client.pending == len(KEYS)
            replaceable.current = serving(authority, "localhost")
            report = await client.flush()
            assert (report.delivered, list(report.failed), report.pending) == (len(KEYS), [], 0)
        # The peer notes its side of a handshake after the client has noted its own.
        retries = world.hooks.of("on_retry")
        assert len(retries) >= ATTEMPTS
        assert wait_until(lambda: len(peer.handshake_errors) == len(retries))
        assert set(attempts_by_key(bodies_at(peer)).values()) == {1}
    check_billed_once(billing.ledger)
    assert world.hooks.of("on_error", "on_drop") == []
