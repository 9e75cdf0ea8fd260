"""Starting: what an import costs, and the first signal of a process that has just begun."""

from functools import partial

from tests.benchmarks.peers import is_installed
from tests.benchmarks.processes import python
from tests.benchmarks.rounds import Claim, Figure, Result, Stopwatch, alternate, single
from tests.benchmarks.setting import Setting
from tests.benchmarks.typical import API_KEY, MODEL, PATH

CORE = "import clocknext_core"
MACHINES = "from clocknext_core import Engine"
CLIENT = "from clocknext_transports import ClockNext"
HTTPX = "import httpx"
UNWANTED = ("asyncio", "trio", "httpx")

# It imports nothing before that an import may be billed for.
_IMPORT = """
import sys, time
before = time.perf_counter()
{statement}
seconds = time.perf_counter() - before
print(seconds, *(name for name in {unwanted} if name in sys.modules))
"""

_SIGNAL = f"""
import sys
from clocknext_transports import ClockNext
with ClockNext({API_KEY!r}, base_url=sys.argv[1]) as client:
    client.signals.credit(
        customer_id="cus_123", model={MODEL!r}, key="api_credit", tokens={{"input": 1200, "output": 340}},
        wait=sys.argv[2] == "wait"
    )
"""

_POST = f"""
import sys
import httpx
with httpx.Client(base_url=sys.argv[1], headers={{"Authorization": "Bearer {API_KEY}"}}) as client:
    client.post({PATH!r}, json={{
        "customerId": "cus_123", "type": "credit", "model": {MODEL!r}, "key": "api_credit",
        "inputTokens": 1200, "outputTokens": 340, "idempotencyKey": "1"
    }}).raise_for_status()
"""


BY_HAND = f"""
import sys
import dataclasses, json, logging, socket, ssl, threading
host, port = sys.argv[1].removeprefix("http://").split(":")
body = json.dumps({{
    "customerId": "cus_123", "type": "credit", "model": {MODEL!r}, "key": "api_credit",
    "inputTokens": 1200, "outputTokens": 340, "idempotencyKey": "1"
}}).encode()
head = (
    "POST {PATH} HTTP/1.1\\r\\nHost: " + host + "\\r\\nAuthorization: Bearer {API_KEY}\\r\\n"
    "Content-Type: application/json\\r\\nContent-Length: " + str(len(body)) + "\\r\\n\\r\\n"
)
with socket.create_connection((host, int(port))) as connection:
    connection.sendall(head.encode() + body)
    answer = connection.recv(65536)
assert answer.startswith(b"HTTP/1.1 2"), answer
"""
"""The least that a process which meters takes: it imports what any of them needs, and checks nothing."""

_MOST_MORE = 0.2
"""What we may take beyond that, in times of `import httpx`: 25 ms where that takes 124."""


def measure_imports(setting: Setting) -> Result:
    """Measure imports, each in a fresh process, from the first line on."""
    packages = ("h11", "trio", "posthog", "segment", "opentelemetry")
    modules = {"segment": "segment.analytics", "opentelemetry": "opentelemetry.sdk.trace.export"}
    others = [f"import {modules.get(name, name)}" for name in packages if is_installed(name)]
    statements = (CORE, MACHINES, CLIENT, HTTPX, *others)
    figures = alternate(
        [single(statement, partial(_import, statement)) for statement in statements], setting.rounds
    )
    claims = [
        Claim(CORE, (HTTPX,)),
        Claim(MACHINES, (HTTPX,)),
        Claim(CLIENT, (HTTPX,), most=0.85),
    ]
    loaded = _run_import(CLIENT)[1]
    note = f"{CLIENT} loads {', '.join(loaded) if loaded else 'neither asyncio nor trio nor httpx'}."
    missing = [f"{name} is not installed" for name in packages if not is_installed(name)]
    return Result("Importing", "ms", figures, claims, [note, *missing])


def measure_cold(setting: Setting) -> Result:
    """Measure processes that deliver one signal, from their start to their end."""
    url = setting.server.url
    awaited, buffered = "first signal, awaited", "first signal, buffered and closed"
    httpx, by_hand = "first post by httpx", "an interpreter that posts by hand"
    contestants = {
        awaited: partial(_whole_process, _SIGNAL, url, "wait"),
        buffered: partial(_whole_process, _SIGNAL, url, "buffer"),
        httpx: partial(_whole_process, _POST, url),
        by_hand: partial(_whole_process, BY_HAND, url),
        HTTPX: partial(_import, HTTPX),
        "an interpreter alone": partial(_whole_process, ""),
    }
    figures = alternate([single(name, run) for name, run in contestants.items()], setting.rounds)
    claims = [Claim(each, (httpx,), most=0.5) for each in (awaited, buffered)]
    claims += [Claim(each, (HTTPX,), most=_MOST_MORE, floor=by_hand) for each in (awaited, buffered)]
    note = f"{HTTPX} is timed within its process; the others from the start of theirs to its end."
    return Result("A whole process that delivers one signal", "ms", figures, claims, [note])


def _run_import(statement: str) -> tuple[float, list[str]]:
    code = _IMPORT.format(statement=statement, unwanted=UNWANTED)
    seconds, *loaded = python(code).split()
    return float(seconds), loaded


def _import(statement: str) -> Figure:
    return Figure(_run_import(statement)[0])


def _whole_process(code: str, *words: str) -> Figure:
    watch = Stopwatch()
    python(code, *words)
    return Figure(watch.per(1).value)
