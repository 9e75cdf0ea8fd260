"""The state diagram is drawn from the code, all of it, legibly."""

import importlib.util
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree as ET

import pytest

from clocknext_core.states import TRANSITIONS, State, Trigger
from tests.docs import DOCS

SVG = "{http://www.w3.org/2000/svg}"


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("clocknext_diagrams", DOCS / "diagrams.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


diagrams = _load()


def _without(*states: State) -> Mapping[State, Mapping[Trigger, State]]:
    return {
        state: {trigger: target for trigger, target in moves.items() if target not in states}
        for state, moves in TRANSITIONS.items()
        if state not in states
    }


def test_it_shows_every_state_and_every_trigger() -> None:
    drawing = ET.fromstring(diagrams.draw())
    texts = [text.text or "" for text in drawing.iter(f"{SVG}text")]

    assert sorted(text for text in texts if text in set(State)) == sorted(State)
    assert sorted(text for text in texts if text in set(Trigger)) == sorted(
        trigger for moves in TRANSITIONS.values() for trigger in moves
    )


def test_final_states_look_different() -> None:
    drawing = ET.fromstring(diagrams.draw())
    kinds = [rectangle.get("class") for rectangle in drawing.iter(f"{SVG}rect") if rectangle.get("class")]

    assert kinds == ["ended" if not moves else "held" for moves in TRANSITIONS.values()]


def test_a_transition_it_has_no_place_for_is_an_error() -> None:
    more = {**TRANSITIONS, State.DELIVERED: {Trigger.RETRY: State.FRESH}}

    with pytest.raises(ValueError, match="differ in a transition"):
        diagrams.draw(more)


def test_a_place_that_nothing_needs_is_an_error() -> None:
    with pytest.raises(ValueError, match="differ in a state: rejected"):
        diagrams.draw(_without(State.REJECTED))


def test_no_label_lies_on_another_or_on_a_state() -> None:
    labels = diagrams.labels(TRANSITIONS)
    boxes = list(diagrams.BOXES.values())
    boxes += [diagrams.ARROWS[pair].room(lines) for pair, lines in labels.items()]

    overlapping = [
        (one, other)
        for one, other in combinations(boxes, 2)
        if one.x < other.x + other.width
        and other.x < one.x + one.width
        and one.y < other.y + other.height
        and other.y < one.y + one.height
    ]

    assert len(boxes) == len(TRANSITIONS) + len(labels)
    assert overlapping == []
    assert all(box.x >= 0 and box.x + box.width <= diagrams.WIDTH for box in boxes)


def test_it_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / "not there yet" / "states.svg"

    diagrams.write(path)

    assert path.read_text(encoding="utf-8") == diagrams.draw()
