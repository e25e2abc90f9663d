"""Damaged folders: every reader names the file and says what to do, in one line, and none shows a number that the folder does not hold."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.cost.forwards import load_runs
from experiments.recording.folder import RunFolder, failures, read_summaries
from experiments.recording.identity import ForeignFolderError, Identity, read_manifest
from experiments.recording.recorder import Recorder
from experiments.recording.resume import note_options, resumed
from experiments.replay.texts import read_run
from experiments.report.command import main as report
from experiments.run import held_out, track
from experiments.run.certify import codes_of
from tests.experiments.damage import (
    a_folder,
    a_list,
    a_word,
    cut,
    damaged,
    emptied,
    field,
    gone,
    junk,
    line,
    line_without,
    null,
    torn_inside,
    without,
)

WHOLE = Path(__file__).resolve().parents[1] / "recorded_before"
SMALL = [emptied, cut, a_list, a_word, null, junk, a_folder]
RECORDS = [
    *(line(1, {name: value}) for name, value in (("num_steps", "6"), ("tokens", "abc"), ("tokens", [1, "2"]), ("tokens", []), ("category", None))),
    *(line(1, {name: value}) for name, value in (("seconds", {"draft": "0"}), ("seconds", {}), ("seconds", None), ("prefill_seconds", -1.0))),
    *(line(1, {name: value}) for name, value in (("batch", 1.5), ("loops", 0), ("together", "3"), ("tested", [1, 2]), ("kept", None), ("extra", 1))),
    *(line_without(1, name) for name in ("prompt", "role", "tokens", "seconds")),
    *(line(1, text) for text in ("[]\n", "{}\n", "null\n", "{broken\n", '"\\ud800\n')),
    *(torn_inside, junk, a_folder),
]
STEPS = [
    *(line(1, {name: value}) for name, value in (("emitted", "1"), ("accepted", None), ("seconds", [1]), ("prompt", 3), ("proposed", "a"))),
    *(line_without(1, name) for name in ("prompt", "drafted", "seconds")),
    *(line(1, text) for text in ("[]\n", "{broken\n")),
    *(torn_inside, junk, a_folder),
]
SUMMARY = [
    *SMALL,
    *(field(name, value) for name, value in (("speedup", "2"), ("labels", []), ("labels.drafter", None), ("num_tokens", 1.5), ("valid", "yes"))),
    *(field(name, value) for name, value in (("by_category", []), ("speedup_interval", [1]), ("config.drafter", None), ("warnings", None))),
    *(without(name) for name in ("speedup", "seconds", "config", "interrupted")),
]
MANIFEST = [*SMALL, field("config_hash", 3), field("code", "x"), field("code_changes", [1]), without("config_hash")]
CONFIG = [cut, a_list, null, junk, a_folder, gone]


class Claimed(Identity):
    """An identity that every folder with a manifest belongs to."""

    def claim(self, folder: Path) -> None:
        read_manifest(folder)


def named(damage: Any) -> str:
    return damage.__name__


def told(caught: pytest.ExceptionInfo[BaseException], file: Path) -> None:
    """One line that names the file and says what to do."""
    said = str(caught.value)
    assert str(file) in said
    assert "\n" not in said
    assert any(
        word in said
        for word in ("remove", "choose another folder", "choose a new output folder", "leave it out", "give a", "name the folder", "run the same")
    )


def ends_with_a_line(code: int, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, and one line that names the file."""
    said = capsys.readouterr().err
    assert code == 2, said
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert str(file) in said


@pytest.mark.parametrize("damage", RECORDS, ids=named)
def test_damaged_records(tmp_path: Path, damage: Callable[[Path], None], capsys: pytest.CaptureFixture[str]) -> None:
    folder = damaged(WHOLE, tmp_path / "run", "records.jsonl", damage)
    file = folder / "records.jsonl"
    readers: list[Callable[[], Any]] = [lambda: RunFolder(folder).pairs, lambda: RunFolder(folder).records, lambda: read_summaries([folder])]
    for read in (*readers, lambda: read_run(folder), lambda: load_runs([folder]), lambda: Recorder(folder, Claimed({}))):
        with pytest.raises(ValueError, match=r"records\.jsonl") as caught:
            read()
        told(caught, file)
    ends_with_a_line(report([str(folder)]), file, capsys)
    ends_with_a_line(track.main([str(folder), "--mode", "offline"]), file, capsys)
    ends_with_a_line(held_out.main([str(folder)]), file, capsys)


@pytest.mark.parametrize("damage", STEPS, ids=named)
def test_damaged_steps(tmp_path: Path, damage: Callable[[Path], None], capsys: pytest.CaptureFixture[str]) -> None:
    folder = damaged(WHOLE, tmp_path / "run", "steps.jsonl", damage)
    file = folder / "steps.jsonl"
    for read in (
        lambda: RunFolder(folder).steps,
        lambda: read_summaries([folder]),
        lambda: load_runs([folder]),
        lambda: Recorder(folder, Claimed({})),
    ):
        with pytest.raises(ValueError, match=r"steps\.jsonl") as caught:
            read()
        told(caught, file)
    ends_with_a_line(report([str(folder)]), file, capsys)
    ends_with_a_line(track.main([str(folder), "--mode", "offline"]), file, capsys)


@pytest.mark.parametrize("damage", SUMMARY, ids=named)
def test_a_damaged_summary(tmp_path: Path, damage: Callable[[Path], None], capsys: pytest.CaptureFixture[str]) -> None:
    folder = damaged(WHOLE, tmp_path / "run", "summary.json", damage)
    file = folder / "summary.json"
    for read in (lambda: RunFolder(folder).summary, lambda: read_summaries([folder]), lambda: load_runs([folder])):
        with pytest.raises(ValueError, match=r"summary\.json") as caught:
            read()
        told(caught, file)
    ends_with_a_line(report([str(folder)]), file, capsys)
    ends_with_a_line(track.main([str(folder), "--mode", "offline"]), file, capsys)
    ends_with_a_line(held_out.main([str(folder)]), file, capsys)


@pytest.mark.parametrize("damage", MANIFEST, ids=named)
def test_a_damaged_manifest(tmp_path: Path, damage: Callable[[Path], None], capsys: pytest.CaptureFixture[str]) -> None:
    folder = damaged(WHOLE, tmp_path / "run", "manifest.json", damage)
    file = folder / "manifest.json"
    for read in (lambda: read_manifest(folder), lambda: codes_of(folder), lambda: Recorder(folder, Claimed({}))):
        with pytest.raises(ForeignFolderError) as caught:
            read()
        told(caught, file)
    ends_with_a_line(track.main([str(folder), "--mode", "offline"]), file, capsys)


@pytest.mark.parametrize("damage", CONFIG, ids=named)
def test_a_damaged_configuration(tmp_path: Path, damage: Callable[[Path], None], capsys: pytest.CaptureFixture[str]) -> None:
    folder = damaged(WHOLE, tmp_path / "run", "config.yaml", damage)
    with pytest.raises(ValueError, match=r"config\.yaml") as caught:
        read_run(folder)
    told(caught, folder)
    ends_with_a_line(track.main([str(folder), "--mode", "offline"]), folder, capsys)


@pytest.mark.parametrize("damage", [emptied, a_list, a_word, null, junk, a_folder, cut], ids=named)
def test_options_that_cannot_be_read_are_named_before_a_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], None]
) -> None:
    monkeypatch.chdir(tmp_path)
    for time in ("10-00-00", "11-00-00"):
        note_options(Path("outputs/2026-01-01") / time, ["seed=1"])
    file = Path("outputs/2026-01-01/11-00-00/options.json")
    damage(file)
    with pytest.raises(ValueError, match="does not say which options") as caught:
        resumed(["resume=true", "seed=1"])
    told(caught, file)


@pytest.mark.parametrize("damage", [emptied, a_list, junk, cut, a_folder], ids=named)
def test_an_error_that_cannot_be_read_is_still_a_failure(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    (tmp_path / "error.json").write_text(json.dumps({"error": "ValueError: no"}))
    assert failures([tmp_path]) == [f"{tmp_path}: ValueError: no"]
    damage(tmp_path / "error.json")
    (said,) = failures([tmp_path])
    assert said.startswith(f"{tmp_path / 'error.json'}: is not the error of a run")
