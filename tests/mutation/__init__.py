"""Mutation testing of the core: small changes that its own tests must notice.

`python -m tests.mutation [MODULE ...]` makes every mutant, runs for each the tests that cover it, and lists
those that no test noticed. `survivors.toml` says of each known survivor why it changes nothing.
"""
