"""The command line: list the targets, run them, replay inputs, merge what was found into a corpus.

python -m fuzz                                    list the targets and the size of their corpora
python -m fuzz run [TARGET...] --seconds 30       fuzz, by default each target in turn
python -m fuzz replay [TARGET] [FILE...]          check committed inputs, or the files given
python -m fuzz merge TARGET FOLDER...             keep the fewest inputs that reach all that is reached
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from traceback import print_exc

from fuzz.inputs import TARGETS, committed, corpus, findings, load

SLOWEST = 30
"""Seconds one input may take before it counts as a hang."""
GRACE = 300.0
"""Seconds beyond its time after which a run is ended: reading the corpus and the last input take some."""
SHOWN_LINES = 60

_WRITTEN = re.compile(r"Test unit written to (.+)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out a command and return the exit status: 1 when something was found."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description="Coverage-guided fuzzing.")
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("list", help="list the targets (the default)")
    run = commands.add_parser("run", help="fuzz targets; needs atheris")
    run.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; default: all")
    run.add_argument("--seconds", type=int, default=30, help="for each target; default: 30")
    run.add_argument("--jobs", type=int, default=1, help="targets that run side by side; default: 1")
    run.add_argument("--keep", type=Path, metavar="FOLDER", help="keep new inputs in FOLDER/TARGET, to merge")
    replay = commands.add_parser("replay", help="check committed inputs, or files")
    replay.add_argument("target", nargs="?", choices=TARGETS, metavar="TARGET", help="default: all")
    replay.add_argument("files", nargs="*", type=Path, metavar="FILE", help="default: the committed ones")
    merge = commands.add_parser("merge", help="minimise a corpus together with new inputs; needs atheris")
    merge.add_argument("target", choices=TARGETS, metavar="TARGET")
    merge.add_argument("folders", nargs="*", type=Path, metavar="FOLDER")
    chosen = parser.parse_args(arguments)
    match chosen.command:
        case "run":
            if unknown := set(chosen.targets) - set(TARGETS):
                parser.error(f"no such target: {', '.join(sorted(unknown))}")
            return run_targets(chosen.targets or TARGETS, chosen.seconds, chosen.jobs, chosen.keep)
        case "replay":
            return replay_files([chosen.target] if chosen.target else TARGETS, chosen.files)
        case "merge":
            return merge_into_corpus(chosen.target, chosen.folders)
        case _:
            return list_targets()


def list_targets() -> int:
    """Print each target, what it is about, and how many inputs it has."""
    for name in TARGETS:
        about = (load(name).__doc__ or "").partition("\n")[0]
        print(f"{name:12} {about}")
        inputs, found = (len(list(folder.glob("*"))) for folder in (corpus(name), findings(name)))
        print(f"{'':12} {inputs} inputs, {found} findings")
    return 0


def run_targets(names: Sequence[str], seconds: int, jobs: int, keep: Path | None) -> int:
    """Fuzz each target for some seconds, some of them side by side."""
    if find_spec("atheris") is None:
        print("atheris is not installed; docs/fuzzing.md says where there is one.", file=sys.stderr)
        return 2
    with ThreadPoolExecutor(jobs) as pool:
        found = list(pool.map(partial(_fuzz, seconds=seconds, keep=keep), names))
    return int(any(found))


def replay_files(names: Sequence[str], files: Sequence[Path]) -> int:
    """Check inputs in this process, and show why each that fails does."""
    failed = 0
    for name in names:
        check = load(name).check
        paths = files or committed(name)
        began = time.perf_counter()
        for path in paths:
            try:
                check(path.read_bytes())
            except Exception:  # noqa: BLE001 - whatever it is, it is the finding
                failed += 1
                print_exc()
                print(f"{name}: {path} fails\n", file=sys.stderr)
        print(f"{name}: {len(paths)} inputs replayed in {time.perf_counter() - began:.1f} s")
    return int(bool(failed))


def merge_into_corpus(name: str, folders: Sequence[Path]) -> int:
    """Replace a corpus by the fewest of its inputs and the given ones that reach as much."""
    with TemporaryDirectory() as work:
        merged = Path(work, "merged")
        merged.mkdir()
        sources = [folder for folder in (corpus(name), findings(name), *folders) if folder.is_dir()]
        status = _engine(name, Path(work), ["-merge=1", str(merged), *map(str, sources)]).wait()
        if status or not any(merged.iterdir()):
            print(_log(Path(work), name).read_text("utf-8", "replace"), file=sys.stderr)
            return 1
        shutil.rmtree(corpus(name), ignore_errors=True)
        shutil.copytree(merged, corpus(name))
    paths = list(corpus(name).glob("*"))
    print(f"{name}: {len(paths)} inputs, {sum(path.stat().st_size for path in paths):,} bytes")
    return 0


def _fuzz(name: str, *, seconds: int, keep: Path | None) -> bool:
    """Fuzz one target; tell whether something was found."""
    for folder in (corpus(name), findings(name)):
        folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as work:
        new = Path(keep or work, name)
        new.mkdir(parents=True, exist_ok=True)
        inputs = [str(folder) for folder in (new, corpus(name), findings(name))]
        process = _engine(name, Path(work), [*inputs, f"-max_total_time={seconds}"])
        try:
            status = process.wait(seconds + GRACE)
        except subprocess.TimeoutExpired:
            status = -1
        finally:
            process.kill()
            process.wait()
        log = _log(Path(work), name).read_text("utf-8", "replace")
    coverage = [line for line in log.splitlines() if " cov: " in line]
    begun = [line for line in coverage if "INITED" in line]
    print(f"{name}: status {status}", *begun, *coverage[-1:], sep="\n  ")
    if status:
        print(*log.splitlines()[-SHOWN_LINES:], sep="\n")
        for written in _WRITTEN.finditer(log):
            shown = os.path.relpath(written[1])
            print(f"\nFound: {shown}\nReplay it with: python -m fuzz replay {name} {shown}")
    sys.stdout.flush()
    return bool(status)


def _engine(name: str, work: Path, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a process that fuzzes, its output going to a file in `work`."""
    target = load(name)
    words = work / f"{name}.dict"
    words.write_text("".join(f'"{_escaped(token)}"\n' for token in target.TOKENS), "ascii")
    options = [
        f"-dict={words}",
        f"-max_len={target.MAX_BYTES}",
        f"-timeout={SLOWEST}",
        f"-report_slow_units={SLOWEST}",
        f"-artifact_prefix={findings(name)}{os.sep}",
    ]
    with _log(work, name).open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "fuzz.engine", name, *arguments, *options], stdout=log, stderr=log
        )


def _log(work: Path, name: str) -> Path:
    return work / f"{name}.log"


def _escaped(token: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in token)


if __name__ == "__main__":
    sys.exit(main())
