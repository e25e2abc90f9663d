"""`python -m experiments.report.pages`: all tables of README and docs by one command."""

from pathlib import Path

import pytest

from experiments.recording.published import updated
from experiments.report.pages import exactness, slots, speed
from experiments.report.pages.__main__ import main

TABLES = [(exactness, "PAGE"), (slots, "DETAILS"), (slots, "README"), (speed, "PAGE")]  # who writes into which page


@pytest.fixture
def stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[Path, str]:
    """Copies of the pages in which every table says "old", with what they held before."""
    held = {}
    for source, name in TABLES:
        path = getattr(source, name)
        held[tmp_path / path.name] = path.read_text(encoding="utf-8")
        monkeypatch.setattr(source, name, tmp_path / path.name)
    for path, text in held.items():
        path.write_text(text, encoding="utf-8")
    for source, name in TABLES:
        path = getattr(source, name)
        path.write_text(updated(path.read_text(encoding="utf-8"), source.MARK, "old"), encoding="utf-8")
    return held


def test_the_committed_pages_are_up_to_date() -> None:
    assert main(["--check"]) == 0


def test_check_writes_nothing_and_names_the_pages(stale: dict[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_text(encoding="utf-8") for path in stale}
    assert main(["--check"]) == 1
    told = capsys.readouterr().out
    assert all(str(path) in told for path in stale)
    assert {path: path.read_text(encoding="utf-8") for path in stale} == before != stale


def test_every_table_of_a_page_is_written(stale: dict[Path, str]) -> None:
    """Two sources write into one page: none may undo the other's."""
    assert main([]) == 0
    assert {path: path.read_text(encoding="utf-8") for path in stale} == stale
    assert main(["--check"]) == 0


def test_a_missing_record_ends_with_exit_code_2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def missing() -> dict[Path, str]:
        raise FileNotFoundError("no record; make one")

    monkeypatch.setattr(slots, "pages", missing)
    assert main(["--check"]) == 2
    assert capsys.readouterr().err == "error: no record; make one\n"
