"""W&B, against real runs: written offline, read back by W&B's own reader."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wandb
from omegaconf import DictConfig

from experiments.parts.tracking import wandb as tracking
from experiments.parts.tracking.identity import has_key
from experiments.parts.tracking.media import FILES
from experiments.parts.tracking.none import NoTracking
from experiments.parts.tracking.wandb import WandbTracking
from experiments.recording.record import read_pairs
from experiments.run import track
from experiments.run.job import execute
from experiments.run.side_by_side import SideBySide
from tests.experiments.offline_runs import OfflineRun, offline_folders, offline_run
from tests.experiments.wandb_server import wandb_server

TRACKED = ("tracking=wandb", "tracking.project=tests", "tracking.tags=[mine]", "drafter=oracle")
pytestmark = pytest.mark.usefixtures("no_account")


def test_an_offline_run_holds_config_summary_curves_and_table(
    composed: Callable[..., DictConfig], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        summary = execute(composed(*TRACKED), tmp_path / "run", "sweep/1")
    place = offline_folders(tmp_path / "run")[-1]
    assert [record.getMessage() for record in caplog.records if record.name == "experiments.parts.tracking.wandb"] == [
        f"W&B: no API key is configured, so this run is tracked offline in {tmp_path / 'run' / 'wandb'}",
        f"W&B: this run lies in {place}; send it with: wandb sync {place}",
    ]
    found = offline_run(tmp_path / "run")
    assert found.exit_code == 0
    assert {name: found.header[name] for name in ("project", "run_group", "job_type", "display_name")} == {
        "project": "tests",
        "run_group": "sweep/1",
        "job_type": "bench",
        "display_name": "oracle-greedy-target0",
    }
    assert {"mine", "drafter:oracle", "sampling:greedy", "device:cpu"} <= set(found.header["tags"])
    assert found.config["drafter"]["num_tokens"] == 5
    assert "tracking" not in found.config
    assert found.summary["speedup"] == pytest.approx(summary["speedup"])
    assert found.summary["by_category.odd.num_prompts"] == 2
    check_history(found, summary)
    check_table(found, tmp_path / "run")


def check_history(found: OfflineRun, summary: dict[str, Any]) -> None:
    steps = [row for row in found.history if "step/index" in row]
    prompts = [row for row in found.history if "prompt/index" in row]
    assert [row["step/index"] for row in steps] == list(range(1, summary["num_steps"] + 1))
    assert [row["prompt/index"] for row in prompts] == [1, 2, 3, 4]
    assert steps[-1]["step/tokens_so_far"] == summary["num_tokens"]
    accepted = [row["step/accepted"] for row in steps]
    counts = [accepted.count(length) for length in range(max(accepted) + 1)]
    assert found.history[-2]["accepted_lengths.values"] == counts
    assert found.history[-2]["accepted_lengths.bins"] == [length - 0.5 for length in range(len(counts) + 1)]
    assert sum(sum(row["prompt/accepted_lengths.values"]) for row in prompts) == len(steps)
    assert found.summary["step/accepted"] == {"mean": pytest.approx(sum(accepted) / len(steps)), "max": max(accepted)}
    assert not {"step/index", "step/emitted", "prompt/tokens"} & set(found.summary)


def check_table(found: OfflineRun, folder: Path) -> None:
    rows, records = found.table(), {pair.method.prompt: pair.method for pair in read_pairs(folder / "records.jsonl")}
    assert [row["prompt"] for row in rows] == ["p0", "p1", "p2", "p3"]
    assert list(rows[0]) == list(tracking.COLUMNS)
    for row in rows:
        record = records[row["prompt"]]
        assert row["tokens"] == len(record.tokens)
        assert row["coloured"].split('<pre class="coloured">')[1].count("<mark>") <= record.num_accepted
    shown = "".join(row["coloured"].split('<pre class="coloured">')[1] for row in rows)
    assert "<mark>" in shown
    assert "<del>" in shown
    (kept,) = [files for name, files in found.artifacts.items() if name.endswith("-folder")]
    assert {name: path.resolve() for name, path in kept.items()} == {name: (folder / name).resolve() for name in FILES if (folder / name).exists()}
    assert {"config.yaml", "records.jsonl", "steps.jsonl", "summary.json"} <= set(kept)
    assert all(folder in path.parents for files in found.artifacts.values() for path in files.values())  # nothing lies in the user's home


def test_two_jobs_of_one_process_are_two_runs(composed: Callable[..., DictConfig], tmp_path: Path) -> None:
    for index, drafter in enumerate(("none", "prompt_lookup")):
        execute(composed(*TRACKED, f"drafter={drafter}", "num_prompts=1", "max_new_tokens=4"), tmp_path / str(index), "sweep/1")
    found = [offline_run(tmp_path / str(index)) for index in range(2)]
    assert [run.config["drafter"]["_target_"] for run in found] == ["drafters.none.NoDraft", "drafters.prompt_lookup.PromptLookup"]
    assert len({run.header["run_id"] for run in found}) == 2
    assert {run.header["run_group"] for run in found} == {"sweep/1"}


def test_disabled_leaves_nothing(composed: Callable[..., DictConfig], tmp_path: Path) -> None:
    execute(composed(*TRACKED, "tracking.mode=disabled", "num_prompts=1", "max_new_tokens=4"), tmp_path / "run")
    assert not list((tmp_path / "run").rglob("*.wandb"))
    assert not (tmp_path / "run" / "tracking.json").exists()


@pytest.mark.slow
def test_a_server_that_goes_away_in_the_middle_costs_a_warning(
    composed: Callable[..., DictConfig], tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = SideBySide.run
    with wandb_server() as server:
        wandb.teardown()  # it reads the environment only once
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        monkeypatch.setenv("WANDB_BASE_URL", server.address)

        def vanish(bench: SideBySide, batch: int, *rest: Any, **more: Any) -> Any:
            if batch == 2:
                server.stop()
            return real(bench, batch, *rest, **more)

        monkeypatch.setattr(SideBySide, "run", vanish)
        summary = execute(composed(*TRACKED, "tracking.mode=online", "tracking.finish_timeout=1"), tmp_path / "run")
        wandb.teardown()
    assert "UpsertBucket" in server.asked  # it was online
    assert summary["num_prompts"] == 4
    assert caplog.text.count("W&B failed") == 1
    assert not (tmp_path / "run" / "error.json").exists()
    monkeypatch.delenv("WANDB_API_KEY")
    assert track.main([str(tmp_path / "run"), "--mode", "offline"]) == 0
    check_history(offline_run(tmp_path / "run"), summary)


@pytest.mark.slow
def test_a_server_that_cannot_be_reached_means_offline(
    composed: Callable[..., DictConfig], tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb.teardown()  # it reads the environment only once
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    summary = execute(composed(*TRACKED, "tracking.init_timeout=2", "num_prompts=1", "max_new_tokens=4"), tmp_path / "run")
    wandb.teardown()
    assert "could not go online" in caplog.text
    assert offline_run(tmp_path / "run").summary["speedup"] == pytest.approx(summary["speedup"])


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
    for host in ("api.wandb.ai", "api.forge.coreweave.com"):
        (tmp_path / "netrc").write_text(f"machine {host} login user password secret\n")
        (tmp_path / "netrc").chmod(0o600)
        assert has_key()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert not has_key()
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    assert has_key()


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="mode='ofline': give one of auto, online, offline, disabled"):
        WandbTracking(mode="ofline")


@pytest.mark.parametrize("name", ["", " ", "a/b", "a\\b", "a#b", "a?b", "a%b", "a:b", "x" * 129])
def test_a_project_that_wandb_would_refuse_is_said_before_the_run(composed: Callable[..., DictConfig], tmp_path: Path, name: str) -> None:
    config = composed("tracking=wandb")
    config.tracking.project = name
    with pytest.raises(ValueError, match=r"^tracking: project='.*': W&B takes 1 to 128 characters, none of / \\ # \? % :; give another name$"):
        execute(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_project_that_we_take_is_taken_by_wandb() -> None:
    for name in ("x" * 128, "a b", "\u00fc-1.2_3@"):
        assert wandb.Settings(project=WandbTracking(project=name).project).project == name


def test_one_word_is_one_tag_and_notes_are_sent(composed: Callable[..., DictConfig], tmp_path: Path) -> None:
    size = ("num_prompts=1", "max_new_tokens=2")
    execute(composed("tracking=wandb", "tracking.tags=foo", "tracking.notes=about this", *size), tmp_path / "run")
    found = offline_run(tmp_path / "run").header
    assert [tag for tag in found["tags"] if ":" not in tag] == ["foo"]
    assert found["notes"] == "about this"
    assert WandbTracking(tags=[1, "two"]).tags == ["1", "two"]
    wrong: list[Any] = ["", "x" * 65, [["a"]], {"a": 1}]
    for tags in wrong:
        with pytest.raises(ValueError, match=r"give texts of 1 to 64 characters"):
            WandbTracking(tags=tags)


def test_wandb_takes_our_verifiers_for_nobody_elses(composed: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(wandb, "termlog", lambda text="", *_, **__: said.append(text))
    execute(composed(*TRACKED, "num_prompts=1", "max_new_tokens=2"), tmp_path / "run")
    assert "WANDB_DISABLE_WEAVE" not in os.environ
    assert [text for text in said if "Detected" in text or "Weave" in text] == []


def test_no_tracking_takes_every_call() -> None:
    tracker = NoTracking()
    tracker.start({}, Path(), labels={})
    tracker.log_prompts([], [])
    tracker.finish(None)
