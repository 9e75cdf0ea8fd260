"""Makes the mutants of a module: mutmut's operators, on every node that is executed, and some of our own.

mutmut itself leaves decorated functions, class bodies and module-level tables alone; here they are changed
too. Left alone is what does nothing at run time: docstrings, annotations, overloads, protocols, type
variables, type aliases unless their `get_args` are asked for, and what is told to `cast`. Of a text there is
one mutant, which no longer says the same.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cache
from pathlib import Path

import libcst as cst
import libcst.matchers as m
from libcst.metadata import CodeRange, MetadataWrapper, PositionProvider
from mutmut.mutation.mutators import mutation_operators

ROOT = Path(__file__).parents[2]
CORE = ROOT / "clocknext_core"

Change = tuple[cst.CSTNode, cst.CSTNode]
"""A node, and what is put in its place."""


@dataclass(frozen=True)
class Mutant:
    """One changed module."""

    module: str
    """Its path below the core, without `.py`."""
    scope: str
    """The function and class it is in, empty at the module's level."""
    line: int
    end_line: int
    """The statement, or the head of the compound statement, in which the change is."""
    in_function: bool
    """Whether the change is in the body of a function, not in what is executed by the import alone."""
    old: str
    new: str
    """The changed lines, without indentation."""
    parts: tuple[str, str, str]
    """The module: what comes before the changed statement, that, and what comes after it."""

    @property
    def source(self) -> str:
        """The whole module."""
        return "".join(self.parts)

    @property
    def first_line(self) -> int:
        """Where the changed statement of the module begins, with the comments above it."""
        return self.parts[0].count("\n") + 1

    @property
    def statement(self) -> str:
        """The changed statement of the module."""
        return self.parts[1]

    @property
    def statement_before(self) -> str:
        """That statement as it is."""
        above, _, below = self.parts
        source = source_of(self.module)
        return source[len(above) : len(source) - len(below)]

    @property
    def name(self) -> str:
        """The module's name for an import."""
        return "clocknext_core." + self.module.replace("/", ".")

    @property
    def key(self) -> tuple[str, str, str]:
        """What it is known by: where it is and the changed lines. It outlives changes elsewhere."""
        return f"{self.module}:{self.scope}", self.old, self.new

    def __str__(self) -> str:
        old, new = (
            "".join(f"    {sign} {line}\n" for line in text.splitlines())
            for sign, text in (("-", self.old), ("+", self.new))
        )
        return f"{self.module}:{self.scope}, line {self.line}\n{old}{new}"


def modules() -> list[str]:
    """Every module of the core that has code of its own."""
    paths = (path.relative_to(CORE) for path in CORE.rglob("*.py") if path.name != "__init__.py")
    return sorted(path.with_suffix("").as_posix() for path in paths)


def path_of(module: str) -> Path:
    """Where a module is."""
    return CORE / f"{module}.py"


@cache
def source_of(module: str) -> str:
    """A module as it is."""
    return path_of(module).read_text("utf-8")


@cache
def aliases_read() -> set[str]:
    """The type aliases that are read at run time."""
    return {name for module in modules() for name in re.findall(r"get_args\((\w+)\)", source_of(module))}


def mutants_of(module: str) -> Iterator[Mutant]:
    """Make every mutant of a module, each once."""
    wrapper = MetadataWrapper(cst.parse_module(source_of(module)))
    tree = wrapper.module
    positions = wrapper.resolve(PositionProvider)
    parts = [tree.code_for_node(statement) for statement in tree.body]
    head = "".join(tree.code_for_node(line) for line in tree.header)
    for number, statement in enumerate(tree.body):
        seen = {parts[number]}
        collector = _Collector(positions)
        statement.visit(collector)
        before, after = head + "".join(parts[:number]), "".join(parts[number + 1 :])
        for found in collector.found:
            text = tree.code_for_node(_changed(statement, found))
            if text in seen or not _compiles(text):
                continue
            seen.add(text)
            old, new = _difference(parts[number], text)
            where = found.line, found.end_line, found.in_function
            yield Mutant(module, found.scope, *where, old, new, (before, text, after))


def _changed(statement: cst.CSTNode, found: "_Found") -> cst.CSTNode:
    """Make a statement of the module with the change in it, or in that member of the class."""
    member = found.member
    if member is None:
        changed = statement.deep_replace(*found.change)
        assert isinstance(changed, cst.CSTNode)
        return changed
    assert isinstance(statement, cst.ClassDef)
    changed_member = member.deep_replace(*found.change)
    members = [changed_member if each is member else each for each in statement.body.body]
    return statement.with_changes(body=statement.body.with_changes(body=members))


def _compiles(source: str) -> bool:
    try:
        compile(source, "<mutant>", "exec", dont_inherit=True)
    except SyntaxError:
        return False
    return True


def _difference(before: str, after: str) -> tuple[str, str]:
    old, new = before.splitlines(), after.splitlines()
    changes = [
        each for each in SequenceMatcher(None, old, new, autojunk=False).get_opcodes() if each[0] != "equal"
    ]
    first, last = changes[0], changes[-1]
    return _stripped(old[first[1] : last[2]]), _stripped(new[first[3] : last[4]])


def _stripped(lines: Sequence[str]) -> str:
    return "\n".join(line.strip() for line in lines)


@dataclass(frozen=True)
class _Found:
    change: Change
    member: cst.CSTNode | None
    """The statement of a class's body in which it is."""
    scope: str
    line: int
    end_line: int
    in_function: bool


_Statement = cst.SimpleStatementLine | cst.BaseCompoundStatement | cst.ExceptHandler | cst.MatchCase
"""What has lines of its own: those that its tests execute."""

_TYPE_MAKERS = m.Call(func=m.Name("TypeVar") | m.Name("ParamSpec"))
_OVERLOAD = m.FunctionDef(decorators=[m.AtLeastN(m.Decorator(m.Name("overload")), n=1)])
_PROTOCOL = m.ClassDef(bases=[m.ZeroOrMore(), m.Arg(m.Name("Protocol")), m.ZeroOrMore()])
_CAST = m.Call(func=m.Name("cast"))
_TYPE_VARIABLE = m.Assign(value=_TYPE_MAKERS)
_ALIAS = m.AnnAssign(annotation=m.Annotation(m.Name("TypeAlias")))
_DOCSTRING = m.SimpleStatementLine(body=[m.Expr(m.SimpleString() | m.ConcatenatedString())])
_SKIPPED = m.Annotation() | _TYPE_VARIABLE | _OVERLOAD | _PROTOCOL | _DOCSTRING | m.Import() | m.ImportFrom()


class _Collector(cst.CSTVisitor):
    """Collects the changes to one statement of a module."""

    def __init__(self, positions: Mapping[cst.CSTNode, CodeRange]) -> None:
        super().__init__()
        self._positions = positions
        self.found: list[_Found] = []
        self._span = (0, 0)
        self._functions = 0
        self._scope: list[str] = []
        self._members: Sequence[cst.CSTNode] = ()
        self._member: cst.CSTNode | None = None

    def on_visit(self, node: cst.CSTNode) -> bool:
        if m.matches(node, _SKIPPED):
            return False
        if m.matches(node, _ALIAS):
            assert isinstance(node, cst.AnnAssign)
            assert isinstance(node.target, cst.Name)
            return node.target.value in aliases_read()
        if m.matches(node, _CAST):
            assert isinstance(node, cst.Call)
            node.args[1].visit(self)
            return False
        if isinstance(node, _Statement):
            self._enter(node)
        if isinstance(node, cst.ClassDef | cst.FunctionDef):
            self._scope.append(node.name.value)
        if any(node is each for each in self._members):
            self._member = node
        for changed in changes_to(node):
            if self._functions or not isinstance(node, cst.SimpleStatementLine):
                self.found.append(
                    _Found(
                        (node, changed), self._member, ".".join(self._scope), *self._span, self._functions > 0
                    )
                )
        if isinstance(node, cst.FunctionDef):
            self._visit_function(node)
            return False
        if isinstance(node, cst.ClassDef):
            self._members = node.body.body
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        if isinstance(original_node, cst.ClassDef | cst.FunctionDef) and not m.matches(
            original_node, _SKIPPED
        ):
            self._scope.pop()

    def _enter(self, node: _Statement) -> None:
        where = self._positions[node]
        first, last = where.start.line, where.end.line
        if not isinstance(node, cst.SimpleStatementLine):
            within = node.cases[0] if isinstance(node, cst.Match) else node.body
            last = max(first, self._positions[within].start.line - 1)
        self._span = (first, last)

    def _visit_function(self, node: cst.FunctionDef) -> None:
        """Visit what the definition executes apart from what a call does."""
        for decorator in node.decorators:
            decorator.visit(self)
        node.params.visit(self)
        self._functions += 1
        node.body.visit(self)
        self._functions -= 1


def changes_to(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """Make what may stand in a node's place."""
    for kind, operator in mutation_operators:
        if isinstance(node, kind):
            changed: Iterable[cst.CSTNode] = operator(node)
            # The others of a text differ in case: what minds them minds the first.
            yield from list(changed)[:1] if isinstance(node, cst.BaseString) else changed
    match node:
        case cst.SimpleStatementLine(body=[statement]) if m.matches(statement, _DELETED):
            yield cst.SimpleStatementLine([cst.Pass()])
        case cst.If() | cst.CompIf():
            yield node.with_changes(test=_either_way(node.test, cst.And(), "False"))
            yield node.with_changes(test=_either_way(node.test, cst.Or(), "True"))
        case cst.While():
            yield node.with_changes(test=_either_way(node.test, cst.And(), "False"))
        case cst.BooleanOperation():
            yield node.left
            yield node.right
        case cst.ExceptHandler(type=cst.Tuple() as kinds):
            for number in range(len(kinds.elements)):
                rest = [*kinds.elements[:number], *kinds.elements[number + 1 :]]
                yield node.with_changes(type=kinds.with_changes(elements=rest))
        case cst.ExceptHandler(type=cst.BaseExpression()):
            yield node.with_changes(type=cst.Tuple([]), whitespace_after_except=cst.SimpleWhitespace(" "))
        case cst.FormattedString(parts=[first, *rest]):
            text = first if isinstance(first, cst.FormattedStringText) else cst.FormattedStringText("")
            others = rest if isinstance(first, cst.FormattedStringText) else [first, *rest]
            yield node.with_changes(parts=[text.with_changes(value="XX" + text.value), *others])
        case _:
            pass


_DELETED = (
    m.Expr()
    | m.AugAssign()
    | m.Return()
    | m.Raise()
    | m.Del()
    | m.Assign(targets=[m.AssignTarget(m.Attribute() | m.Subscript())])
)
"""What is left out as a whole. Without an assignment to a name, there is nothing left to run."""


def _either_way(test: cst.BaseExpression, operator: cst.BaseBooleanOp, value: str) -> cst.BaseExpression:
    """A condition that is evaluated, and then is what is wanted."""
    inner = test.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
    return cst.BooleanOperation(inner, operator, cst.Name(value))
