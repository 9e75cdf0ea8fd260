"""How fast the library is, next to others: `python -m tests.benchmarks`; see docs/performance.md."""
