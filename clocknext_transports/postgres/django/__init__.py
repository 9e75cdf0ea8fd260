"""A Django application whose migrations make the tables of an outbox. It has no models.

Add `"clocknext_transports.postgres.django"` to `INSTALLED_APPS`, and run `manage.py migrate`.
"""
