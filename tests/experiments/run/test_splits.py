"""Prompts to tune on and prompts to report do not mix, whatever else is in the set."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from experiments.parts.data.prompts import Prompt
from experiments.parts.data.split import is_dev, side
from experiments.run import held_out
from experiments.run.job import execute

PROMPTS = [Prompt(f"p{index}", "c", ("text",)) for index in range(200)]


def test_both_sides_together_are_the_set_and_share_nothing() -> None:
    dev, test = side(PROMPTS, "dev", 0.3), side(PROMPTS, "test", 0.3)
    assert sorted(dev + test, key=PROMPTS.index) == side(PROMPTS, "all", 0.3) == PROMPTS
    assert not set(dev) & set(test)
    assert 40 <= len(dev) <= 80


def test_a_prompt_stays_on_its_side_in_a_smaller_set_and_as_the_share_grows() -> None:
    assert side(PROMPTS[::3], "dev", 0.5) == [prompt for prompt in side(PROMPTS, "dev", 0.5) if prompt in PROMPTS[::3]]
    assert set(side(PROMPTS, "dev", 0.2)) < set(side(PROMPTS, "dev", 0.6))
    assert [is_dev(f"p{index}", 0.5) for index in range(5)] == [True, False, True, True, False]  # for good: reports depend on it


def test_a_side_without_prompts_is_refused() -> None:
    with pytest.raises(ValueError, match="none of the 200 prompts"):
        side(PROMPTS, "dev", 1e-9)


def test_the_best_run_of_a_sweep_is_decoded_on_the_prompts_held_out(
    command: Callable[..., int], target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = tmp_path / "sweep"
    options = ("split=dev", "objective=tokens_per_step", "max_new_tokens=12", "drafter=draft_model", f"drafter.name={target}")  # always right
    assert command("-m", f"hydra.sweep.dir={sweep}", "drafter.num_tokens=1,4", *options) == 0
    assert held_out.main([str(sweep)]) == 0
    best = held_out.best_run(sweep)
    assert best["config"]["drafter"]["num_tokens"] == 4
    files = (sweep / "1" / "records.jsonl", sweep / "held_out" / "records.jsonl")
    dev, test = ({json.loads(line)["prompt"] for line in file.read_text().splitlines()} for file in files)
    assert dev | test == {"p0", "p1", "p2", "p3"}
    assert not dev & test
    assert "test, held out" in capsys.readouterr().out


def test_a_sweep_that_held_nothing_out_is_refused(composed: Callable[..., DictConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    execute(composed("max_new_tokens=2", "num_prompts=1"), tmp_path / "0")
    assert held_out.main([str(tmp_path)]) == 2
    assert "nothing was held out" in capsys.readouterr().err


@pytest.mark.parametrize("overrides", [("split=train",), ("dev_share=2",), ("objective=valid",)])
def test_wrong_settings_are_refused_before_any_work(composed: Callable[..., DictConfig], tmp_path: Path, overrides: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=overrides[0]):
        execute(composed(*overrides, "target.name=/nowhere"), tmp_path / "run")
