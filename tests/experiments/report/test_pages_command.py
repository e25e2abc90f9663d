"""`python -m experiments.report.pages`: all tables of README and docs by one command."""

import json
from pathlib import Path

import pytest

from experiments.bench.figures import against, describe
from experiments.recording.published import marks, newest_of_each, updated
from experiments.report.pages import exactness, slots, speed
from experiments.report.pages.__main__ import main

TABLES = [(exactness, "PAGE"), (slots, "PAGE"), (speed, "PAGE"), (speed, "README")]  # who writes into which page


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


def test_readme_keeps_a_few_lines_and_a_link_and_the_tables_are_in_docs() -> None:
    begin, end = marks(speed.MARK)
    told = speed.README.read_text(encoding="utf-8").split(begin)[1].split(end)[0].strip().splitlines()
    assert 3 <= len([line for line in told if line.startswith("- ")]) <= 4
    assert not [line for line in told if line.startswith("|")]
    assert "docs/speed.md#measured" in speed.README.read_text(encoding="utf-8")
    assert "\n## Measured\n" in speed.PAGE.read_text(encoding="utf-8")
    assert speed.PAGE.read_text(encoding="utf-8").split(begin)[1].count("\n| ---") >= 9


def test_the_lines_say_what_the_records_say(tmp_path: Path) -> None:
    assert speed.highlights(tmp_path) == "No benchmark has been recorded yet."
    path = next(path for path in newest_of_each("bench-embedded-greedy-*.json"))
    record = json.loads(path.read_text(encoding="utf-8"))
    (tmp_path / path.name).write_text(json.dumps(record))
    ways = {way["way"]: way for way in record["ways"]}
    told = speed.highlights(tmp_path)
    for way, peer in (
        ("draft_model", "none"),
        ("draft_model", "generate, assisted"),
        ("none", "generate"),
        ("prompt_lookup", "openvino, prompt lookup"),
    ):
        assert f"{way} {describe(against(ways[way], ways[peer]))}" in told
    best = max((each for each in ways.values() if each["tokens_per_forward"] == 1), key=lambda each: each["tokens_per_second"])
    assert f"{best['way']} (what a user gains)" in told
    assert f"prompt_lookup {describe(against(ways['prompt_lookup'], best))}" in told
    assert "end to end, 95 % over 24 units" in told
    assert "48 new tokens" in speed.highlights(tmp_path)
    assert record["provenance"]["cpu"] in speed.highlights(tmp_path)
    (tmp_path / path.name).write_text(json.dumps(record | {"under_load": ["load average 9"]}))
    assert "prompt_lookup" not in speed.highlights(tmp_path)


def test_a_missing_record_ends_with_exit_code_2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def missing() -> dict[Path, str]:
        raise FileNotFoundError("no record; make one")

    monkeypatch.setattr(slots, "pages", missing)
    assert main(["--check"]) == 2
    assert capsys.readouterr().err == "error: no record; make one\n"
