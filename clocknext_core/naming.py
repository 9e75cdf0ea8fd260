"""Names: snake_case in Python, camelCase on the wire."""

import re

_BREAK = re.compile(r"_+([a-zA-Z0-9])")


def camel_case(name: str) -> str:
    """Turn `tax_id` into `taxId`."""
    return _BREAK.sub(lambda found: found[1].upper(), name)
