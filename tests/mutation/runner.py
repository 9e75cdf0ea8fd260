"""Runs the core's own tests against mutants, each in a process of its own.

The tests are imported and collected once; for each mutant that process forks, puts the changed code into
the functions there are, and runs the tests that cover the change, the quickest first, until one fails.
What an import executes can't be changed afterwards: such a mutant is imported anew, in a process that has
not imported the core. So is one that survived although an import calls the function.
"""

import gc
import importlib
import importlib.abc
import importlib.util
import os
import pickle
import signal
import sys
import tempfile
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import ClassVar, TypeVar

import coverage
import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.mutation.mutants import CORE, ROOT, Mutant, path_of

T = TypeVar("T")

TESTS = ROOT / "tests" / "core"
EXCLUDED = TESTS / "test_purity.py"
"""Reads the files of the core, which do not change here."""

OPTIONS = (
    *("-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT), "-o", "addopts="),
    *("-p", "no:cacheprovider", "-p", "no:terminal", "-p", "_hypothesis_pytestplugin"),
    # What stands there is for the whole suite: it imports more than the core, and loads a profile of its own.
    "--noconftest",
)
SURVIVED, KILLED, LATE, UNFIT, BROKEN = 0, 1, 2, 3, 70
"""Exit codes of the process of a mutant. Late: out of time; unfit: not without a new import."""

COLLECTION_CPU, LEAST_CPU, TIMES_CPU = 30.0, 1.0, 10.0
"""Seconds of processor time for imports and the quickest test; how many times its usual one a test has."""
TIMES_WALL = 20.0
"""How many times that may pass on a busy machine."""


NEAR_FILES = 3
"""Files of tests that are run first for a mutant that is imported anew."""


_NOT_SHARED = ("clocknext", "tests", "_hypothesis_pytestplugin")
"""What a mutant that is imported anew imports itself; pytest refuses a plugin that is there before it."""


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant."""

    code: int
    """How its process ended."""
    killer: str = ""
    """The test that failed."""


@dataclass
class Measured:
    """What the tests do without a mutant."""

    seconds: dict[str, float] = field(default_factory=dict[str, float])
    """The processor time that each takes."""
    lines: dict[str, dict[int, set[str]]] = field(default_factory=dict[str, dict[int, set[str]]])
    """Which tests execute each line of each module; the empty one is the import."""
    imports: list[str] = field(default_factory=list[str])
    """Which modules the tests import, apart from the core and themselves."""
    killers: dict[str, list[str]] = field(default_factory=lambda: defaultdict[str, list[str]](list))
    """Which tests have killed mutants of a module, the latest first: they may well kill the next."""

    def executing(self, mutant: Mutant) -> set[str]:
        """Name the tests that execute the line, and the empty one if an import does."""
        lines = self.lines.get(mutant.module, {})
        return set[str]().union(*(lines.get(each, ()) for each in range(mutant.line, mutant.end_line + 1)))

    def covering(self, mutant: Mutant) -> list[str]:
        """Order the tests that execute the line: first what killed mutants nearby, then the quickest."""
        return self._killers_first(mutant, self.executing(mutant) - {""})

    def stages(self, mutant: Mutant) -> list[list[str]]:
        """Order the tests to be run after a new import, in parts: not every mutant needs every file."""
        name = f"test_{mutant.module.rpartition('/')[2]}.py"
        files = [each for each in self.files if each.endswith(name)]
        files += dict.fromkeys(each.partition("::")[0] for each in self.killers[mutant.module])
        near = {each for each in self.seconds if each.partition("::")[0] in files[:NEAR_FILES]}
        covering = self.covering(mutant)
        parts = [self._killers_first(mutant, near), [each for each in covering if each not in near]]
        if not mutant.in_function or not covering:  # what is made of it may be used by any test
            parts.append(self._quickest(self.seconds.keys() - {*near, *covering}))
        return [part for part in parts if part]

    def _killers_first(self, mutant: Mutant, tests: Collection[str]) -> list[str]:
        known = [each for each in self.killers[mutant.module] if each in tests]
        return [*known, *self._quickest(set(tests).difference(known))]

    def _quickest(self, tests: Iterable[str]) -> list[str]:
        return sorted(tests, key=self.seconds.__getitem__)

    @property
    def files(self) -> list[str]:
        """All files of tests."""
        return list(dict.fromkeys(each.partition("::")[0] for each in self.seconds))

    def killed(self, mutant: Mutant, killer: str) -> None:
        """Remember which test killed a mutant."""
        killers = self.killers[mutant.module]
        if killer in killers:
            killers.remove(killer)
        killers.insert(0, killer)


def in_child(work: Callable[[], T]) -> T:
    """Run a function in a process of its own and return what it returns."""
    with tempfile.TemporaryFile() as file:
        child = os.fork()
        if child == 0:
            code = BROKEN
            try:
                pickle.dump(work(), file)
                file.flush()
                code = 0
            except BaseException:  # noqa: BLE001 - of a process that ends here
                traceback.print_exc()
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        if status != 0:
            raise RuntimeError(f"A child process ended with status {status}.")
        file.seek(0)
        result: T = pickle.load(file)
        return result


def leave_garbage() -> None:
    """Collect no garbage: that would write to every page of memory that is shared with the children."""
    gc.freeze()
    gc.disable()
    setattr(gc, "collect", lambda: 0)  # noqa: B010 - what pytest asks for as it ends, too


def judged(
    mutants: Iterable[Mutant], try_out: Callable[[Mutant], int], measured: Measured, processes: int
) -> Iterator[tuple[Mutant, Verdict]]:
    """Try each mutant in a child process, so many at a time."""
    running: dict[int, tuple[Mutant, int]] = {}
    counts: dict[int, int] = defaultdict(int)

    def ended() -> tuple[Mutant, Verdict]:
        child, status = os.wait()
        mutant, pipe = running.pop(child)
        with open(pipe, encoding="utf-8") as told:
            verdict = Verdict(code_of(status), told.read())
        if verdict.code == BROKEN:
            raise RuntimeError(f"The process of a mutant broke: {mutant}")
        if verdict.killer:
            measured.killed(mutant, verdict.killer)
        counts[verdict.code] += 1
        if sum(counts.values()) % 200 == 0:
            print(f"{sum(counts.values())} tried, {counts[SURVIVED]} left", file=sys.stderr, flush=True)
        return mutant, verdict

    for mutant in mutants:
        if len(running) == processes:
            yield ended()
        reads, writes = os.pipe()
        child = os.fork()
        if child == 0:
            code = BROKEN
            try:
                os.close(reads)
                _Limits.told = writes
                code = try_out(mutant)
            except BaseException:  # noqa: BLE001 - of a process that ends here
                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(writes)
        running[child] = mutant, reads
    while running:
        yield ended()


def code_of(status: int) -> int:
    """Read how a process ended: only its limit ends it by a signal."""
    code = os.waitstatus_to_exitcode(status)
    return LATE if code < 0 else code


def limit(seconds: float) -> None:
    """Have this process ended when it has used up so much time."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, seconds * TIMES_WALL)


def run_pytest(arguments: Sequence[str], plugin: object) -> int:
    """Run the tests without output, in one order and with the same examples each time."""
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    settings.register_profile(
        "mutation",
        derandomize=True,
        database=None,
        deadline=None,
        print_blob=False,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )
    settings.load_profile("mutation")
    return int(pytest.main([*OPTIONS, *arguments], plugins=[plugin]))


def measure() -> Measured:
    """Run all tests once: they must pass."""
    measured = Measured()
    tracer = coverage.Coverage(data_file=None, source_pkgs=["clocknext_core"], config_file=False)

    class Plugin:
        @pytest.hookimpl(wrapper=True)
        def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
            tracer.switch_context(item.nodeid)
            began = time.process_time()
            result = yield
            measured.seconds[item.nodeid] = time.process_time() - began
            tracer.switch_context("")
            return result

        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            self.pytest_collectreport(report)

        def pytest_collectreport(self, report: pytest.CollectReport | pytest.TestReport) -> None:
            if report.failed:
                print(report.nodeid, report.longreprtext, sep="\n", file=sys.stderr)

    tracer.start()
    code = run_pytest([str(TESTS), f"--ignore={EXCLUDED}"], Plugin())
    tracer.stop()
    if code != 0:
        raise RuntimeError(f"The tests do not pass without a mutant: pytest ended with {code}.")
    measured.imports = [name for name in sys.modules if not name.startswith(_NOT_SHARED)]
    data = tracer.get_data()
    for path in map(Path, data.measured_files()):
        module = path.relative_to(CORE).with_suffix("").as_posix()
        lines = data.contexts_by_lineno(str(path))
        measured.lines[module] = {line: set(contexts) for line, contexts in lines.items()}
    return measured


class _Limits:
    """Gives each test its time, and ends the process at the first failure."""

    told: ClassVar[int]
    """Where the name of the test that failed is written to."""

    def __init__(self, measured: Measured) -> None:
        self.measured = measured

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        limit(max(LEAST_CPU, TIMES_CPU * self.measured.seconds[item.nodeid]))
        result = yield
        limit(0)
        return result

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> None:
        # A report is not made: it would take longer than all else.
        if call.excinfo is not None and not call.excinfo.errisinstance(
            (pytest.skip.Exception, pytest.xfail.Exception)
        ):
            os.write(self.told, item.nodeid.encode())
            os._exit(KILLED)


def try_warm(mutants: Sequence[Mutant], measured: Measured, processes: int) -> list[Verdict]:
    """Try mutants whose changes are in functions: in a process in which everything is imported."""
    verdicts: dict[Mutant, Verdict] = {}

    class Plugin(_Limits):
        def pytest_runtestloop(self, session: pytest.Session) -> bool:
            items = {item.nodeid: item for item in session.items}
            live = live_functions()
            for mutant in mutants:
                _codes_before(mutant)
            leave_garbage()

            def try_out(mutant: Mutant) -> int:
                if not put_into(mutant, live):
                    return UNFIT
                tests = measured.covering(mutant)
                for test, following in zip(tests, [*tests[1:], None], strict=True):
                    item, after = items[test], None if following is None else items[following]
                    session.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
                return SURVIVED

            verdicts.update(judged(mutants, try_out, measured, processes))
            return True

    code = run_pytest([str(TESTS), f"--ignore={EXCLUDED}"], Plugin(measured))
    if len(verdicts) != len(mutants):
        raise RuntimeError(f"pytest ended with {code}.")
    return [verdicts[mutant] for mutant in mutants]


Live = Mapping[tuple[str, str, int], Sequence[FunctionType]]


def live_functions() -> Live:
    """Find every function of the core by file, name and line."""
    found: dict[tuple[str, str, int], list[FunctionType]] = defaultdict(list)
    for each in gc.get_objects():
        if type(each) is FunctionType and each.__code__.co_filename.startswith(str(CORE)):
            found[_place(each.__code__)].append(each)
    return found


def _place(code: CodeType) -> tuple[str, str, int]:
    return code.co_filename, code.co_qualname, code.co_firstlineno


def put_into(mutant: Mutant, live: Live) -> bool:
    """Give live functions the mutant's code; return whether all that has changed is changed now."""
    changed = False
    after = _codes(mutant.module, mutant.first_line, mutant.statement)
    for key, code in _codes_before(mutant).items():
        new = after.get(key)
        if new is None or new == code:
            continue
        for function in live.get(_place(code), ()):
            if len(new.co_freevars) != len(code.co_freevars):
                return False
            function.__code__ = new
            changed = True
    return changed


@cache
def _codes(module: str, first_line: int, statement: str) -> Mapping[tuple[str, int], CodeType]:
    """Compile a statement; find the code of each function by its name, and which of that name it is."""
    codes: dict[tuple[str, int], CodeType] = {}
    counts: dict[str, int] = defaultdict(int)
    source = "\n" * (first_line - 1) + statement
    waiting = [compile(source, str(path_of(module)), "exec", dont_inherit=True)]
    while waiting:
        for each in waiting.pop().co_consts:
            if isinstance(each, CodeType):
                codes[each.co_qualname, counts[each.co_qualname]] = each
                counts[each.co_qualname] += 1
                waiting.append(each)
    return codes


def _codes_before(mutant: Mutant) -> Mapping[tuple[str, int], CodeType]:
    return _codes(mutant.module, mutant.first_line, mutant.statement_before)


def try_cold(
    mutants: Iterable[Mutant], measured: Measured, processes: int
) -> Iterator[tuple[Mutant, Verdict]]:
    """Try mutants by importing them."""
    for name in measured.imports:
        with suppress(ImportError):  # what a module has put there itself, such as typing.io
            importlib.import_module(name)
    return judged(mutants, lambda mutant: _run_cold(mutant, measured), measured, processes)


def _run_cold(mutant: Mutant, measured: Measured) -> int:
    for chosen in measured.stages(mutant):
        child = os.fork()
        if child == 0:
            os._exit(_import_and_run(mutant, chosen, measured))
        _, status = os.waitpid(child, 0)
        code = code_of(status)
        if code != SURVIVED:
            return code
    return SURVIVED


def _import_and_run(mutant: Mutant, chosen: Sequence[str], measured: Measured) -> int:
    places = {test: place for place, test in enumerate(chosen)}

    class Plugin(_Limits):
        def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
            limit(0)
            items[:] = [item for item in items if item.nodeid in places]
            items.sort(key=lambda item: places[item.nodeid])

    limit(COLLECTION_CPU)
    leave_garbage()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what can't even be imported is told of at length
    sys.meta_path.insert(0, _Finder(mutant))
    files = sorted({test.partition("::")[0] for test in chosen})
    code = run_pytest([str(ROOT / file) for file in files], Plugin(measured))
    # A mutant may have changed which tests there are; that alone is no failure.
    return SURVIVED if code in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED) else KILLED


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the mutant in place of its module."""

    def __init__(self, mutant: Mutant) -> None:
        self.mutant = mutant

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self.mutant.name:
            return None
        return importlib.util.spec_from_file_location(fullname, path_of(self.mutant.module), loader=self)

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        path = str(path_of(self.mutant.module))
        exec(compile(self.mutant.source, path, "exec", dont_inherit=True), module.__dict__)
