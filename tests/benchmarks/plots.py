"""Curves and bars as SVG, drawn by hand.

Curves have a logarithmic axis across, a linear one up, and a name at each one's end. Bars lie, each with its
name before it and its value behind.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 70, 190, 44, 52
LABEL_HEIGHT = 15
NAMES, VALUES, BAR = 230, 150, 26
"""Of bars: the width for names and for values, and the height of one."""
COLOURS = ("#1f5fa8", "#b3541e", "#2d7d46", "#7a4a9e", "#8a6d00", "#555555")


@dataclass(frozen=True)
class Curve:
    """Some points, by where they are across."""

    name: str
    points: Mapping[int, float]
    colour: str
    is_dashed: bool = False


@dataclass(frozen=True)
class Bar:
    """A value, from 0 to the right."""

    name: str
    value: float
    shown: str
    """The value, for people."""
    is_ours: bool = False


def draw_bars(title: str, bars: Sequence[Bar]) -> str:
    """Draw bars below each other, in order.

    Args:
        title: What is shown, with its unit.
        bars: At least one.
    """
    height = TOP + BAR * len(bars) + LABEL_HEIGHT
    most = max(bar.value for bar in bars) or 1.0
    parts = _begin(title, height)
    for number, bar in enumerate(bars):
        at = TOP + BAR * number
        width = bar.value / most * (WIDTH - NAMES - VALUES)
        colour = COLOURS[0] if bar.is_ours else "#a9b4c2"
        parts += [
            _text(bar.name, NAMES - 10, at + 14, text_anchor="end"),
            _element("rect", x=NAMES, y=at, width=f"{max(width, 1.0):.1f}", height=BAR - 8, fill=colour)
            + "</rect>",
            _text(bar.shown, NAMES + width + 8, at + 14),
        ]
    return "\n".join([*parts, "</svg>", ""])


def draw(title: str, across: str, curves: Sequence[Curve], *, base: int) -> str:
    """Draw curves.

    Args:
        title: What is shown, with its unit.
        across: What the horizontal axis shows.
        curves: At least one, of at least one point each.
        base: Of the horizontal axis' logarithm: there is a mark at each of its powers.
    """
    places = sorted({place for curve in curves for place in curve.points})
    top = _round_up(max(value for curve in curves for value in curve.points.values()))
    low, high = math.log(places[0], base), math.log(places[-1], base)

    def x(place: float) -> float:
        return LEFT + (math.log(place, base) - low) / ((high - low) or 1) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM)

    parts = [
        *_begin(title, HEIGHT),
        _text(across, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, text_anchor="middle"),
    ]
    for step in range(5):
        value = top * step / 4
        parts += [
            _path(f"M{LEFT} {y(value):.1f}H{WIDTH - RIGHT}", stroke="#ddd"),
            _text(f"{value:,.5g}", LEFT - 8, y(value) + 4, text_anchor="end"),
        ]
    for power in range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1):
        at = x(base**power)
        parts += [
            _path(f"M{at:.1f} {HEIGHT - BOTTOM}v5", stroke="#333"),
            _text(f"{base**power:,}", at, HEIGHT - BOTTOM + 19, text_anchor="middle"),
        ]
    labels = _spread_out({curve.name: y(curve.points[max(curve.points)]) for curve in curves})
    for curve in curves:
        line = "L".join(f"{x(place):.1f} {y(value):.1f}" for place, value in sorted(curve.points.items()))
        dashes = "5 4" if curve.is_dashed else "none"
        parts += [
            _path(f"M{line}", fill="none", stroke=curve.colour, stroke_width=2, stroke_dasharray=dashes),
            _text(curve.name, WIDTH - RIGHT + 10, labels[curve.name] + 4, fill=curve.colour),
        ]
    return "\n".join([*parts, "</svg>", ""])


def _begin(title: str, height: float) -> list[str]:
    """Begin a picture, with its title and a ground of its own, so that it can be read on any page."""
    return [
        _element(
            "svg",
            xmlns="http://www.w3.org/2000/svg",
            viewBox=f"0 0 {WIDTH} {height}",
            role="img",
            aria_label=title,
            font_family="sans-serif",
            font_size=12,
            fill="#333",
        ),
        _element("rect", width=WIDTH, height=height, fill="#fff") + "</rect>",
        _text(title, 20, 24, font_size=15),
    ]


def _element(name: str, **attributes: str | float) -> str:
    """Begin an element."""
    texts = (f'{key.replace("_", "-")}="{escape(str(value))}"' for key, value in attributes.items())
    return f"<{name} {' '.join(texts)}>"


def _text(text: str, x: float, y: float, **attributes: str | float) -> str:
    return _element("text", x=f"{x:.1f}", y=f"{y:.1f}", **attributes) + escape(text) + "</text>"


def _path(steps: str, **attributes: str | float) -> str:
    return _element("path", d=steps, **attributes) + "</path>"


def _round_up(value: float) -> float:
    """Return the least of 1, 2, 4, 5, 6, 8 times a power of ten that is not below."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 5, 6, 8, 10) if step * power >= value)


def _spread_out(ends: Mapping[str, float]) -> dict[str, float]:
    """Move names apart that would lie on each other."""
    placed: dict[str, float] = {}
    last = -math.inf
    for name, at in sorted(ends.items(), key=lambda item: item[1]):
        last = placed[name] = max(at, last + LABEL_HEIGHT)
    surplus = last - (HEIGHT - BOTTOM)
    return {name: at - max(0.0, surplus) for name, at in placed.items()}
