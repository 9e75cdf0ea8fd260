"""From a model's answer to the counts of a signal: reading, runs, streams, keys and attribution. All pure.

No provider's package is imported. A response is an object with attributes or a mapping with keys; a name says
which role a count plays, for every provider. `docs/tokens.md` has the rules and their sources.
"""
