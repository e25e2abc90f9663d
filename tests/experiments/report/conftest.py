"""Pages are made from committed records, of which some are still to be made again."""

import pytest

from tests.experiments.still_dirty import excuse


@pytest.fixture(autouse=True)
def some_records_are_excused(monkeypatch: pytest.MonkeyPatch) -> None:
    excuse(monkeypatch)
