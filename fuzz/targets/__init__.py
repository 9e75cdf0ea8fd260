"""The targets, a module each: `check(data)` raises where the invariant its docstring begins with is broken.

A check is a pure function of its bytes, so that the fuzzer and a plain replay see the same. `TOKENS` are
words of the input's language, from which the fuzzer builds, and `MAX_BYTES` is how long inputs may grow.
"""
