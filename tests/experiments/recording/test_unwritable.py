"""An output folder that cannot be written to: one line that names it, before any work, and nothing is said to be where it is not."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from experiments.recording import files
from experiments.recording.files import ROOM, check_folder, unwritable
from experiments.recording.identity import Identity
from experiments.recording.recorder import Recorder
from experiments.run import job
from experiments.run.job import execute

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
READ_ONLY = Path("/proc/self/here")  # nobody may make a folder there, the administrator included


def in_the_way(tmp_path: Path) -> list[tuple[Path, str]]:
    """Folders that cannot be, and what is said of them."""
    (tmp_path / "file").write_text("")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").mkdir()
    found = [(tmp_path / "file", f"{tmp_path / 'file'} is a file"), (tmp_path / "file" / "a" / "b", f"{tmp_path / 'file'} is a file")]
    return found + ([(READ_ONLY, "")] if READ_ONLY.parent.exists() else [])


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    for folder, cause in in_the_way(tmp_path):
        for attempt in (check_folder, lambda folder: Recorder(folder, Identity({}))):
            with pytest.raises(ValueError, match=r"cannot be written to \(.*\); choose another folder \(hydra\.run\.dir=") as caught:
                attempt(folder)
            assert str(folder) in str(caught.value)
            assert cause in str(caught.value)
            assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"run cannot be written to \(Is a directory: .*\.lock\)"):
        Recorder(tmp_path / "run", Identity({}))


def test_a_folder_that_can_be_written_to_is_left_empty(tmp_path: Path) -> None:
    check_folder(tmp_path / "new" / "run")
    assert list((tmp_path / "new" / "run").iterdir()) == []


def test_a_disk_without_room_is_found_before_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, room = Path.open, 16_384

    def opened(self: Path, *args: Any, **kwargs: Any) -> Any:
        file = real(self, *args, buffering=0, **kwargs)

        class Small:
            def __enter__(self) -> "Small":
                return self

            def __exit__(self, *_: object) -> None:
                file.close()

            def write(self, data: bytes) -> int:
                if len(data) > room:
                    raise FULL
                return file.write(data)

        return Small()

    assert room < ROOM
    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(OSError, match="No space left") as caught:
        check_folder(tmp_path / "run")
    assert (
        unwritable(tmp_path / "run", caught.value)
        == f"{tmp_path / 'run'}: No space left on device; make room, or choose another folder (hydra.run.dir=..., of a sweep hydra.sweep.dir=...)"
    )
    assert list((tmp_path / "run").iterdir()) == []


def test_an_error_of_something_else_is_not_laid_at_the_folders_door(tmp_path: Path) -> None:
    elsewhere = PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/some/model")
    with pytest.raises(PermissionError), files.writing(tmp_path):
        raise elsewhere
    with pytest.raises(OSError, match="no file is named"), files.writing(tmp_path):
        raise OSError("no file is named")
    with pytest.raises(ValueError, match="Permission denied"), files.writing(tmp_path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(tmp_path / "steps.jsonl"))


def test_a_run_into_a_file_says_so_and_nothing_of_results(
    composed: Callable[..., DictConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder, _ in in_the_way(tmp_path):
        with pytest.raises(ValueError, match="cannot be written to"):
            execute(composed("num_prompts=1", "max_new_tokens=2"), folder)
    assert "results in" not in capsys.readouterr().out


def test_a_finished_run_in_a_folder_that_takes_no_more_is_still_shown(
    composed: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "run"
    execute(composed("num_prompts=1", "max_new_tokens=2"), folder)
    before = (folder / "summary.json").read_bytes()
    (folder / "steps.jsonl").unlink()  # so that there is something new to write

    def refuse(path: Path, _: str) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(job, "write_atomically", refuse)
    assert not execute(composed("num_prompts=1", "max_new_tokens=2"), folder)["valid"]
    assert "Read-only file system" in caplog.text
    assert "its summary.json stays as it was" in caplog.text
    assert (folder / "summary.json").read_bytes() == before
