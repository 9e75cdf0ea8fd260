"""What goes wrong when: fates drawn from a generator, as the weather has it."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from random import Random
from typing import TypeAlias

from clocknext_core.backoff import RETRY_AFTER_CAP
from clocknext_transports.emulator.server.faults import Fault
from tests.simulation.network import CALM_LATENCY, EPOCH, NO_ANSWER, NO_PAUSE, Fate, Pause, Weather

_DATE_FORMATS = ("%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y")
_GARBAGE = (
    "soon",
    "",
    "NaN",
    "inf",
    "0x10",
    "1,5",
    "1 2",
    "5s",
    "Wed, 99 Xyz 2025 00:00:00 GMT",
    "\N{FULLWIDTH DIGIT ONE}",
)

PauseMaker: TypeAlias = Callable[[Random, float], Pause]


def _seconds(rng: Random, now: float) -> Pause:
    seconds = rng.choice((0, 1, 1, 2, 3, 5, 30))
    return Pause("seconds", str(seconds), seconds=float(seconds))


def _fraction(rng: Random, now: float) -> Pause:
    text = rng.choice(("0.5", "1.25", ".5", "2.", "15e-1", "+0.75"))
    return Pause("fraction", text, seconds=float(text))


def _milliseconds(rng: Random, now: float) -> Pause:
    return Pause("ms", rng.choice((None, "60", "soon")), "250", 0.25)


def _bad_milliseconds(rng: Random, now: float) -> Pause:
    return Pause("bad ms", "2", rng.choice(("-1", "soon", "")), 2.0)


def _negative(rng: Random, now: float) -> Pause:
    return Pause("negative", rng.choice(("-5", "-0.1")), seconds=0.0)


def _date(rng: Random, now: float) -> Pause:
    at = float(int(EPOCH + now) + rng.choice((-3600, 0, 1, 2, 5, 20)))
    text = datetime.fromtimestamp(at, UTC).strftime(rng.choice(_DATE_FORMATS))
    return Pause("date", text, date_at=at)


def _absurd(rng: Random, now: float) -> Pause:
    return Pause("absurd", rng.choice(("999999999", "1e300")), seconds=RETRY_AFTER_CAP)


def _garbage(rng: Random, now: float) -> Pause:
    return Pause("garbage", rng.choice(_GARBAGE))


_PAUSES: Sequence[tuple[float, PauseMaker]] = (
    (25, _seconds),
    (15, _fraction),
    (10, _milliseconds),
    (8, _bad_milliseconds),
    (8, _negative),
    (15, _date),
    (1, _absurd),
    (12, _garbage),
)

_CHANCES: Mapping[Weather, Mapping[str, float]] = {
    "calm": {"ok": 1},
    "storm": {
        "ok": 40,
        "lost answer": 8,
        "answer never comes": 3,
        "request swallowed": 3,
        "request late": 3,
        "reset": 6,
        "refused": 4,
        "408": 3,
        "409": 4,
        "429": 6,
        "500": 4,
        "500 after commit": 4,
        "500 with a success in it": 2,
        "502 html": 2,
        "404 html": 2,
        "503": 5,
        "html": 3,
        "empty": 1,
        "array": 1,
        "truncated": 4,
    },
    "outage": {
        "refused": 40,
        "503": 30,
        "502 html": 10,
        "404 html": 5,
        "reset": 10,
        "request swallowed": 10,
    },
    "recovery": {"ok": 60, "429": 25, "503": 10, "lost answer": 5},
}

_FAULTS: Mapping[str, Fault] = {
    "lost answer": Fault("lost"),
    "reset": Fault("reset"),
    "html": Fault("html"),
    "502 html": Fault("html", 502),
    "404 html": Fault("html", 404),
    "empty": Fault("empty"),
    "array": Fault("array"),
    "truncated": Fault("truncated"),
}


POISONS: Mapping[str, Fate] = {
    "reset": Fate("poison: reset", Fault("reset")),
    "time-out": Fate("poison: time-out", there=NO_ANSWER),
    **{f"{status}": Fate(f"poison: {status}", Fault("status", status)) for status in (408, 409, 429)},
    **{f"{status}": Fate(f"poison: {status}", Fault("status", status)) for status in (500, 502, 503, 504)},
    **{
        f"{status} page": Fate(f"poison: {status} page", Fault("html", status))
        for status in (200, 301, 400, 401, 403, 404, 405, 407, 413, 414, 422, 431, 500, 502, 503)
    },
}
"""What happens to every attempt of a poison signal, whatever the weather."""


def draw_pause(rng: Random, now: float) -> Pause:
    """Draw a Retry-After of any shape, or none."""
    if rng.random() < 0.4:
        return NO_PAUSE
    weights = [weight for weight, _ in _PAUSES]
    make = rng.choices([make for _, make in _PAUSES], weights)[0]
    return make(rng, now)


def draw_fate(rng: Random, weather: Weather, *, now: float, timeout: float) -> Fate:
    """Draw what becomes of a request sent now.

    Args:
        rng: Where chance comes from.
        weather: What it is like.
        now: Virtual time.
        timeout: When the client gives up, in seconds.
    """
    chances = _CHANCES[weather]
    kind = rng.choices(list(chances), list(chances.values()))[0]
    latency = CALM_LATENCY if weather == "calm" else rng.choice((CALM_LATENCY, CALM_LATENCY, timeout * 0.75))
    there, back = rng.random() * latency / 2, rng.random() * latency / 2
    echo = rng.random() * 2 * timeout if weather != "calm" and rng.random() < 0.1 else None
    dated = rng.random() < 0.8
    match kind:
        case "ok":
            return Fate(kind, there=there, back=back, echo_after=echo)
        case "refused":
            return Fate(kind, back=back, refused=True, echo_after=echo)
        case "answer never comes":
            return Fate(kind, there=there, back=NO_ANSWER, echo_after=echo)
        case "request swallowed":
            return Fate(kind, there=NO_ANSWER, echo_after=echo)
        case "request late":
            return Fate(kind, there=timeout * (1 + rng.random()), back=back, echo_after=echo)
        case "500 with a success in it":
            return Fate(kind, there=there, back=back, status=500, echo_after=echo)
        case "408" | "409" | "429" | "500" | "503" | "500 after commit":
            pause = draw_pause(rng, now)
            fault = Fault(
                "status",
                int(kind[:3]),
                pause.retry_after,
                pause.retry_after_ms,
                commit=kind.endswith("after commit"),
            )
            return Fate(kind, fault, pause, there, back, dated=dated, echo_after=echo)
        case _:
            return Fate(kind, _FAULTS[kind], NO_PAUSE, there, back, echo_after=echo)
