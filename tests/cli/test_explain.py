"""`clocknext usage explain`: in this process, with files and standard input."""

import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest

from clocknext_transports.cli.group import run
from tests.core.usage.shapes import CHAT_USAGE, chat, message


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
    assert (explanation["model"], explanation["catalogueModel"]) == ("gpt-4o-2024-08-06", "gpt-4o")
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


def test_a_line_that_is_not_json_is_told_and_the_others_are_explained(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    text = f'no\n\n{json.dumps(chat(CHAT_USAGE))}\n{{"a": "b\n'
    status, out, _ = explained(capsys, tmp_path, text, "--json")
    told = json.loads(out)
    assert (status, [each["line"] for each in told]) == (1, [1, 3, 4])
    assert told[0]["error"] == "the line is not JSON: Expecting value: line 1 column 1 (char 0)"
    assert told[1]["tokens"] == {"input": 86, "output": 300, "cache": 1920}
    assert told[2]["error"].startswith("the line is not JSON: ")


def test_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    given = json.dumps(chat(CHAT_USAGE, model=None))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given.encode())))
    assert run(["usage", "explain", "-"]) == 0
    out = capsys.readouterr().out
    assert "86" in out
    assert "none in the response: give model=" in out
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
    assert run(["usage", "explain", "-"]) == 1
    assert "Standard input is empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("no", "is not JSON: Expecting value: line 1 column 1"),
        ('{}\n\n{"a":\nno}', "is not JSON: Expecting value: line 4 column 1"),
        ('{}\n{"a":\n', "is not JSON: Expecting value: line 3 column 1"),
        ("1\nno\n", "is not JSON: Expecting value: line 2 column 1"),
        ("", "is empty"),
        (" \n ", "is empty"),
        ('{\n"usage": {\n', "is not JSON: Expecting property name enclosed in double quotes: line 3"),
        ("{}\n" + "[" * 200_000, "nested too deeply, in the JSON at line 2"),
        ("event: a\ndata: {}\n\ndata: no\n", "has an event that is not JSON, in line 4"),
        (f"data: {'[' * 200_000}\n", "has an event that is not JSON, in line 1"),
        (f'{{"usage": {{"prompt_tokens": {"9" * 5000}}}}}', "is not JSON"),
    ],
)
def test_what_is_no_json(capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, says: str) -> None:
    status, out, errors = explained(capsys, tmp_path, text)
    assert (status, out) == (1, "")
    assert says in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("text", ["null", "3", '"text"', "[]", "[1, {}]", "true", '{"usage": null}'])
def test_json_that_is_no_response(capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str) -> None:
    status, out, errors = explained(capsys, tmp_path, text)
    assert (status, errors) == (1, "")
    assert out.startswith("Not billed: re")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_encodings(capsys: pytest.CaptureFixture[str], tmp_path: Path, encoding: str) -> None:
    """A shell on Windows redirects in UTF-16, and its editor puts a mark before UTF-8."""
    file = tmp_path / "response.json"
    file.write_text(json.dumps(chat(CHAT_USAGE)) + "\r\n", encoding)
    assert run(["usage", "explain", str(file)]) == 0
    assert "1,920" in capsys.readouterr().out


def test_documents_one_after_another_are_told_apart_by_their_lines(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    good, bad = (
        json.dumps(chat(CHAT_USAGE), indent=2),
        json.dumps({"custom_id": "b", "result": {"type": "errored"}}),
    )
    status, out, _ = explained(capsys, tmp_path, f"{bad}\n{good}\n\n{bad}\n")
    last = len(good.splitlines()) + 3
    lines = out.splitlines()
    assert status == 1
    assert [line for line in lines if line.startswith("Line")] == ["Line 1", "Line 2", f"Line {last}"]
    assert [line for line in lines if "did not succeed, which costs nothing" in line] == [lines[1], lines[-1]]
    status, out, _ = explained(capsys, tmp_path, f"{bad}\n{good}", "--json")
    assert (status, [each["line"] for each in json.loads(out)]) == (1, [1, 2])


def test_the_requests_of_a_run_are_numbered(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run_of_two = json.dumps([chat(CHAT_USAGE), chat({"prompt_tokens": 9, "completion_tokens": 4})])
    status, out, _ = explained(capsys, tmp_path, run_of_two)
    assert status == 0
    assert [line for line in out.splitlines() if line.startswith("Req")] == [
        "Request 1 of 2",
        "Request 2 of 2",
    ]


def test_many_lines(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    line = json.dumps(chat(CHAT_USAGE, content="x" * 1000)) + "\n"
    status, out, _ = explained(capsys, tmp_path, line * 300, "--json")
    assert status == 0
    assert [(each["line"], each["tokens"]["cache"]) for each in json.loads(out)] == [
        (number, 1920) for number in range(1, 301)
    ]


def test_a_file_that_is_not_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for file in (tmp_path / "none.json", tmp_path):
        assert run(["usage", "explain", str(file)]) == 2
        assert "Invalid value for 'FILE'" in capsys.readouterr().err


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


AUDIO = {"audio_tokens": 14}


def events(chunks: list[Any]) -> str:
    """Write chunks as a provider's server sends them."""
    return "".join(f"event: {chunk.get('type')}\r\ndata: {json.dumps(chunk)}\r\n\r\n" for chunk in chunks)


@pytest.mark.parametrize("mark", ["", ": PROCESSING\n\n", "id: 1\n", "retry: 3\n"])
def test_a_stream_of_events_is_read_whole(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, mark: str
) -> None:
    started = message({"input_tokens": 25, "output_tokens": 1}, stop_reason=None)
    chunks = [
        {"type": "message_start", "message": started},
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "data: x"}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 503}},
        {"type": "message_stop"},
    ]
    status, out, errors = explained(capsys, tmp_path, mark + events(chunks))
    assert (status, errors) == (0, "")
    rows = [line.split() for line in out.splitlines()]
    assert ["output", "503"] in rows
    assert ["model", "in", "the", "response", started["model"]] in rows
    assert "From" not in out
    status, out, _ = explained(capsys, tmp_path, events(chunks) + "data: [DONE]\n\n", "--json")
    (explanation,) = json.loads(out)
    assert (status, explanation["tokens"]["output"], explanation["fields"]) == (0, 503, [])
    assert explanation["tokens"]["input"] == 25


@pytest.mark.parametrize(
    ("chunks", "says"),
    [
        ([{"model": "gpt-4o"}], "Not billed: the stream had no usage; OpenAI has to be asked for it"),
        (
            [{"type": "message_start", "message": message({"input_tokens": 25}, stop_reason=None)}],
            "Not billed: the stream ended early",
        ),
    ],
)
def test_a_stream_of_events_that_can_not_be_billed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, chunks: list[Any], says: str
) -> None:
    status, out, errors = explained(capsys, tmp_path, events(chunks))
    assert (status, errors) == (1, "")
    assert out.startswith(says)


def test_a_compressed_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "response.json.gz"
    file.write_bytes(gzip.compress(json.dumps(chat(CHAT_USAGE)).encode()))
    assert run(["usage", "explain", str(file)]) == 1
    assert "is compressed with gzip. Give it unpacked: gunzip -c FILE" in capsys.readouterr().err


def test_what_is_billed_within_another_count_is_not_called_unbilled(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    usage = {
        "input_tokens": 2095,
        "output_tokens": 503,
        "cache_read_input_tokens": 7,
        "cache_creation_input_tokens": 2051,
        "server_tool_use": {"web_search_requests": 1},
        "cache_creation": {"ephemeral_5m_input_tokens": 1051, "ephemeral_1h_input_tokens": 1000},
    }
    _, out, _ = explained(capsys, tmp_path, json.dumps(message(usage)))
    for row in (
        "within input: cache_write_1h_tokens 1,000",
        "within input: cache_write_tokens 2,051",
        "not billed: web_search_requests 1",
    ):
        assert row.split() in [line.split() for line in out.splitlines()]
    usage = {
        "prompt_tokens": 14,
        "completion_tokens": 45,
        "total_tokens": 59,
        "prompt_tokens_details": {"audio_tokens": 14, "cached_tokens": 3},
        "completion_tokens_details": {"audio_tokens": 5},
    }
    tools = {"tool_usage": {"image_gen": {"input_tokens": 3, "output_tokens": 4}}}
    _, out, _ = explained(capsys, tmp_path, json.dumps(chat(usage, **tools)))
    for row in (
        "within input and cache: input_audio_tokens 14",
        "within output: output_audio_tokens 5",
        "not billed: image_gen_input_tokens 3",
        "not billed: image_gen_output_tokens 4",
    ):
        assert row.split() in [line.split() for line in out.splitlines()]
    _, out, _ = explained(capsys, tmp_path, json.dumps({"usage": {**usage, "prompt_tokens_details": AUDIO}}))
    assert ["within", "input:", "input_audio_tokens", "14"] in [line.split() for line in out.splitlines()]
