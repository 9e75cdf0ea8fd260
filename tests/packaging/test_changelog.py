"""The check that asks for an entry in the changelog, on small repositories."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.packaging.changelog import judge

Write = Callable[..., None]
FIRST = "# Changelog\n\n## 0.1.0\n\n- One.\n\n## 0.0.9\n\n- Old.\n"
MORE = FIRST.replace("- One.\n", "- One.\n- Two.\n")
OLDER = FIRST.replace("- Old.\n", "- Old.\n- Older.\n")


def git(root: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=Test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false")
    command = ["git", *identity, *arguments]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60, check=True).stdout


def commit(root: Path, message: str, *, code: str | None = None, changelog: str | None = None) -> None:
    if code is not None:
        (root / "clocknext_core").mkdir(exist_ok=True)
        (root / "clocknext_core" / "thing.py").write_text(code, "utf-8")
    if changelog is not None:
        (root / "CHANGELOG.md").write_text(changelog, "utf-8")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--allow-empty", "--message", message)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make a repository with one commit on its main branch."""
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch", "main")
    commit(folder, "First", code="x = 1\n", changelog=FIRST)
    return folder


def test_a_first_commit_has_nothing_to_be_compared_with(root: Path) -> None:
    assert judge(root) is None


def test_what_is_no_repository_is_not_judged(tmp_path: Path) -> None:
    assert judge(tmp_path) is None


def test_a_change_without_an_entry_is_wrong_on_the_main_branch(root: Path) -> None:
    commit(root, "Second", code="x = 2\n")
    assert "clocknext_core/thing.py" in (judge(root) or "")
    commit(root, "Third: no code")
    assert judge(root) is None


def test_a_change_with_an_entry_is_right(root: Path) -> None:
    commit(root, "Second", code="x = 2\n", changelog=MORE)
    assert judge(root) is None


def test_an_entry_of_an_older_version_does_not_count(root: Path) -> None:
    commit(root, "Second", code="x = 2\n", changelog=OLDER)
    assert judge(root) is not None


def test_a_branch_is_compared_with_where_it_began(root: Path) -> None:
    git(root, "checkout", "--quiet", "-b", "branch")
    commit(root, "Second", code="x = 2\n")
    commit(root, "Third: no code")
    assert judge(root) is not None
    commit(root, "Fourth: the entry", changelog=MORE)
    assert judge(root) is None


def test_what_is_not_committed_counts(root: Path) -> None:
    commit(root, "Second")
    (root / "clocknext_core" / "thing.py").write_text("x = 3\n", "utf-8")
    assert judge(root) is not None


@pytest.mark.parametrize("code", ['"""A module."""\n\n# A comment.\nx = 1\n', "x = (\n    1\n)\n"])
def test_comments_docstrings_and_layout_need_no_entry(root: Path, code: str) -> None:
    commit(root, "Second", code=code)
    assert judge(root) is None


def test_a_file_that_is_gone_needs_an_entry(root: Path) -> None:
    (root / "clocknext_core" / "thing.py").unlink()
    commit(root, "Second")
    assert judge(root) is not None


def test_a_trailer_excuses_its_own_commit_alone(root: Path) -> None:
    git(root, "checkout", "--quiet", "-b", "branch")
    commit(root, "Second\n\nChangelog: none, a private name", code="x = 2\n")
    assert judge(root) is None
    commit(root, "Third", code="x = 3\n")
    assert judge(root) is not None


@pytest.mark.parametrize("depth", ["1", "2"])
def test_a_shallow_clone_is_compared_as_far_as_it_goes(root: Path, depth: str, tmp_path: Path) -> None:
    commit(root, "Second", code="x = 2\n")
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", "--depth", depth, root.as_uri(), str(clone))
    assert (judge(clone) is None) is (depth == "1")


def test_a_full_clone_that_is_detached_is_compared_with_the_commit_before(root: Path, tmp_path: Path) -> None:
    commit(root, "Second", code="x = 2\n")
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", root.as_uri(), str(clone))
    git(clone, "checkout", "--quiet", "--detach")
    assert judge(clone) is not None
