"""The emulator's page and control routes: who may use them, by `Host`, `Origin`, fetch metadata and target.

Invariant: whoever asks,

- a `Host` that a browser may send for a site of the web is refused, and so are those that no browser sends;
- a name or address of this machine is served, with any port and in any case, to its own pages and programs;
- another `Origin`, and a request of which the browser says that it comes from another site, are refused;
- a refusal is 403 in the envelope, changes nothing, and shows neither the key nor what was billed;
- no answer opens the routes to other origins; no other form of a target leads to them without these checks;
- over a connection it is the same, and a request with two `Host` headers, or without one, is refused.

Allowed exceptions: an HTTP/1.0 request need not have a `Host`.
"""

import json
from collections.abc import Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

import h11
import trio
import trio.testing

from clocknext_core import Response
from clocknext_transports.emulator import Faults, Ledger, Received
from clocknext_transports.emulator.server.service import CONTROL, Service
from fuzz.decoding import Decoder
from fuzz.targets.emulator import CATALOGUE, KEY, NOW, exchange

MAX_BYTES = 256

ALLOWED = "box.internal"
"""The name that the emulator is told is this machine's."""
OURS = (
    "127.0.0.1", "localhost", "LocalHost", "localhost.", "app.localhost", "app.localhost.", "10.0.0.7",
    "0.0.0.0", "[::1]", "[::FFFF:127.0.0.1]", "[fe80::1]", "emulator", "my_box-2", ALLOWED, "Box.Internal",
    f"{ALLOWED}.",
)  # fmt: skip
THEIRS = (
    "evil.example", "EVIL.example", "evil.example.", "127.0.0.1.evil.example", "evil.",
    "localhost.evil.example",
    "[::1].evil.example", "evil.localhost.example", "evillocalhost.example", "1.2.3.4.5", "127.1",
    "127.0.0.1.x",
    f"{ALLOWED}.evil.example", f"x.{ALLOWED}", "xn--bcher-kva.example", "evil.example..", "..",
    "[::1", "a..b",
)  # fmt: skip
PORTS = ("", ":8787", ":80", ":", ":0", ":65536", ":x", ":80:80", ":-1")
BEFORE = ("", "", "", "user@", "user:pw@", "http://", "//", " ", "127.0.0.1 ", "localhost,", "%6c")
AFTER = (
    "", "", "", "/", "@evil.example", "#", "\\", "%2eexample", "\xe3\x80\x82example", ",evil.example",
    "\t", "?",
)  # fmt: skip
METHODS = ("GET", "POST", "DELETE", "OPTIONS", "HEAD", "PUT")
ROUTES = (
    "ledger", "requests", "faults", "reset", "faults/undo", "events", "entries?before=9", "entry?number=1",
    "", "page.js", "nothing", "../ledger", "ledger/", "ledger?x=1",
)  # fmt: skip
OTHER_TARGETS = (
    "/", "/?x", "http://127.0.0.1/_emulator/ledger", "http://evil.example/_emulator/ledger", "/_emulator",
    "//x/_emulator/ledger", "/./_emulator/ledger", "/x/../_emulator/ledger", "/%5Femulator/ledger", "*",
    "/_EMULATOR/ledger", "//_emulator/ledger", "/api/v1/me", "/_emulator%2Fledger",
)  # fmt: skip
SITES = (None, None, None, "none", "same-origin", "same-site", "cross-site", "", "Same-Origin", "none, none")
TOKENS = (
    b"localhost", b"127.0.0.1", b".localhost", b"evil.example", b"[::1]", b":8787", b"http://", b"https://",
    ALLOWED.encode(), b"null", b"\xff\x01",
)  # fmt: skip

BILLED = "cus_nobody_else_may_see"


def check(data: bytes) -> None:
    """Send one request from somewhere, and hold what became of it."""
    decoder = Decoder(data)
    service = Service(Ledger(CATALOGUE, api_key=KEY), Faults(), allow_hosts=[ALLOWED])
    _use(service)
    before = _state(service)
    method, target = decoder.pick(METHODS), _target(decoder)
    is_over_connection = decoder.below(4) == 0
    hosts = _hosts(decoder, most=2 if is_over_connection else 1)
    if is_over_connection:  # where a line ends, it would be another request
        hosts = [host.replace("\n", "") for host in hosts]
    headers = [("host", host) for host in hosts]
    if (origin := _origin(decoder, hosts)) is not None:
        headers.append(("origin", origin.replace("\n", "") if is_over_connection else origin))
    if (site := decoder.pick(SITES)) is not None:
        headers.append(("sec-fetch-site", site))
    if decoder.below(2):
        headers.append(("accept", "text/html"))
    body = b'{"kind": "lost"}' if method == "POST" else b""
    if is_over_connection:
        version = decoder.pick(("1.1", "1.1", "1.0"))
        response = _over_connection(service, f"{method} {target} HTTP/{version}", headers, body)
        if len(hosts) > 1 or (not hosts and version == "1.1"):
            assert response is None or response.status == 400
            assert _state(service) == before
            return
        if response is None or (response.status == 400 and b'"ok"' not in response.body):
            assert _state(service) == before
            return  # no HTTP
        headers = [(name, value.strip(" \t")) for name, value in headers]
    else:
        response = service.respond(Received(method, target, dict(headers), body), now=NOW).response
    assert response is not None
    _check_answer(service, Received(method, target, dict(headers)), response, before)


def _target(decoder: Decoder) -> str:
    return CONTROL + decoder.pick(ROUTES) if decoder.below(4) else decoder.pick(OTHER_TARGETS)


def _hosts(decoder: Decoder, *, most: int) -> list[str]:
    count = (1, 1, 1, 1, 0, most)[decoder.below(6)]
    return [_host(decoder) for _ in range(count)]


def _host(decoder: Decoder) -> str:
    match decoder.below(4):
        case 0:
            length = decoder.below(32)
            return "".join(chr(decoder.below(256)) for _ in range(length))
        case 1:
            name = decoder.pick(THEIRS)
        case _:
            name = decoder.pick(OURS)
    return decoder.pick(BEFORE) + name + decoder.pick(PORTS) + decoder.pick(AFTER)


def _origin(decoder: Decoder, hosts: Sequence[str]) -> str | None:
    match decoder.below(6):
        case 0 | 1:
            return None
        case 2:
            return "null"
        case 3:
            return f"https://{_host(decoder)}"
        case 4:
            return "http://127.0.0.1:8787"
        case _:
            return f"http://{hosts[0] if hosts else '127.0.0.1'}"


def _use(service: Service) -> None:
    """Leave behind what a web page would like to read or to change."""
    service.respond(Received("POST", f"{CONTROL}faults", {}, b'{"kind": "reset", "path": "/x"}'), now=NOW)
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    signal = {"customerId": "a", "type": "wallet", "model": "m", "inputTokens": 1, "outputTokens": 1}
    body = json.dumps({**signal, "custom": {"for": BILLED}}).encode()
    service.respond(Received("POST", "/api/v1/usage", headers, body), now=NOW)
    assert BILLED in json.dumps(service.ledger.as_json())
    assert service.faults.pending == 1


def _state(service: Service) -> str:
    state = (service.faults.counts, service.faults.pending, service.ledger.as_json()["signals"])
    return repr(state)


def _over_connection(
    service: Service, line: str, headers: Sequence[tuple[str, str]], body: bytes
) -> Response | None:
    length = [("content-length", str(len(body)))] if body else []
    lines = [line, *(f"{name}: {value}" for name, value in [*headers, *length]), "", ""]
    sent = "\r\n".join(lines).encode("latin-1") + body
    clock = trio.testing.MockClock(autojump_threshold=0)
    answer = trio.run(exchange, service, [sent], clock=clock)
    method = line.partition(" ")[0]
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method=method, target="/", headers=[("host", "h")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(answer)
    event = connection.next_event() if answer else None
    if not isinstance(event, h11.Response):
        return None
    content = bytearray()
    while isinstance(more := connection.next_event(), h11.Data):
        content += more.data
    received = [(name.decode(), value.decode()) for name, value in event.headers]
    return Response(event.status_code, received, bytes(content))


def _check_answer(service: Service, request: Received, response: Response, before: str) -> None:
    method, target, headers = request.method, request.target, request.headers
    assert not any(name.lower().startswith("access-control-") for name, _ in response.headers)
    is_for_a_browser = (
        method == "GET" and target.partition("?")[0] == "/" and "text/html" in headers.get("accept", "")
    )
    if not (target.startswith(CONTROL) or is_for_a_browser):
        # The API's, which asks for the key.
        assert response.status in (400, 401, 404, 405)
        assert BILLED.encode() not in response.body
        assert _state(service) == before
        return
    host, origin, site = (headers.get(name) for name in ("host", "origin", "sec-fetch-site"))
    is_refused = response.status == 403
    if host is not None and (_is_of_the_web(host) or not _is_of_a_browser(host)):
        assert is_refused, host
    if origin is not None and not _is_own(origin, host):
        assert is_refused, (origin, host)
    if site is not None and site not in ("none", "same-origin"):
        assert is_refused, site
    if (
        (host is None or _is_ours(host))
        and (origin is None or (host is not None and origin == f"http://{host}"))
        and (site is None or site in ("none", "same-origin"))
    ):
        assert not is_refused, host
    if is_refused:
        assert _state(service) == before
        assert BILLED.encode() not in response.body
        assert KEY.encode() not in response.body
        if method != "HEAD" or response.body:
            content = json.loads(response.body)
            assert (content["ok"], content.keys()) == (False, {"ok", "error"})


# A second judge, by the standard library's readers of addresses


def _parts(host: str) -> tuple[str, str] | None:
    """Return name and port of a `Host`; `None` if it is none."""
    if set(host) & set("@/?#\\") or not host.isascii():
        return None
    try:
        parts = urlsplit(f"http://{host}/")
        name = parts.hostname or ""
    except ValueError:
        return None
    port = host.rpartition(":")[2] if ":" in host.rpartition("]")[2] else ""
    return name, port


def _is_of_a_browser(host: str) -> bool:
    """Return whether a browser may send this."""
    parts = _parts(host)
    if parts is None or not (parts[1] == "" or parts[1].isdecimal()):
        return False
    if host.startswith("["):
        return "]" in host and all(each in "0123456789abcdefABCDEF:." for each in parts[0])
    return host.count(":") <= 1 and all(each.isalnum() or each in "._-" for each in parts[0])


def _is_of_the_web(host: str) -> bool:
    """Return whether this may be the name of a site that somebody else has: one with a dot."""
    parts = _parts(host)
    if parts is None:
        return False
    name = parts[0].lower()
    try:
        ip_address(name)
    except ValueError:
        if name in (ALLOWED, f"{ALLOWED}.") or (host.startswith("[") and "]" in host):
            return False
        labels = name.split(".")
        if all(label.isdecimal() and len(label) <= 3 for label in labels) and len(labels) == 4:
            return False  # no address, but no name either
        significant = labels[:-1] if labels[-1] == "" else labels
        return len(labels) > 1 and significant[-1] != "localhost"
    return False


def _is_ours(host: str) -> bool:
    """Return whether this is one of the names of this machine, with a port or without."""
    return any(
        host == name or (host.startswith(f"{name}:") and (host[len(name) + 1 :] or "0").isdecimal())
        for name in OURS
    )


def _is_own(origin: str, host: str | None) -> bool:
    scheme, separator, rest = origin.partition("://")
    return (
        host is not None
        and scheme.lower() in ("http", "https")
        and bool(separator)
        and rest.lower() == host.lower()
    )
