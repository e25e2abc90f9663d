"""The job as a whole on tiny models: a sweep of its own, recorded runs of several drafters, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_module

from experiments.cost import job as cost
from experiments.cost.forwards import load_run, load_runs
from experiments.cost.plan import knots_up_to, spread_of
from experiments.run import job as run

FEW = ["num_prompts=2", "max_new_tokens=8", "warmup=0", "check_state=false"]
SMALL = ["measure.repeats=2", "measure.rounds=1", "measure.tokens=4", "measure.resamples=5"]


@pytest.fixture
def configured(options, assistant):
    def make(*overrides, name="cost"):
        with initialize_config_module("conf", version_base=None):
            model = [f"drafter.name={assistant}"] if not any(item.startswith("drafter=") for item in overrides) else []
            return compose(name, [*options, *FEW, *(SMALL if name == "cost" else []), *model, *overrides])

    return make


def recorded(configured, folder: Path, *overrides: str) -> Path:
    run.execute(configured(*overrides, name="config"), folder)
    return folder


def test_a_sweep_of_its_own(configured, tmp_path, capsys):
    found = cost.execute(configured("gammas=[1,3]"), tmp_path)
    assert json.loads((tmp_path / "cost.json").read_text()) == found
    assert [row["gamma"] for row in found["runs"]] == [1, 3]
    assert [row["gamma"] for row in found["gamma_curve"]] == [1, 2, 3]
    assert [row["measured"] is not None for row in found["gamma_curve"]] == [True, False, True]
    assert all(row["predicted"] > 0 for row in found["runs"])
    assert {row["model"].split()[0] for row in found["forwards"]} == {"target", "drafter"}
    assert found["step_curves"][0]["drafter_forward"] > 0
    assert {row["slots"] for row in found["forwards"] if row["model"] == "target"} == {1, 2, 3, 4}
    assert len({row["context"] for row in found["forwards"]}) > 1
    assert found["provenance"]["versions"]["torch"]
    printed = capsys.readouterr().out
    assert "predicted against measured: median error" in printed
    assert "best gamma" in printed or "drafting does not pay" in printed


def test_recorded_runs_of_every_kind_of_draft(configured, tmp_path):
    lookup = ["drafter=prompt_lookup", "drafter.num_tokens=4"]
    recorded(configured, tmp_path / "runs" / "lookup", *lookup)
    recorded(configured, tmp_path / "runs" / "batch", *lookup, "batch_size=2", "sampling=sample")
    recorded(configured, tmp_path / "runs" / "lookahead", "drafter=lookahead", "drafter.window=3", "drafter.ngram=3")
    found = cost.execute(configured(f"runs=[{tmp_path / 'runs'}]", "drafter=none"), tmp_path / "cost")
    assert [row["batch"] for row in found["runs"]] == [2, 1, 1]
    shapes = {curve["shape"]: curve for curve in found["forward_curves"]}
    assert set(shapes) == {"chain", "tree with 5 scratch slots"}
    assert shapes["tree with 5 scratch slots"]["slots"][0] == 6
    assert {row["setup"] for row in found["gamma_curve"]} == {row["setup"] for row in found["runs"] if row["gamma"] is not None}
    assert all(np.isfinite(row["predicted"]) for row in found["runs"])


def test_what_is_read_from_a_run_is_what_it_did(configured, tmp_path):
    folder = recorded(configured, tmp_path / "run", "drafter=prompt_lookup", "drafter.num_tokens=3", "batch_size=2")
    found, summary = load_run(folder), json.loads((folder / "summary.json").read_text())
    assert found.tokens.sum() == summary["num_tokens"]
    assert found.method.rows.sum() == summary["num_steps"]
    assert found.method.count < summary["num_steps"]  # two rows share a forward
    assert found.method.rows.max() == 2
    spent = found.method.seconds.sum(0)
    assert spent[0] == pytest.approx(summary["seconds"]["draft"], rel=1e-3)
    assert spent[1] == pytest.approx(summary["seconds"]["target"], rel=1e-3)
    assert spent.sum() == pytest.approx(sum(summary["seconds"].values()), rel=1e-3)
    total = found.judged.tested.sum(0)
    assert found.judged.kept.sum(0)[0] / total[0] == pytest.approx(summary["acceptance_by_position"][0])
    assert found.judged.depth.max() <= 3
    assert found.baseline.drafted.max() == 0
    assert found.baseline.context.min() == max(len(prompt) for prompt in found.prompts) - 1  # of the longer row


def test_drafts_that_only_the_budget_shortened_are_left_out(configured, tmp_path):
    folder = recorded(configured, tmp_path / "run", "drafter=adversarial", "drafter.num_tokens=3", "stop_at_eos=false")
    found = load_run(folder)
    assert set(found.judged.depth.tolist()) == {3}
    assert found.method.drafted.min() < 3


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["gammas=[0,2]"], "gammas=0: give whole numbers of at least 1"),
        (["gammas=[1.5]"], "gammas=1.5: give whole numbers of at least 1"),
        (["gammas=[]"], "give a list of at least one length"),
        (["gammas=4"], "give a list of at least one length"),
        (["drafter=lookahead", "gammas=[1,2]"], "has no num_tokens that could vary"),
        (["measure.repeats=0"], "measure.repeats=0: give whole numbers of at least 1"),
        (["measure.slots=[0]"], "measure.slots=0: give whole numbers of at least 1"),
        (["measure.contexts=[-3]"], "measure.contexts=-3: give whole numbers of at least 1"),
        (["runs=nowhere"], "runs=nowhere: give a list"),
        (["runs=[nowhere]"], "no summary.json in nowhere"),
    ],
)
def test_wrong_settings_are_one_line_before_any_work(configured, tmp_path, overrides, message):
    with pytest.raises(ValueError, match=message.replace("[", r"\[")) as caught:
        cost.execute(configured(*overrides), tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_runs_that_say_nothing_here_are_refused(configured, assistant, tmp_path):
    folder = recorded(configured, tmp_path / "run", "drafter=prompt_lookup")
    asked = [f"runs=[{folder}]", "drafter=none"]
    for overrides, message in (
        ([f"target.name={assistant}"], "is a run of another target (name="),
        (["target.dtype=float32"], "is a run of another target (dtype=float64; here dtype=float32)"),
        (["threads=2"], "is a run of another target (threads=1; here threads=2)"),
    ):
        with pytest.raises(ValueError, match=r"is a run of another target") as caught:
            cost.execute(configured(*asked, *overrides), tmp_path / "out")
        assert message in str(caught.value)
    summary = json.loads((folder / "summary.json").read_text())
    chosen = summary | {"config": summary["config"] | {"drafter": summary["config"]["drafter"] | {"num_tokens": "auto"}}}
    (folder / "summary.json").write_text(json.dumps(chosen))
    with pytest.raises(ValueError, match=r"its drafter chose its lengths itself \(auto\)"):
        load_runs([folder])
    (folder / "summary.json").write_text(json.dumps(summary))
    held = (folder / "records.jsonl").read_text()
    rows = [json.loads(line) | {"prompt_ids": None} for line in held.splitlines()]
    (folder / "records.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ValueError, match="without the prompts' token ids"):
        load_runs([folder])
    (folder / "records.jsonl").write_text(held)
    (folder / "steps.jsonl").write_text("")
    with pytest.raises(ValueError, match=r"does not hold what summary\.json sums up"):
        load_runs([folder])
    (folder / "steps.jsonl").unlink()
    with pytest.raises(ValueError, match=r"has no steps\.jsonl"):
        load_runs([folder])


def test_knots_are_dense_where_the_curve_bends():
    assert knots_up_to(1) == [1]
    assert knots_up_to(4) == [1, 2, 3, 4]
    assert knots_up_to(20) == [1, 2, 3, 4, 5, 6, 8, 11, 15, 20]
    assert spread_of(np.array([0, 0, 0])) == [1]
    assert len(spread_of(np.arange(100))) == 3
