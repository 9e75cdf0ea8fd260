"""Hosts that freeze a process between two requests, as AWS Lambda does: what was flushed before is billed.

The runtime is simulated: after each request the process is stopped, then continued or killed, without notice.
"""

import os
import signal

import pytest

from tests.life.support import Program, keys
from tests.transports.support import Peer, keep_answering

HANDLERS = {
    "threads": """
client = ClockNext(KEY, base_url=URL)
def handle(number):
    client.signals.wallet(**WALLET, idempotency_key=f"key-{number}")
    return client.flush(timeout=10).pending
""",
    "asyncio": """
client = AsyncClockNext(KEY, base_url=URL)
async def answer(number):
    await client.signals.wallet(**WALLET, idempotency_key=f"key-{number}")
    return (await client.flush(timeout=10)).pending
def handle(number):
    return asyncio.run(answer(number))
""",
}
RUNTIME = """
for number in range(10):
    print(handle(number), flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="nothing is stopped here")
@pytest.mark.parametrize("kind", HANDLERS)
def test_what_is_flushed_before_a_freeze_is_billed_whatever_comes_after(kind: str) -> None:
    with Peer(keep_answering()) as peer:
        program = Program(HANDLERS[kind] + RUNTIME, peer.url)
        try:
            for number in range(3):
                assert program.wait_line() == "0"
                os.waitid(os.P_PID, program.process.pid, os.WSTOPPED)
                assert keys(peer) == {f"key-{before}": 1 for before in range(number + 1)}
                program.process.send_signal(signal.SIGCONT)
        finally:
            program.process.kill()
            program.process.communicate()
