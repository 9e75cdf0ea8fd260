"""Run the model server in a background thread."""

from collections.abc import Generator
from contextlib import contextmanager
from ssl import SSLContext
from typing import TYPE_CHECKING

from clocknext_transports.emulator.models.completion import Completion
from clocknext_transports.emulator.models.service import ModelRequest, ModelService
from clocknext_transports.emulator.server.server import LOOPBACK, LoopbackServer, background

if TYPE_CHECKING:
    from clocknext_transports.emulator.server.http_server import HttpServer


class ModelServer(LoopbackServer):
    """A running model server."""

    def __init__(self, http: "HttpServer", url: str, service: ModelService) -> None:
        super().__init__(http, url)
        self._service = service

    def script(self, *completions: Completion, times: int = 1) -> None:
        """Give the next requests these answers, in order; later ones get `Completion()`."""
        self._service.script(*completions, times=times)

    @property
    def requests(self) -> tuple[ModelRequest, ...]:
        """The latest 10,000 requests that use a model, oldest first."""
        return self._service.requests

    @property
    def pending(self) -> int:
        """The number of scripted answers still to come."""
        return self._service.pending


@contextmanager
def model_server(
    *completions: Completion,
    port: int = 0,
    host: str = LOOPBACK,
    ssl_context: SSLContext | None = None,
) -> Generator[ModelServer, None, None]:
    """Run a model server in a background thread for as long as the `with` block lasts.

    It answers OpenAI's chat completions, responses and embeddings at `url + "/v1"`. At `url` it answers the
    same as Azure does, Anthropic's messages, Gemini's content and Bedrock's Converse and InvokeModel (with
    Anthropic's models), in one piece and as a stream. Any API key is let in.

    Args:
        completions: The answers to the first requests; later ones get `Completion()`.
        port: TCP port; 0: any free one.
        host: Address to listen on.
        ssl_context: Serve https with this server-side context.

    Yields:
        The running server: `.url`, `.script`, `.requests`.

    Raises:
        ImportError: trio is not installed.
        OSError: The port is taken.
        ValueError: An answer is no `Completion`.
    """
    service = ModelService()
    service.script(*completions)
    with background(service, port=port, host=host, ssl_context=ssl_context) as (http, url):
        yield ModelServer(http, url, service)
