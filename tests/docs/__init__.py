"""Tests of README.md and docs/: their examples run, and what they say of the code is so."""

from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
README = ROOT / "README.md"
DOCS = ROOT / "docs"
