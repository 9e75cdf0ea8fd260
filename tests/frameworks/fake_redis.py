"""A server that speaks Redis, in this process, for queues."""

import importlib
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from tests.life.test_hosts import free_port


@contextmanager
def redis_server() -> Generator[str, None, None]:
    """Run one; return its address."""
    module: Any = importlib.import_module("fakeredis")
    port = free_port()
    server = module.TcpFakeServer(("127.0.0.1", port), server_type="redis")
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
