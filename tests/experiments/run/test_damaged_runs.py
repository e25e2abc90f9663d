"""A run goes on in its folder only as far as the folder can be trusted: damage is named, exit code 2, and a number without its steps is not valid."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.analysis.frames import load_runs
from experiments.recording.folder import RunFolder, read_summaries
from tests.experiments.damage import Damage, a_folder, a_list, cut, damaged, emptied, field, gone, junk, line, without

SIZE = ("num_prompts=2", "max_new_tokens=4", "warmup=0")
NAMED: list[tuple[str, Damage]] = [
    *(("summary.json", damage) for damage in (emptied, cut, a_list, junk, a_folder, field("speedup", "2"), without("interrupted"))),
    *(("manifest.json", damage) for damage in (emptied, cut, a_list, junk, a_folder, field("code", 1))),
    *(("records.jsonl", damage) for damage in (junk, a_folder, line(0, {"num_steps": "2"}), line(1, {"tokens": None}), line(0, "[]\n"))),
    *(("steps.jsonl", damage) for damage in (junk, a_folder, line(0, {"emitted": "2"}), line(0, "{broken\n"))),
]
CHECKS: list[tuple[str, Damage]] = [("checks.json", damage) for damage in (emptied, cut, a_list, junk, a_folder, field("drafts_repeat", "yes"))]
INVALID: list[Damage] = [gone, emptied, cut, line(0, None), line(-1, None), line(0, {"emitted": 9}), line(2, {"drafted": 99})]


@pytest.fixture
def whole(command: Callable[..., int], tmp_path: Path) -> Path:
    assert command(f"hydra.run.dir={tmp_path / 'whole'}", *SIZE) == 0
    return tmp_path / "whole"


def test_damage_is_named_and_ends_with_exit_code_2(
    command: Callable[..., int], whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, (name, damage) in enumerate([*NAMED, *CHECKS]):
        folder = damaged(whole, tmp_path / str(number), name, damage)
        if name == "checks.json":
            (folder / "summary.json").unlink()  # it is looked at by a run that goes on
        capsys.readouterr()
        assert command(f"hydra.run.dir={folder}", *SIZE) == 2, (name, damage)
        said = capsys.readouterr().err
        assert said.startswith("error: "), (name, damage, said)
        assert said.count("\n") == 1, (name, damage, said)
        assert str(folder / name) in said, (name, damage)


@pytest.mark.parametrize("finished", [True, False])
def test_steps_that_do_not_add_up_make_a_run_invalid(
    command: Callable[..., int], whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], finished: bool
) -> None:
    for number, damage in enumerate(INVALID):
        folder = damaged(whole, tmp_path / str(number), "steps.jsonl", damage)
        if finished:
            (summary,) = read_summaries([folder])  # what reports and comparisons read, before anything was written again
            assert not summary["valid"]
            assert load_runs([folder]).summaries["valid"].tolist() == [False]
        else:
            (folder / "summary.json").unlink()
        capsys.readouterr()
        assert command(f"hydra.run.dir={folder}", *SIZE) == 0
        assert "INVALID: steps.jsonl does not add up to the records: prompt p" in capsys.readouterr().out, damage
        written = json.loads((folder / "summary.json").read_text())
        assert not written["valid"]
        assert written["errors"][0] == written["warnings"][0]
        shutil.copy(whole / "steps.jsonl", folder / "steps.jsonl")
        assert command(f"hydra.run.dir={folder}", *SIZE) == 0  # the steps are back
        assert json.loads((folder / "summary.json").read_text())["errors"] == []


def test_lines_that_were_removed_are_decoded_again_although_the_run_was_finished(command: Callable[..., int], whole: Path) -> None:
    rows = (whole / "records.jsonl").read_text().splitlines(keepends=True)
    (whole / "records.jsonl").write_text("".join(rows[1:]))
    assert RunFolder(whole).summary is None
    assert command(f"hydra.run.dir={whole}", *SIZE) == 0
    again = [json.loads(row) for row in (whole / "records.jsonl").read_text().splitlines()]
    tokens = {(row["prompt"], row["role"]): row["tokens"] for row in map(json.loads, rows)}
    assert {(row["prompt"], row["role"]): row["tokens"] for row in again} == tokens
    assert json.loads((whole / "summary.json").read_text())["valid"]


@pytest.mark.parametrize("damage", [emptied, cut, gone, a_list, junk])
def test_a_damaged_configuration_is_written_again(command: Callable[..., int], whole: Path, damage: Damage) -> None:
    before = (whole / "config.yaml").read_text()
    damage(whole / "config.yaml")
    assert command(f"hydra.run.dir={whole}", *SIZE) == 0
    assert (whole / "config.yaml").read_text() == before
