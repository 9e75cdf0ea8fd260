"""`clocknext usage explain`: what a model's response would be billed as, from which fields, and why."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from clocknext_core.usage.catalogue import without_date
from clocknext_core.usage.counts import counted_in
from clocknext_core.usage.reading import Explanation
from clocknext_core.usage.runs import explanations
from clocknext_core.usage.streams import Gatherer
from clocknext_transports.cli.tables import Table, cell, print_json, show
from clocknext_transports.cli.usage import usage


class UsageGroup(click.Group):
    """`usage explain FILE`, and `usage ID` for whatever else comes after `usage`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take anything but a sub-command or a question for help as arguments of `usage ID`."""
        if not args or args[0] not in {*self.commands, "-h", "--help"}:
            args = ["of", *args]
        return super().parse_args(ctx, args)


@click.group("usage", cls=UsageGroup, short_help="What a customer used, and what it cost.")
def usage_commands() -> None:
    """Show what a customer used; or explain what a response would be billed as.

    \b
    clocknext usage ID             what the customer with this id used, and what it cost
    clocknext usage explain FILE   what a model's response would be billed as, and why; bills nothing
    """  # noqa: D301 - click's mark of a block to leave as it is


@click.command(short_help="What a model's response would be billed as, and why.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--json", "as_json", is_flag=True, help="The explanation as JSON.")
@click.pass_context
def explain(ctx: click.Context, *, file: str, as_json: bool) -> None:
    """Read a model's response in JSON from FILE (- for standard input), and say what it would be billed as.

    FILE may hold a response, a stream of events as curl saves it, the last chunk of a stream, the result of a
    run (a list is one), or a line for each, as a batch's results have. Nothing is sent anywhere. Exit status:
    0; 1 where something in it can't be billed or is not JSON; 2 where there is no such file.
    """
    name = "Standard input" if file == "-" else file
    text = _read(file, name)
    found: list[tuple[int | None, Explanation]]
    if text.lstrip().startswith(_EVENTS):
        found = [(None, _of_stream(text, name))]
    else:
        # The line of each, where there are lines.
        found = [(line, each) for line, document in _parsed(text, name) for each in _explained(document)]
    if as_json:
        print_json([_as_json(each, line) for line, each in found])
    else:
        for number, (line, each) in enumerate(found, 1):
            if number > 1:
                click.echo()
            if line is not None:
                click.echo(f"Line {line}")
            elif len(found) > 1:
                click.echo(f"Request {number} of {len(found)}")
            _print(each)
    if any(each.error is not None for _, each in found):
        ctx.exit(1)


usage_commands.add_command(explain)
usage_commands.add_command(usage, "of")
usage.hidden = True


_EVENTS = ("data:", "event:", "id:", "retry:", ":")
"""What the lines of a stream of events begin with."""


def _read(file: str, name: str) -> str:
    """Read a file in UTF-8, -16 or -32, with or without a mark of its byte order."""
    try:
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        if raw.startswith(b"\x1f\x8b"):
            remedy = "Give it unpacked: gunzip -c FILE | clocknext usage explain -"
            raise click.ClickException(f"{name} is compressed with gzip. {remedy}")
        return raw.decode(json.detect_encoding(raw))
    except (OSError, UnicodeDecodeError) as error:
        raise click.FileError(name, str(error)) from None


def _parsed(text: str, file: str) -> list[tuple[int | None, object]]:
    """Parse a document, or several one after another, such as one a line; of several, each with its line.

    In the place of a line that is not JSON stands the error, if others have responses.
    """
    if not text.strip():
        raise click.ClickException(f"{file} is empty: it must have a response as JSON.")
    decoder, documents, line, at = json.JSONDecoder(), list[tuple[int | None, object]](), 1, 0
    while (begin := _begin(text, at)) < len(text):
        line += text.count("\n", at, begin)
        document: object
        try:
            document, at = decoder.raw_decode(text, begin)
        except ValueError as error:
            document, at = error, _end_of_line(text, begin)
            if isinstance(error, json.JSONDecodeError) and error.pos > at:  # it is no line of its own
                raise _not_json(file, error) from None
        except RecursionError:
            raise click.ClickException(f"{file} is nested too deeply, in the JSON at line {line}.") from None
        documents.append((line, document))
        line += text.count("\n", begin, at)
    errors = [each for _, each in documents if isinstance(each, ValueError)]
    if errors and not any(isinstance(each, dict | list) for _, each in documents):
        raise _not_json(file, errors[0])
    return documents if len(documents) > 1 else [(None, documents[0][1])]


def _not_json(file: str, error: ValueError) -> click.ClickException:
    return click.ClickException(f"{file} is not JSON: {error}.")


def _explained(document: object) -> Sequence[Explanation]:
    if isinstance(document, ValueError):
        return [Explanation(None, f"the line is not JSON: {document}", (), ())]
    return explanations(document)


def _end_of_line(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def _of_stream(text: str, file: str) -> Explanation:
    """Read a whole stream of events, as `signals.from_stream` does."""
    gatherer = Gatherer()
    for number, line in enumerate(text.splitlines(), 1):
        name, _, data = line.partition(":")
        if name.strip() != "data" or data.strip() in {"", "[DONE]"}:
            continue
        try:
            gatherer.feed(json.loads(data))
        except (ValueError, RecursionError):
            raise click.ClickException(f"{file} has an event that is not JSON, in line {number}.") from None
    reading, unbilled = gatherer.finish("completed")
    if reading is None:
        detail = None if unbilled is None else unbilled.detail
        return Explanation(None, detail or "the stream had no usage", (), ())
    return Explanation(reading, None, (), (_OF_STREAM,))


_OF_STREAM = "the counts are the last that the events of the stream have, as signals.from_stream bills it"


def _begin(text: str, at: int) -> int:
    """Return where the next document begins."""
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _print(explanation: Explanation) -> None:
    reading = explanation.reading
    if reading is None:
        click.echo(f"Not billed: {cell(explanation.error)}")
        return
    tokens = reading.tokens
    model = None if reading.model is None else without_date(reading.model)
    rows = [
        ["input", cell(tokens.input)],
        ["output", cell(tokens.output)],
        ["cache", cell(tokens.cache)],
        ["model", cell(model) or "none in the response: give model="],
        ["model in the response", cell(reading.model)],
        ["response id", cell(reading.response_id)],
        ["provider", cell(reading.provider)],
        ["tier", cell(reading.tier)],
        *([_label(name, has_cache=bool(tokens.cache)), cell(count)] for name, count in reading.other.items()),
    ]
    fields = [[cell(each.path), cell(each.value), each.role] for each in explanation.fields]
    tables = [Table({"What": "left", "Value": "left"}, rows, "Billed as")]
    if fields:
        tables.append(Table({"Field": "left", "Count": "right", "Role": "left"}, fields, "From"))
    show(*tables)
    click.echo()
    for reason in explanation.reasons:
        click.echo(f"Because {reason}.")


def _label(name: str, *, has_cache: bool) -> str:
    """Say of a count that has no field of its own whether it is billed within another."""
    within = counted_in(name)
    if within is None:
        return f"not billed: {name}"
    if within == "prompt":
        within = "input and cache" if has_cache else "input"
    return f"within {within}: {name}"


def _as_json(explanation: Explanation, line: int | None) -> dict[str, object]:
    reading = explanation.reading
    of: dict[str, object] = {} if line is None else {"line": line}
    if reading is None:
        return {**of, "error": explanation.error}
    return {
        **of,
        "tokens": {
            "input": reading.tokens.input,
            "output": reading.tokens.output,
            "cache": reading.tokens.cache,
        },
        "model": reading.model,
        "catalogueModel": None if reading.model is None else without_date(reading.model),
        "responseId": reading.response_id,
        "provider": reading.provider,
        "tier": reading.tier,
        "other": dict(reading.other),
        "fields": [
            {"path": each.path, "count": each.value, "role": each.role} for each in explanation.fields
        ],
        "reasons": list(explanation.reasons),
    }
