"""Text from outside, made fit for one line of a terminal or a log."""


def printable(text: str) -> str:
    r"""Return `text` with every unprintable character written as an escape, such as `\n` or `\u202e`.

    Those are the control, escape and format characters, which move a terminal's cursor, start a new line of a
    log or turn the reading direction, and lone surrogates, which can't be encoded. Blanks stay.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in _BLANKS else repr(char)[1:-1] for char in text)


def shortened(text: str, limit: int) -> str:
    """Return `text`, its end replaced by `…` where it is longer than `limit` characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


_BLANKS = frozenset(
    "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
)
"""Unicode's space separators other than the space, which Python counts as unprintable."""
