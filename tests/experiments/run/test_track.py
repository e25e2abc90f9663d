"""W&B from the files alone: what a live run wrote is written again, to the last value, whatever happened to the live one."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wandb
from omegaconf import DictConfig

from experiments.parts.tracking.identity import id_from_manifest, remembered
from experiments.recording.identity import lock
from experiments.run import track
from experiments.run.job import execute
from experiments.run.side_by_side import SideBySide
from tests.experiments.offline_runs import offline_folders, offline_run

TRACKED = ("tracking=wandb", "tracking.project=tests", "tracking.tags=[mine]", "drafter=oracle")
RECORDED = Path(__file__).resolve().parents[1] / "recorded_before"
pytestmark = pytest.mark.usefixtures("no_account")


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def method_steps(folder: Path) -> int:
    return sum(step["role"] == "method" for step in rows(folder, "steps.jsonl"))


def test_a_deleted_run_is_rebuilt_to_the_last_value_and_twice_is_still_one(
    composed: Callable[..., DictConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    execute(composed(*TRACKED, "batch_size=2"), folder, "sweep/1")
    live = offline_run(folder)
    table = live.table()
    shutil.rmtree(folder / "wandb")
    for times in (1, 2):
        assert track.main([str(folder)]) == 0
        assert len(offline_folders(folder)) == times
        rebuilt = offline_run(folder)
        assert rebuilt.told == live.told
        assert rebuilt.table() == table
    assert len(live.history) == method_steps(folder) + 4 + 2
    assert live.header["run_id"] == id_from_manifest(folder)
    assert str(offline_folders(folder)[-1]) in capsys.readouterr().out


def test_an_interrupted_and_resumed_run_is_rebuilt_like_any_other(
    composed: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, real = tmp_path / "run", SideBySide.run

    def stop_at_third(bench: SideBySide, batch: int, *rest: Any, **more: Any) -> Any:
        if batch == 2:
            raise KeyboardInterrupt
        return real(bench, batch, *rest, **more)

    monkeypatch.setattr(SideBySide, "run", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        execute(composed(*TRACKED), folder)
    half = offline_run(folder)
    assert half.exit_code == 130
    shutil.rmtree(folder / "wandb")
    assert track.main([str(folder)]) == 0
    assert offline_run(folder).told == half.told
    monkeypatch.setattr(SideBySide, "run", real)
    execute(composed(*TRACKED), folder)
    whole = offline_run(folder)
    assert whole.header["run_id"] == half.header["run_id"]
    assert track.main([str(folder)]) == 0
    assert offline_run(folder).told == whole.told
    assert len(whole.history) == method_steps(folder) + 4 + 2


def test_a_tracker_that_fails_in_the_middle_leaves_the_run_alone_and_is_made_good(
    composed: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder, logged = tmp_path / "run", []

    def log(run: Any, row: dict[str, Any], *rest: Any, **more: Any) -> None:
        logged.append(row)
        if len(logged) == 4:
            raise OSError("no space left")
        real(run, row, *rest, **more)

    real = wandb.Run.log
    monkeypatch.setattr(wandb.Run, "log", log)
    assert execute(composed(*TRACKED), folder)["num_prompts"] == 4
    warnings = [line for line in caplog.text.splitlines() if "W&B failed" in line]
    assert len(warnings) == 1
    assert "OSError: no space left" in warnings[0]
    assert f"draftproof track {folder}" in warnings[0]
    assert len(logged) == 4
    broken = offline_run(folder)
    assert (broken.exit_code, len(broken.history)) == (1, 3)
    monkeypatch.setattr(wandb.Run, "log", real)
    assert track.main([str(folder)]) == 0
    found = offline_run(folder)
    assert found.header["run_id"] == broken.header["run_id"]
    assert (found.exit_code, len(found.history)) == (0, method_steps(folder) + 4 + 2)
    assert found.history[:3] == broken.history


def test_a_sweep_that_was_never_tracked_becomes_a_group_of_runs(composed: Callable[..., DictConfig], tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    for index, drafter in enumerate(("none", "prompt_lookup")):
        execute(composed(f"drafter={drafter}", "num_prompts=1", "max_new_tokens=4"), sweep / str(index))
    (sweep / "multirun.yaml").write_text("")
    assert track.main([str(sweep), "--project", "later", "--mode", "offline"]) == 0
    found = [offline_run(sweep / str(index)) for index in range(2)]
    assert [run.header["display_name"].split("-")[0] for run in found] == ["none", "prompt_lookup"]
    assert {(run.header["project"], run.header["run_group"]) for run in found} == {("later", sweep.as_posix())}
    assert "device:cpu" in found[0].header["tags"]
    assert track.main([str(sweep / "0")]) == 0  # it is known by now, and stays where it was put
    assert offline_run(sweep / "0").told == found[0].told


def test_a_crashed_run_and_one_without_its_tokenizer_are_tracked_as_far_as_they_go(
    composed: Callable[..., DictConfig], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "run"
    execute(composed("num_prompts=2", "max_new_tokens=4"), folder)
    records = (folder / "records.jsonl").read_text().splitlines(keepends=True)
    (folder / "records.jsonl").write_text("".join(records[:3]) + records[3][:40])  # the second prompt is torn
    config = (folder / "config.yaml").read_text().splitlines(keepends=True)
    (folder / "config.yaml").write_text("".join("  name: /nothing/here\n" if line.startswith("  name: ") else line for line in config))
    assert track.main([str(folder)]) == 0
    assert "summary is older than its records" in caplog.text
    assert "no tokenizer '/nothing/here'" in caplog.text
    found = offline_run(folder)
    assert found.exit_code == 1
    (row,) = found.table()
    assert row["coloured"] is None
    assert len([step for step in found.history if "step/index" in step]) == row["steps"]
    assert "speedup" not in found.summary


def test_two_runs_of_one_configuration_are_two(composed: Callable[..., DictConfig], tmp_path: Path) -> None:
    for name in "ab":
        execute(composed("num_prompts=1", "max_new_tokens=2", "warmup=0"), tmp_path / name)
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    assert id_from_manifest(tmp_path / "a") == id_from_manifest(tmp_path / "copy") != id_from_manifest(tmp_path / "b")


def test_what_cannot_be_tracked_is_named(composed: Callable[..., DictConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(*arguments: str) -> str:
        assert track.main([*arguments]) == 2
        return capsys.readouterr().err

    assert "no records.jsonl in it or below; give the folder of a run or of a sweep" in refused(str(tmp_path / "nothing"))
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "records.jsonl").write_text("")
    assert "holds no config.yaml" in refused(str(folder))
    (folder / "config.yaml").write_text("target: {name: x}\n")
    (folder / "manifest.json").write_text("{}")
    assert "config.yaml has no data, drafter, sampling" in refused(str(folder))
    (folder / "config.yaml").write_text("{target: {}, drafter: {}, data: {}, sampling: {}}\n")
    assert "holds no finished prompt yet" in refused(str(folder))
    (folder / "records.jsonl").write_text("{}\n{}\n")
    assert "records.jsonl:1: is not a record" in refused(str(folder))
    with lock(folder / ".lock"):
        assert "another run is writing to" in refused(str(folder))
    assert not (folder / "wandb").exists()


def test_a_tracker_that_fails_again_is_an_error(composed: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    execute(composed("num_prompts=1", "max_new_tokens=2"), tmp_path / "run")

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(wandb, "init", fail)
    assert track.main([str(tmp_path / "run")]) == 1


@pytest.fixture
def tracked(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that would have been written into."""
    found: list[Path] = []

    def note(folder: Path, _: dict[str, Any]) -> int:
        found.append(folder)
        return 0

    monkeypatch.setattr(track, "track", note)
    return found


def runs_in(tmp_path: Path, *names: str) -> list[Path]:
    for name in names:
        shutil.copytree(RECORDED, tmp_path / name)
    return [tmp_path / name for name in names]


def test_runs_below_a_folder_that_is_no_sweep_are_left_alone_unless_they_are_asked_for(
    tmp_path: Path, tracked: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folders = runs_in(tmp_path, "tree/a", "tree/b", "alone/below/run")
    assert track.main([str(tmp_path / "tree")]) == 2
    said = capsys.readouterr().err
    assert (
        said
        == f"error: {tmp_path / 'tree'}: holds 2 runs and is no sweep; name those that are meant, or give --recursive to write into all of them\n"
    )
    assert track.main([str(folders[0]), str(tmp_path)]) == 2  # nothing is written where one of several paths is refused
    assert tracked == []
    assert track.main([str(tmp_path / "tree"), "--recursive"]) == 0
    assert tracked == folders[:2]
    tracked.clear()
    assert track.main([*map(str, folders)]) == 0
    assert track.main([str(tmp_path / "alone")]) == 0  # the only one there
    assert tracked == [*folders, folders[2]]


@pytest.mark.parametrize("left", ["multirun.yaml", "optimization_results.yaml", "options.json"])
def test_the_jobs_of_a_sweep_are_meant_and_those_of_sweeps_below_it_are_not(tmp_path: Path, tracked: list[Path], left: str) -> None:
    folders = runs_in(tmp_path, "sweep/0", "sweep/1", "sweep/held_out")
    (tmp_path / "sweep" / left).write_text("[]")
    assert track.main([str(tmp_path / "sweep")]) == 0
    assert sorted(tracked) == folders
    tracked.clear()
    runs_in(tmp_path, "sweep/inner/0")
    (tmp_path / "sweep" / "inner" / left).write_text("[]")
    assert track.main([str(tmp_path / "sweep")]) == 2
    assert tracked == []


def test_a_run_with_runs_inside_is_one_run(tmp_path: Path, tracked: list[Path]) -> None:
    folders = runs_in(tmp_path, "run", "run/inside")
    assert track.main([str(folders[0])]) == 0
    assert tracked == folders[:1]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_it_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: signal.Signals, code: int
) -> None:
    (folder,) = runs_in(tmp_path, "run")
    before = signal.getsignal(signal.SIGTERM)
    ctrl_c = signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background ignores it

    def strike(*_: Any) -> Any:
        os.kill(os.getpid(), number)
        time.sleep(5)

    monkeypatch.setattr(track, "rebuild", strike)
    try:
        assert track.main([str(folder)]) == code
    finally:
        signal.signal(signal.SIGINT, ctrl_c)
    assert capsys.readouterr() == ("", "")
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    "arguments",
    [[], ["--mode"], ["--mode", "never", "x"], ["--unknown", "x"], ["x", "--project", "a/b"], ["nowhere"], ["nowhere", "--recursive"]],
)
def test_wrong_arguments_are_one_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        code = track.main(arguments)
    except SystemExit as end:
        code = end.code
    assert code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("held", ["", "[]", "null", '{"id": 3}', '{"id": "x", "labels": []}'])
def test_a_damaged_memory_of_tracking_is_made_again(tmp_path: Path, held: str) -> None:
    (folder,) = runs_in(tmp_path, "run")
    (folder / "tracking.json").write_text(held)
    assert remembered(folder) == {}
    assert track.main([str(folder), "--mode", "offline"]) == 0
    assert remembered(folder)["id"] == id_from_manifest(folder)
