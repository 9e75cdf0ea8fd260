"""The emulator's responder: a ledger, the faults that spoil its answers, and the read-back. Pure."""

import re

from clocknext_core.messages import Response
from clocknext_transports.emulator.api.exchange import Received, Reply
from clocknext_transports.emulator.api.ledger import Ledger
from clocknext_transports.emulator.api.routes import parse_query
from clocknext_transports.emulator.books.envelopes import Envelope, Refusal, json_response, refuse
from clocknext_transports.emulator.books.validation import parse_body, query_limit
from clocknext_transports.emulator.server.faults import Faults, order, spoil

CONTROL = "/_emulator/"
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]/@]*)(?::[0-9]*)?")
_IPV4 = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")


class Service:
    """Answer requests from a ledger, as spoilt by faults.

    `/_emulator/` needs no key and meets no faults: `GET ledger`, `GET requests?limit=`, `GET faults`,
    `POST faults` (see `faults.order`), `DELETE faults`, `POST reset`. It is closed to web pages.
    """

    def __init__(self, ledger: Ledger, faults: Faults) -> None:
        self.ledger = ledger
        self.faults = faults

    def respond(self, request: Received, *, now: float) -> Reply:
        """Answer a request that arrived at `now` (wall clock, seconds since 1970)."""
        if request.target.startswith(CONTROL):
            return Reply(self._control(request, now=now))
        fault = self.faults.decide(request.method, request.path)
        if fault is None:
            return Reply(self.ledger.handle(request, now=now))
        processed = self.ledger.process(request, now=now) if fault.commits else None
        reply = spoil(fault, request, processed, now=now)
        status = None if reply.response is None else reply.response.status
        self.ledger.log_request(request, now=now, status=status, fault=fault.kind)
        return reply

    def _control(self, request: Received, *, now: float) -> Response:
        try:
            check_origin(request)
            return json_response(200, self._controlled(request), now=now)
        except Refusal as refusal:
            return refuse(Envelope.LEGACY, refusal, now=now)

    def _controlled(self, request: Received) -> object:
        match request.method, request.path.removeprefix(CONTROL):
            case "GET", "ledger":
                return self.ledger.as_json()
            case "GET", "requests":
                limit = query_limit(parse_query(request.target), default=100, maximum=100_000)
                return {"requests": [record.as_json() for record in self.ledger.requests[-limit:]]}
            case "GET", "faults":
                return {"counts": self.faults.counts, "pending": self.faults.pending}
            case "POST", "faults":
                order(self.faults, parse_body(request.body))
            case "DELETE", "faults":
                self.faults.clear()
            case "POST", "reset":
                self.ledger.reset()
                self.faults.reset()
            case _:
                raise Refusal(404, f"No such endpoint: {request.method} {request.path}")
        return {"ok": True}


def check_origin(request: Received) -> None:
    """Refuse a request that a web page of another origin may have sent.

    A page cannot set `Host`, `Origin` and `Sec-Fetch-Site`; a program can, and needs no defence against
    itself. A page whose name was pointed to this machine has that name in `Host`: so a name with a dot is
    refused, unless it ends in `localhost`. IP addresses and names without a dot are no web site's.

    Raises:
        Refusal: 403.
    """
    host = request.headers.get("host")
    if host is not None and not _is_local(host):
        raise Refusal(403, f"The Host {host!r} is not of this machine: use an IP address or localhost.")
    origin = request.headers.get("origin")
    own = {f"http://{host}", f"https://{host}"}
    if origin is not None and (host is None or origin.lower() not in {each.lower() for each in own}):
        raise Refusal(403, f"The Origin {origin!r} may not use this: it is not for other web pages.")
    if request.headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}:
        raise Refusal(403, "This is not for other web pages.")


def _is_local(host: str) -> bool:
    found = _HOST.fullmatch(host.lower())
    if found is None:
        return False
    name = found[1]
    is_address = name.startswith("[") or _IPV4.fullmatch(name) is not None
    return is_address or "." not in name or name.endswith(".localhost")
