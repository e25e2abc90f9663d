"""The battery from the command line: exit codes, sweeps judged together, bad input in one line."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra

from experiments.analysis.tables import PARTS
from experiments.lossless import battery
from experiments.lossless import command as lossless
from experiments.lossless.checks import coupling, drawn_as_declared, enumerated_loop, long_texts, parity, sampled
from experiments.lossless.mutants.chains import SoftArgmax
from experiments.lossless.subject import Check
from experiments.parts.command import SWEEPS


class UsersSoftArgmax(SoftArgmax):
    """A user's own drafter, wrong in the way that is most often seen."""


@pytest.fixture
def small(options: list[str], assistant: str) -> list[str]:
    """Overrides of a small battery, without mutants."""
    kept = [item for item in options if not item.startswith(("max_new_tokens", "warmup"))]
    drafter = [f"drafter.name={assistant}", "drafter.num_tokens=2"]
    return [*kept, *drafter, "max_new_tokens=8", "num_prompts=2", "effort.mutants=false", *LIGHT]


LIGHT = ["effort.samples=640", "effort.batch=640", "effort.long_texts=600", "effort.long_batch=24"]


@pytest.fixture
def command(small: list[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., int]]:
    """Calls the command line in this process and returns its exit code."""

    def call(*overrides: str) -> int:
        flags = [item for item in overrides if item.startswith("-")]
        monkeypatch.setattr(sys, "argv", ["experiments.lossless", *flags, *small, *(item for item in overrides if item not in flags)])
        SWEEPS.clear()
        GlobalHydra.instance().clear()
        try:
            lossless.main()
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    yield call
    GlobalHydra.instance().clear()


def result_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "lossless.json").read_text())


def test_an_exact_configuration_passes(command, tmp_path, capsys):
    assert command(f"hydra.run.dir={tmp_path}") == 0
    found = result_of(tmp_path)
    assert found["verdict"] == "pass"
    assert [check["name"] for check in found["checks"]] == list(battery.NAMES)
    assert set(found["checks"][0]) == {field.name for field in fields(Check)}
    assert {"versions", "git_commit", "seed", "config_hash", "date"} <= set(found["provenance"])
    assert "verdict: pass" in capsys.readouterr().out


def test_a_users_drafter_that_declares_soft_rows_for_argmax_tokens_is_convicted(command, tmp_path):
    target = f"drafter._target_={__name__}.UsersSoftArgmax"
    assert command(f"hydra.run.dir={tmp_path}", target, f"trusted_packages=[{__name__.split('.')[0]}]") == 1
    found = {check["name"]: check for check in result_of(tmp_path)["checks"]}
    assert [name for name, check in found.items() if check["verdict"] == "fail"] == [
        enumerated_loop.NAME,
        long_texts.CONTRACT_NAME,
        drawn_as_declared.NAME,
        sampled.NAME,
    ]
    assert "leave q out for argmax tokens" in found[long_texts.CONTRACT_NAME]["detail"]


def test_a_lossy_verifier_is_refused_and_with_leave_convicted(command, tmp_path):
    assert command(f"hydra.run.dir={tmp_path}", "verifier=lenient") == 2
    assert not (tmp_path / "lossless.json").exists()
    assert command(f"hydra.run.dir={tmp_path}", "verifier=lenient", "allow_lossy=true") == 1
    assert result_of(tmp_path)["claims_exact"] is False


WRONG_EFFORTS = [
    "effort.samples=0",
    "effort.alpha=2",
    "effort.level=no",
    "effort.long_texts=true",
    "effort.long_batch=2.5",
    "+effort.sample=3",
    "prompt_tokens=2.5",
    "effort.tokens=100",
]


@pytest.mark.parametrize("wrong", [*WRONG_EFFORTS, "verifier=recursiv", "num_prompts=0"])
def test_bad_input_is_refused(command, tmp_path, wrong):
    assert command(f"hydra.run.dir={tmp_path}", wrong) == 2


def test_a_sweep_is_judged_together(command, tmp_path, capsys, monkeypatch):
    assert command("-m", f"hydra.sweep.dir={tmp_path}", "verifier=block,coupled", "drafter.num_tokens=1") == 0
    assert "6 statistical checks judged together (Holm)" in capsys.readouterr().out
    assert not list(tmp_path.rglob("options.json"))  # by which `resume=true` of the main job would take the folder for its own
    assert lossless.judge_together([tmp_path]) == 0
    found = result_of(tmp_path / "1")
    found["checks"][-1] |= {"p_value": 1e-9, "verdict": "fail"}
    (tmp_path / "1" / "lossless.json").write_text(json.dumps(found))
    assert lossless.judge_together([tmp_path]) == 1
    found["checks"][-1] |= {"p_value": 9e-7}  # below alpha alone, not among four
    (tmp_path / "1" / "lossless.json").write_text(json.dumps(found))
    assert lossless.judge_together([tmp_path]) == 0
    assert lossless.judge_together([tmp_path / "nothing"]) == 2


@pytest.mark.parametrize("damage", [{"mutants": None}, {"labels": []}, {"checks": [{"name": "a", "verdict": "pass", "p_value": 2, "alpha": 0}]}])
def test_a_damaged_result_is_named(tmp_path, capsys, damage):
    whole = {"verdict": "pass", "checks": [], "mutants": [], "labels": dict.fromkeys(PARTS, "x"), "config": {"effort": {"mutants": True}}}
    (tmp_path / "lossless.json").write_text(json.dumps(whole | damage))
    assert lossless.judge_together([tmp_path]) == 2
    assert "is not the result of a battery" in capsys.readouterr().err


def test_a_sweep_from_the_command_line_is_judged_together(small, tmp_path):
    """In a process of its own, where the command runs as `__main__`: an earlier version filled the memory of another copy of the module."""
    command = [sys.executable, "-m", "experiments.lossless", "-m", *small, f"hydra.sweep.dir={tmp_path}", "verifier=typical", "allow_lossy=true"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=250)
    assert "judged together (Holm)" in done.stdout, done.stderr[-2000:]
    assert done.returncode == 1


def test_names_are_the_checks_own():
    assert len(set(battery.NAMES)) == len(battery.NAMES) == 12
    assert {coupling.NAME, parity.NAME} < set(battery.NAMES)


def test_a_high_effort_looks_harder_in_everything_that_it_changes():
    with initialize_config_module("conf", version_base=None):
        normal, high = compose("lossless").effort, compose("lossless", ["effort=high"]).effort
    assert set(high) == set(normal)
    changed = [name for name in normal if high[name] != normal[name]]
    assert changed == ["samples", "long_texts"]
    assert all(high[name] > normal[name] for name in changed)
