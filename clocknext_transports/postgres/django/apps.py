"""Where Django looks for the application's configuration."""

from clocknext_transports.postgres.django._config import (
    ClockNextOutboxConfig,  # noqa: F401  # pyright: ignore[reportUnusedImport]
)
