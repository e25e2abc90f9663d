"""What a run's folder goes through: a full disk, and two processes at once."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.recording import files
from experiments.recording.identity import Identity
from experiments.recording.record import Pair
from experiments.recording.recorder import Recorder
from tests.experiments.samples import record, step

NO_SPACE = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def full_after(monkeypatch: pytest.MonkeyPatch, path: Path, size: int) -> None:
    """From now on the disk has no room beyond `size` bytes of this file: a write is cut short there, and then fails, as a real one does."""
    real = Path.open

    class Full:
        def __init__(self, file: Any):
            self.file = file

        def __enter__(self) -> "Full":
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def fileno(self) -> int:
            return self.file.fileno()

        def write(self, data: bytes) -> int:
            room = max(size - os.fstat(self.file.fileno()).st_size, 0)
            if not room:
                raise NO_SPACE
            return self.file.write(bytes(data[:room]))

    def opened(self: Path, *args: Any, **kwargs: Any) -> Any:
        file = real(self, *args, **kwargs)
        return Full(file) if self == path and "a" in (args or ("",))[0] else file

    monkeypatch.setattr(Path, "open", opened)


@pytest.mark.parametrize("name", ["records.jsonl", "steps.jsonl"])
def test_a_write_that_finds_the_disk_full_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    recorder = Recorder(tmp_path, Identity({"seed": 0}))
    steps = [step("a")]
    recorder.write([Pair(record("a"), record("a", "baseline"))], steps)
    before = {file: (tmp_path / file).read_bytes() for file in ("records.jsonl", "steps.jsonl")}
    with monkeypatch.context() as patch:
        full_after(patch, tmp_path / name, len(before[name]) + 10)
        with pytest.raises(OSError, match="No space left"):
            recorder.write([Pair(record("b"), record("b", "baseline"))], [{**steps[0], "prompt": "b"}])
    assert {file: (tmp_path / file).read_bytes() for file in before} == before
    assert list(recorder.pairs) == ["a"]
    recorder.write([Pair(record("b"), record("b", "baseline"))], [{**steps[0], "prompt": "b"}])  # room has been made
    recorder.close()
    again = Recorder(tmp_path, Identity({"seed": 0}))
    assert list(again.pairs) == ["a", "b"]
    again.close()


def test_a_full_disk_ends_the_run_with_one_line_and_the_run_can_go_on(
    command: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    assert command(f"hydra.run.dir={tmp_path / 'whole'}", "max_new_tokens=4") == 0
    whole = (tmp_path / "whole" / "records.jsonl").read_bytes()
    with monkeypatch.context() as patch:
        full_after(patch, folder / "records.jsonl", len(whole) // 2)
        assert command(f"hydra.run.dir={folder}", "max_new_tokens=4") == 1
    assert "No space left on device; what was recorded is whole" in (folder / "run.log").read_text()
    kept = [json.loads(line) for line in (folder / "records.jsonl").read_bytes().splitlines()]
    assert 0 < len(kept) < 8
    assert command(f"hydra.run.dir={folder}", "max_new_tokens=4") == 0
    rows = [json.loads(line) for line in (folder / "records.jsonl").read_bytes().splitlines()]
    assert rows[: len(kept)] == kept
    assert [(row["prompt"], row["role"], row["tokens"]) for row in rows] == [
        (row["prompt"], row["role"], row["tokens"]) for row in map(json.loads, whole.splitlines())
    ]


def test_a_small_file_is_the_old_one_where_the_new_one_finds_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "summary.json"
    files.write_atomically(path, "old")

    def fail(_: int) -> None:
        raise NO_SPACE

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        files.write_atomically(path, "new")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("summary.json", "old")]


HOLD = """
import fcntl, sys, time
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no advisory locks")
def test_a_second_process_on_one_folder_is_refused_and_a_killed_one_does_not_stand_in_the_way(
    command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(folder / ".lock")], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    try:
        assert other.stdout.readline() == "held\n"
        assert command(f"hydra.run.dir={folder}", "max_new_tokens=2") == 2
        assert "another run is writing to" in capsys.readouterr().err
        assert not (folder / "records.jsonl").exists()
        assert not (folder / "error.json").exists()
    finally:
        other.kill()
        other.communicate()
    assert command(f"hydra.run.dir={folder}", "max_new_tokens=2") == 0
