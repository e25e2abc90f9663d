"""A run whose drafter chooses its lengths: what it goes by is in the folder, is read again, and must be whole."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from drafters.prompt_lookup import PromptLookup
from experiments.analysis.tables import comparison_rows, footnotes
from experiments.run import costs
from experiments.run.job import execute

CHOSEN = ("drafter=prompt_lookup", "drafter.num_tokens=auto", "sampling=sample")
Compose = Callable[..., DictConfig]


def steps_of(folder: Path) -> list[list[Any]]:
    lines = [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]
    return [[line[name] for name in ("prompt", "role", "drafted", "accepted", "proposed")] for line in lines]


def drafted(steps: list[list[Any]]) -> float:
    own = [step[2] for step in steps if step[1] == "method"]
    return sum(own) / len(own)


def test_the_same_costs_choose_the_same_drafts(composed: Compose, tmp_path: Path) -> None:
    config = composed(*CHOSEN)
    first = execute(config, tmp_path / "first")
    held = json.loads((tmp_path / "first" / costs.FILE).read_text())
    assert set(held["seconds"]) == {"1"}
    assert first["drafts_repeat"] is True
    assert first["drafted_per_step"] == pytest.approx(drafted(steps_of(tmp_path / "first")))
    assert "drafted/step" in comparison_rows([first])[0]
    assert any(note.startswith("chosen: ") for note in footnotes(first))
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / costs.FILE).write_text(json.dumps(held))
    execute(config, tmp_path / "second")
    assert json.loads((tmp_path / "second" / costs.FILE).read_text()) == held
    assert steps_of(tmp_path / "first") == steps_of(tmp_path / "second")
    lines = (tmp_path / "first" / "records.jsonl").read_text().splitlines(keepends=True)
    before = steps_of(tmp_path / "first")
    (tmp_path / "first" / "records.jsonl").write_text("".join(lines[:4]))  # as if it had been stopped after two prompts
    execute(config, tmp_path / "first")
    assert json.loads((tmp_path / "first" / costs.FILE).read_text()) == held
    assert sorted(map(str, steps_of(tmp_path / "first"))) == sorted(map(str, before))


def test_every_number_of_rows_is_measured(composed: Compose, tmp_path: Path) -> None:
    execute(composed(*CHOSEN, "batch_size=4"), tmp_path)
    assert set(json.loads((tmp_path / costs.FILE).read_text())["seconds"]) == {"1", "2", "4"}


def test_what_the_battery_was_judged_by_is_forgotten() -> None:
    drafter = PromptLookup(num_tokens="auto").by_nominal_costs()
    assert costs.known(drafter)
    costs.forget(drafter)
    assert not costs.known(drafter)
    assert drafter.costs is not None
    assert drafter.costs.lacks(1)


@pytest.mark.parametrize("held", ["{", "[]", "{}", '{"seconds": {"1": {"0": 1}}, "counts": null}', '{"seconds": null}'])
def test_a_damaged_file_is_named(tmp_path: Path, held: str) -> None:
    (tmp_path / costs.FILE).write_text(held)
    with pytest.raises(ValueError, match=r"costs\.json: .*remove it, and the same command measures anew"):
        costs.restore(PromptLookup(num_tokens="auto"), tmp_path)


def test_a_drafter_that_chooses_nothing_leaves_no_file(tmp_path: Path) -> None:
    costs.settle(PromptLookup(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_run_that_has_begun_wants_the_very_file(composed: Compose, tmp_path: Path) -> None:
    """Other lengths behind the same answers would look as if the drafter carried something from prompt to prompt."""
    config, path = composed(*CHOSEN), tmp_path / costs.FILE
    execute(config, tmp_path)
    lines, held = (tmp_path / "records.jsonl").read_text().splitlines(keepends=True), path.read_text()
    (tmp_path / "records.jsonl").write_text("".join(lines[:4]))
    path.unlink()
    with pytest.raises(ValueError, match=r"costs\.json is gone; this folder's answers were drafted by it: put back the file"):
        execute(config, tmp_path)
    path.write_text(held.replace('"PromptLookup"', '"Lookahead"'))
    with pytest.raises(ValueError, match=r"costs\.json: .*is of Lookahead and not of PromptLookup\); this folder's answers"):
        execute(config, tmp_path)
    changed = json.loads(held)
    changed["seconds"]["1"]["0"] *= 2
    path.write_text(json.dumps(changed))
    with pytest.raises(ValueError, match=r"costs\.json: .*it was changed"):
        execute(config, tmp_path)
    path.write_text(held)
    assert execute(config, tmp_path)["valid"]
