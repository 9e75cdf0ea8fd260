"""An interrupt in a blocking send: what error reports show of the frames is without the key."""

import os
import signal
import socket
import ssl
import sys
import threading
import time
import traceback
from collections.abc import Generator
from types import FrameType

import pytest
import trustme

from clocknext_core import Config, Request
from clocknext_transports.httpx import HttpxTransport
from clocknext_transports.sync import NativeTransport
from tests.transports.support import KEY, Peer, Wire, serving, trusting


class StruckError(BaseException):
    """Raised by the signal's handler."""


def strike(_: int, __: FrameType | None) -> None:
    raise StruckError


@pytest.fixture(autouse=True)
def struck_by_signals() -> Generator[None, None, None]:
    usual = signal.signal(signal.SIGUSR1, strike)
    yield
    signal.signal(signal.SIGUSR1, usual)


def interrupt_in(file: str, function: str) -> threading.Thread:
    """Interrupt the main thread as soon as it is in a function of a file; start it before that."""

    def is_there() -> bool:
        frame = sys._current_frames().get(main)  # pyright: ignore[reportPrivateUsage]
        while frame is not None:
            if frame.f_code.co_name == function and frame.f_code.co_filename.endswith(file):
                return True
            frame = frame.f_back
        return False

    def watch() -> None:
        give_up_at = time.monotonic() + 20.0
        while not is_there() and time.monotonic() < give_up_at:
            threading.Event().wait(0.001)
        os.kill(os.getpid(), signal.SIGUSR1)

    main = threading.get_ident()
    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def shown(error: BaseException) -> Generator[tuple[str, str], None, None]:
    """What an error report shows of each frame's variables: their repr, and that of what they are made of."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_filename == __file__:
            continue  # the test knows the key
        where = f"{frame.f_code.co_filename}:{frame.f_code.co_qualname}"
        for name, value in frame.f_locals.items():
            yield f"{where} {name}", repr(value)
            if not isinstance(value, Request):  # its headers are the key, and its repr is without them
                for inner, one in getattr(value, "__dict__", {}).items():
                    yield f"{where} {name}.{inner}", repr(one)


def check_no_key(error: BaseException) -> None:
    told = [*shown(error)]
    assert len({where for where, _ in told}) > 5, "frames were looked at"
    assert [where for where, text in told if KEY in text or "Bearer" in text] == []


@pytest.mark.parametrize("tls", [False, True])
def test_an_interrupt_in_a_blocking_send_shows_no_key(tls: bool) -> None:
    def swallow_nothing(wire: Wire) -> None:
        wire.peer.stopped.wait(20)

    authority = trustme.CA()
    context: ssl.SSLContext | None = serving(authority, "127.0.0.1") if tls else None
    with Peer(swallow_nothing, tls=context) as peer:
        config = Config(KEY, base_url=peer.url)
        body = b"x" * 30_000_000  # more than the buffers hold
        request = Request("POST", "/api/v1/usage", config.origin, config.json_headers, body, True)
        transport = NativeTransport(ssl_context=trusting(authority))
        interrupter = interrupt_in("sync/transport.py", "send")
        with pytest.raises(StruckError) as caught:
            transport.exchange(request, deadline_at=time.monotonic() + 20.0)
        interrupter.join(20)
        where = [frame.f_code.co_name for frame, _ in traceback.walk_tb(caught.value.__traceback__)]
        assert "send" in where, "it struck in the send"
        check_no_key(caught.value)
        transport.close()
        assert not transport.is_open


def test_an_interrupt_while_httpx_sends_shows_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx

    with socket.create_server(("127.0.0.1", 0)) as silent:
        config = Config(KEY, base_url=f"http://127.0.0.1:{silent.getsockname()[1]}")
        request = Request("POST", "/x", config.origin, config.json_headers, b"{}", True)
        with httpx.Client(trust_env=False) as client:
            transport = HttpxTransport(client)
            interrupter = interrupt_in("clocknext_transports/httpx.py", "exchange")
            with pytest.raises(StruckError) as caught:
                transport.exchange(request, deadline_at=time.monotonic() + 20.0)
            interrupter.join(20)
            check_no_key(caught.value)
            transport.close()
