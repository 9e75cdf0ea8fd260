"""Every saved trace, replayed through the core of today: byte for byte what was recorded."""

import json
from collections import Counter
from pathlib import Path

import pytest

from clocknext_transports.emulator import DEFAULT_API_KEY
from clocknext_transports.recorder import replay
from tests.traces import saved


@pytest.mark.parametrize("path", saved(), ids=lambda path: path.stem)
def test_a_saved_trace_comes_out_as_recorded(path: Path) -> None:
    lines = path.read_text("ascii").splitlines(keepends=True)
    assert len(lines) > 50
    assert [str(difference) for difference in replay(lines)] == []


def test_the_saved_traces_show_what_is_worth_replaying_and_no_key() -> None:
    seen: Counter[str] = Counter()
    for path in saved():
        text = path.read_text("ascii")
        assert DEFAULT_API_KEY not in text
        assert "Bearer" not in text
        now = float("-inf")
        for line in map(json.loads, text.splitlines()[1:]):
            seen[line["input"]] += 1
            seen["draws"] += len(line.get("draws", ()))
            seen["clock set back"] += line["machine"] == "outbox" and line["now"] < now
            now = line.get("now", now)
            if line["input"] == "poll":
                seen[next(iter(line["output"]))] += 1
            elif "answer" in line:
                seen["failure" if "failure" in line["answer"] else str(line["answer"]["status"])] += 1
                seen["Retry-After"] += "retry-after" in str(line["answer"])
    assert {path.stem for path in saved()} >= {"threads", "asyncio", "trio"}
    for happened in (
        *(
            "record",
            "flush",
            "close",
            "abandon",
            "begin",
            "draws",
            "clock set back",
            "failure",
            "Retry-After",
        ),
        *("200", "404", "409", "422", "429", "503", "Retry-After"),
        *("transmit", "delivered", "retrying", "rejected", "dropped", "emptied", "settled", "wait", "closed"),
        *(
            "store",
            "erase",
            "adopt",
            "handle_stored",
            "handle_adopted",
            "handle_adoption_failed",
            "misdirected",
        ),
    ):
        assert seen[happened], happened
