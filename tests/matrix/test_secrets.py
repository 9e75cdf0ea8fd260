"""The API key is told to nobody but the service, whatever happens, and whoever asks."""

import base64
import json
import logging
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Generator
from pathlib import Path
from types import TracebackType
from typing import TypeAlias, get_args
from urllib.parse import quote

import pytest

from clocknext_core import (
    Answer,
    BatchPolicy,
    ClockNextError,
    Config,
    FlushReport,
    Request,
    Retrying,
    RetryPolicy,
    Signal,
)
from clocknext_core.config import REDACTED
from clocknext_core.states import DropReason
from clocknext_transports import AsyncClockNext, ClockNext, TrioClockNext
from clocknext_transports.emulator import Fault, FaultKind, Faults, Ledger, emulator
from clocknext_transports.recorder import recording
from tests.cli.support import clocknext, connected, encoded, wire
from tests.contract.answers import record
from tests.contract.clients import AwaitedClient, Client, Options
from tests.contract.worlds import Asyncio, LogKeeper, Threads, World
from tests.transports.support import Peer, Script, Wire, answer

KEY = "cnk_test_9Qv4Lr7Zx/Kb2+NwT8sYpE3mDh"
HALF = len(KEY) // 2

Echo: TypeAlias = Callable[[str], bytes]


def spellings() -> dict[str, str]:
    """What must turn up nowhere, by what it is."""
    made = {"the key": KEY, "its first half": KEY[:HALF], "its second half": KEY[HALF:]}
    made |= {"the key in a URL": quote(KEY, safe=""), "the key in JSON": KEY.replace("/", "\\/")}
    made["the key in hexadecimal"] = KEY.encode().hex()
    for shift in range(3):
        # The first and the last characters of base64 depend on what stands beside the key.
        plain = base64.b64encode(b"x" * shift + KEY.encode())[4:-4].decode()
        made |= {
            f"base64 at {shift}": plain,
            f"base64url at {shift}": plain.replace("+", "-").replace("/", "_"),
        }
    return made


SPELLINGS = spellings()


class Ears:
    """Hears all that is said, and knows what must not be.

    Each thing that is said is named, so that it can be told that it was said at all.
    """

    def __init__(self) -> None:
        self.heard: Counter[str] = Counter()
        self.redacted = 0
        self.leaks: list[str] = []
        self.is_echoing = False
        """Whether the service tells the key to everybody."""

    def hear(self, name: str, *things: object) -> None:
        """Hear what things say of themselves, as they are, as text and as they are represented."""
        for thing in things:
            self.heard[name] += 1
            for text in (str(thing), repr(thing)):
                self.redacted += REDACTED in text
                self.leaks += [f"{what} in {name}" for what, secret in SPELLINGS.items() if secret in text]

    def hear_error(self, name: str, error: BaseException) -> None:
        """Hear an error, what it comes from, and what a traceback shows."""
        trace = traceback.TracebackException.from_exception(error)
        self.hear(name, error, *error.args, "".join(trace.format()))
        cause: BaseException | None = error
        while cause is not None:
            self.hear(f"{name}: chain", cause, vars(cause))
            if not self.is_echoing:  # while a call lasts, what the service says is in its variables
                self.hear(f"{name}: variables", *_variables_of_clients(cause.__traceback__))
            cause = cause.__cause__ or cause.__context__

    def hear_files(self, folder: Path) -> None:
        """Read all files in a folder."""
        for path in folder.rglob("*"):
            if path.is_file():
                self.hear("a file", path.read_bytes().decode("latin-1"))
                self.hear("a file's name", path.name)


def _variables_of_clients(trace: TracebackType | None) -> Generator[dict[str, object], None, None]:
    for frame, _ in traceback.walk_tb(trace):
        if str(frame.f_globals.get("__name__")).startswith(("clocknext_", "h11", "httpx", "httpcore")):
            yield dict(frame.f_locals)


class Hearing(logging.Handler):
    """Hears every log record, of every logger, at every level.

    Args:
        ears: What hears them.
    """

    def __init__(self, ears: Ears) -> None:
        super().__init__(logging.NOTSET)
        self._ears = ears

    def emit(self, record: logging.LogRecord) -> None:
        """Hear a record as it would be printed, and its parts."""
        if self._ears.is_echoing and not record.name.startswith("clocknext"):
            return  # what other packages log of what a service says is not ours to keep
        self._ears.hear("a log record", self.format(record), record.msg, record.args)


@pytest.fixture
def ears() -> Generator[Ears, None, None]:
    """Ears that hear what is logged, DEBUG included."""
    made = Ears()
    handler, root = Hearing(made), logging.getLogger()
    usual_level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield made
    root.setLevel(usual_level)
    root.removeHandler(handler)


# A service that tells everybody what it was told


def error_answer(said: str, status: str) -> bytes:
    issues = [{"field": said, "message": said}]
    document = {
        "statusDetail": {"status": "ERROR", "message": said},
        "result": {"errorReason": said, "issues": issues},
    }
    return answer(json.dumps(document).encode(), status=status)


def chunked(data: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{data}\r\n".encode()


ECHOES: dict[str, Callable[[str], bytes]] = {
    "message": lambda said: error_answer(said, "400 Bad Request"),
    "message, retryable": lambda said: error_answer(said, "500 Server Error"),
    "message in JSON": lambda said: error_answer(json.dumps({"was": said}), "422 No"),
    "message in a URL": lambda said: error_answer(f"/login?to={quote(said, safe='')}", "401 Unauthorized"),
    "slashes escaped": lambda said: answer(
        b'{"ok": false, "error": "%s"}' % said.replace("/", r"\/").encode(), status="404 Not Found"
    ),
    "slashes escaped twice": lambda said: answer(
        b'{"ok": false, "error": "%s"}' % said.replace("/", r"\\\/").encode(), status="404 Not Found"
    ),
    "all but letters escaped": lambda said: answer(
        b'{"ok": false, "error": "%s"}' % said.replace("+", r"\u002B").encode(), status="400 Bad Request"
    ),
    "page": lambda said: answer(f"<html>{said}</html>".encode()),
    "page that is cut in the key": lambda said: answer(b"x" * (299 - len(said) // 2) + said.encode()),
    "not UTF-8": lambda said: answer(b"\xff\xfe" + said.encode(), status="413 Too Large"),
    "reason": lambda said: answer(b"", status=f"400 {said}"),
    "header": lambda said: answer(b"{", f"Set-Cookie: k={said}", f"X-Was: {said}"),
    "Retry-After": lambda said: answer(b"", f"Retry-After: {said}", status="503 Unavailable"),
    "Location": lambda said: answer(b"", f"Location: http://127.0.0.1:9/?{said}", status="307 Moved"),
    "encoding": lambda said: answer(b"{}", f"Content-Encoding: {said}"),
    "length": lambda said: f"HTTP/1.1 200 OK\r\nContent-Length: {said}\r\n\r\n{{}}".encode(),
    "chunk": chunked,
    "status line": lambda said: f"HTTP/1.1 {said}\r\n\r\n".encode(),
    "version": lambda said: f"HTTP/{said} 200 OK\r\n\r\n".encode(),
    "no colon": lambda said: f"HTTP/1.1 200 OK\r\n{said}\r\n\r\n".encode(),
    "not HTTP": lambda said: f"{said}\r\n\r\n".encode(),
    "cut off": lambda said: answer(said.encode())[: -len(said) // 3],
}


class Echoing:
    """A script for a raw peer: tells each request its own Authorization, in a different way each time."""

    def __init__(self) -> None:
        self.said: Counter[str] = Counter()
        self._left: list[str] = []

    def __call__(self, wire: Wire) -> None:
        seen = wire.read()
        if not self._left:
            self._left = list(ECHOES)
        name = self._left.pop(0)
        self.said[name] += KEY in seen.headers["authorization"]
        wire.send(ECHOES[name](seen.headers["authorization"]))


def no_tls(wire: Wire) -> None:
    """Answer a handshake in the clear."""
    wire.sock.recv(65536)
    wire.send(answer(status="400 Bad Request"))


class BrokenTransport:
    """Raises what it was given.

    Args:
        ears: What hears the requests.
    """

    def __init__(self, ears: Ears) -> None:
        self._ears = ears

    def exchange(self, request: Request, *, deadline_at: float) -> Answer:
        """Raise."""
        self._ears.hear("a request", request)
        raise RuntimeError(f"I was given {request.headers}.")

    def close(self) -> None:
        """Close nothing."""


class AsyncBrokenTransport:
    """The same, for event loops.

    Args:
        ears: What hears the requests.
    """

    def __init__(self, ears: Ears) -> None:
        self._broken = BrokenTransport(ears)

    async def exchange(self, request: Request, *, deadline_at: float) -> Answer:
        """Raise."""
        return self._broken.exchange(request, deadline_at=deadline_at)

    async def aclose(self) -> None:
        """Close nothing."""


# The run


class Listener:
    """Hooks that hear what they are told, and raise it.

    Args:
        ears: What hears it.
    """

    def __init__(self, ears: Ears) -> None:
        self._ears = ears

    def on_error(self, error: ClockNextError, signal: Signal) -> None:
        self._ears.hear_error("on_error", error)
        self._ears.hear("on_error", signal)
        raise LookupError(f"{error!r} {signal!r}") from error

    def on_retry(self, event: Retrying) -> None:
        self._ears.hear_error("on_retry", event.error)
        self._ears.hear("on_retry", event)

    def on_drop(self, signal: Signal, reason: DropReason) -> None:
        self._ears.hear("on_drop", signal, reason)


PATIENCE = 0.2
"""Seconds for a buffered signal to be billed or refused; a service that is not there does neither."""
QUICK = RetryPolicy(max_attempts=2, base_delay=0.001, max_delay=0.002)
FAST = {"drip": Fault("drip", bytes_per_second=1e5), "latency": Fault("latency", seconds=0.001)}
STATUSES = (400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 503)


async def attempt(ears: Ears, call: Callable[[], Awaitable[object]]) -> None:
    """Hear what a call comes to."""
    try:
        ears.hear("a result", await call())
    except ClockNextError as error:
        ears.hear_error("an error", error)


def hear_client(ears: Ears, client: Client) -> None:
    """Hear a client and all it is made of."""
    made: object = vars(client).get("_client", client)  # under threads there is a wrapper around it
    for part in (made, *vars(made).values()):
        ears.hear("a client's parts", part)
        if hasattr(part, "__dict__") and not isinstance(part, Config):
            ears.hear("a client's parts", vars(part))


def hear_report(ears: Ears, report: FlushReport) -> None:
    """Hear what a flush reports."""
    ears.hear("a report", report)
    for failed in report.failed:
        ears.hear_error("a report's error", failed.error)


async def use(world: World, ears: Ears, url: str, options: Options, rounds: int) -> None:
    """Use a client so often, in both ways."""
    async with world.open(url, **options) as client:
        for number in range(rounds):
            await record(client, f"{number}")
            hear_report(ears, await client.flush(timeout=PATIENCE))
            await attempt(ears, lambda: client.customers.get("cus_123"))
            await attempt(ears, lambda: record(client, "awaited", wait=True))
        hear_client(ears, client)
        hear_report(ears, await client.close(timeout=0.05))


def with_broken_transport(world: World, ears: Ears, spool: Path, options: Options) -> Client:
    """Make a client of the world's kind with a transport that raises, and a spool."""
    options = {**options, "spool": spool}
    if isinstance(world, Threads):
        return AwaitedClient(ClockNext(transport=BrokenTransport(ears), **options))
    kind = AsyncClockNext if isinstance(world, Asyncio) else TrioClockNext
    return kind(transport=AsyncBrokenTransport(ears), **options)


async def test_the_key_is_shown_nowhere(world: World, ears: Ears, log: LogKeeper, tmp_path: Path) -> None:
    """Every fault, and a service that echoes: the key is in nothing that is said or written down."""
    listener, echoing, faults = Listener(ears), Echoing(), Faults()
    options: Options = {
        "api_key": KEY,
        "retry": QUICK,
        "batch": BatchPolicy(max_size=1, max_concurrency=1),
        "on_error": listener.on_error,
        "on_retry": listener.on_retry,
        "on_drop": listener.on_drop,
    }
    kinds: tuple[FaultKind, ...] = get_args(FaultKind)
    faults.script(*[FAST.get(kind, Fault(kind)) for kind in kinds], times=2)
    faults.script(*[Fault("status", status=status, retry_after_ms="1") for status in STATUSES], times=2)
    with recording(tmp_path / "trace.jsonl") as traces:
        with emulator(Ledger(api_key=KEY), faults) as server:
            await use(world, ears, server.url, options, len(kinds) + len(STATUSES))
        with Peer(echoing) as peer:
            ears.is_echoing = True
            await use(world, ears, peer.url, options, 2 * len(ECHOES))
            ears.is_echoing = False
        if not world.uses_httpx:  # which leaves a socket behind when a handshake is cancelled
            with Peer(no_tls) as peer:
                await use(world, ears, peer.url.replace("http", "https"), options, 1)
        await use(world, ears, "http://127.0.0.1:9", options, 1)
        async with with_broken_transport(world, ears, tmp_path / "spool", options) as client:
            await record(client, "spooled")
            await attempt(ears, lambda: client.customers.get("cus_123"))
            await client.close(timeout=0.05)
        ears.hear("what is logged", *log.take())
        assert len(traces) == (4 if world.uses_httpx else 5)
    ears.hear_files(tmp_path)
    assert any(b"spooled" in path.read_bytes() for path in (tmp_path / "spool").iterdir())
    assert ears.leaks == []
    # Not in vain: all was met, all was heard, and the key was there to be heard.
    assert faults.pending == 0
    assert min(echoing.said[name] for name in ECHOES) >= 2
    assert ears.redacted > 100
    for name in (
        *("an error", "an error: chain", "an error: variables", "on_error", "on_retry", "on_drop"),
        *("a report", "a report's error", "a result", "a request", "a log record", "a client's parts"),
        *("what is logged", "a file"),
    ):
        assert ears.heard[name] > 0, name
    assert any(REDACTED in path.read_text("ascii") for path in traces)


def test_the_command_line_tells_the_key_to_nobody(tmp_path: Path) -> None:
    """What it prints and the files it writes are without the key, though the service echoes it."""
    ears = Ears()
    (tmp_path / "usage.jsonl").write_bytes(encoded([wire(), {"type": "wallet"}, wire(model="gpt-9")]))

    def script(said: str) -> Script:
        def answer_all(wire: Wire) -> None:
            while True:
                seen = wire.read()
                wire.send(error_answer(seen.headers["authorization"], said))

        return answer_all

    for status, arguments in (
        ("400 Bad Request", ("send", "usage.jsonl")),
        ("422 No", ("verify", "usage.jsonl")),
        ("401 Unauthorized", ("whoami",)),
        ("500 Broken", ("balances", "cus_123", "--json", "--max-attempts", "1")),
    ):
        with Peer(script(status)) as peer:
            done = clocknext(*arguments, env=connected(peer.url, KEY), cwd=tmp_path)
            assert done.returncode != 0
            assert {seen.headers["authorization"] for seen in peer.requests} == {f"Bearer {KEY}"}
        ears.hear(" ".join(arguments), done.stdout, done.stderr)
        assert REDACTED in done.stdout + done.stderr, arguments
    ears.hear_files(tmp_path)
    assert ears.leaks == []
    assert REDACTED in (tmp_path / "usage.jsonl.refused.jsonl").read_text("utf-8")
