"""A file of distributions that was cut, or is something else, is named with what to do, whichever of its names it has."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.replay.distributions import TextDistributions, lasting, load, save
from experiments.replay.texts import RecordedText
from tests.experiments.damage import Damage, a_folder, a_list, emptied, junk

SAMPLING = {"_target_": "spec.sampling.Sampler", "temperature": 1.0}
TEXT = RecordedText("p", "c", [1], [2, 3])


def short(file: Path) -> None:
    held: dict[str, Any] = dict(np.load(file))
    held["probs"] = held["probs"][:1]
    np.savez_compressed(file, **held)


def no_settings(file: Path) -> None:
    held: dict[str, Any] = dict(np.load(file))
    held["about"] = np.array("[]")
    np.savez_compressed(file, **held)


def one_array(file: Path) -> None:
    with file.open("wb") as opened:
        np.save(opened, np.zeros(3))


@pytest.fixture(params=["distributions.npz", "laws.npz"])
def whole(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    rows = np.full((2, 4), 0.25, dtype=np.float32)
    held = TextDistributions(np.array([2, 3], dtype=np.int32), rows[:, 0], np.arange(8, dtype=np.int32).reshape(2, 4), rows)
    save(tmp_path / request.param, {"p": held}, {"sampling": lasting(SAMPLING)})
    assert load(tmp_path / request.param, [TEXT], SAMPLING)["p"].answer.tolist() == [2, 3]
    return tmp_path / request.param


@pytest.mark.parametrize("damage", [emptied, a_list, junk, a_folder, short, no_settings, one_array], ids=lambda damage: damage.__name__)
def test_what_is_damaged_is_named(whole: Path, damage: Damage) -> None:
    damage(whole)
    refused(whole)


def test_a_file_cut_anywhere_is_named(whole: Path) -> None:
    content = whole.read_bytes()
    for size in range(0, len(content) - 1, 61):
        whole.write_bytes(content[:size])
        refused(whole)


def refused(file: Path) -> None:
    with pytest.raises(ValueError, match=r"is not a file of distributions \(.*\); remove it, or make it again with python -m") as caught:
        load(file, [TEXT], SAMPLING)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)
