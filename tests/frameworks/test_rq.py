"""RQ's real worker, whose jobs leave by `os._exit`: what they recorded is billed, once."""

import sys
from collections import Counter
from pathlib import Path

from clocknext_transports.emulator import emulator
from tests.frameworks.fake_redis import redis_server
from tests.frameworks.support import START, keys_recorded, needs, start
from tests.life.support import wait_until


@needs("rq", "fakeredis")
def test_jobs_are_billed_once_and_nothing_is_lost_on_sigterm(tmp_path: Path) -> None:
    with emulator() as server, redis_server() as broker:
        program = f"import app_rq; app_rq.send({str(tmp_path / 'mark')!r})"
        sender = start([sys.executable, "-c", program], server, tmp_path, BROKER=broker)
        assert sender.process.wait(60) == 0, sender.log
        command = [sys.executable, "-c", "import app_rq; app_rq.work()"]
        worker = start(command, server, tmp_path, BROKER=broker)

        def is_under_load() -> bool:
            noted = keys_recorded(tmp_path)
            return len(noted) > 3 or "key-retried" in noted

        try:
            assert wait_until(is_under_load, START), worker.log
        finally:
            worker.stop()
        noted = [key for key in keys_recorded(tmp_path) if key != "key-retried"]
        signals = server.ledger.signals
        billed = Counter(each.idempotency_key for each in signals if each.type == "wallet")
        assert billed == Counter(noted), worker.log
        assert len([each for each in signals if each.type == "credit"]) == 1, worker.log
