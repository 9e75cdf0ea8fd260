"""`clocknext usage explain`: what a model's response would be billed as, from which fields, and why."""

import json
import sys
from pathlib import Path

import click

from clocknext_core.usage.catalogue import without_date
from clocknext_core.usage.reading import Explanation
from clocknext_core.usage.runs import explanations
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

    FILE may hold a response, the last chunk of a stream, the result of a run, or a line for each. Nothing is
    sent anywhere. Exit status: 0, or 1 where something in it can't be billed.
    """
    found = explanations(_parsed(file))
    if as_json:
        print_json([_as_json(each) for each in found])
    else:
        for number, each in enumerate(found):
            if number:
                click.echo()
            _print(each)
    if any(each.error is not None for each in found):
        ctx.exit(1)


usage_commands.add_command(explain)
usage_commands.add_command(usage, "of")
usage.hidden = True


def _parsed(file: str) -> object:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise click.FileError(file, str(error)) from None
    try:
        document: object = json.loads(text)
    except ValueError:
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) < 2:
            raise click.ClickException(f"{file} is not JSON.") from None
        try:
            return [json.loads(line) for line in lines]
        except ValueError:
            raise click.ClickException(f"{file} is neither JSON nor lines of JSON.") from None
    return document


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
        ["model", cell(model)],
        ["model in the response", cell(reading.model)],
        ["response id", cell(reading.response_id)],
        ["provider", cell(reading.provider)],
        ["tier", cell(reading.tier)],
        *([f"not billed: {name}", cell(count)] for name, count in reading.other.items()),
    ]
    fields = [[cell(each.path), cell(each.value), each.role] for each in explanation.fields]
    show(
        Table({"What": "left", "Value": "left"}, rows, "Billed as"),
        Table({"Field": "left", "Count": "right", "Role": "left"}, fields, "From"),
    )
    click.echo()
    for reason in explanation.reasons:
        click.echo(f"Because {reason}.")


def _as_json(explanation: Explanation) -> dict[str, object]:
    reading = explanation.reading
    if reading is None:
        return {"error": explanation.error}
    return {
        "tokens": {
            "input": reading.tokens.input,
            "output": reading.tokens.output,
            "cache": reading.tokens.cache,
        },
        "model": reading.model,
        "responseId": reading.response_id,
        "provider": reading.provider,
        "tier": reading.tier,
        "other": dict(reading.other),
        "fields": [
            {"path": each.path, "count": each.value, "role": each.role} for each in explanation.fields
        ],
        "reasons": list(explanation.reasons),
    }
