"""Version 1 of the tables, where Django looks for it."""

from clocknext_transports.postgres.django.migrations._initial import (
    Migration,  # noqa: F401  # pyright: ignore[reportUnusedImport]
)
