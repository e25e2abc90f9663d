"""Converted models are made once for the same weights, and anew where they are others, damaged or half made. No engine is needed."""

import copy
import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.parts.peers.engines.kept import Recipe, cache_home, digest_of
from experiments.parts.random_target import random_model
from spec.converted.kept import DAY, MADE


class Writer:
    """A conversion that writes two files and counts how often it is asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, model: Any, folder: Path) -> None:
        self.calls += 1
        (folder / "part").mkdir()
        (folder / "graph.xml").write_text("graph")
        (folder / "part" / "weights.bin").write_bytes(b"1234")


@pytest.fixture
def model() -> Any:
    return random_model("tiny", context=64)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "draftproof" / "engines"


def test_the_cache_is_the_users(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_home() == home
    for none in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", none)
        assert cache_home() == Path.home() / ".cache" / "draftproof" / "engines"


def test_a_model_is_converted_once_and_that_is_said(model: Any, home: Path, caplog: pytest.LogCaptureFixture) -> None:
    convert = Writer()
    with caplog.at_level(logging.INFO):
        folder = Recipe("engine", "1.0", convert).kept(model)
    assert "converted in" in caplog.text
    assert folder.parent == home
    assert Recipe("engine", "1.0", convert).kept(copy.deepcopy(model)) == folder
    assert convert.calls == 1
    assert [path.name for path in home.iterdir()] == [folder.name]
    about = json.loads((folder / MADE).read_text())
    assert about["files"].keys() == {"graph.xml", "part/weights.bin"}
    assert Recipe("engine", "1.1", convert).kept(model) != folder
    assert convert.calls == 2


def test_other_weights_and_settings_are_another_model_and_another_place_is_not(model: Any) -> None:
    before = digest_of(model)
    model.config._name_or_path = "/elsewhere"
    assert digest_of(model) == before
    model.config.rms_norm_eps *= 2
    changed = digest_of(model)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 5] += 1e-6
    assert len({before, changed, digest_of(model)}) == 3


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "part" / "weights.bin").write_bytes(b"1235"),
        lambda folder: (folder / "part" / "weights.bin").write_bytes(b"12"),
        lambda folder: (folder / "graph.xml").unlink(),
        lambda folder: (folder / "more").write_text("x"),
        lambda folder: (folder / MADE).unlink(),
        lambda folder: (folder / MADE).write_text("{"),
        lambda folder: (folder / MADE).write_text('{"files": 3}'),
        lambda folder: (folder / MADE).write_text("[]"),
    ],
    ids=["changed", "shorter", "missing", "one more", "unfinished", "torn", "no list", "no object"],
)
def test_what_is_damaged_is_made_anew(model: Any, damage: Callable[[Path], object], caplog: pytest.LogCaptureFixture) -> None:
    convert = Writer()
    recipe = Recipe("engine", "1.0", convert)
    folder = recipe.kept(model)
    damage(folder)
    assert recipe.kept(model) == folder
    assert "is damaged" in caplog.text
    assert (folder / "part" / "weights.bin").read_bytes() == b"1234"
    assert not (folder / "more").exists()
    recipe.kept(model)
    assert convert.calls == 2


@pytest.mark.parametrize("error", [ValueError("not this one"), KeyboardInterrupt()])
def test_a_conversion_that_ends_early_leaves_nothing(model: Any, home: Path, error: BaseException) -> None:
    def convert(_: Any, folder: Path) -> None:
        (folder / "graph.xml").write_text("half")
        raise error

    with pytest.raises(type(error)):
        Recipe("engine", "1.0", convert).kept(model)
    assert list(home.iterdir()) == []


def test_another_process_may_be_faster(model: Any, home: Path) -> None:
    recipe = Recipe("engine", "1.0", Writer())

    def slow(model: Any, folder: Path) -> None:
        recipe.kept(model)
        (folder / "graph.xml").write_text("late")

    folder = Recipe("engine", "1.0", slow).kept(model)
    assert (folder / "graph.xml").read_text() == "graph"
    assert [path.name for path in home.iterdir()] == [folder.name]


def test_what_a_killed_process_left_goes_after_a_day(model: Any, home: Path) -> None:
    old, young = home / "engine-1.0-x.making-1", home / "engine-1.0-x.making-2"
    for path in (old, young):
        path.mkdir(parents=True)
    os.utime(old, (time.time() - DAY - 60,) * 2)
    Recipe("engine", "1.0", Writer()).kept(model)
    assert not old.exists()
    assert young.exists()


def test_a_cache_that_cannot_be_written_is_one_line(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(ValueError, match=r"cannot be made: .*XDG_CACHE_HOME") as found:
        Recipe("engine", "1.0", Writer()).kept(model)
    assert "\n" not in str(found.value)
