"""Fail where the packages changed and the top section of CHANGELOG.md did not.

`python -m tests.packaging.changelog` compares the working tree with the commit at which its branch left the
main branch; on the main branch, with the commit before. A change of comments, docstrings or layout alone
needs no entry, nor does a commit with the trailer `Changelog: none`, for a change that no user can notice.
Where there is no earlier commit, there is nothing to compare with.
"""

import ast
import re
import subprocess
import sys
from pathlib import Path

PACKAGES = ("clocknext_core", "clocknext_transports")
MAIN = ("origin/HEAD", "origin/main", "main")
_TOP = re.compile(r"^## .*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)


class Repository:
    """A git repository, of which this reads commits and files.

    Args:
        root: Its working tree.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def git(self, *arguments: str) -> str | None:
        """Return what git prints, or `None` where it fails."""
        try:
            done = subprocess.run(
                ["git", *arguments], cwd=self.root, capture_output=True, timeout=60, check=False
            )
        except FileNotFoundError:
            return None
        return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None

    def base(self) -> str | None:
        """Return the commit to compare with: the fork point, else the parent of HEAD, else `None`."""
        head = self.git("rev-parse", "--verify", "--quiet", "HEAD^{commit}")
        for main in MAIN:
            fork = self.git("merge-base", "HEAD", main)
            if fork is not None and fork != head:
                return fork.strip()
        parent = self.git("rev-parse", "--verify", "--quiet", "HEAD^^{commit}")
        return None if parent is None else parent.strip()

    def changed(self, base: str) -> list[str]:
        """Return the files of the packages that mean something else than at the base."""
        names = self.git("diff", "--name-only", "--no-renames", "-z", base, "--", *PACKAGES) or ""
        return [
            name
            for name in names.split("\0")
            if name and meaning(name, self.now(name)) != meaning(name, self.git("show", f"{base}:{name}"))
        ]

    def now(self, name: str) -> str | None:
        """Return a file's text in the working tree; `None`: it is gone."""
        path = self.root / name
        return path.read_text("utf-8", "replace") if path.is_file() else None

    def is_exempt(self, base: str) -> bool:
        """Return whether every commit since the base that touches the packages has the trailer."""
        style = "--format=%x1e%(trailers:key=Changelog,valueonly)"
        told = self.git("log", style, f"{base}..HEAD", "--", *PACKAGES) or ""
        values = [value.strip() for value in told.split("\x1e")[1:]]
        is_clean = self.git("diff", "--quiet", "HEAD", "--", *PACKAGES) is not None
        return is_clean and bool(values) and all(value.startswith("none") for value in values)


def meaning(name: str, text: str | None) -> str | None:
    """Return what a file says to the interpreter: Python without comments, docstrings and layout."""
    if text is None or not name.endswith(".py"):
        return text
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [each for each in node.body if not _is_text(each)]
    return ast.dump(tree)


def _is_text(node: ast.stmt) -> bool:
    """Return whether a statement is a string alone: a docstring, wherever it stands."""
    match node:
        case ast.Expr(ast.Constant(str())):
            return True
        case _:
            return False


def top_section(text: str | None) -> str | None:
    """Return the section of the version to come, the first one."""
    found = _TOP.search(text or "")
    return found[0].strip() if found else None


def judge(root: Path) -> str | None:
    """Return what is wrong, or `None`."""
    repository = Repository(root)
    base = repository.base()
    if base is None:
        return None
    changed = repository.changed(base)
    before = top_section(repository.git("show", f"{base}:CHANGELOG.md"))
    if not changed or before != top_section(repository.now("CHANGELOG.md")) or repository.is_exempt(base):
        return None
    files = "\n".join(f"  {name}" for name in changed)
    return (
        f"These files changed since {base[:12]}, and the top section of CHANGELOG.md did not:\n{files}\n"
        "Add an entry, or the trailer `Changelog: none` to each commit whose change no user can notice."
    )


if __name__ == "__main__":
    sys.exit(judge(Path(__file__).parents[2]))
