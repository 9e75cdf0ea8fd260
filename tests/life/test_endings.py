"""Loops that end in every way, and look-ups that never do: nothing is lost, waited for, or said.

Each program runs in Python's development mode, with an unclosed resource as an error.
"""

import re
import sys

import pytest

from tests.life.support import Ended, Kind, keys, run
from tests.transports.support import SOON, Peer, answer, keep_answering

STRICT = """
import warnings
warnings.simplefilter("error", ResourceWarning)
# That a step took long says how busy the machine is.
logging.getLogger("asyncio").addFilter(lambda record: not record.getMessage().startswith("Executing "))
client = AsyncClockNext(KEY, base_url=URL, batch=BatchPolicy(max_size=1))
async def buffer(number, turns):
    await client.signals.wallet(**WALLET, idempotency_key=f"key-{number}")
    for _ in range(turns):
        await asyncio.sleep(0)
async def wait(number):
    await client.signals.wallet(**WALLET, idempotency_key=f"key-{number}", wait=True)
def in_loop(coroutine):
    loop = asyncio.new_event_loop()
    loop.run_until_complete(coroutine)
    loop.close()  # without cancelling
"""
UNCANCELLED = """
for number in range(24):
    in_loop(buffer(number, number))
"""
COLLECTED = """
for number in range(24):
    in_loop(buffer(number, number % 3))
    gc.collect()
"""
MANY = """
for number in range(24):
    asyncio.run(buffer(number, number % 3))
"""
AWAITED = """
for number in range(12):
    in_loop(wait(number))
    gc.collect()
for number in range(12, 24):
    asyncio.run(wait(number))
"""
CLOSE = """
asyncio.run(client.close(timeout=20))
gc.collect()
"""
MID_CONNECTION = re.compile(
    r"Exception ignored in: <function _SelectorTransport.__del__.*\n(?:.*\n)*?"
    r"ResourceWarning: unclosed transport <_SelectorSocketTransport closing.*\n"
)
"""What asyncio says of a connection in the very turn of the loop in which it makes one."""


def run_strictly(program: str, url: str, **environment: str) -> Ended:
    """Run a program in the development mode."""
    return run(program, url, PYTHONDEVMODE="1", **environment)


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(UNCANCELLED, id="loops that end without cancelling"),
        pytest.param(COLLECTED, id="loops that are collected with their tasks"),
        pytest.param(MANY, id="one client over many loops"),
        pytest.param(AWAITED, id="awaited only"),
    ],
)
def test_every_loop_may_end_as_it_likes_and_all_is_delivered_in_silence(program: str) -> None:
    with Peer(keep_answering()) as peer:
        ended = run_strictly(STRICT + program + CLOSE, peer.url)
        assert ended.code == 0, ended.errors
        assert set(keys(peer)) == {f"key-{number}" for number in range(24)}
    assert MID_CONNECTION.sub("", ended.errors) == ""


WITHOUT_COLLECTOR = f"""
gc.disable()
{UNCANCELLED}
asyncio.run(client.close(timeout=20))
print(client._driver.transport.is_open)
"""


def test_what_a_closed_loop_had_under_way_is_ended_by_the_next_use_and_not_left_to_the_collector() -> None:
    """The collector ends a connection before the coroutine that closes it, or after: as it comes."""
    with Peer(keep_answering()) as peer:
        ended = run_strictly(STRICT + WITHOUT_COLLECTOR, peer.url)
        assert (ended.code, ended.output) == (0, "False\n"), ended.errors
        assert set(keys(peer)) == {f"key-{number}" for number in range(24)}


OF_ANOTHER_LOOP = """
loop = asyncio.new_event_loop()
thread = threading.Thread(target=loop.run_forever)
thread.start()
def there(coroutine):
    return asyncio.run_coroutine_threadsafe(coroutine, loop).result(20)
async def use_and_close():
    await client.customers.get("cus_1")
    await client._driver.transport.aclose()
there(client.customers.get("cus_1"))
asyncio.run(use_and_close())
there(client.customers.get("cus_1"))
there(client.close())
loop.call_soon_threadsafe(loop.stop)
thread.join()
loop.close()
"""


def test_a_loop_that_closes_its_connections_leaves_those_of_one_that_runs() -> None:
    customer = answer(b'{"ok": true, "customer": {"id": "cus_1"}}')
    with Peer(keep_answering(customer)) as peer:
        ended = run_strictly(STRICT + OF_ANOTHER_LOOP, peer.url)
        assert (ended.code, ended.errors) == (0, "")
        assert (len(peer.requests), peer.connections) == (3, 2)


HANGING = """
import socket, time
atexit.GRACE = 0.5
found = socket.getaddrinfo
def hang(host, *arguments, **options):
    is_number = options.get("flags") or arguments[4:5] > (0,)
    if host in ("hang.test", b"hang.test") and not is_number:
        threading.Event().wait()
    return found(host, *arguments, **options)
socket.getaddrinfo = hang
make = {"threads": ClockNext, "asyncio": AsyncClockNext, "trio": TrioClockNext}[os.environ["KIND"]]
batch = BatchPolicy(max_size=100, max_interval=3600)
client = make(KEY, base_url="http://hang.test", allow_insecure_http=True, batch=batch, close_timeout=0.2)
def late(began_at):
    return time.monotonic() - began_at > 5
if make is ClockNext:
    for _ in range(8):
        client.signals.wallet(**WALLET)
    began_at = time.monotonic()
    print(client.flush(timeout=0.2).pending, late(began_at))
    if os.environ["CLOSE"]:
        print(client.close(timeout=0.2).pending, late(began_at))
else:
    async def use():
        for _ in range(8):
            await client.signals.wallet(**WALLET)
        began_at = time.monotonic()
        print((await client.flush(timeout=0.2)).pending, late(began_at))
        if os.environ["CLOSE"]:
            print((await client.close(timeout=0.2)).pending, late(began_at))
    async def in_block():
        async with client:
            await use()
    if make is TrioClockNext:
        trio.run(in_block)
    else:
        asyncio.run(use())
"""


@pytest.mark.parametrize(
    ("kind", "closes"),
    [("threads", True), ("asyncio", True), ("trio", True), ("threads", False), ("asyncio", False)],
)
def test_a_look_up_that_never_ends_holds_up_neither_a_flush_nor_closing_nor_the_exit(
    kind: Kind, closes: bool
) -> None:
    if not closes and sys.version_info >= (3, 12):
        pytest.skip("Python 3.12 starts no thread at the exit, and the look-up is made in the one that exits")
    ended = run(HANGING, "", KIND=kind, CLOSE="1" if closes else "", EXIT_TIMEOUT="0.5")
    assert (ended.code, ended.output) == (0, "8 False\n" + "8 False\n" * closes), ended.errors
    assert ended.elapsed < 3 * SOON
