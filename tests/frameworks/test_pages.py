"""The program on each framework's page runs, with the real package."""

import pytest

from tests.integrations.test_pages import FRAMEWORKS, run_page

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_the_program_on_the_page_runs(name: str) -> None:
    run_page(name, FRAMEWORKS[name])
