"""Matrix row 21: a worker dies, others adopt. Each signal is adopted by exactly one."""

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.spool.support import adopted, keys, left_behind, opened, several, stored

# Other tests may have left a thread that waits; these children use none of the parent's.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")

WORKERS = 6
DEAD = 5
EACH = 40

PROGRAM = rf"""
import os, random, signal, sys
from pathlib import Path
from tests.spool.support import keys, opened, stored

path = Path(sys.argv[1])
heard, said = os.pipe()
start, gate = os.pipe()
going, go = os.pipe()
ended, end = os.pipe()

def forked(work, number):
    pid = os.fork()
    if pid == 0:
        try:
            work(number)
            os._exit(0)
        finally:
            os._exit(1)
    return pid

def die(number):
    spool = opened(path)
    spool.append([stored(f"{{number}}-{{one}}") for one in range({EACH})])
    os.kill(os.getpid(), signal.SIGKILL)

def adopt(number):
    os.close(gate)
    os.read(start, 1)  # until the parent closes it: all at once
    spool = opened(path)
    rng = random.Random(number)
    mine = keys(spool.adopt(1))
    os.write(said, b"first\n")
    os.close(go)
    os.read(going, 1)  # until each has its own, or found none left
    while some := spool.adopt(rng.randrange(1, 20)):
        mine += keys(some)
    if number % 2:
        spool.erase(mine)
    os.write(said, "".join(f"{{number}} {{key}}\n" for key in [*mine, "end"]).encode())
    os.close(end)
    os.read(ended, 1)  # until all are done: what the dead leave is adopted anew

for number in range({DEAD}):
    os.waitpid(forked(die, number), 0)
workers = [forked(adopt, number) for number in range({WORKERS})]
os.close(gate)
lines = os.fdopen(heard)
for _ in workers:
    assert lines.readline() == "first\n"
os.close(go)
remaining = {WORKERS}
while remaining:
    line = lines.readline()
    if line.endswith(" end\n"):
        remaining -= 1
    else:
        sys.stdout.write(line)
os.close(end)
for worker in workers:
    assert os.waitpid(worker, 0)[1] == 0
"""


def test_each_signal_of_dead_processes_is_adopted_by_exactly_one(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, str(path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = [line.split() for line in done.stdout.splitlines()]
    left = keys(adopted(opened(path))[0])
    by_whom = Counter(key for _, key in said)
    assert set(by_whom.values()) == {1}
    everything = {f"key-{dead}-{one}" for dead in range(DEAD) for one in range(EACH)}
    assert by_whom.keys() == everything, "each was given out"
    assert set(left) == {key for worker, key in said if int(worker) % 2 == 0}, (
        "what was not erased is still there"
    )
    assert len(left) == len(set(left))
    assert len({worker for worker, _ in said}) >= DEAD, "they took turns"


def test_a_process_that_dies_while_it_adopts_leaves_all_to_the_next(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    dead, live = opened(path), opened(path)
    dead.append(several(range(10)))
    dead.close()
    live.append(several(["own"]))
    live.suspend()
    child = os.fork()
    if child == 0:
        try:
            live.restart()
            adopter = opened(path)
            adopter.append([stored("adopter's")])
            adopter.adopt(4)
            os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    os.waitpid(child, 0)
    signals, problems = adopted(live)
    assert sorted({*keys(signals)}) == sorted(keys([*several(range(10)), stored("adopter's")]))
    assert problems == []
    live.close()
    assert len({*left_behind(path)}) == 12
