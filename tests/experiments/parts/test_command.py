"""Every command ends in the same ways: an option that does not exist, a mistake and Ctrl-C, each with its exit code and one line."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hydra.core.global_hydra import GlobalHydra

from experiments.bench import command as bench
from experiments.bench import verifier_yield
from experiments.cost import command as cost
from experiments.lossless import command as lossless
from experiments.lossless.peers import command as peers
from experiments.lossless.slots import command as slots
from experiments.parts import command
from experiments.replay import command as replay
from experiments.replay import distributions
from experiments.run import command as run
from experiments.training import command as training

KEEPING = (run, lossless, cost)  # word of a failure in the job's folder
COMMANDS = (*KEEPING, bench, verifier_yield, peers, slots, replay, distributions, training)
every_command = pytest.mark.parametrize("module", COMMANDS, ids=lambda module: module.__name__.removeprefix("experiments.").removesuffix(".command"))


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., int]]:
    """Calls a command with other work than its own; returns the exit code."""
    monkeypatch.setattr(command, "SWEEPS", [])
    monkeypatch.chdir(tmp_path)

    def to_its_end(module: ModuleType, work: Callable[..., Any], *options: str) -> int:
        given = ["recorded=."] if module in (replay, distributions) else []
        folder = ["hydra.run.dir=here"] if module in (*KEEPING, bench) else []
        monkeypatch.setattr(module, "execute", work)
        monkeypatch.setattr(sys, "argv", [module.__name__, *given, *(folder if "-m" not in options else []), *options])
        GlobalHydra.instance().clear()
        with pytest.raises(SystemExit) as end:
            module.main()
        return int(str(end.value.code or 0))

    yield to_its_end
    GlobalHydra.instance().clear()


def wrong(*_: Any) -> Any:
    raise ValueError("seed=x: give\na number")


def interrupted(*_: Any) -> Any:
    raise KeyboardInterrupt


def full_disk(*_: Any) -> Any:
    raise OSError(28, "No space left on device")


@every_command
def test_an_option_that_does_not_exist_is_one_line_before_any_work(
    call: Callable[..., int], module: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(module, lambda *_: pytest.fail("worked"), "target=embeded") == 2
    error = capsys.readouterr().err
    assert error.startswith(('error: unknown target "embeded"; did you mean "embedded"?', "error: target is no group of this job; its groups: "))
    assert error.count("\n") == 1


@every_command
def test_a_mistake_ends_with_exit_code_2_and_is_said(
    call: Callable[..., int], module: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(module, wrong) == 2
    assert (tmp_path / "here" / "error.json").exists() == (module in KEEPING)
    if module in KEEPING:
        assert "seed=x: give" in json.loads((tmp_path / "here" / "error.json").read_text())["error"]
    else:
        assert capsys.readouterr().err == "error: seed=x: give a number\n"


@every_command
def test_ctrl_c_ends_with_exit_code_130(call: Callable[..., int], module: ModuleType) -> None:
    assert call(module, interrupted) == 130


@pytest.mark.parametrize("module", KEEPING)
def test_a_full_disk_ends_with_exit_code_1(call: Callable[..., int], module: ModuleType) -> None:
    assert call(module, full_disk) == 1


def test_a_sweep_is_finished_however_it_ended(call: Callable[..., int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[list[Path]] = []
    monkeypatch.setattr(run, "main", command.entry("config", run.job, lambda sweeps: seen.append(list(sweeps)) or 1, keeps_folder=True))
    swept = ("-m", f"hydra.sweep.dir={tmp_path / 'sweep'}", "seed=1,2")
    assert call(run, interrupted, *swept) == 130
    assert call(run, wrong, *swept) == 1
    assert [len(sweeps) for sweeps in seen] == [1, 2]
    assert set(seen[-1]) == {tmp_path / "sweep"}


def test_no_resumed_run_goes_on_in_the_folder_of_another_command(call: Callable[..., int], tmp_path: Path) -> None:
    for module in KEEPING:
        assert call(module, wrong, f"hydra.run.dir={module.__name__}") == 2
        assert (tmp_path / module.__name__ / "options.json").exists() == (module is run)
