"""The way of a signal in docs/architecture.md is the one that a signal takes."""

import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

from clocknext_core import BatchPolicy, HookEvent
from clocknext_transports import ClockNext
from clocknext_transports.emulator import emulator
from tests.docs import DOCS, ROOT

MAX_FILES = 20
MAX_LINES = 4000
MAX_FORMS = 11
TOLERANCE = 40
"""How far a count of lines on the page may be from the file's, so that not every edit is one of the page."""

PAGE = (DOCS / "architecture.md").read_text(encoding="utf-8")


def _rows(begin: str, end: str) -> list[list[str]]:
    """Return the cells of the table between two comments of the page, without its heading."""
    _, found, rest = PAGE.partition(f"<!-- {begin} -->")
    table, ended, _ = rest.partition(f"<!-- {end} -->")
    assert found, begin
    assert ended, end
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


WAY = _rows("the way of a signal", "end of the way")
FORMS = _rows("the forms of a signal", "end of the forms")
ASKED = _rows("asked on the way", "end of what is asked")


def _files_in(cell: str) -> list[str]:
    return re.findall(r"`([^`]+\.py)`", cell)


def _lines_of(file: str) -> int:
    return len((ROOT / file).read_text(encoding="utf-8").splitlines())


def test_the_way_is_short() -> None:
    files = [file for row in WAY for file in _files_in(row[1])]

    assert [row[0] for row in WAY] == [str(step) for step in range(1, len(files) + 1)]
    assert len(files) == len({*files}) <= MAX_FILES
    assert sum(map(_lines_of, files)) <= MAX_LINES
    assert 0 < len(FORMS) <= MAX_FORMS


@pytest.mark.parametrize("row", WAY, ids=lambda row: row[1].strip("`"))
def test_a_count_of_lines_is_the_files(row: list[str]) -> None:
    (file,) = _files_in(row[1])

    assert abs(int(row[2]) - _lines_of(file)) <= TOLERANCE


def test_the_sum_is_that_of_the_table() -> None:
    total = sum(int(row[2]) for row in WAY)

    assert f"Together: {len(WAY)} files, {total:,} lines." in PAGE


def test_the_forms_are_made_where_the_page_says() -> None:
    places = [file for row in FORMS for file in _files_in(row[1])]

    assert {*places} <= {file for row in WAY for file in _files_in(row[1])}
    assert len(places) == len(FORMS) - 1  # the arguments are the user's


def _files_run() -> Iterator[str]:
    """Record a signal, and yield each file of ours in which a function ran until it was delivered."""
    seen: set[str] = set()
    is_over = threading.Event()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and not is_over.is_set():
            seen.add(frame.f_code.co_filename)

    def on_flush(_: int) -> None:
        is_over.set()

    with emulator() as server:
        batch = BatchPolicy(max_interval=0)
        with ClockNext(server.api_key, base_url=server.url, batch=batch, on_flush=on_flush) as cnk:
            signals = cnk.signals
            before = sys.getprofile(), threading.getprofile()
            threading.setprofile(note)  # for the thread that sends, which the signal starts
            sys.setprofile(note)
            try:
                signals.credit(customer_id="cus_123", model="gpt-4o", key="api_credit", tokens={"input": 1})
                sys.setprofile(None)
                assert is_over.wait(10)
            finally:
                sys.setprofile(before[0])
                threading.setprofile(before[1])
        assert server.ledger.bill("cus_123").signals == 1
    for name in seen:
        path = Path(name)
        if path.is_relative_to(ROOT):
            yield path.relative_to(ROOT).as_posix()


def test_a_signal_passes_the_files_on_the_page_and_no_others() -> None:
    ours = ("clocknext_core/", "clocknext_transports/")
    ran = {file for file in _files_run() if file.startswith(ours)}
    way = {file for row in WAY for file in _files_in(row[1])}
    asked = {file for row in ASKED for file in _files_in(row[0])}

    assert way - ran == set()
    assert ran - way - asked == set()
    assert not way & asked


def test_the_outputs_are_on_both_pages() -> None:
    names = [each.__name__ for each in HookEvent.__args__]
    guide = (DOCS / "writing-a-driver.md").read_text(encoding="utf-8")

    for text in (PAGE, guide):
        assert [name for name in names if f"`{name}`" not in text] == []
