"""httpx as the transport: for proxies, client certificates, HTTP/2, or whatever your own client is made for.

The client is used as it is, but for this: redirects are not followed; its default headers, cookies and
authentication are left aside; a compressed or overlong answer is refused; the deadline is ours.
"""

import queue
import threading
import time

import anyio
import httpx

from clocknext_core import Answer, Failure, Request, Response
from clocknext_transports.http11 import MAX_ANSWER_BYTES
from clocknext_transports.tls import default_context


class HttpxTransport:
    """Carries requests for `ClockNext` over an `httpx.Client`.

    httpx has no deadline for a whole exchange, only time-outs for its parts. Each exchange runs in a
    thread of its own, which is left behind when the deadline comes.

    Args:
        client: Your client, configured as you like.
        max_answer_bytes: A longer answer is a failure.
        owns_client: Whether closing the transport closes the client; else that is yours to do.
    """

    def __init__(
        self,
        client: httpx.Client,
        *,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        owns_client: bool = False,
    ) -> None:
        self._client = client
        self._max_answer_bytes = max_answer_bytes
        self._owns_client = owns_client
        self._exchanges: set[queue.SimpleQueue[Answer | Exception]] = set()

    def exchange(self, request: Request, *, deadline_at: float) -> Answer:
        """Send a request and return its answer, or the failure to get one, before the deadline."""
        timeout = max(0.0, deadline_at - time.monotonic())
        outcomes: queue.SimpleQueue[Answer | Exception] = queue.SimpleQueue()

        def carry() -> None:
            try:
                outcomes.put(self._exchange(request, timeout))
            except Exception as error:  # noqa: BLE001 - raised where it can be seen, in the caller's thread
                outcomes.put(error)

        self._exchanges.add(outcomes)
        try:
            threading.Thread(target=carry, name="clocknext httpx", daemon=True).start()
            outcome = outcomes.get(timeout=timeout)
        except queue.Empty:
            return Failure("Timed out waiting for the answer.")
        finally:
            self._exchanges.discard(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def close(self) -> None:
        """Fail the exchanges under way, and close the client if it is the transport's own."""
        for outcomes in list(self._exchanges):
            outcomes.put(Failure("The client was closed."))
        if self._owns_client:
            self._client.close()

    def _exchange(self, request: Request, timeout: float) -> Answer:
        reading = _Reading(self._max_answer_bytes)
        try:
            response = self._client.send(
                _prepared(request, timeout), stream=True, auth=None, follow_redirects=False
            )
            try:
                if (refused := reading.start(response)) is not None:
                    return refused
                for chunk in response.iter_raw():
                    if (refused := reading.add(chunk)) is not None:
                        return refused
            finally:
                response.close()
        except (httpx.HTTPError, OSError) as error:
            return _failure(error)
        return reading.finish(response)


class AsyncHttpxTransport:
    """Carries requests for `AsyncClockNext` and `TrioClockNext` over an `httpx.AsyncClient`.

    Args:
        client: Your client, configured as you like.
        max_answer_bytes: A longer answer is a failure.
        owns_client: Whether closing the transport closes the client; else that is yours to do.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        *,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        owns_client: bool = False,
    ) -> None:
        self._client = client
        self._max_answer_bytes = max_answer_bytes
        self._owns_client = owns_client

    async def exchange(self, request: Request, *, deadline_at: float) -> Answer:
        """Send a request and return its answer, or the failure to get one, before the deadline."""
        timeout = max(0.0, deadline_at - anyio.current_time())
        try:
            with anyio.fail_after(timeout):
                return await self._exchange(request, timeout)
        except TimeoutError:
            return Failure("Timed out waiting for the answer.")

    async def aclose(self) -> None:
        """Close the client if it is the transport's own."""
        if self._owns_client:
            await self._client.aclose()

    async def _exchange(self, request: Request, timeout: float) -> Answer:
        reading = _Reading(self._max_answer_bytes)
        try:
            response = await self._client.send(
                _prepared(request, timeout), stream=True, auth=None, follow_redirects=False
            )
            try:
                if (refused := reading.start(response)) is not None:
                    return refused
                async for chunk in response.aiter_raw():
                    if (refused := reading.add(chunk)) is not None:
                        return refused
            finally:
                await response.aclose()
        except (httpx.HTTPError, OSError) as error:
            return _failure(error)
        return reading.finish(response)


def proxied(proxy: str) -> HttpxTransport:
    """Make a transport that goes through a proxy, with the system's trust store."""
    client = httpx.Client(proxy=proxy, verify=default_context(), trust_env=False)
    return HttpxTransport(client, owns_client=True)


def async_proxied(proxy: str) -> AsyncHttpxTransport:
    """Make a transport that goes through a proxy, with the system's trust store."""
    client = httpx.AsyncClient(proxy=proxy, verify=default_context(), trust_env=False)
    return AsyncHttpxTransport(client, owns_client=True)


class _Reading:
    """One answer on its way in: what is refused of it, and what it comes to."""

    def __init__(self, max_answer_bytes: int) -> None:
        self._max_answer_bytes = max_answer_bytes
        self._body = bytearray()

    def start(self, response: httpx.Response) -> Failure | None:
        encoding = response.headers.get("content-encoding", "").strip().lower()
        if encoding not in ("", "identity"):
            return Failure("The answer is compressed, which was not asked for.")
        return None

    def add(self, chunk: bytes) -> Failure | None:
        self._body += chunk
        if len(self._body) > self._max_answer_bytes:
            return Failure(f"The answer is longer than {self._max_answer_bytes} bytes.")
        return None

    def finish(self, response: httpx.Response) -> Response:
        headers = response.headers.multi_items()
        return Response(response.status_code, headers, bytes(self._body), time.time())


def _prepared(request: Request, timeout: float) -> httpx.Request:
    return httpx.Request(
        request.method,
        request.url,
        headers=list(request.headers),
        content=request.body,
        extensions={"timeout": httpx.Timeout(timeout).as_dict()},
    )


def _failure(error: Exception) -> Failure:
    """Say what an exception of httpx means for the attempt."""
    if isinstance(error, httpx.ConnectTimeout | httpx.PoolTimeout):
        return Failure("Timed out connecting.", processed=False)
    if isinstance(error, httpx.TimeoutException | TimeoutError):
        return Failure("Timed out waiting for the answer.")
    if isinstance(error, httpx.ConnectError | httpx.ProxyError | httpx.UnsupportedProtocol):
        return Failure(f"Could not connect: {error}", processed=False)
    return Failure(f"The connection broke: {str(error) or type(error).__name__}")
