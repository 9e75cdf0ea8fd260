"""`clocknext usage explain`: in this process, with files and standard input."""

import io
import json
from pathlib import Path

import pytest

from clocknext_transports.cli.group import run
from tests.core.usage.shapes import CHAT_USAGE, chat


def explained(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, *options: str
) -> tuple[int, str, str]:
    file = tmp_path / "response.json"
    file.write_text(text, "utf-8")
    status = run(["usage", "explain", str(file), *options])
    out, errors = capsys.readouterr()
    return status, out, errors


def test_a_response(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    usage = {**CHAT_USAGE, "num_search_queries": 2}
    status, out, errors = explained(capsys, tmp_path, json.dumps(chat(usage)))
    assert (status, errors) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    for row in (
        ["input", "86"],
        ["output", "300"],
        ["cache", "1,920"],
        ["model", "gpt-4o"],
        ["model", "in", "the", "response", "gpt-4o-2024-08-06"],
        ["not", "billed:", "num_search_queries", "2"],
        ["response.usage.prompt_tokens_details.cached_tokens", "1,920", "cached"],
    ):
        assert row in lines
    assert "Because the cached tokens are inside the prompt: that is what the provider's names mean." in out


def test_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, out, _ = explained(capsys, tmp_path, json.dumps(chat(CHAT_USAGE)), "--json")
    (explanation,) = json.loads(out)
    assert status == 0
    assert explanation["tokens"] == {"input": 86, "output": 300, "cache": 1920}
    assert explanation["responseId"] == "chatcmpl-1"
    assert {"path": "response.usage.prompt_tokens", "count": 2006, "role": "prompt"} in explanation["fields"]


def test_what_can_not_be_billed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, out, _ = explained(capsys, tmp_path, json.dumps({"usage": {"output_tokens": 5}}))
    assert status == 1
    assert out.startswith("Not billed: response.usage: has no prompt count")
    status, out, _ = explained(capsys, tmp_path, "{}", "--json")
    assert (status, list(json.loads(out)[0])) == (1, ["error"])


def test_a_line_for_each_response(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    line = json.dumps({"custom_id": "a", "response": {"body": chat(CHAT_USAGE)}})
    status, out, _ = explained(capsys, tmp_path, f"{line}\n\n{line}\n")
    assert (status, out.count("Billed as")) == (0, 2)


def test_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(chat(CHAT_USAGE, model=None))))
    assert run(["usage", "explain", "-"]) == 0
    assert "86" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["no", "{}\nno\n", ""])
def test_what_is_no_json(capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str) -> None:
    status, out, errors = explained(capsys, tmp_path, text)
    assert (status, out) == (1, "")
    assert "JSON" in errors


def test_what_is_no_text(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "response.json"
    file.write_bytes(b"\xff\xfe\xff")
    assert run(["usage", "explain", str(file)]) == 1
    assert "Could not open file" in capsys.readouterr().err


def test_help_names_both(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["usage", "--help"]) == 0
    out = capsys.readouterr().out
    assert "clocknext usage ID" in out
    assert "explain" in out


def test_usage_still_asks_for_an_id(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["usage"]) == 2
    assert "Missing argument 'ID'" in capsys.readouterr().err
