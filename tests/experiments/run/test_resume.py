"""Runs and sweeps that were stopped go on: whatever killed them, nothing is decoded twice, nothing is missing, nothing changes."""

import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from experiments.recording.resume import lasting, newest, note_options, resumed
from experiments.run import job as run
from experiments.run import job as session
from experiments.run.job import execute

ROOT = Path(__file__).resolve().parents[3]
SWEPT = ("drafter=prompt_lookup,lookahead", "sampling=greedy,sample", "max_new_tokens=10")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def start(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "experiments.run", *arguments], cwd=ROOT, env=ENVIRONMENT, check=False, capture_output=True, text=True
    )


def records(folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    """(prompt, role, tokens, steps) of every record, in order, by the job's folder."""
    found = {}
    for file in sorted(folder.rglob("records.jsonl")):
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        found[file.parent.name] = [(row["prompt"], row["role"], tuple(row["tokens"]), row["num_steps"]) for row in rows]
    return found


def test_options_that_change_no_result_do_not_count() -> None:
    options = ["seed=1", "-m", "resume=true", "hydra/launcher=joblib", "hydra.sweep.dir=x", "tracking=wandb", "tracking.mode=offline", "drafter=none"]
    assert lasting([*options, "+tracking.tags=[a]", "allow_code_change=true"]) == ["drafter=none", "seed=1"]


def test_the_newest_folder_of_the_same_options_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, options in (("2026-01-01/10-00-00-1", ["seed=1"]), ("2026-01-02/10-00-00-1", ["seed=1"]), ("2026-01-03/10-00-00-1", ["seed=2"])):
        note_options(Path("multirun") / name, options)
    assert newest(Path("multirun"), ["seed=1"]) == Path("multirun/2026-01-02/10-00-00-1")
    assert resumed(["-m", "seed=1", "resume=true"]) == ["hydra.sweep.dir=multirun/2026-01-02/10-00-00-1"]
    assert resumed(["-m", "seed=1"]) == []
    assert resumed(["-m", "seed=3", "resume=true"]) == []
    assert resumed(["-m", "seed=1", "resume=true", "hydra.sweep.dir=here"]) == []


def test_a_finished_run_is_read_without_loading_a_model(
    composed: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prompts: Path
) -> None:
    first = execute(composed("max_new_tokens=2"), tmp_path / "run")
    monkeypatch.setattr(run, "build", lambda *_: pytest.fail("loaded"))
    assert execute(composed("max_new_tokens=2"), tmp_path / "run") == json.loads(json.dumps(first))
    prompts.write_text(prompts.read_text().replace("abc", "xyz"))
    with pytest.raises(ValueError, match="begun with another version of data"):
        execute(composed("max_new_tokens=2"), tmp_path / "run")


def test_results_of_two_versions_of_the_code_do_not_mix(composed: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    execute(composed("max_new_tokens=2", "num_prompts=2"), tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    monkeypatch.setattr("experiments.run.job.code_version", lambda *_: {"source": "another"})
    with pytest.raises(ValueError, match="begun with another version of code"):
        execute(composed("max_new_tokens=2", "num_prompts=2"), tmp_path / "run")
    execute(composed("max_new_tokens=2", "num_prompts=2", "allow_code_change=true"), tmp_path / "run")
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["code_changes"][0]["to"]["source"] == "another"


def test_the_same_command_goes_on_by_itself(
    command: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    real, calls = session.decode_all, []

    def stop_in_the_second_job(*arguments: Any) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(*arguments)

    monkeypatch.setattr(session, "decode_all", stop_in_the_second_job)
    options = ("drafter=none,prompt_lookup", "num_prompts=2", "max_new_tokens=4")
    assert command("-m", *options) == 130
    assert command("-m", *options, "resume=true") == 0
    sweeps = list((tmp_path / "multirun").glob("*/*"))
    assert len(sweeps) == 1
    assert "going on: hydra.sweep.dir=" in capsys.readouterr().err
    assert {name: len(rows) for name, rows in records(sweeps[0]).items()} == {"0": 4, "1": 4}
    assert len(calls) == 3  # the first job was not decoded again
    assert command("-m", *options) == 0
    assert len(list((tmp_path / "multirun").glob("*/*"))) == 2


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_sweep_killed_twice_ends_up_as_if_it_had_not_been(command: Callable[..., int], options: list[str], tmp_path: Path) -> None:
    assert command("-m", f"hydra.sweep.dir={tmp_path / 'whole'}", *SWEPT) == 0
    whole, moments = records(tmp_path / "whole"), random.Random(5)
    assert sum(map(len, whole.values())) == 32
    arguments = ["-m", *options, *SWEPT, f"hydra.sweep.dir={tmp_path / 'killed'}", "allow_code_change=true"]
    for least, most in ((1, 12), (15, 28)):
        enough = moments.randint(least, most)
        process = subprocess.Popen(
            [sys.executable, "-m", "experiments.run", *arguments], cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 200
        while sum(file.read_bytes().count(b"\n") for file in (tmp_path / "killed").rglob("records.jsonl")) < enough:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.002)
        time.sleep(moments.random() / 20)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert records(tmp_path / "killed") != whole
    done = start(arguments)
    assert done.returncode == 0, done.stderr
    assert records(tmp_path / "killed") == whole
    for file in (tmp_path / "killed").rglob("summary.json"):
        assert not json.loads(file.read_text())["interrupted"]
        steps = [json.loads(line) for line in (file.parent / "steps.jsonl").read_text().splitlines()]
        keys = [(step["prompt"], step["role"], step["step"]) for step in steps]
        assert len(keys) == len(set(keys)) == sum(row[3] for row in records(file.parent)[file.parent.name])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "package", "extra"),
    [
        ("joblib", "hydra_plugins.hydra_joblib_launcher", ("hydra.launcher.n_jobs=1",)),
        ("submitit_local", "hydra_plugins.hydra_submitit_launcher", ("hydra.launcher.timeout_min=5",)),
    ],
)
def test_a_sweep_runs_under_other_launchers(options: list[str], tmp_path: Path, launcher: str, package: str, extra: tuple[str, ...]) -> None:
    if importlib.util.find_spec("hydra_plugins") is None or importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    swept = ("drafter=none,prompt_lookup", "num_prompts=1", "max_new_tokens=4", f"hydra.sweep.dir={tmp_path / 'sweep'}")
    done = start(["-m", *options, *swept, f"hydra/launcher={launcher}", *extra])
    assert done.returncode == 0, done.stderr
    assert {name: len(rows) for name, rows in records(tmp_path / "sweep").items()} == {"0": 2, "1": 2}
    assert "prompt_lookup" in done.stdout.split("results in")[-1]


@pytest.mark.slow
def test_optuna_tunes_on_one_side_and_goes_on_where_it_stopped(options: list[str], tmp_path: Path) -> None:
    if importlib.util.find_spec("optuna") is None or importlib.util.find_spec("hydra_plugins.hydra_optuna_sweeper") is None:
        pytest.skip("hydra-optuna-sweeper is not installed")
    search = (
        "experiment=tune",
        "drafter=prompt_lookup",
        "objective=tokens_per_step",
        "hydra.sweeper.n_trials=2",
        f"hydra.sweep.dir={tmp_path / 's'}",
    )
    found = []
    for _ in range(2):
        done = start([*options, *search, "max_new_tokens=6"])
        assert done.returncode == 0, done.stderr
        times = [file.stat().st_mtime_ns for file in sorted(tmp_path.rglob("*/records.jsonl"))]
        found.append(((tmp_path / "s" / "optimization_results.yaml").read_text(), times))
    assert "drafter.num_tokens" in found[0][0]
    assert len(found[0][1]) == 2
    assert found[0] == found[1]
