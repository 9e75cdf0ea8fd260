"""Version 1 of the tables."""

from typing import ClassVar

from django.db import migrations  # pyright: ignore[reportMissingTypeStubs]
from django.db.migrations.operations.base import Operation  # pyright: ignore[reportMissingTypeStubs]

from clocknext_transports.postgres import schema


class Migration(migrations.Migration):
    """Makes the tables, where `clocknext outbox migrate` has not made them."""

    initial = True
    dependencies: ClassVar[list[tuple[str, str]]] = []
    operations: ClassVar[list[Operation]] = [
        migrations.RunSQL(schema.VERSION_1, reverse_sql=schema.DROP),
    ]
