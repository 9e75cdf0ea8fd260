"""The tests of clocknext for Python."""

import pytest

# Helpers that assert: their failures are to be as readable as a test's own.
pytest.register_assert_rewrite("tests.core.outbox_model", "tests.recordings")
