"""What `clocknext spool quarantine` and `clocknext outbox quarantine` share: options and output."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import click

from clocknext_transports.cli.tables import Table, cell, print_json_line, say
from clocknext_transports.cli.tables import show as show_tables


@dataclass(frozen=True)
class Choice:
    """What the options ask for: to list signals, or to release or delete them."""

    release: bool
    delete: bool
    keys: tuple[str, ...]
    """Only these signals; none: all of them."""
    as_json: bool

    def show(self, entries: Sequence[Mapping[str, object]]) -> None:
        """Say how many signals were decided on, or list them, each as it is in JSON."""
        if self.release or self.delete:
            say(f"{len(entries):,} {'released' if self.release else 'deleted'}.")
        elif self.as_json:
            for entry in entries:
                print_json_line(entry)
        else:
            rows = [
                [cell(entry[name]) for name in ("idempotencyKey", "recordedAt", "reason")]
                for entry in entries
            ]
            show_tables(Table({"Key": "left", "Recorded": "left", "Reason": "left"}, rows))


def quarantine_options(*, release: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the options, and give the command the `choice` that they make.

    Args:
        release: What a release does, for the help.
    """

    def add(command: Callable[..., None]) -> Callable[..., None]:
        @click.option("--release", is_flag=True, help=release)
        @click.option("--delete", is_flag=True, help="Delete it. It will not be billed.")
        @click.option(
            "--key", "keys", metavar="KEY", multiple=True, help="Only this signal; may be repeated."
        )
        @click.option("--all", "is_all", is_flag=True, help="Everything in quarantine.")
        @click.option("--json", "as_json", is_flag=True, help="As JSON.")
        @functools.wraps(command)
        def run(
            *,
            release: bool,
            delete: bool,
            keys: tuple[str, ...],
            is_all: bool,
            as_json: bool,
            **others: object,
        ) -> None:
            if release and delete:
                raise click.UsageError("--release and --delete exclude each other.")
            if (release or delete) and bool(keys) == is_all:
                raise click.UsageError("Say which: --key KEY or --all.")
            command(**others, choice=Choice(release, delete, keys, as_json))

        return run

    return add
