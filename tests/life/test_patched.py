"""Threads that gevent or eventlet put in the place of Python's, before and after a client is made."""

import importlib.util
import socket

import pytest

from tests.life.support import keys, run
from tests.transports.support import Peer, keep_answering

PATCHES = {
    "gevent": "from gevent import monkey; monkey.patch_all()",
    # The variable keeps it from importing trio, by way of dnspython, after it has patched the socket module.
    "eventlet": "os.environ['EVENTLET_NO_GREENDNS'] = 'yes'; import eventlet; eventlet.monkey_patch()",
}
IMPORT = """
from clocknext_core import BatchPolicy
from clocknext_transports import ClockNext
WALLET = {"customer_id": "cus_1", "model": "m"}
"""
MAKE = """
client = ClockNext(os.environ["KEY"], base_url=os.environ["URL"], batch=BatchPolicy(max_interval=0.1))
"""
USE = """
import threading
client.signals.wallet(**WALLET, idempotency_key="first")
print(client.flush(timeout=10).delivered)
def record(first):
    for number in range(first, first + 10):
        client.signals.wallet(**WALLET, idempotency_key=str(number))
threads = [threading.Thread(target=record, args=(10 * number,)) for number in range(5)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(client.close(timeout=10).delivered)
"""

any_library = pytest.mark.parametrize(
    "library",
    [
        pytest.param(
            name,
            marks=pytest.mark.skipif(not importlib.util.find_spec(name), reason=f"{name} is not installed"),
        )
        for name in PATCHES
    ],
)


@any_library
@pytest.mark.parametrize("order", ["before the import", "before the client", "after the client"])
def test_a_client_works_whenever_the_threads_are_replaced_before_its_first_signal(
    library: str, order: str
) -> None:
    steps = [IMPORT, MAKE, USE]
    at = ["before the import", "before the client", "after the client"].index(order)
    steps.insert(at, PATCHES[library] + "\n")
    with Peer(keep_answering()) as peer:
        ended = run("".join(steps), peer.url, "import os\n", PYTHONWARNINGS="ignore::DeprecationWarning")
    assert (ended.code, ended.output) == (0, "1\n50\n"), ended.errors
    assert len(keys(peer)) == 51
    assert max(keys(peer).values()) == 1


@any_library
@pytest.mark.parametrize("at", [0, 2], ids=["before the import", "after the client"])
def test_a_client_closes_while_it_waits_for_an_answer(library: str, at: int) -> None:
    steps = [IMPORT, MAKE, "client.signals.wallet(**WALLET)\nprint(client.close(timeout=0.2).pending)\n"]
    steps.insert(at, PATCHES[library] + "\n")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        ended = run("".join(steps), url, "import os\n", PYTHONWARNINGS="ignore::DeprecationWarning")
    assert (ended.code, ended.output) == (0, "1\n"), ended.errors


@any_library
def test_a_client_that_has_begun_refuses_replaced_threads(library: str) -> None:
    program = f"""{IMPORT}{MAKE}
client.signals.wallet(**WALLET, idempotency_key="first")
client.flush(timeout=10)
{PATCHES[library]}
try:
    client.signals.wallet(**WALLET, idempotency_key="second")
except RuntimeError as error:
    print(error, client.pending, flush=True)
os._exit(0)  # the ends of threads that began before are the library's affair
"""
    with Peer(keep_answering()) as peer:
        ended = run(program, peer.url, "import os\n")
    assert ended.output == (
        "gevent or eventlet has replaced Python's threads after this client had begun to work. Patch before "
        "the client's first signal, or make another client. 0\n"
    ), ended.errors
    assert keys(peer) == {"first": 1}


PRELOADED = f"""{IMPORT}
client = ClockNext(os.environ["KEY"], base_url=os.environ["URL"], spool=os.environ["SPOOL"])
if os.fork() == 0:
    from gevent import monkey; monkey.patch_all()
    {USE.replace(chr(10), chr(10) + "    ")}
    sys.exit()
print(os.waitstatus_to_exitcode(os.wait()[1]))
client.close()
print(os.listdir(os.environ["SPOOL"]))
"""
"""What gunicorn does with --preload -k gevent."""


@pytest.mark.skipif(not importlib.util.find_spec("gevent"), reason="gevent is not installed")
def test_a_preloaded_client_adapts_in_the_child_with_its_spool(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.mktemp("spools") / "spool"
    with Peer(keep_answering()) as peer:
        ended = run(PRELOADED, peer.url, "import os, sys\n", SPOOL=str(path))
    assert (ended.code, ended.output) == (0, "1\n50\n0\n[]\n"), ended.errors
    assert len(keys(peer)) == 51


@any_library
@pytest.mark.parametrize("rest", ["time.sleep(1)\n", ""], ids=["as the program goes on", "at the exit"])
def test_what_a_client_held_before_the_patch_is_delivered_or_told(library: str, rest: str) -> None:
    program = f"""{IMPORT}
client = ClockNext(os.environ["KEY"], base_url=os.environ["URL"], batch=BatchPolicy(max_interval=0.2))
client.signals.wallet(**WALLET, idempotency_key="first")
{PATCHES[library]}
{rest}
"""
    with Peer(keep_answering()) as peer:
        ended = run(program, peer.url, "import os, time\n", PYTHONWARNINGS="ignore::DeprecationWarning")
        assert ended.code == 0, ended.errors
        # As Python exits, gevent can't load its pool of threads any more, without which a thread can't send.
        is_told = library == "gevent" and not rest and "'first' was dropped" in ended.errors
        assert keys(peer) == ({} if is_told else {"first": 1}), ended.errors
