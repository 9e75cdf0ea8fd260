"""Quart-Trio under hypercorn, and a kernel of Jupyter."""

import asyncio
import gc
import importlib
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from clocknext_transports.emulator import emulator
from tests.frameworks.support import Load, check_all_billed, needs, start
from tests.life.test_hosts import ROOT

QUART = [sys.executable, "-m", "hypercorn", "-ktrio", "-b127.0.0.1:{port}", "app_quart:app"]


@needs("quart_trio", "hypercorn")
def test_quart_trio_loses_nothing_on_sigterm_under_load(tmp_path: Path) -> None:
    with emulator() as server:
        host = start(QUART, server, tmp_path)
        try:
            Load(host, "/").stop_the_host()
        finally:
            host.stop()
        check_all_billed(host, server, tmp_path)


CELL = """
from clocknext import BatchPolicy, ClockNext
cnk = ClockNext(batch=BatchPolicy(max_interval=600.0))
for _ in range(10):
    cnk.signals.wallet(customer_id="cus_123", model="gpt-4o")
"""
ASYNC_CELL = """
from clocknext import AsyncClockNext
acnk = AsyncClockNext(batch=BatchPolicy(max_interval=600.0))
for _ in range(10):
    await acnk.signals.wallet(customer_id="cus_123", model="gpt-4o")
"""


@needs("ipykernel")
@pytest.mark.filterwarnings("ignore")
def test_a_kernel_delivers_when_it_stops(tmp_path: Path) -> None:
    jupyter: Any = importlib.import_module("jupyter_client.manager")
    with emulator() as server:
        surroundings = {"CLOCKNEXT_API_KEY": server.api_key, "CLOCKNEXT_BASE_URL": server.url}
        environment = {**os.environ, **surroundings, "PYTHONPATH": str(ROOT)}
        manager, client = jupyter.start_new_kernel(env=environment, cwd=str(tmp_path))
        try:
            for cell in (CELL, ASYNC_CELL):
                reply = client.execute_interactive(cell, timeout=30)
                assert reply["content"]["status"] == "ok"
        finally:
            client.stop_channels()
            manager.shutdown_kernel()
            asyncio.set_event_loop(None)  # Jupyter's client leaves its own: collected under the filter
            gc.collect()
        assert len(server.ledger.signals) == 20
