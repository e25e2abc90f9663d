"""Committed records are found by their date, and a page changes between the marks of its table only."""

from pathlib import Path

import pytest

from experiments.recording.published import marks, newest, newest_of_each, updated


def test_a_page_is_changed_between_its_marks_only() -> None:
    begin, end = marks("bench")
    other = "\n".join(marks("slots"))
    page = f"before\n{other}\n{begin}\nold\n{end}\nafter\n"
    assert updated(page, "bench", "new") == page.replace("old", "new")
    with pytest.raises(ValueError, match="has no place for the table; put the lines <!-- speed:begin -->"):
        updated(page, "speed", "new")


def test_a_missing_record_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"make one with python -m experiments\.some\.command"):
        newest("kind", "experiments.some.command", tmp_path)
    (tmp_path / "kind-2026-02-01.json").write_text('{"n": 2}')
    (tmp_path / "kind-2026-01-01.json").write_text('{"n": 1}')
    assert newest("kind", "experiments.some.command", tmp_path) == {"n": 2}


def test_the_latest_of_every_label_is_taken(tmp_path: Path) -> None:
    for name in ("b-1-2026-02-01", "b-1-2026-01-01", "b-2-2025-01-01", "a-1999-01-01"):
        (tmp_path / f"{name}.json").write_text("{}")
    assert [path.stem for path in newest_of_each("*.json", tmp_path)] == ["a-1999-01-01", "b-1-2026-02-01", "b-2-2025-01-01"]
