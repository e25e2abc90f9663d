"""Every shell command that README, CONTRIBUTING and docs print does what it should, and README's Python runs."""

import ast
import os
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra

from experiments.analysis import summary
from experiments.parts import command as parts
from experiments.parts.door.check import check
from experiments.parts.door.enter import door
from experiments.parts.door.jobs import JOBS
from tests.docs import rules
from tests.docs.desk import SWEEP, copy_run, lay_out, write_lines
from tests.docs.printed import DOCUMENTS, FENCE, LANGUAGES, ROOT, Command, blocks, commands
from tests.test_names import is_command

PRINTED = [command for path in DOCUMENTS for command in commands(path)]
COMMANDS = list({(command.environment, command.words): command for command in reversed(PRINTED)}.values())[::-1]  # each once
RECORDED = ["run", "-m", "drafter=prompt_lookup", "sampling=greedy,sample", "num_prompts=2", "max_new_tokens=12", "warmup=0", "check_state=false"]


def called(arguments: list[str]) -> int:
    """The console command in this process; its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["draftproof", *arguments])
        patch.setattr(parts, "SWEEPS", [])
        patch.setattr(summary, "CLOCKS_WOBBLE", float("inf"))
        GlobalHydra.instance().clear()
        try:
            door(arguments)
        except SystemExit as end:
            return int(end.code or 0)
        finally:
            GlobalHydra.instance().clear()
    return 0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which all commands run, with the sweep that several of them read."""
    desk = tmp_path_factory.mktemp("desk")
    lay_out(desk)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(desk)
        assert called([*RECORDED, f"hydra.sweep.dir={SWEEP}"]) == 0
        copy_run(desk)
        battery = Command("", "", (), ("draftproof", "lossless", "drafter=draft_model", f"hydra.run.dir={SWEEP}/proof"))
        found = rules.rule(battery, desk)
        assert called([found.job, *found.arguments, *found.small]) == 0
        (desk / "cost.json").write_text('{"runs": []}\n')
        write_lines(desk / "replay.jsonl")
        assert called(["replay", f"recorded={SWEEP}/0", "lengths=[1,2]", "output=replay.jsonl"]) == 0
    return desk


@pytest.fixture
def desk(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(made)
    monkeypatch.syspath_prepend(str(made))  # PYTHONPATH=. before the command
    return made


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: f"{Path(command.document).stem}: {command.line[:90]}")
def test_a_printed_command(command: Command, desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = rules.rule(command, desk)
    assert command.environment in ((), ("PYTHONPATH=.",))
    if found.do == rules.LEAVE:
        left(found)
    elif found.do == rules.EXISTS:
        assert is_command(found.job)
    elif found.do == rules.COMPOSE:
        composed(found)
    elif found.job in JOBS or not found.job:
        assert called([*filter(None, [found.job]), *found.arguments, *found.small]) == 0, said(capsys)
    else:
        assert module(found) == 0, said(capsys)


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return "".join(capsys.readouterr())[-3000:]


def left(found: rules.Rule) -> None:
    """Targets of make and extras of an installation must exist."""
    if found.job == "make":
        assert set(found.arguments) <= {line.split(":")[0] for line in (ROOT / "Makefile").read_text().splitlines() if ":" in line}
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for item in found.arguments:
        if found.job == "pip" and item.startswith(".["):
            assert set(item[2:-1].split(",")) <= set(extras)


def composed(found: rules.Rule) -> None:
    """Every setting exists and has a value that it takes; no model is read."""
    job = JOBS[found.job]
    if job.config is not None:
        assert check(job.config, list(found.arguments)).jobs
    else:
        options, _, parser = (job.parser or "").partition(":")
        getattr(import_module(options), parser)().parse_args(found.arguments)


def module(found: rules.Rule) -> int:
    """`python -m` of a job that the console command does not have."""
    from experiments.replay import distributions

    assert found.job == "experiments.replay.distributions"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [found.job, *found.arguments, *found.small])
        GlobalHydra.instance().clear()
        with pytest.raises(SystemExit) as end:
            distributions.main()
    return int(end.value.code or 0)


def test_commands_are_found() -> None:
    assert len(COMMANDS) > 60
    assert {Path(command.document).stem for command in PRINTED} >= {"README", "CONTRIBUTING", "quickstart", "experiments", "speed", "tracking"}


@pytest.mark.parametrize("line", ["draftprof run", "draftproof rn", "draftproof train", "python -m experiments.run", "cowsay"])
def test_a_command_without_a_rule_fails(line: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        rules.rule(Command("x.md", line, (), tuple(line.split())), tmp_path)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_fences_are_closed_and_of_known_languages(path: Path) -> None:
    """A command in a fence of another name would be run by nobody."""
    assert {block.language for block in blocks(path)} <= set(LANGUAGES)
    assert "```" not in FENCE.sub("", path.read_text(encoding="utf-8"))


def test_python_of_readme_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """As printed, on the embedded pair and with short answers."""
    source = "\n".join(block.text for block in blocks(ROOT / "README.md") if block.language == "python")
    names = {"Qwen/Qwen3-0.6B": str(ROOT / "spec" / "embedded" / "target")}
    assert all(name in source for name in names)
    for name, place in names.items():
        source = source.replace(name, place)
    source = source.replace("max_new_tokens=128", "max_new_tokens=8")
    ast.parse(source)
    monkeypatch.setitem(os.environ, "HF_HUB_OFFLINE", "1")
    exec(compile(source, "README.md", "exec"), {"__name__": "readme"})
    assert len(capsys.readouterr().out.splitlines()) >= 3  # a text, its figures, sequences


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_python_of_documents_can_be_parsed(path: Path) -> None:
    for block in blocks(path):
        if block.language == "python":
            ast.parse(block.text)
