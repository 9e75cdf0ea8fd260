"""The fault matrix: each row is a thing that goes wrong, and the test named after it says what must hold."""

import pytest

# Helpers that assert: their failures are to be as readable as a test's own.
pytest.register_assert_rewrite("tests.matrix.support")
