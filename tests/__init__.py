"""The tests of clocknext for Python."""
