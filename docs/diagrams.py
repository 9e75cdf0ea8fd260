"""Draw the states of a recorded signal from the code: `states.TRANSITIONS`.

The layout is made by hand; states and transitions come from the code. A state or transition that has no place
in the layout is an error; so is a place that has no state or transition.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from clocknext_core.states import TRANSITIONS, State, Trigger

WIDTH, HEIGHT = 960, 560
LINE_HEIGHT = 17
CHARACTER_WIDTH = 7.2
"""Widest average of a character at 13 pixels, by which the size of a label is estimated."""


@dataclass(frozen=True)
class Box:
    """Where a state is drawn: its left upper corner and its size."""

    x: float
    y: float
    width: float = 140
    height: float = 46


@dataclass(frozen=True)
class Arrow:
    """Where the transitions from one state to another are drawn: the line, and the last line of its label."""

    points: tuple[tuple[float, float], ...]
    label: tuple[float, float]
    anchor: str = "middle"

    def room(self, lines: list[str]) -> Box:
        """Return the area that the label takes."""
        x, y = self.label
        width = max(map(len, lines)) * CHARACTER_WIDTH
        left = x - {"start": 0, "middle": 0.5, "end": 1}[self.anchor] * width
        return Box(left, y - LINE_HEIGHT * len(lines) + 4, width, LINE_HEIGHT * len(lines))


BOXES: Mapping[State, Box] = {
    State.FRESH: Box(70, 227),
    State.IN_FLIGHT: Box(370, 150, height=200),
    State.BACKING_OFF: Box(370, 30),
    State.DELIVERED: Box(740, 157),
    State.REJECTED: Box(740, 227),
    State.DROPPED: Box(740, 300, height=110),
    State.PARKED: Box(740, 460, height=80),
}

ARROWS: Mapping[tuple[State, State], Arrow] = {
    (State.FRESH, State.IN_FLIGHT): Arrow(((210, 250), (370, 250)), (290, 242)),
    (State.FRESH, State.DROPPED): Arrow(((140, 273), (140, 390), (740, 390)), (440, 382)),
    (State.IN_FLIGHT, State.DELIVERED): Arrow(((510, 180), (740, 180)), (625, 172)),
    (State.IN_FLIGHT, State.REJECTED): Arrow(((510, 250), (740, 250)), (625, 242)),
    (State.IN_FLIGHT, State.DROPPED): Arrow(((510, 330), (740, 330)), (625, 322)),
    (State.IN_FLIGHT, State.BACKING_OFF): Arrow(((405, 150), (405, 76)), (395, 125), "end"),
    (State.BACKING_OFF, State.IN_FLIGHT): Arrow(((475, 76), (475, 150)), (485, 117), "start"),
    (State.BACKING_OFF, State.DROPPED): Arrow(((510, 53), (925, 53), (925, 355), (880, 355)), (695, 45)),
    (State.FRESH, State.PARKED): Arrow(((100, 273), (100, 520), (740, 520)), (440, 512)),
    (State.IN_FLIGHT, State.PARKED): Arrow(((440, 350), (440, 480), (740, 480)), (590, 472)),
    (State.BACKING_OFF, State.PARKED): Arrow(((510, 40), (945, 40), (945, 500), (880, 500)), (695, 25)),
}

_STYLE = """
text { font: 13px Verdana, "DejaVu Sans", sans-serif; fill: #1a1a1a; }
.state { font-size: 15px; font-weight: bold; }
.held { fill: #dbe9f6; stroke: #24527a; stroke-width: 1.5; }
.ended { fill: #ececec; stroke: #4a4a4a; stroke-width: 3; }
.arrow { fill: none; stroke: #1a1a1a; stroke-width: 1.5; marker-end: url(#head); }
"""

Transitions = Mapping[State, Mapping[Trigger, State]]


def labels(transitions: Transitions) -> dict[tuple[State, State], list[str]]:
    """Gather what leads from one state to another, over all triggers."""
    gathered: dict[tuple[State, State], list[str]] = {}
    for source, moves in transitions.items():
        for trigger, target in moves.items():
            gathered.setdefault((source, target), []).append(trigger.value)
    return gathered


def draw(transitions: Transitions = TRANSITIONS) -> str:
    """Draw the states and their transitions as an SVG.

    Raises:
        ValueError: The code has a state or transition that has no place here, or the other way round.
    """
    gathered = labels(transitions)
    _check_places("state", BOXES, transitions)
    _check_places("transition", ARROWS, gathered)
    arrows = "\n".join(_arrow(ARROWS[pair], lines) for pair, lines in gathered.items())
    boxes = "\n".join(_box(BOXES[state], state, has_ended=not moves) for state, moves in transitions.items())
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}"
  height="{HEIGHT}" role="img" aria-labelledby="title">
<title id="title">The states of a recorded signal and what moves it from one to the next</title>
<style>{_STYLE}</style>
<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" orient="auto">
<path d="M0,0 L10,5 L0,10 z" fill="#1a1a1a"/></marker></defs>
<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>
<circle cx="20" cy="250" r="7" fill="#1a1a1a"/>
<path class="arrow" d="M27,250 L70,250"/>
{arrows}
{boxes}
</svg>
"""


def write(path: Path) -> None:
    """Draw the code's own transitions into a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(draw(), encoding="utf-8")


def _check_places(kind: str, places: Iterable[object], needed: Iterable[object]) -> None:
    if astray := set(places) ^ set(needed):
        raise ValueError(f"The diagram and the code differ in a {kind}: {', '.join(map(str, astray))}")


def _box(box: Box, state: State, *, has_ended: bool) -> str:
    kind = "ended" if has_ended else "held"
    return (
        f'<rect class="{kind}" x="{box.x}" y="{box.y}" width="{box.width}" height="{box.height}" rx="8"/>\n'
        f'<text class="state" text-anchor="middle" x="{box.x + box.width / 2}" '
        f'y="{box.y + box.height / 2 + 5}">{escape(state.value)}</text>'
    )


def _arrow(arrow: Arrow, lines: list[str]) -> str:
    path = "M" + " L".join(f"{x},{y}" for x, y in arrow.points)
    x, y = arrow.label
    texts = [
        f'<text text-anchor="{arrow.anchor}" x="{x}" y="{y - LINE_HEIGHT * above}">{escape(line)}</text>'
        for above, line in enumerate(reversed(lines))
    ]
    return "\n".join([f'<path class="arrow" d="{path}"/>', *texts])
