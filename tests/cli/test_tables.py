import click
import pytest

from clocknext_transports.cli.tables import Table, cell, fields_table, show

TABLE = Table(
    {"Name": "left", "Cost": "right"},
    [["Acme", "1.5"], ["日本", "10"], ["[bold]x[/bold]", ""], ["total", "11.5"]],
    "Costs",
    has_total=True,
)


def test_elsewhere_columns_are_aligned_and_nothing_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    show(TABLE, Table({"A": "left"}, [["y" * 500]]))
    assert capsys.readouterr().out == (
        "Costs\n"
        "Name            Cost\n"
        "Acme             1.5\n"
        "日本              10\n"
        "[bold]x[/bold]\n"
        "total           11.5\n"
        "\n"
        "A\n" + "y" * 500 + "\n"
    )


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")


@pytest.mark.usefixtures("terminal")
def test_a_terminal_has_frames_and_folds_long_texts(capsys: pytest.CaptureFixture[str]) -> None:
    show(TABLE, Table({"A": "left", "B": "right"}, [["y" * 50, "1,234"]]))
    lines = click.unstyle(capsys.readouterr().out).splitlines()
    rows = [line.split("│")[1:-1] for line in lines if line.startswith("│")]
    assert ["Acme", "1.5"] in [[one.strip() for one in row] for row in rows]
    assert "[bold]x[/bold]" in [row[0].strip() for row in rows]
    assert "".join(row[0].strip() for row in rows if "y" in row[0]) == "y" * 50
    assert sum(line.startswith("├") for line in lines) == 1
    assert max(map(len, lines)) <= 40


@pytest.mark.usefixtures("terminal")
def test_a_terminal_too_narrow_for_frames_has_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    wide = Table(dict.fromkeys("ABCDEFGHIJ", "right"), [["123"] * 10])
    show(wide)
    assert capsys.readouterr().out == wide.aligned() + "\n"


def test_a_table_without_rows_has_its_headings() -> None:
    assert Table({"ID": "left", "Name": "left"}, []).aligned() == "ID  Name"


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, ""),
        (True, "yes"),
        (False, "no"),
        (0, "0"),
        (1234567, "1,234,567"),
        (1_000_000.0, "1,000,000"),
        (2.5e-07, "0.00000025"),
        (1234.5678, "1,234.5678"),
        ("12.0", "12.0"),
        ("a\nb\x1b[2Jc\u202e", "a\\nb\\x1b[2Jc\\u202e"),
        ("a\u3000b", "a\u3000b"),
        ("\ud800", "\\ud800"),
        (["a", None], '["a", null]'),
        ({"a": "\x1b"}, '{"a": "\\u001b"}'),
    ],
)
def test_a_cell_is_one_line_that_moves_no_cursor(value: object, written: str) -> None:
    assert cell(value) == written


def test_fields_of_an_object_are_named_after_it_and_null_ones_left_out() -> None:
    table = fields_table({"a": 1, "b": None, "c": {"d": "x", "e": None, "f": {"g": 1}}, "h\x1b": []}, "T")
    assert table.rows == [("a", "1"), ("c.d", "x"), ("c.f", '{"g": 1}'), ("h\\x1b", "[]")]
