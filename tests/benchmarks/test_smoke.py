"""The benchmarks work: their arithmetic is right, and one runs. How fast anything is, is not tested."""

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from subprocess import CalledProcessError
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from clocknext_transports import ClockNext
from clocknext_transports.emulator import scripted
from tests.benchmarks import baselines, ours, peers, starting
from tests.benchmarks.children import Requests
from tests.benchmarks.headlines import draw_headlines
from tests.benchmarks.loopback import refuse_other_hosts
from tests.benchmarks.plain import HELD, record, record_leanly
from tests.benchmarks.plots import HEIGHT, WIDTH, Bar, Curve, draw, draw_bars
from tests.benchmarks.processes import ROOT, child_command, keeping_bytecode, python
from tests.benchmarks.report import as_json, as_text
from tests.benchmarks.rounds import Claim, Contestant, Figure, Result, alternate, single
from tests.benchmarks.scheduling import Job, ideal
from tests.benchmarks.servers import fallback_server, trusted_certificate
from tests.benchmarks.spooling import adopt
from tests.benchmarks.typical import API_KEY, Arguments, arguments, body, holding
from tests.contract.answers import priced, refused

SVG = "{http://www.w3.org/2000/svg}"
FIGURES = {
    "ours": [Figure(2.0, 1.0), Figure(30.0, 1.0), Figure(2.0, 1.0)],
    "theirs": [Figure(1.0, 2.0), Figure(20.0, 2.0), Figure(4.0, 2.0)],
    "others": [Figure(5.0), Figure(10.0), Figure(5.0)],
}


def test_contestants_take_turns_and_every_other_round_is_reversed() -> None:
    turns: list[str] = []

    def contestant(name: str) -> Contestant:
        def run() -> Mapping[str, Figure]:
            turns.append(name)
            return {name: Figure(float(len(turns)), 0.0)}

        return run

    figures = alternate([contestant("a"), contestant("b")], rounds=2)

    assert turns == ["a", "b", "b", "a", "a", "b"]
    assert figures == {"a": [Figure(4.0, 0.0), Figure(5.0, 0.0)], "b": [Figure(3.0, 0.0), Figure(6.0, 0.0)]}


def test_children_keep_the_bytecode_of_what_they_import(monkeypatch: pytest.MonkeyPatch) -> None:
    ask = "import clocknext_core, sys; print(sys.dont_write_bytecode, sys.pycache_prefix)"
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    before = python(ask)
    with keeping_bytecode():
        refuses, folder = python(ask).split()
        assert refuses == "False"
        assert list(Path(folder).rglob("clocknext_core/signals.*.pyc"))
    assert not Path(folder).exists()
    assert python(ask) == before


@pytest.mark.skipif(sys.platform != "linux", reason="only there a child tells its memory")
def test_children_do_not_write_what_the_library_logs() -> None:
    ended = subprocess.run(child_command("weigh", "2"), cwd=ROOT, capture_output=True, check=True, text=True)
    assert float(ended.stdout) >= 0
    assert ended.stderr == ""  # not a line for each of the signals that are dropped at the end


def test_a_ratio_is_of_one_round() -> None:
    assert Claim("ours", ("theirs",), most=1.5).ratios(FIGURES) == [2.0, 1.5, 0.5]
    assert Claim("ours", ("theirs",), least=0.5).ratios(FIGURES) == [0.5, 20 / 30, 2.0]
    assert Claim("ours", ("theirs",), most=1.5).ratios(FIGURES, by_cpu=True) == [0.5, 0.5, 0.5]
    assert Claim("ours", ("theirs", "others"), most=1.5).ratios(FIGURES) == [2.0, 3.0, 0.5]
    assert Claim("ours", most=2.0).ratios(FIGURES) == [2.0, 30.0, 2.0]


def test_a_floor_is_taken_off_ours_in_each_round() -> None:
    claim = Claim("ours", ("others",), most=0.5, floor="theirs")
    assert claim.ratios(FIGURES) == [0.2, 1.0, -0.4]
    assert claim.text == "(ours - theirs) / others"
    assert Claim("ours", most=1.0, floor="theirs").ratios(FIGURES) == [1.0, 10.0, -2.0]
    assert not Claim("ours", ("others",), floor="absent").can_be_told(FIGURES)


@pytest.mark.parametrize(
    ("claim", "is_met"),
    [
        (Claim("ours", ("theirs",), most=1.5), True),
        (Claim("ours", ("theirs",), most=1.4), False),
        (Claim("ours", ("theirs",), most=1.4, is_by_cpu=True), True),
        (Claim("ours", ("theirs",), least=0.6), True),
        (Claim("ours", ("theirs",), least=0.7), False),
        (Claim("ours", most=1.9), False),
        (Claim("ours", ("theirs",)), None),
    ],
)
def test_the_median_decides(claim: Claim, is_met: bool | None) -> None:
    assert claim.is_met(FIGURES) is is_met


def test_the_table_has_targets_and_leaves_out_who_was_not_there() -> None:
    claims = [Claim("ours", ("theirs",), most=1.4), Claim("ours", ("absent",), most=1.0)]
    result = Result("Something", "ms", FIGURES, claims, ["absent: not installed"])

    text = as_text({"server": "none"}, {"some": result})

    row = next(line for line in text.splitlines() if "ours / theirs" in line)
    assert row.split() == ["ours", "/", "theirs", "1.50", "0.50", "2.00", "0.50", "≤", "1.4", "MISSED"]
    assert "ours / absent" not in text
    assert "absent: not installed" in text
    assert "server: none" in text


def test_json_has_the_same() -> None:
    result = Result("Something", "ms", FIGURES, [Claim("ours", ("theirs",), most=1.4)])

    told = json.loads(json.dumps(as_json({}, {"some": result}), allow_nan=False))

    assert told["benchmarks"]["some"]["ratios"][0]["median"] == 1.5
    assert told["benchmarks"]["some"]["ratios"][0]["met"] is False
    assert told["benchmarks"]["some"]["figures"]["others"]["cpu"] is None


def test_the_ideal_schedule_fills_every_slot() -> None:
    quick, slow = Job([1.0]), Job([10.0])

    assert ideal([quick] * 9, slots=3) == 3.0
    assert ideal([slow, *[quick] * 10], slots=2) == 10.0
    assert ideal([*[quick] * 10, slow], slots=2) == 15.0


def test_in_the_ideal_schedule_a_back_off_holds_no_slot() -> None:
    repeated = Job([1.0, 1.0], [2.0])

    assert ideal([repeated, *[Job([1.0])] * 4], slots=1) == 6.0
    assert ideal([repeated], slots=1) == 4.0


def test_a_plot_shows_each_curve_within_its_borders() -> None:
    curves = [
        Curve("ours & theirs", {1: 10.0, 2: 20.0, 8: 75.0}, "#000"),
        Curve("others", {1: 10.0, 2: 15.0, 8: 75.0}, "#111", is_dashed=True),
    ]

    drawing = ET.fromstring(draw("Some, <each>", "at once", curves, base=2))

    texts = {
        text.text: (float(text.attrib["x"]), float(text.attrib["y"])) for text in drawing.iter(f"{SVG}text")
    }
    assert {"Some, <each>", "at once", "ours & theirs", "others", "1", "2", "4", "8", "80"} <= set(texts)
    assert all(0 < x < WIDTH and 0 < y < HEIGHT for x, y in texts.values())
    assert abs(texts["ours & theirs"][1] - texts["others"][1]) > 10
    lines = [path for path in drawing.iter(f"{SVG}path") if path.get("fill") == "none"]
    assert [line.attrib["d"].count("L") for line in lines] == [2, 2]


def test_bars_are_as_long_as_their_values_and_ours_stand_out() -> None:
    bars = [Bar("us", 5.0, "5 s", is_ours=True), Bar("them & others", 20.0, "20 s"), Bar("none", 0.0, "0 s")]

    drawing = ET.fromstring(draw_bars("How long?", bars))

    texts = [text.text for text in drawing.iter(f"{SVG}text")]
    assert texts == ["How long?", "us", "5 s", "them & others", "20 s", "none", "0 s"]
    _, *drawn = drawing.iter(f"{SVG}rect")
    ours, theirs, none = (float(bar.attrib["width"]) for bar in drawn)
    assert abs(theirs - 4 * ours) < 1
    assert 0 < none < ours
    assert drawn[0].attrib["fill"] != drawn[1].attrib["fill"] == drawn[2].attrib["fill"]


def test_a_headline_shows_what_was_measured_and_nothing_else() -> None:
    figures = {"httpx AsyncClient": [Figure(0.001), Figure(0.002), Figure(0.004)], "other": [Figure(1.0)]}
    drawn = draw_headlines({"draining": Result("Draining", "µs", figures), "cold": Result("Cold", "ms", {})})

    assert list(drawn) == ["draining.svg"]
    texts = [text.text for text in ET.fromstring(drawn["draining.svg"]).iter(f"{SVG}text")]
    assert texts[1:] == ["httpx AsyncClient", "500 a second"]


STAND_IN = """
export class ClockNext {
  #held = [];
  constructor(options) { this.options = options; }
  signals = { credit: async (signal) => { this.#held.push(signal); } };
  async flush() {
    const held = this.#held.splice(0);
    for (const { customerId, model, key, tokens } of held) {
      const body = JSON.stringify({ type: "credit", customerId, model, key, inputTokens: tokens.input });
      const headers = { authorization: `Bearer ${this.options.apiKey}`, "content-type": "application/json" };
      const answer = await fetch(`${this.options.baseUrl}/api/v1/usage`, { method: "POST", headers, body });
      if (!answer.ok) this.options.onError(new Error());
    }
  }
  async close() {}
}
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
def test_a_client_for_node_takes_part(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.mjs"
    bundle.write_text(STAND_IN, encoding="utf-8")
    with scripted([priced()]) as server:
        figure = peers.drain_with_official(bundle, server.url, 20, 5)
        assert len(server.requests) == 10 + 20
    assert 0 < figure.value < 60
    with scripted([refused(500)]) as server, pytest.raises(subprocess.CalledProcessError):
        peers.drain_with_official(bundle, server.url, 20, 5)


@pytest.mark.parametrize(
    ("event", "details"),
    [
        ("socket.connect", (None, ("192.0.2.1", 443))),
        ("socket.connect", (None, ("2001:db8::1", 443, 0, 0))),
        ("socket.sendto", (None, ("192.0.2.1", 53))),
        ("socket.getaddrinfo", ("example.com", 443, 0, 0, 0)),
        ("socket.getaddrinfo", (b"example.com", 443, 0, 0, 0)),
    ],
)
def test_other_hosts_are_refused(event: str, details: tuple[object, ...]) -> None:
    with pytest.raises(PermissionError, match="stay on this machine"):
        refuse_other_hosts(event, details)


def test_this_host_is_not() -> None:
    refuse_other_hosts("socket.connect", (None, ("127.0.0.1", 443)))
    refuse_other_hosts("socket.connect", (None, ("::1", 443, 0, 0)))
    refuse_other_hosts("socket.connect", (None, "/run/some.sock"))
    refuse_other_hosts("socket.getaddrinfo", ("localhost", 443, 0, 0, 0))
    refuse_other_hosts("open", ("/etc/hosts", "r", 0))


def test_servers_read_requests_however_they_are_cut() -> None:
    wire = b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcPOST / HTTP/1.1\r\ncontent-length:2\r\n\r\nde"
    bytewise = Requests()

    assert Requests().take(wire) == [b"abc", b"de"]
    assert [body for byte in wire for body in bytewise.take(bytes([byte]))] == [b"abc", b"de"]


@pytest.mark.parametrize("hold", [record, record_leanly])
def test_the_plain_functions_hold_what_the_library_would_send(hold: Callable[..., str]) -> None:
    HELD.clear()
    key = hold(**arguments(7))

    ((held_key, encoded),) = HELD
    assert held_key == key
    assert json.loads(encoded) == {**json.loads(body(7)), "idempotencyKey": key}


BAD: list[Arguments] = [
    {**arguments(0), "key": " "},
    {**arguments(0), "member": " "},
    {**arguments(0), "tokens": {"input": -1}},
]


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("hold", [record, record_leanly])
def test_the_plain_functions_validate(hold: Callable[..., str], bad: Arguments) -> None:
    with pytest.raises(ValueError, match="must"):
        hold(**bad)


WORSE: list[dict[str, object]] = [
    {"tokens": {"inputs": 1}},
    {"agent_key": "k"},
    {"key": None},
    {"custom": ["x"]},
    {"status": "DONE"},
    {"metric": {"ref": "model", "value": 1}},
    {"metric": {"ref": "pages"}},
    {"idempotency_key": ""},
    {"custom": {"text": "x" * 65536}},
    {"custom": {"a": [{"__proto__": 1}]}},
    {"metric": {"ref": "pages", "value": {"constructor": {"prototype": 1}}}},
]


@pytest.mark.parametrize("worse", WORSE)
def test_the_plain_function_keeps_to_the_rules_of_the_library(worse: dict[str, object]) -> None:
    bad: dict[str, Any] = {**arguments(0), **worse}
    with pytest.raises(ValueError, match=": "):
        record(**bad)
    with ClockNext(API_KEY, base_url=ours.NOWHERE) as client, pytest.raises(ValueError, match=": "):
        client.signals.credit(**bad)


@pytest.mark.skipif(sys.platform == "win32", reason="processes share no socket there")
def test_one_benchmark_runs() -> None:
    count = 20
    signals = [arguments(number) for number in range(count)]
    keys = [str(number) for number in range(count)]
    bodies = [body(number) for number in range(count)]
    with fallback_server() as server:
        figures = alternate(
            [
                single("ours", partial(ours.drain_in_threads, server.url, signals, holding(), keys, None)),
                single("bare", partial(baselines.drain_in_threads, server.port, bodies, 2)),
            ],
            rounds=1,
            warm_up=False,
        )

    assert all(figure.value > 0 for each in figures.values() for figure in each)
    assert median(Claim("ours", ("bare",), most=1.3).ratios(figures)) > 0
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", server.port)):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="processes share no socket there")
def test_the_floor_of_a_cold_start_is_answered() -> None:
    with fallback_server() as server:
        assert python(starting.BY_HAND, server.url) == ""  # else it raises
    with pytest.raises(CalledProcessError):
        python(starting.BY_HAND, server.url)


@pytest.mark.skipif(sys.platform == "win32", reason="processes share no socket there")
def test_the_servers_can_speak_tls_and_take_their_time() -> None:
    signals = [arguments(number) for number in range(20)]
    keys = [str(number) for number in range(20)]
    seconds = 0.02
    with trusted_certificate() as certificate, fallback_server(seconds, certificate=certificate) as server:
        assert server.url.startswith("https://")
        figure = ours.drain_in_threads(server.url, signals, holding(5), keys, None)

    assert figure.value >= seconds / 5  # each of five connections waits for its answers


def test_all_signals_of_a_spool_are_adopted_and_erased() -> None:
    assert adopt(1001).value > 0
