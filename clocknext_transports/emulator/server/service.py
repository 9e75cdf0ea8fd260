"""The emulator's responder: a ledger, the faults that spoil its answers, and the read-back. Pure."""

import re
from collections.abc import Callable, Collection, Mapping

from clocknext_transports.emulator.api.exchange import Received, Reply
from clocknext_transports.emulator.api.ledger import Ledger
from clocknext_transports.emulator.api.routes import parse_query
from clocknext_transports.emulator.books.envelopes import (
    Envelope,
    Refusal,
    json_response,
    plain_response,
    refuse,
    unknown_endpoint,
)
from clocknext_transports.emulator.books.validation import parse_body, query_limit, query_number
from clocknext_transports.emulator.page.feed import Feed
from clocknext_transports.emulator.page.files import page_file
from clocknext_transports.emulator.page.line import line_of
from clocknext_transports.emulator.page.view import View
from clocknext_transports.emulator.server.faults import Faults, order, spoil

CONTROL = "/_emulator/"
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]*)(?::[0-9]*)?")
"""An address in brackets or a name, as browsers write them, and a port."""
_IPV4 = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")
_EVENTS = (("cache-control", "no-store"), ("x-accel-buffering", "no"))


class Service:
    """Answer requests from a ledger, as spoilt by faults.

    `/_emulator/` needs no key and meets no faults: `GET ledger`, `GET requests?limit=`, `GET faults`,
    `POST faults` (see `faults.order`), `POST faults/undo`, `DELETE faults`, `POST reset`. The page is there
    too: its files, `GET events`, `GET entries?before=` and `GET entry?number=`. All of it is closed to the
    web pages of others.

    Args:
        ledger: The ledger that answers.
        faults: The faults.
        server_id: Tells this start of the server from others.
        allow_hosts: Names of this machine, besides those that no web site has: see `check_origin`.
        on_signal: Called with one line for each signal that was answered.
    """

    def __init__(
        self,
        ledger: Ledger,
        faults: Faults,
        *,
        server_id: str = "",
        allow_hosts: Collection[str] = (),
        on_signal: Callable[[str], object] | None = None,
    ) -> None:
        self.ledger = ledger
        self.faults = faults
        self._server_id = server_id
        self._allow_hosts = frozenset(host.lower().removesuffix(".") for host in allow_hosts)
        self._on_signal = on_signal
        self._view = View(ledger)
        self._late = Ledger(accept_only="thin")
        """Takes what comes too late for the ledger, so that its sender is done with it."""
        self._is_watched = on_signal is not None
        """Whether there is a page or a terminal to keep up to date."""

    def respond(self, request: Received, *, now: float) -> Reply:
        """Answer a request that arrived at `now` (wall clock, seconds since 1970)."""
        if request.target.startswith(CONTROL) or _is_for_a_browser(request):
            return self._control(request, now=now)
        reply = self._answer(request, now=now)
        if self._is_watched or self._view.is_behind:
            # At once: what an attempt did shows in the books only until the next one. Unwatched, now and
            # then: a page that is opened later must not wait until thousands of requests are read.
            for entry, attempt in self._view.update():
                if self._on_signal is not None:
                    self._on_signal(line_of(entry, attempt))
        return reply

    def _answer(self, request: Received, *, now: float) -> Reply:
        with self.ledger.guard:  # it may begin anew meanwhile
            if self.ledger.is_late(request):
                return Reply(self._late.handle(request, now=now))
            return self._answer_in_time(request, now=now)

    def _answer_in_time(self, request: Received, *, now: float) -> Reply:
        fault = self.faults.decide(request.method, request.path)
        if fault is None:
            return Reply(self.ledger.handle(request, now=now))
        processed = self.ledger.process(request, now=now) if fault.commits else None
        reply = spoil(fault, request, processed, now=now)
        status, answer = None, None
        if reply.response is not None:
            status, answer = reply.response.status, reply.response.body
        self.ledger.log_request(request, now=now, status=status, fault=fault.kind, answer=answer)
        return reply

    def _control(self, request: Received, *, now: float) -> Reply:
        try:
            check_origin(request, self._allow_hosts)
            found = self._found(request, now=now)
        except Refusal as refusal:
            return Reply(refuse(Envelope.LEGACY, refusal, now=now))
        return found if isinstance(found, Reply) else Reply(json_response(200, found, now=now))

    def _found(self, request: Received, *, now: float) -> "Reply | Mapping[str, object]":
        name = request.path.removeprefix(CONTROL)
        if request.method == "GET" and (file := page_file(name, now=now)) is not None:
            return Reply(file)
        match request.method, name:
            case "GET", "/":
                return Reply(
                    plain_response(302, "text/plain", b"", now=now, headers=(("location", CONTROL),))
                )
            case "GET", "events":
                self._is_watched = True
                head = plain_response(200, "text/event-stream", b"", now=now, headers=_EVENTS)
                return Reply(head, feed=Feed(self._view, self._around))
            case "GET", "entries":
                return self._view.older(_number(request, "before"))
            case "GET", "entry":
                detail = self._view.detail(_number(request, "number"))
                if detail is None:
                    raise Refusal(404, "There is no entry of this number: the ledger was reset, perhaps.")
                return detail
            case "GET", "ledger":
                return self.ledger.as_json()
            case "GET", "requests":
                limit = query_limit(parse_query(request.target), default=100, maximum=100_000)
                return {"requests": [record.as_json() for record in self.ledger.requests[-limit:]]}
            case "GET", "faults":
                return {"counts": self.faults.counts, "pending": self.faults.pending}
            case "POST", "faults":
                order(self.faults, parse_body(request.body))
            case "POST", "faults/undo":
                return {"ok": True, "undone": self.faults.undo()}
            case "DELETE", "faults":
                self.faults.clear()
            case "POST", "reset":
                self.ledger.reset()
                self.faults.reset()
            case _:
                # As the API's router does, for clients whose base_url is the address of the page.
                unknown = unknown_endpoint(request.method, request.path)
                return Reply(refuse(Envelope.NEW, unknown, now=now))
        return {"ok": True}

    def _around(self) -> dict[str, object]:
        return {
            "server": self._server_id,
            "apiKey": self.ledger.api_key,
            "faults": self.faults.standing(),
            "acceptOnly": self.ledger.accept_only,
        }


def _is_for_a_browser(request: Received) -> bool:
    return (
        request.method == "GET" and request.path == "/" and "text/html" in request.headers.get("accept", "")
    )


def _number(request: Received, name: str) -> int:
    return query_number(parse_query(request.target), name)


def check_origin(request: Received, allow_hosts: Collection[str] = ()) -> None:
    """Refuse a request that a web page of another origin may have sent.

    A page cannot set `Host`, `Origin` and `Sec-Fetch-Site`; a program can, and needs no defence against
    itself. A page whose name was pointed to this machine has that name in `Host`: so a name with a dot is
    refused, unless it ends in `localhost`. IP addresses and names without a dot are no web site's.

    Args:
        request: The request.
        allow_hosts: Names with a dot that are this machine's all the same: in lower case, without a final
            dot.

    Raises:
        Refusal: 403.
    """
    host = request.headers.get("host")
    if host is not None and not _is_local(host, allow_hosts):
        raise Refusal(
            403,
            f"The Host {host!r} is not of this machine: use an IP address or localhost, or start the "
            "emulator with --allow-host.",
        )
    origin = request.headers.get("origin")
    own = {f"http://{host}", f"https://{host}"}
    if origin is not None and (host is None or origin.lower() not in {each.lower() for each in own}):
        raise Refusal(403, f"The Origin {origin!r} may not use this: it is not for other web pages.")
    if request.headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}:
        raise Refusal(403, "This is not for other web pages.")


def _is_local(host: str, allow_hosts: Collection[str]) -> bool:
    found = _HOST.fullmatch(host.lower())
    if found is None:
        return False
    name = found[1]
    if name.startswith("[") or "." not in name or _IPV4.fullmatch(name):
        return True
    # With a final dot a name is the same. One that has no other dot may be a top-level domain's own site.
    rooted = name.removesuffix(".")
    return rooted == "localhost" or rooted.endswith(".localhost") or rooted in allow_hosts
