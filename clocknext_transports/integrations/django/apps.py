"""Where Django looks for the application's configuration."""

from clocknext_transports.integrations.django import (
    ClockNextConfig,  # noqa: F401  # pyright: ignore[reportUnusedImport]
)
