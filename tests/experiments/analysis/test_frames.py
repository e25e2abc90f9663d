"""Recorded runs as frames, and what the figures show of them, against counts made by hand."""

import json
from pathlib import Path

import pandas as pd
import pytest

from experiments.analysis import curves
from experiments.analysis.frames import joined, load_runs
from experiments.analysis.theory import expected_tokens
from experiments.report import plots
from experiments.report.other_results import load_ceilings, load_predictions
from tests.experiments.recorded import PROVENANCE, config, write_run


def drafting(num_tokens: int) -> dict[str, dict[str, object]]:
    return {"drafter": config()["drafter"] | {"num_tokens": num_tokens}}


def test_a_run_is_loaded_by_folder_sweep_or_file(tmp_path: Path) -> None:
    one = write_run(tmp_path / "sweep" / "0", num_prompts=12)
    write_run(tmp_path / "sweep" / "1", num_prompts=12, **drafting(4))
    assert load_runs([one]).methods == ["prompt_lookup"]
    assert load_runs(one / "summary.json").methods == ["prompt_lookup"]  # pyright: ignore[reportArgumentType]
    runs = load_runs([tmp_path / "sweep"])
    assert runs.methods == ["prompt_lookup (num_tokens=2)", "prompt_lookup (num_tokens=4)"]
    assert runs.summaries["draft_tokens"].tolist() == [2, 4]
    assert len(runs.records) == 2 * 12 * 2
    assert len(runs.steps) == 2 * 12 * (2 + 5)
    assert runs.steps["target_seconds"].sum() == pytest.approx(2 * 12 * (2 * 0.25 + 5 * 0.3))
    assert runs.categories[["category", "num_prompts"]].values.tolist() == [["all", 12], ["a", 6], ["b", 6]] * 2
    assert runs.categories["tokens_per_step"].tolist() == [2.5] * 6
    assert runs.categories["tokens_per_step_low"].tolist() == pytest.approx([2.5] * 6)


def test_equal_runs_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    write_run(tmp_path / "x")
    write_run(tmp_path / "y")
    assert load_runs([tmp_path]).methods == ["prompt_lookup [x]", "prompt_lookup [y]"]


def test_what_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere does not exist"):
        load_runs([tmp_path / "nowhere"])
    with pytest.raises(ValueError, match=r"no summary\.json in"):
        load_runs([tmp_path])
    folder = write_run(tmp_path / "run")
    (folder / "steps.jsonl").write_text('{"prompt": "p0"}\nbroken\n')
    with pytest.raises(ValueError, match=r"steps\.jsonl:2"):
        load_runs([folder])
    with pytest.raises(ValueError, match="nothing to join"):
        joined([])


def test_a_run_without_records_has_its_summary_still(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    (folder / "records.jsonl").unlink()
    (folder / "steps.jsonl").unlink()
    runs = load_runs([folder])
    assert runs.categories["speedup"].tolist() == pytest.approx([1.5] * 3)
    assert not len(curves.acceptance_by_position(runs.records))
    assert not len(curves.accepted_lengths(runs.steps))
    assert not len(curves.throughput(runs))


def test_acceptance_lengths_and_times_by_hand(tmp_path: Path) -> None:
    runs = load_runs([write_run(tmp_path / "run", num_prompts=6, seconds=0.5)])
    rates = curves.acceptance_by_position(runs.records)
    assert rates[["position", "judged", "accepted", "rate"]].values.tolist() == [[1, 12, 12, 1.0], [2, 12, 6, 0.5]]
    assert (rates["low"] < rates["rate"]).all()
    counts = curves.accepted_lengths(runs.steps)
    assert counts[["accepted", "steps", "share"]].values.tolist() == [[2, 6, 0.5], [1, 6, 0.5]]
    times = curves.phase_times(runs.summaries).set_index("phase")
    assert times["milliseconds"].sum() == pytest.approx(100)
    assert times["relative"].sum() == pytest.approx(0.5 / 1.5)
    assert times.loc["target", "relative"] == pytest.approx(0.5 * 0.5 / 1.5)


def test_a_curve_needs_two_lengths_and_gets_its_theory(tmp_path: Path) -> None:
    assert not len(curves.gamma_curves(load_runs([write_run(tmp_path / "alone")])))
    write_run(tmp_path / "sweep" / "0", **drafting(4))
    write_run(tmp_path / "sweep" / "1", **drafting(2))
    curve = curves.gamma_curves(load_runs([tmp_path / "sweep"]))
    assert curve["draft_tokens"].tolist() == [2, 4]
    assert curve["curve"].unique().tolist() == ["prompt_lookup · greedy"]
    assert curve["theory_tokens"].tolist() == pytest.approx([expected_tokens(0.75, length) for length in (2, 4)])
    assert (curve["theory_speedup"] / curve["speedup"]).tolist() == pytest.approx((curve["theory_tokens"] / curve["tokens_per_step"]).tolist())


def test_the_loss_is_a_share_of_the_gain_that_was_possible() -> None:
    """At 1.554 tokens per step and a speedup of 0.8393, 129 % of the gain is lost: all of it, and more; 1 - 0.8393 / 1.554 would say 46 %."""
    rates = {"tokens_per_step": [1.554, 3.0, 3.0, 3.0, 1.0, 2.0], "speedup": [0.83934, 2.0, 1.0, 0.5, 0.9, 2.0]}
    found = curves.gains(pd.DataFrame({"method": list("abcdef"), **rates}))
    assert found["possible"].tolist() == pytest.approx([0.554, 2.0, 2.0, 2.0, 0.0, 1.0])
    assert found["made"].tolist() == pytest.approx([-0.16066, 1.0, 0.0, -0.5, -0.1, 1.0])
    assert found["lost"].tolist() == pytest.approx([1.29, 0.5, 1.0, 1.25, float("nan"), 0.0], nan_ok=True)


def test_throughput_counts_whole_batches(tmp_path: Path) -> None:
    for size in (1, 2):
        write_run(tmp_path / str(size), batch_size=size)
    rates = curves.throughput(load_runs([tmp_path]))
    assert rates[["batch_size", "role"]].values.tolist() == [[1, "method"], [1, "baseline"], [2, "method"], [2, "baseline"]]
    assert rates["tokens_per_second"].tolist() == pytest.approx([5, 5 / 1.5] * 2)


def test_every_figure_is_drawn_with_a_title_and_units(tmp_path: Path) -> None:
    for size in (1, 2):
        write_run(tmp_path / f"size{size}", batch_size=size)
        write_run(tmp_path / f"length{size}", seconds=2.0, **drafting(2 + size))
    runs = load_runs([tmp_path])
    figures = [
        plots.speedup(runs.categories, runs.head),
        plots.tokens_per_step(runs.categories[runs.categories["category"] == "all"], runs.head),
        plots.acceptance_by_position(curves.acceptance_by_position(runs.records), runs.head),
        plots.accepted_lengths(curves.accepted_lengths(runs.steps), runs.head),
        plots.time_per_phase(curves.phase_times(runs.summaries), runs.head),
        plots.gamma_curves(curves.gamma_curves(runs), runs.head),
        plots.throughput(curves.throughput(runs), runs.head),
    ]
    for figure in figures:
        figure.canvas.draw()
        assert figure.get_suptitle()
        told = " ".join(" ".join(text.get_text() for text in figure.texts).split())
        assert runs.head in told
        assert "batch size 1, 2 (differs)" in told
        assert figure.get_supxlabel() or any(axes.get_xlabel() for axes in figure.axes)


def test_ceilings_and_predictions_are_read(tmp_path: Path) -> None:
    replay, cost = tmp_path / "replay.jsonl", tmp_path / "cost.json"
    head = {"config": {"drafter": {"_target_": "drafters.prompt_lookup.PromptLookup"}}}
    total = {"total": True, "category": "all", "kind": "replayed", "length": 2, "tokens_per_step": 1.5, "ceiling_tokens_per_step": 2.9}
    best = total | {"kind": "best lengths", "tokens_per_step": 1.6}
    replay.write_text("".join(json.dumps(line) + "\n" for line in (head, total, best, total | {"category": "edit"}, {"text": "p0"})))
    assert load_ceilings([replay])[["label", "tokens_per_step"]].values.tolist() == [
        ["prompt_lookup, always right", 2.9],
        ["prompt_lookup, best lengths", 1.6],
    ]
    row = {"run": "r", "gamma": 2, "predicted": 1.2, "predicted_interval": [1.1, 1.3], "measured": 1.25, "measured_interval": None, "error": -0.04}
    cost.write_text(json.dumps({"runs": [row, row | {"run": "s"}]}))
    found = load_predictions([cost])
    assert found["predicted_high"].tolist() == [1.3, 1.3]
    assert plots.predicted_against_measured(found).get_suptitle()
    assert found["head"].tolist() == ["", ""]
    cost.write_text(json.dumps({"runs": [row], "config": config(), "provenance": PROVENANCE}))
    figure = plots.predicted_against_measured(load_predictions([cost]))
    assert "target embedded; data embedded; verifier recursive; sampling greedy; max_new_tokens 128" in figure.texts[-1].get_text().replace("\n", " ")
    for load in (load_ceilings, load_predictions):
        with pytest.raises(ValueError, match=r"other\.json: is not"):
            load([_other(tmp_path)])


def _other(folder: Path) -> Path:
    path = folder / "other.json"
    path.write_text("[]\n")
    return path
