"""The command: record the clients of a program, or replay traces."""

import argparse
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from clocknext_transports.recorder.replaying import NotATraceError, replay
from clocknext_transports.recorder.writing import recording

T = TypeVar("T")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(
        "python -m clocknext_transports.recorder", description="Record traces of clients, and replay them."
    )
    commands = parser.add_subparsers(required=True, dest="command")
    recorder = commands.add_parser("record", help="run a Python program and record its clients")
    recorder.add_argument("trace", help="where the trace goes, such as trace.jsonl")
    recorder.add_argument("-m", action="store_true", dest="is_module", help="the program is a module's name")
    recorder.add_argument("program", help="a script, or with -m a module")
    recorder.add_argument("arguments", nargs=argparse.REMAINDER, help="the program's own")
    replayer = commands.add_parser("replay", help="feed traces to this version's core")
    replayer.add_argument("traces", nargs="+", type=Path)
    options = parser.parse_args(arguments)
    if options.command == "record":
        _record(options.trace, options.program, options.arguments, is_module=options.is_module)
        return 0
    return max([_replay_file(path) for path in options.traces])


def _record(trace: str, program: str, arguments: Sequence[str], *, is_module: bool) -> None:
    sys.argv = [program, *arguments]
    with recording(trace) as paths:
        try:
            if is_module:
                runpy.run_module(program, run_name="__main__", alter_sys=True)
            else:
                sys.path.insert(0, str(Path(program).parent))
                runpy.run_path(program, run_name="__main__")
        finally:
            for path in paths:
                print(f"recorded {path}", file=sys.stderr)
            if not paths:
                print("nothing was recorded: the program made no client", file=sys.stderr)


def _replay_file(path: Path) -> int:
    lines = path.read_text("utf-8", "replace").splitlines(keepends=True)
    try:
        difference = next(replay(lines), None)
    except NotATraceError as error:
        print(f"{path}: {error}")
        return 2
    if difference is None:
        print(f"{path}: {len(lines)} lines, all as recorded")
        return 0
    print(f"{path}: the replay differs, first in {difference}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
