"""The main job, from the command line to the files, with models and tokenizers loaded from disk."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from experiments.report import command as report
from experiments.run.job import execute
from experiments.run.side_by_side import SideBySide

REQUIRED = [
    "tokens_per_step",
    "accepted_per_step",
    "acceptance_rate",
    "acceptance_by_position",
    "tokens_per_second",
    "baseline_tokens_per_second",
    "speedup",
    "speedup_interval",
    "exact",
    "num_prompts",
    "num_tokens",
    "seconds",
    "repetition",
    "by_category",
    "greedy_identical",
    "valid",
    "warnings",
    "provenance",
]
ORIGIN = ["versions", "git_commit", "device", "cpu", "dtype", "threads", "load_average_before", "load_average_after", "seed", "config_hash", "date"]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_run_leaves_everything_that_is_promised(command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    assert command(f"hydra.run.dir={folder}") == 0
    summary = json.loads((folder / "summary.json").read_text())
    assert set(REQUIRED) <= set(summary)
    assert set(ORIGIN) <= set(summary["provenance"])
    assert set(summary["seconds"]) == {"draft", "target", "verify", "commit", "other"}
    assert summary["greedy_identical"] == 1.0
    assert summary["claims_exact"]
    assert summary["exact"] is None  # nobody has judged this pair in float64
    assert set(summary["by_category"]) == {"even", "odd"}
    records, steps = lines(folder / "records.jsonl"), lines(folder / "steps.jsonl")
    assert [(row["prompt"], row["role"]) for row in records] == [(f"p{index}", role) for index in range(4) for role in ("method", "baseline")]
    assert sum(len(row["tokens"]) for row in records if row["role"] == "method") == summary["num_tokens"]
    assert sum(step["emitted"] for step in steps) == sum(len(row["tokens"]) for row in records)
    assert sum(step["accepted"] for step in steps) == sum(row["num_accepted"] for row in records)
    assert (folder / "config.yaml").exists()
    assert "tokens/step" in capsys.readouterr().out


@pytest.mark.parametrize("drafter", ["none", "draft_model", "lookahead", "jacobi"])
@pytest.mark.parametrize("sampling", ["greedy", "sample"])
def test_every_drafter_runs(composed: Callable[..., DictConfig], tmp_path: Path, assistant: str, drafter: str, sampling: str) -> None:
    extra = (f"drafter.name={assistant}", "drafter.dtype=float64") if drafter == "draft_model" else ()
    summary = execute(composed(f"drafter={drafter}", f"sampling={sampling}", "num_prompts=2", *extra), tmp_path / "run")
    assert summary["greedy_identical"] == (1.0 if sampling == "greedy" else None)
    assert not [text for text in summary["warnings"] if "emitted" in text or "greedy" in text]
    assert summary["labels"]["drafter"] == drafter


def test_a_batch_gives_each_prompt_the_tokens_it_gets_alone(composed: Callable[..., DictConfig], tmp_path: Path) -> None:
    found = []
    for size in (1, 3):
        execute(composed("sampling=sample", f"batch_size={size}"), tmp_path / str(size))
        found.append({(row["prompt"], row["role"]): row["tokens"] for row in lines(tmp_path / str(size) / "records.jsonl")})
    assert found[0] == found[1]


def test_the_order_of_the_roles_changes_and_follows_the_seed(
    composed: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = []
    for name in ("a", "b"):
        execute(composed("max_new_tokens=2", "warmup=0"), tmp_path / name)
        orders.append([row["order"] for row in lines(tmp_path / name / "records.jsonl") if row["role"] == "method"])
    assert orders[0] == orders[1]
    assert set(orders[0]) == {0, 1}


def test_a_finished_folder_is_not_decoded_again(composed: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = execute(composed(), tmp_path)
    monkeypatch.setattr(SideBySide, "run", lambda *_: pytest.fail("decoded again"))
    second = execute(composed(), tmp_path)
    assert {name: second[name] for name in ("speedup", "num_tokens")} == {name: first[name] for name in ("speedup", "num_tokens")}


def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(
    command: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, real = tmp_path / "run", SideBySide.run

    def stop_at_third(bench: SideBySide, batch: int, tasks: Any) -> Any:
        if batch == 2:
            raise KeyboardInterrupt
        return real(bench, batch, tasks)

    monkeypatch.setattr(SideBySide, "run", stop_at_third)
    assert command(f"hydra.run.dir={folder}") == 130
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["interrupted"]
    assert summary["num_prompts"] == 2
    assert "tokens/step" in capsys.readouterr().out
    monkeypatch.setattr(SideBySide, "run", real)
    assert command(f"hydra.run.dir={folder}") == 0
    assert len(lines(folder / "records.jsonl")) == 8
    assert not json.loads((folder / "summary.json").read_text())["interrupted"]


def test_a_real_interrupt_signal_in_the_middle(options: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    row = '{{"id": {0}, "text": "abc {0}"}}\n'
    (tmp_path / "many.jsonl").write_text("".join(row.format(index) for index in range(2000)))
    arguments = [*options, f"data.path={tmp_path / 'many.jsonl'}", f"hydra.run.dir={folder}"]
    arguments = [item for index, item in enumerate(arguments) if not (item.startswith("data.path") and index < len(options))]
    root = Path(__file__).resolve().parents[3]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments.run", *arguments],
        cwd=root,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a suite in the background ignores it, and hands that on
    )
    deadline = time.monotonic() + 200
    records = folder / "records.jsonl"
    while not (records.exists() and records.read_bytes().count(b"\n") >= 4):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["interrupted"]
    assert 2 * summary["num_prompts"] == len(lines(records))
    assert {step["prompt"] for step in lines(folder / "steps.jsonl")} == {row["prompt"] for row in lines(records)}
    assert "tokens/step" in output


def test_a_sweep_ends_with_one_table(command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("-m", f"hydra.sweep.dir={tmp_path / 'sweep'}", "drafter=none,prompt_lookup", "num_prompts=2", "max_new_tokens=6") == 0
    table = capsys.readouterr().out.split("results in")[-1]
    assert "none" in table
    assert "prompt_lookup" in table
    assert report.main([str(tmp_path / "sweep"), "--table", "markdown", "--categories"]) == 0
    assert "| drafter | prompts | units | tokens/step |" in capsys.readouterr().out


def test_a_failing_job_fails_the_sweep_but_not_the_other_jobs(
    command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = tmp_path / "sweep"
    assert command("-m", f"hydra.sweep.dir={sweep}", "max_new_tokens=300,4", "num_prompts=1") == 1
    assert "max_new_tokens=300" in json.loads((sweep / "0" / "error.json").read_text())["error"]
    assert (sweep / "1" / "summary.json").exists()
    table = capsys.readouterr().out.split("results in")[-1]
    assert "prompt_lookup" in table
    assert f"failed: {sweep / '0'}: ValueError: max_new_tokens=300" in table


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("max_new_tokens=300",), "max_new_tokens=300 does not fit the context of 256"),
        (("max_new_tokens=241",), "prompt p0 has 16 tokens and max_new_tokens is 241"),
        (("max_new_tokens=0",), "max_new_tokens=0: give a whole number from 1 to 1,000,000"),
        (("max_new_tokens=many",), "max_new_tokens=many: give a whole number"),
        (("num_prompts=-1",), "num_prompts=-1: give a whole number of at least 1 or null"),
        (("target.name=/nothing/here",), "target: model '/nothing/here' could not be loaded"),
        (("target.name=embedded/targt",), "target: unknown embedded model 'embedded/targt'"),
        (("target.name=???",), "target.name must be given"),
        (("data.path=/nothing.jsonl",), "data.path=/nothing.jsonl: give a file or folder that exists"),
        (("sampling.temperature=-1",), "sampling.temperature=-1: give a number from 0 to 100"),
        (("drafter.max_ngram=0",), "drafter.max_ngram=0: give a whole number from 1 to 4096"),
        (("tracking=wandb", "tracking.mode=on"), "tracking.mode=on: give one of auto, online, offline, disabled"),
    ],
)
def test_wrong_input_is_refused_before_any_work(
    command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], overrides: tuple[str, ...], message: str
) -> None:
    """What the command line alone shows is said before there is a folder, the rest is also left in the folder."""
    folder = tmp_path / "run"
    assert command(f"hydra.run.dir={folder}", *overrides) == 2
    file, said = folder / "error.json", capsys.readouterr().err
    error = json.loads(file.read_text())["error"].removeprefix("ValueError: ") if file.exists() else said.removeprefix("error: ").strip()
    assert error.startswith(message)
    assert "\n" not in error
    assert not (folder / "records.jsonl").exists()


def test_a_drafter_whose_tokenizer_has_other_words_is_refused(command: Callable[..., int], tmp_path: Path, assistant: str) -> None:
    folder = tmp_path / "swapped"
    shutil.copytree(assistant, folder)
    file = folder / "tokenizer.json"
    held = json.loads(file.read_text())
    words = held["model"]["vocab"]
    words["a"], words["b"] = words["b"], words["a"]
    file.write_text(json.dumps(held))
    assert command(f"hydra.run.dir={tmp_path / 'run'}", "drafter=draft_model", f"drafter.name={folder}") == 2
    error = json.loads((tmp_path / "run" / "error.json").read_text())["error"]
    assert "has another tokenizer than target" in error
    assert f"id {words['b']} is 'a' in the target's and 'b' in the draft model's" in error


def test_a_drafter_with_a_few_more_words_is_served(command: Callable[..., int], tmp_path: Path, stranger: str) -> None:
    """Its tokenizer says that all the others are the target's; the five that the target lacks are never drafted."""
    assert command(f"hydra.run.dir={tmp_path / 'run'}", "drafter=draft_model", f"drafter.name={stranger}") == 0


def test_a_drafter_of_another_size_without_a_tokenizer_is_refused(command: Callable[..., int], tmp_path: Path, stranger: str) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        (bare / name).write_bytes((Path(stranger) / name).read_bytes())
    assert command(f"hydra.run.dir={tmp_path / 'run'}", "drafter=draft_model", f"drafter.name={bare}") == 2
    assert "vocabulary sizes differ: target 257, drafter 262" in json.loads((tmp_path / "run" / "error.json").read_text())["error"]


def test_an_unknown_option_ends_with_code_2(command: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert command("drafter=promt_lookup") == 2
    assert 'unknown drafter "promt_lookup"; did you mean "prompt_lookup"?' in capsys.readouterr().err


def test_a_crash_in_the_middle_is_recorded_and_forgotten_once_the_run_is_whole(
    command: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, real = tmp_path / "run", SideBySide.run

    def crash_at_second(bench: SideBySide, batch: int, tasks: Any) -> Any:
        if batch == 1:
            raise RuntimeError("out of memory")
        return real(bench, batch, tasks)

    monkeypatch.setattr(SideBySide, "run", crash_at_second)
    assert command(f"hydra.run.dir={folder}", "max_new_tokens=4") == 1
    assert "out of memory" in json.loads((folder / "error.json").read_text())["error"]
    monkeypatch.setattr(SideBySide, "run", real)
    assert command(f"hydra.run.dir={folder}", "max_new_tokens=4") == 0
    assert not (folder / "error.json").exists()
    assert len(lines(folder / "records.jsonl")) == 8


def test_another_configuration_in_the_same_folder_is_refused(command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    assert command(f"hydra.run.dir={folder}", "num_prompts=1") == 0
    before = {name: (folder / name).read_bytes() for name in ("records.jsonl", "steps.jsonl", "summary.json", "config.yaml")}
    assert command(f"hydra.run.dir={folder}", "num_prompts=1", "seed=5") == 2
    assert "holds the run of another configuration" in capsys.readouterr().err
    assert {name: (folder / name).read_bytes() for name in before} == before


def test_prompts_that_are_too_long_can_be_left_out(composed: Callable[..., DictConfig], tmp_path: Path) -> None:
    path = tmp_path / "mixed.jsonl"
    path.write_text(json.dumps({"text": "x" * 400}) + "\n" + json.dumps({"text": "short"}) + "\n")
    assert execute(composed(f"data.path={path}", "skip_too_long=true"), tmp_path / "run")["num_prompts"] == 1
    with pytest.raises(ValueError, match="no prompt is left"):
        execute(composed(f"data.path={path}", "skip_too_long=true", "max_new_tokens=255"), tmp_path / "none")


def test_the_report_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert report.main([str(tmp_path)]) == 2
    assert "no summary.json" in capsys.readouterr().err
    (tmp_path / "summary.json").write_text("[]")
    assert report.main([str(tmp_path)]) == 2
    assert "is not the summary of a run" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    assert report.main([]) == 2
