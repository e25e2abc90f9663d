"""What is reported of recorded folders: seeds of one setting as one row, and figures of earlier versions made anew."""

import json
from pathlib import Path
from typing import Any

import pytest

from experiments.analysis.frames import load_runs
from experiments.analysis.results import read_results
from experiments.analysis.tables import comparison_rows
from experiments.recording.folder import RunFolder
from experiments.report.content import compose
from tests.experiments.recorded import config, write_run

EARLIER = Path(__file__).resolve().parents[1] / "recorded_before"


def seeded(folder: Path, seed: int, num_prompts: int = 6, **changes: Any) -> Path:
    """A run at temperature 0.8, as fast as its seed says."""
    sampling = config()["sampling"] | {"temperature": 0.8, "seed": seed}
    return write_run(folder, num_prompts=num_prompts, **{"seconds": 1.0 + 0.5 * seed, "seed": seed, "sampling": sampling} | changes)


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    for seed in (0, 1, 2):
        seeded(tmp_path / "sweep" / str(seed), seed)
    return tmp_path / "sweep"


def test_seeds_of_one_setting_are_one_row_whose_units_are_the_prompts(sweep: Path) -> None:
    (result,) = read_results([sweep])
    found = result.document
    assert [folder.name for folder in result.folders] == ["0", "1", "2"]
    assert (found["num_prompts"], found["num_units"], found["seeds"]) == (6, 6, [0, 1, 2])
    assert found["num_tokens"] == 3 * 6 * 5
    assert found["speedup"] == pytest.approx(1.5 / 1.5), "totals over the seeds: 3 x 1.5 s of plain decoding, 1 + 1.5 + 2 s of the method"
    assert found["speedup_with_prefill"] == pytest.approx(3 * 1.6 / (1.1 + 1.6 + 2.1))
    assert found["speedup_interval"] == pytest.approx((1.0, 1.0)), "prompts that agree, however far their seeds are apart"
    (row,) = comparison_rows([found])
    assert (row["prompts"], row["units"]) == ("6", "6 of 3 seeds")
    assert found["by_category"]["a"]["num_units"] == 3


def test_frames_and_reports_pool_too(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = load_runs([sweep])
    assert runs.methods == ["prompt_lookup"]
    assert runs.incomparable == ""
    assert "6 prompts" in runs.head
    assert "seed 0, 1, 2 (pooled)" in runs.head
    assert len(runs.records) == 3 * 6 * 2
    row = runs.categories.iloc[0]
    assert row["tokens_per_step_low"] == pytest.approx(2.5)
    assert (row["num_units"], row["speedup_with_prefill_low"]) == (6, pytest.approx(1.0))
    report = compose(runs)
    assert not [block for block in report.blocks if "does not fit" in str(block)], "the answers of one seed keep their own steps"


@pytest.mark.parametrize(
    "changes",
    [{"max_new_tokens": 48}, {"num_prompts": 7}, {"seed": 0}, {"drafter": {"_target_": "drafters.lookahead.Lookahead"}}],
    ids=["another setting", "other prompts", "the same seed", "another drafter"],
)
def test_what_differs_in_more_than_its_seed_is_not_pooled(sweep: Path, changes: dict[str, Any]) -> None:
    folder = seeded(sweep / "3", **{"seed": 3} | changes)
    found = read_results([sweep])
    assert folder in [each for result in found for each in result.folders]
    assert len(found) == (4 if "seed" in changes else 2)


def test_other_code_or_another_machine_is_not_pooled(sweep: Path) -> None:
    for seed, name, value in ((1, "git_commit", "def"), (2, "cpu", "another processor")):
        file = sweep / str(seed) / "summary.json"
        summary = json.loads(file.read_text())
        file.write_text(json.dumps(summary | {"provenance": summary["provenance"] | {name: value}}))
    assert len(read_results([sweep])) == 3


def test_what_one_seed_has_to_say_is_said_with_its_number(sweep: Path) -> None:
    file = sweep / "1" / "summary.json"
    said = {"valid": False, "errors": ["a bug"], "warnings": ["a bug", "busy"], "interrupted": True}
    file.write_text(json.dumps(json.loads(file.read_text()) | said))
    (result,) = read_results([sweep])
    assert (result.document["valid"], result.document["interrupted"]) == (False, True)
    assert result.document["errors"] == ["seed 1: a bug"]
    assert result.document["warnings"] == ["seed 1: a bug", "seed 1: busy"]


def as_before(folder: Path, **changes: Any) -> Path:
    """The folder with a summary as earlier versions wrote it: no units and no second gain, intervals by a percentile bootstrap."""
    file = folder / "summary.json"
    summary = json.loads(file.read_text())
    for figures in (summary, *summary["by_category"].values()):
        for name in [name for name in figures if name.endswith("_units") or name.startswith(("over_fastest", "fastest")) or "second_with" in name]:
            del figures[name]
        figures["speedup_interval"] = [1.4999, 1.5001]
    file.write_text(json.dumps(summary | changes))
    return folder


def test_intervals_of_earlier_versions_are_made_again_from_the_records(tmp_path: Path) -> None:
    folder = as_before(write_run(tmp_path / "run", num_prompts=6))
    found = read_results([folder])[0].document
    assert found["speedup_interval"] == pytest.approx((1.5, 1.5), abs=1e-9)
    assert (found["num_units"], found["fastest_plain"]) == (6, "baseline")
    assert comparison_rows([found])[0]["end-to-end speedup"] == "1.45 [1.45, 1.45]"


def test_without_records_they_are_not_shown(tmp_path: Path) -> None:
    folder = as_before(write_run(tmp_path / "run", num_prompts=6))
    (folder / "records.jsonl").unlink()
    runs = load_runs([folder])
    row = comparison_rows(runs.documents)[0]
    assert (row["decode-only speedup"], row["over fastest plain"], row["units"]) == ("1.50 [-]", "-", "-")
    assert runs.categories["speedup_low"].isna().all()


def test_a_folder_of_an_earlier_version_is_read_and_reported() -> None:
    found = read_results([EARLIER])[0].document
    assert found["num_units"] == len(RunFolder(EARLIER).pairs) == 2
    row = comparison_rows([found])[0]
    assert row["end-to-end speedup"].endswith("[-, 2 units]")
    assert "(" in row["over fastest plain"]
