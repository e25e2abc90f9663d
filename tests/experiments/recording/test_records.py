"""The run's folder survives a crash at any byte and never mixes two configurations."""

import json
from pathlib import Path
from typing import Any

import pytest

from experiments.recording.identity import Identity
from experiments.recording.record import Pair, read_pairs
from experiments.recording.recorder import Recorder
from tests.experiments.samples import record, step

CONFIG: dict[str, Any] = {"seed": 0, "drafter": {"num_tokens": 5}, "tracking": {"mode": "offline"}}


def pair(prompt: str) -> Pair:
    return Pair(record(prompt), record(prompt, "baseline"))


def steps(prompt: str) -> list[dict[str, Any]]:
    return [step(prompt, role, index) for role in ("method", "baseline") for index in range(2)]


def filled(folder: Path, *names: str) -> None:
    recorder = Recorder(folder, Identity(CONFIG))
    for name in names:
        recorder.write([pair(name)], steps(name))
    recorder.close()


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    filled(tmp_path, "a", "b")
    recorder = Recorder(tmp_path, Identity(CONFIG))
    assert list(recorder.pairs.values()) == [pair("a"), pair("b")]
    assert recorder.steps() == steps("a") + steps("b")
    recorder.close()


def test_every_prefix_of_the_files_is_a_valid_run(tmp_path: Path) -> None:
    """A crash may tear any line: whatever was finished before stays, nothing else does, and the run can go on."""
    filled(tmp_path / "whole", "a", "b")
    records, all_steps = (tmp_path / "whole" / name for name in ("records.jsonl", "steps.jsonl"))
    content, lines = records.read_bytes(), all_steps.read_bytes()
    ends = [index + 1 for index, byte in enumerate(content) if byte == ord("\n")]
    for size in range(0, len(content), 37):
        folder = tmp_path / f"cut{size}"
        folder.mkdir()
        (folder / "manifest.json").write_bytes((tmp_path / "whole" / "manifest.json").read_bytes())
        (folder / "records.jsonl").write_bytes(content[:size])
        (folder / "steps.jsonl").write_bytes(lines[:-9] if size < ends[1] else lines)
        recorder = Recorder(folder, Identity(CONFIG))
        names = ["a", "b"][: sum(end <= size for end in ends) // 2]
        assert list(recorder.pairs) == names
        assert recorder.steps() == [line for name in names for line in steps(name)]
        recorder.write([pair("z")], steps("z"))
        recorder.close()
        assert [item.method.prompt for item in read_pairs(folder / "records.jsonl")] == [*names, "z"]


def test_another_configuration_is_refused_and_nothing_is_touched(tmp_path: Path) -> None:
    filled(tmp_path, "a")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match="holds the run of another configuration"):
        Recorder(tmp_path, Identity({**CONFIG, "seed": 1}))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_where_the_run_is_tracked_is_no_part_of_its_identity(tmp_path: Path) -> None:
    filled(tmp_path, "a")
    recorder = Recorder(tmp_path, Identity({**CONFIG, "tracking": {"mode": "online"}}))
    assert list(recorder.pairs) == ["a"]
    recorder.close()


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, Identity(CONFIG))
    with pytest.raises(ValueError, match="another run is writing"):
        Recorder(tmp_path, Identity(CONFIG))
    recorder.close()
    Recorder(tmp_path, Identity(CONFIG)).close()


def test_records_of_unknown_origin_are_refused(tmp_path: Path) -> None:
    filled(tmp_path, "a")
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(ValueError, match=r"no manifest\.json"):
        Recorder(tmp_path, Identity(CONFIG))


def test_damage_in_the_middle_is_named(tmp_path: Path) -> None:
    filled(tmp_path, "a", "b")
    path = tmp_path / "records.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], "{broken\n", *lines[2:]]))
    with pytest.raises(ValueError, match=r"records\.jsonl:2: damaged record"):
        Recorder(tmp_path, Identity(CONFIG))
    path.write_text(json.dumps({"something": 1}) + "\n")
    with pytest.raises(ValueError, match=r"records\.jsonl:1: is not a record"):
        Recorder(tmp_path, Identity(CONFIG))
