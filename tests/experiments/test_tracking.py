"""W&B, against real runs: written offline, read back by W&B's own reader."""

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from experiments import tracking
from experiments.run import execute
from experiments.tracking import NoTracking, WandbTracking, has_key

TRACKED = ("tracking=wandb", "tracking.project=tests", "tracking.tags=[mine]")


@pytest.fixture(autouse=True)
def _no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))


def inspect(folder: Path, *flags: str) -> list[Any]:
    """What `wandb leet inspect` reads from the only run in a folder."""
    (run,) = (folder / "wandb").glob("offline-run-*")
    program = Path(sys.executable).with_name("wandb")
    done = subprocess.run([program, "leet", "inspect", *flags, "--json", run], capture_output=True, text=True, check=True, timeout=60)
    return [json.loads(line) for line in done.stdout.splitlines()] if not flags else [json.loads(done.stdout)]


def test_an_offline_run_holds_config_summary_curves_and_table(
    composed: Callable[..., DictConfig], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        summary = execute(composed(*TRACKED), tmp_path / "run", "sweep/1")
    assert sum("offline" in line for line in caplog.text.splitlines()) == 1
    (found,) = inspect(tmp_path / "run", "--summary")
    text = json.dumps(found)
    assert "tests" in text
    assert found["state"] in ("finished", "Finished", "FINISHED")
    assert found["config"]["drafter"]["num_tokens"] == 10
    assert found["summary"]["speedup"] == pytest.approx(summary["speedup"])
    assert found["summary"]["num_prompts"] == 4
    raw = json.dumps(inspect(tmp_path / "run"))
    assert raw.count("prompt/index") >= 4
    assert raw.count("step/index") >= summary["num_steps"]
    (table,) = (tmp_path / "run" / "wandb").rglob("*.table.json")
    rows = json.loads(table.read_text())
    assert rows["columns"] == list(tracking.COLUMNS)
    assert [row[0] for row in rows["data"]] == ["p0", "p1", "p2", "p3"]


def test_two_jobs_of_one_process_are_two_runs(composed: Callable[..., DictConfig], tmp_path: Path) -> None:
    for index, drafter in enumerate(("none", "prompt_lookup")):
        execute(composed(*TRACKED, f"drafter={drafter}", "num_prompts=1", "max_new_tokens=4"), tmp_path / str(index), "sweep/1")
    configs = [inspect(tmp_path / str(index), "--summary")[0]["config"] for index in range(2)]
    assert [config["drafter"]["_target_"] for config in configs] == ["drafters.none.NoDraft", "drafters.prompt_lookup.PromptLookup"]


def test_a_resumed_run_is_tracked_whole(composed: Callable[..., DictConfig], tmp_path: Path) -> None:
    execute(composed(), tmp_path / "run")
    execute(composed(*TRACKED), tmp_path / "run")
    (table,) = (tmp_path / "run" / "wandb").rglob("*.table.json")
    assert len(json.loads(table.read_text())["data"]) == 4


def test_disabled_leaves_nothing(composed: Callable[..., DictConfig], tmp_path: Path) -> None:
    execute(composed(*TRACKED, "tracking.mode=disabled", "num_prompts=1", "max_new_tokens=4"), tmp_path / "run")
    assert not list((tmp_path / "run").rglob("*.wandb"))


@pytest.mark.slow
def test_a_server_that_cannot_be_reached_means_offline(
    composed: Callable[..., DictConfig], tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    summary = execute(composed(*TRACKED, "tracking.init_timeout=2", "num_prompts=1", "max_new_tokens=4"), tmp_path / "run")
    assert "could not go online" in caplog.text
    (found,) = inspect(tmp_path / "run", "--summary")
    assert found["summary"]["speedup"] == pytest.approx(summary["speedup"])


def test_a_tracker_that_dies_does_not_take_the_run_along(
    composed: Callable[..., DictConfig], tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("the disk is full")

    monkeypatch.setattr(WandbTracking, "_log_prompts", fail)
    assert execute(composed(*TRACKED, "tracking.mode=disabled"), tmp_path / "run")["num_prompts"] == 4
    assert caplog.text.count("the disk is full") == 1


def test_a_key_is_seen_in_the_environment_and_in_netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not has_key()
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password secret\n")
    (tmp_path / "netrc").chmod(0o600)
    assert has_key()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert not has_key()
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    assert has_key()


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="mode='ofline': give one of auto, online, offline, disabled"):
        WandbTracking(mode="ofline")


def test_no_tracking_takes_every_call() -> None:
    tracker = NoTracking()
    tracker.start({}, Path(), labels={})
    tracker.log_prompts([], [])
    tracker.finish(None)
