"""What marks a run as invalid, and how it is shown."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from experiments.analysis import terminal
from experiments.analysis.divergence import same_drafts
from experiments.run.job import execute
from experiments.run.side_by_side import SideBySide

CARRYING = ("drafter=none", "+drafter.declared=false", "drafter._target_=tests.experiments.carrying.Carrying", "trusted_packages=[tests]")


def test_a_drafter_that_carries_state_from_prompt_to_prompt_makes_the_run_invalid(composed: Callable[..., DictConfig], tmp_path: Path) -> None:
    summary = execute(composed(*CARRYING), tmp_path / "run")
    assert summary["drafts_repeat"] is False
    assert not summary["valid"]
    assert "carries something from prompt to prompt" in summary["errors"][0]
    assert json.loads((tmp_path / "run" / "checks.json").read_text()) == {"drafts_repeat": False, "prompts": ["p0"]}


def test_a_drafter_that_declares_its_state_is_let_through_with_a_warning(composed: Callable[..., DictConfig], tmp_path: Path) -> None:
    summary = execute(composed(*CARRYING, "drafter.declared=true"), tmp_path / "run")
    assert summary["drafts_repeat"] is False
    assert summary["valid"]
    assert any("carries state" in text for text in summary["warnings"])


@pytest.mark.parametrize("overrides", [("sampling=sample", "batch_size=2"), ("drafter=lookahead", "sampling=sample"), ("drafter=prompt_lookup",)])
def test_our_drafters_repeat_their_drafts(composed: Callable[..., DictConfig], tmp_path: Path, overrides: tuple[str, ...]) -> None:
    summary = execute(composed(*overrides), tmp_path / "run")
    assert summary["drafts_repeat"] is True
    assert summary["valid"]


def test_the_question_can_be_left_out_and_is_asked_once(composed: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert execute(composed("check_state=false"), tmp_path / "off")["drafts_repeat"] is None
    execute(composed(), tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    monkeypatch.setattr(SideBySide, "repeats", lambda *_: pytest.fail("asked again"))
    assert execute(composed(), tmp_path / "run")["drafts_repeat"] is True


def test_rounding_is_no_state() -> None:
    step = {"emitted": 2, "proposed": [5]}
    assert same_drafts([1, 2, 3, 4], [step, step], [1, 2, 3, 4], [step, step]) is True
    assert same_drafts([1, 2, 3, 4], [step, step], [1, 2, 3, 4], [step, {**step, "proposed": [6]}]) is False
    assert same_drafts([1, 2, 3, 4], [step, step], [1, 9, 3, 4], [step, {**step, "proposed": [6]}]) is None


def test_an_invalid_run_is_red_on_a_terminal_and_plain_elsewhere(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    terminal.alarm("INVALID: 2 + 2 = 5 [sic]")
    assert capsys.readouterr().out == "INVALID: 2 + 2 = 5 [sic]\n"

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    for name, value in (("TERM", "xterm-256color"), ("COLUMNS", "100")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr("sys.stdout", screen)
    terminal.alarm("INVALID: 2 + 2 = 5 [sic]")
    assert screen.getvalue().startswith("\x1b[1;31mINVALID: 2 + 2 = 5 [sic]")
    terminal.render([{"drafter": "none", "sound": "NO"}])
    assert "\x1b[1;31m" in screen.getvalue().splitlines()[-2]
