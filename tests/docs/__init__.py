"""Tests of README.md and docs/: the examples run, and tables and reference agree with the code."""

from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
README = ROOT / "README.md"
DOCS = ROOT / "docs"
