"""docs/reliability.md has the rows that the tests are marked with."""

from tests import reliability


def test_the_page_has_the_tables_of_the_marks() -> None:
    assert reliability.PAGE.read_text() == reliability.page(), "run: python -m tests.reliability"
