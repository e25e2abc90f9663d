"""Committed records are found by their date, tables are made from clean ones, and a page changes between the marks of its table only."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from experiments.recording import machine
from experiments.recording.published import RECORDS, marks, newest, newest_of_each, read_record, refuse_changed_code, updated
from experiments.report.pages import speed
from experiments.report.pages.__main__ import main as make_pages
from tests.experiments.still_dirty import STILL_DIRTY

CLEAN = {"provenance": {"git_commit": "0123456789ab"}}


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
    (tmp_path / "kind-2026-02-01.json").write_text(json.dumps(CLEAN | {"n": 2}))
    (tmp_path / "kind-2026-01-01.json").write_text(json.dumps(CLEAN | {"n": 1}))
    assert newest("kind", "experiments.some.command", tmp_path) == CLEAN | {"n": 2}


def test_the_latest_of_every_label_is_taken(tmp_path: Path) -> None:
    for name in ("b-1-2026-02-01", "b-1-2026-01-01", "b-2-2025-01-01", "a-1999-01-01"):
        (tmp_path / f"{name}.json").write_text("{}")
    assert [path.stem for path in newest_of_each("*.json", tmp_path)] == ["a-1999-01-01", "b-1-2026-02-01", "b-2-2025-01-01"]


@pytest.mark.parametrize("path", sorted(RECORDS.glob("*.json")), ids=lambda path: path.name)
def test_every_committed_record_was_made_at_a_clean_commit(path: Path) -> None:
    if path.name in STILL_DIRTY:
        with pytest.raises(ValueError, match="not at a clean commit"):
            read_record(path)
    else:
        read_record(path)


@pytest.mark.parametrize(
    "provenance", [{"provenance": {"git_commit": "0123456789ab-dirty"}}, {"provenance": {"git_commit": None}}, {"provenance": {}}, {}]
)
def test_no_table_is_made_from_a_record_of_a_changed_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], provenance: dict[str, Any]
) -> None:
    path = tmp_path / "bench-some-2026-01-01.json"
    path.write_text(json.dumps(provenance | {"mode": "verify"}))
    for make in (lambda: speed.table(tmp_path), lambda: newest("bench-some", "", tmp_path)):
        with pytest.raises(ValueError, match=r"bench-some-2026-01-01.json: was made at .*, not at a clean commit; commit what was changed"):
            make()
    path.unlink()
    (tmp_path / "gpu-some-2026-01-01.jsonl").write_text(json.dumps(provenance | {"stage": "start"}) + "\n")
    with pytest.raises(ValueError, match=r"gpu-some-2026-01-01.jsonl: was made at .*, not at a clean commit"):
        speed.table(tmp_path)
    monkeypatch.setattr(speed, "table", lambda: speed_table_of(tmp_path))
    assert make_pages(["--check"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1


speed_table_of = speed.table


def test_a_record_to_publish_is_refused_before_it_is_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for commit, said in (("0123456789ab-dirty", "this is 0123456789ab-dirty"), (None, "this is no checkout")):
        monkeypatch.setattr(machine, "git_commit", lambda commit=commit: commit)
        with pytest.raises(ValueError, match=f"needs a clean commit, {said}; commit first"):
            refuse_changed_code(RECORDS / "bench-x.json")
        refuse_changed_code(tmp_path / "bench.json")
    monkeypatch.setattr(machine, "git_commit", lambda: "0123456789ab")
    refuse_changed_code(RECORDS / "bench-x.json")


def test_a_record_beside_the_code_is_no_change_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], cwd=tmp_path, check=True, capture_output=True)

    code, record = tmp_path / "experiments" / "recording" / "machine.py", tmp_path / machine.RECORDS / "bench.json"
    for file in (code, record):
        file.parent.mkdir(parents=True)
        file.write_text("first")
    git("init")
    git("add", ".")
    git("commit", "-m", "all")
    monkeypatch.setattr(machine, "__file__", str(code))
    clean = machine.git_commit()
    assert clean is not None
    assert "dirty" not in clean
    record.write_text("measured again")
    assert machine.git_commit() == clean
    code.write_text("changed")
    assert machine.git_commit() == f"{clean}-dirty"
