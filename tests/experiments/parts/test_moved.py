"""A folder recorded before `experiments/` was divided into rooms is still read: its configuration holds the old names."""

import inspect
import json
import shutil
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from hydra.utils import get_object
from omegaconf import OmegaConf

from experiments.cost.forwards import load_runs
from experiments.cost.plan import check_target
from experiments.parts.build import make
from experiments.recording.folder import read_summaries
from experiments.recording.moved import LATER, MOVED, renamed
from experiments.replay.job import execute as replay
from experiments.report.command import main as report
from experiments.run.held_out import best_run
from experiments.run.held_out import main as held_out
from experiments.run.track import read, rebuild

ROOT = Path(__file__).resolve().parents[3]
RECORDED = Path(__file__).resolve().parents[1] / "recorded_before"


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """A sweep that holds the recorded run."""
    shutil.copytree(RECORDED, tmp_path / "sweep" / "0")
    return tmp_path / "sweep"


def test_the_folder_holds_old_names_of_files_that_are_gone() -> None:
    text = (RECORDED / "config.yaml").read_text()
    named = [old for old in MOVED if old in text]
    assert len(named) == 4
    assert [name for name in MOVED if ROOT.joinpath(*name.split(".")[:-1]).with_suffix(".py").exists()] == []


@pytest.mark.parametrize("new", MOVED.values())
def test_every_new_name_leads_somewhere(new: str) -> None:
    assert callable(get_object(new))


def test_every_part_of_the_folder_is_made() -> None:
    config = OmegaConf.load(RECORDED / "config.yaml")
    assert OmegaConf.is_dict(config)
    assert [prompt.category for prompt in make(config, "data")]
    assert type(make(config, "tracking")).__name__ == "NoTracking"
    assert type(make(config, "peers.generate")).__name__ == "WantedGenerate"
    assert make(config, "target").tokenizer is not None


def test_settings_that_came_later_are_as_they_were_before() -> None:
    drafter = {"_target_": "drafters.draft_model.DraftModel", "name": "a"}
    assert renamed({"drafter": drafter, "more": [{**drafter, "store": "auto"}]}) == {
        "drafter": {**drafter, "store": "float32"},
        "more": [{**drafter, "store": "auto"}],
    }
    for name, settings in LATER.items():
        assert settings.keys() <= inspect.signature(get_object(name)).parameters.keys()


def test_only_moved_targets_are_renamed() -> None:
    config = {"a": {"_target_": "drafters.none.NoDraft"}, "b": [{"_target_": "experiments.data.hub", "name": "experiments.data.hub"}]}
    assert renamed(config) == {
        "a": {"_target_": "drafters.none.NoDraft"},
        "b": [{"_target_": "experiments.parts.data.sources.hub", "name": "experiments.data.hub"}],
    }


def test_cost_takes_its_target_for_the_one_that_is_asked_for() -> None:
    runs = load_runs([RECORDED])
    with initialize_config_module("conf", version_base=None):
        asked = OmegaConf.to_container(compose("config", ["target.runtime=hf", "target.store=float32"]), resolve=True)
    assert isinstance(asked, dict)
    assert runs[0].summary["config"]["target"]["runtime"] == "hf"  # it was recorded as eager
    check_target(runs, {str(key): value for key, value in asked.items()})
    asked["target"]["store"] = "checkpoint"
    with pytest.raises(ValueError, match=r"store=float32; here store=checkpoint"):
        check_target(runs, {str(key): value for key, value in asked.items()})


def test_the_report_shows_it(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report([str(sweep)]) == 0
    assert "draft_model" in capsys.readouterr().out


def test_its_held_out_half_is_decoded(sweep: Path) -> None:
    assert best_run(sweep)["config"]["data"]["_target_"] == "experiments.parts.data.sources.embedded"
    assert held_out([str(sweep)]) == 0
    found = json.loads((sweep / "held_out" / "summary.json").read_text())
    assert found["config"]["split"] == "test"
    assert found["num_prompts"] == read_summaries([RECORDED])[0]["num_prompts"]


def test_its_answers_are_replayed(sweep: Path) -> None:
    with initialize_config_module("conf", version_base=None):
        outcomes = replay(compose("replay", [f"recorded={sweep / '0'}", "drafter=prompt_lookup", "lengths=[2]"]))
    assert len(outcomes) > 0


def test_it_is_tracked_with_the_names_that_it_was_recorded_with(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    told: list[dict] = []
    monkeypatch.setattr(wandb, "init", lambda **settings: told.append(settings) or (_ for _ in ()).throw(RuntimeError("seen")))
    rebuild(read(sweep / "0"), {"mode": "offline"})
    assert told[0]["config"]["target"]["_target_"] == "experiments.build.load_target"
