"""The application's configuration: its label, under which Django remembers what was migrated."""

from django.apps import AppConfig  # pyright: ignore[reportMissingTypeStubs]


class ClockNextOutboxConfig(AppConfig):
    """The application of the outbox."""

    name = "clocknext_transports.postgres.django"
    label = "clocknext_outbox"
    verbose_name = "ClockNext outbox"
