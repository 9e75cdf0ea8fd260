"""What writes have in common: fields that may be left out, cleared with `None`, or set."""

from collections.abc import Mapping

from clocknext_core.checks import check_text
from clocknext_core.errors import invalid


def checked_texts(
    known: Mapping[str, object], fields: Mapping[str, object], *, required: tuple[str, ...] = ()
) -> dict[str, object]:
    """Check a write whose fields are all texts.

    `None` clears a field and is kept; a field that is left out stays out.

    Args:
        known: The fields there are, such as a TypedDict's annotations.
        fields: What the caller gave.
        required: Fields that can't be cleared.

    Raises:
        TypeError: A field is not known: as for any unexpected keyword argument.
        ValidationError: A value is not a text, or a required field is blank or cleared; it names the field.
    """
    for name, value in fields.items():
        if name not in known:
            raise TypeError(f"got an unexpected keyword argument {name!r}")
        if name in required:
            check_text(name, value)
        elif value is not None and not isinstance(value, str):
            raise invalid(name, f"must be a string or None, not {type(value).__name__}")
    return dict(fields)
