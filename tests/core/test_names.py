"""The names of the core."""

import clocknext_core


def test_every_name_that_is_listed_is_there_and_listed_once() -> None:
    assert [name for name in clocknext_core.__all__ if not hasattr(clocknext_core, name)] == []
    assert sorted({*clocknext_core.__all__}) == clocknext_core.__all__
