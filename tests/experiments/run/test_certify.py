"""A run and its proof: found among the verdicts on record, made before the run if that is asked for, and shown wherever the run is."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from experiments.analysis.frames import load_runs
from experiments.lossless import job as lossless
from experiments.lossless.job import judge_parts
from experiments.lossless.subject import Check
from experiments.parts.build import build, prompts_of
from experiments.parts.settings import Settings, resolved
from experiments.recording.proofs.verdict import read
from experiments.report import command as report_command
from experiments.report.command import main as report
from experiments.run import certify
from experiments.run.certify import battery_config, overrides_of
from experiments.run.job import execute
from experiments.run.side_by_side import SideBySide
from tests.experiments.lossless.test_command import UsersSoftArgmax

SMALL = ("max_new_tokens=4", "num_prompts=2", "warmup=0", "check_state=false")


@dataclass(frozen=True)
class Answer:
    """A battery that answers at once."""

    verdict: str

    def to_json(self) -> dict[str, Any]:
        checks = [Check("frequencies", self.verdict if self.verdict != "incomplete" else "not applicable", "made up")]
        return {"verdict": self.verdict, "checks": [vars(check) for check in checks], "mutants": []}


class FakeBattery:
    """Stands in for the real one, which takes minutes; counts its calls."""

    def __init__(self) -> None:
        self.says, self.subjects, self.efforts = "pass", [], []

    def __call__(self, subject: Any, effort: Any, listener: Any) -> Answer:
        self.subjects.append(subject)
        self.efforts.append(effort)
        return Answer(self.says)


@pytest.fixture(autouse=True)
def no_verdicts_with_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What has been judged and committed so far must not matter here."""
    monkeypatch.setattr(certify, "COMMITTED", tmp_path / "nothing committed")


@pytest.fixture
def battery(monkeypatch: pytest.MonkeyPatch) -> FakeBattery:
    fake = FakeBattery()
    monkeypatch.setattr(lossless, "judge", fake)
    return fake


def summary_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text())


def test_nobody_calls_a_run_exact_that_was_not_judged(
    composed: Callable[..., DictConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = execute(composed(*SMALL), tmp_path / "run")
    assert (summary["claims_exact"], summary["exact"], summary["proof"]["verdict"]) == (True, None, "not judged")
    assert summary["valid"]
    assert "proof: not judged: no verdict on these settings is recorded" in capsys.readouterr().out


def test_certify_judges_the_runs_own_parts_first(
    composed: Callable[..., DictConfig], tmp_path: Path, battery: FakeBattery, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = execute(composed(*SMALL, "certify=true", "sampling=sample", "verifier=block"), tmp_path / "run")
    held = read(tmp_path / "run" / "proof" / "lossless.json")
    assert (summary["exact"], summary["proof"]["file"], summary["proof"]["record"]) == (True, "proof/lossless.json", held.record)
    assert held.record["settings"]["verifier"] == {"_target_": "verifiers.block.Block"}
    assert held.record["settings"]["target"]["dtype"] == "float64"
    subject = battery.subjects[0]
    assert (type(subject.verifier).__name__, subject.sampler.temperature, len(subject.prompts)) == ("Block", 0.8, 3)
    assert (battery.efforts[0].samples, battery.efforts[0].long_tokens) == (6000, 32)
    assert f"proof: {summary['proof']['mark']}" in capsys.readouterr().out
    assert summary["proof"]["mark"] == f"pass {held.record['digest'][:8]}"


def test_the_batterys_drafter_is_not_the_runs(composed: Callable[..., DictConfig], tmp_path: Path, battery: FakeBattery) -> None:
    made: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        real = SideBySide.__post_init__
        patch.setattr(SideBySide, "__post_init__", lambda bench: (made.append(bench.parts.drafter), real(bench))[1])
        execute(composed(*SMALL, "certify=true", "drafter=lookahead"), tmp_path / "run")
    assert type(battery.subjects[0].make_drafter()) is type(made[0])
    assert battery.subjects[0].make_drafter() is not made[0]


def test_what_is_recorded_is_not_judged_again(composed: Callable[..., DictConfig], tmp_path: Path, battery: FakeBattery) -> None:
    options = (*SMALL, "certify=true")
    first = execute(composed(*options), tmp_path / "run")
    assert execute(composed(*options), tmp_path / "run") == json.loads(json.dumps(first))
    (tmp_path / "run" / "summary.json").unlink()  # as if it had been stopped
    execute(composed(*options), tmp_path / "run")
    found = execute(composed(*options, f"proofs=[{tmp_path / 'run'}]"), tmp_path / "other")
    assert len(battery.subjects) == 1
    assert found["proof"]["mark"] == first["proof"]["mark"]
    execute(composed(*options, f"proofs=[{tmp_path / 'run'}]", "drafter.num_tokens=3"), tmp_path / "third")
    assert len(battery.subjects) == 2


def test_a_finished_run_is_certified_without_decoding_it_again(
    composed: Callable[..., DictConfig], tmp_path: Path, battery: FakeBattery, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = execute(composed(*SMALL), tmp_path / "run")
    monkeypatch.setattr(SideBySide, "run", lambda *_: pytest.fail("decoded again"))
    after = execute(composed(*SMALL, "certify=true"), tmp_path / "run")
    assert (before["exact"], after["exact"], summary_of(tmp_path / "run")["exact"]) == (None, True, True)
    assert {name: after[name] for name in ("speedup", "provenance", "warnings")} == {
        name: before[name] for name in ("speedup", "provenance", "warnings")
    }
    assert execute(composed(*SMALL), tmp_path / "run")["exact"] is True


def test_a_later_verdict_reaches_a_finished_run(composed: Callable[..., DictConfig], tmp_path: Path, battery: FakeBattery) -> None:
    execute(composed(*SMALL), tmp_path / "run")
    execute(composed(*SMALL, "certify=true"), tmp_path / "judged")
    assert execute(composed(*SMALL, f"proofs=[{tmp_path / 'judged'}]"), tmp_path / "run")["exact"] is True
    assert execute(composed(*SMALL), tmp_path / "run")["exact"] is True  # it stays, although it is not looked for there any more


def test_a_failed_proof_makes_the_run_invalid_and_loses_no_number(
    command: Callable[..., int], tmp_path: Path, battery: FakeBattery, capsys: pytest.CaptureFixture[str]
) -> None:
    battery.says, folder = "fail", tmp_path / "run"
    assert command(f"hydra.run.dir={folder}", *SMALL, "certify=true") == 1
    summary = summary_of(folder)
    assert (summary["valid"], summary["exact"], summary["num_prompts"]) == (False, False, 2)
    assert "INVALID: failed its proof: the battery's verdict" in capsys.readouterr().out
    assert len((folder / "records.jsonl").read_text().splitlines()) == 4
    assert not (folder / "error.json").exists()
    assert command(f"hydra.run.dir={folder}", *SMALL) == 1  # the same verdict without asking for it
    assert len(battery.subjects) == 1


def test_an_incomplete_verdict_is_no_proof_and_no_fault(command: Callable[..., int], tmp_path: Path, battery: FakeBattery) -> None:
    battery.says, folder = "incomplete", tmp_path / "run"
    assert command(f"hydra.run.dir={folder}", *SMALL, "certify=true") == 1
    assert (summary_of(folder)["valid"], summary_of(folder)["exact"]) == (True, None)
    assert command(f"hydra.run.dir={folder}", *SMALL) == 0


def test_a_lossy_verifier_and_plain_decoding_are_not_judged(composed: Callable[..., DictConfig], tmp_path: Path, battery: FakeBattery) -> None:
    lossy = execute(composed(*SMALL, "certify=true", "sampling=sample", "verifier=typical", "allow_lossy=true"), tmp_path / "lossy")
    plain = execute(composed(*SMALL, "certify=true", "drafter=none"), tmp_path / "plain")
    assert (lossy["claims_exact"], lossy["exact"], lossy["proof"]["mark"]) == (False, False, "lossy")
    assert (plain["exact"], plain["proof"]["mark"]) == (None, "the reference itself")
    assert battery.subjects == []


def test_a_sweep_judges_each_combination_once(
    command: Callable[..., int], tmp_path: Path, battery: FakeBattery, capsys: pytest.CaptureFixture[str]
) -> None:
    swept = ("-m", f"hydra.sweep.dir={tmp_path / 'sweep'}", "certify=true", "verifier=block,rejection", "batch_size=1,2")
    assert command(*swept, *SMALL) == 0
    assert len(battery.subjects) == 2
    marks = [summary_of(tmp_path / "sweep" / str(job))["proof"]["mark"] for job in range(4)]
    assert marks[0] == marks[1] != marks[2] == marks[3]
    assert summary_of(tmp_path / "sweep" / "1")["proof"]["file"] == "../0/proof/lossless.json"
    assert f"proof {marks[0]}: the battery's verdict" in capsys.readouterr().out
    battery.says = "fail"
    swept = ("-m", f"hydra.sweep.dir={tmp_path / 'bad'}", "certify=true", "drafter.num_tokens=2,3")
    assert command(*swept, *SMALL) == 1
    assert [summary_of(tmp_path / "bad" / str(job))["valid"] for job in range(2)] == [False, False]


def test_a_folder_begun_by_other_code_has_no_proof(
    composed: Callable[..., DictConfig], tmp_path: Path, battery: FakeBattery, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(composed(*SMALL, "certify=true"), tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    for where in ("experiments.run.job", "experiments.parts.versions"):
        monkeypatch.setattr(f"{where}.code_hash", lambda *_: "newer")
    found = execute(composed(*SMALL, "certify=true", "allow_code_change=true"), tmp_path / "run")
    assert (found["proof"]["verdict"], found["exact"]) == ("not judged", None)
    assert "more than one version of the code" in found["proof"]["reason"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("certify=3", "certify=3: give true or false"),
        ("proofs=[nowhere]", "proofs=nowhere does not exist"),
        ("+battery.verifier=block", "the battery takes its verifier from the run"),
        ("+battery.efort.samples=1", "efort"),
        ("battery=high", "battery=high: give a mapping"),
    ],
)
def test_wrong_settings_are_answered_in_one_line_before_any_work(
    command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: str, said: str
) -> None:
    assert command(f"hydra.run.dir={tmp_path / 'run'}", *SMALL, wrong) == 2
    file, error = tmp_path / "run" / "error.json", capsys.readouterr().err.strip()
    error = json.loads(file.read_text())["error"] if file.exists() else error
    assert said in error
    assert "\n" not in error
    assert not (tmp_path / "run" / "records.jsonl").exists()


def test_the_batterys_options_and_the_runs_parts_come_together(composed: Callable[..., DictConfig]) -> None:
    plain = resolved(
        composed("drafter.num_tokens=7", "seed=5", "+battery.effort.samples=10", "+battery.prompt_tokens=null", "+battery.num_prompts=1")
    )
    config = OmegaConf.create(battery_config(plain, plain["battery"]))
    assert (config.effort.samples, config.prompt_tokens, config.num_prompts, config.effort.looks) == (10, None, 1, 4)
    assert (config.drafter.num_tokens, config.sampling.seed, config.target.dtype, config.max_new_tokens) == (7, 5, "float64", 32)
    assert list(overrides_of({"effort": {"mutants": False, "tokens": None}, "level": "high"})) == [
        "effort.mutants=False",
        "effort.tokens=null",
        "level=high",
    ]


def test_reports_show_the_mark_with_a_link_to_what_was_judged(
    composed: Callable[..., DictConfig], tmp_path: Path, battery: FakeBattery, capsys: pytest.CaptureFixture[str]
) -> None:
    execute(composed(*SMALL, "certify=true"), tmp_path / "runs" / "0")
    execute(composed(*SMALL, "peers=[generate]", "drafter.num_tokens=2"), tmp_path / "runs" / "1")
    mark = summary_of(tmp_path / "runs" / "0")["proof"]["mark"]
    name = mark.split(" ")[1]
    assert load_runs([tmp_path / "runs"]).summaries["proof"].tolist() == [mark, "not judged"]
    capsys.readouterr()
    assert report([str(tmp_path / "runs"), "--html", str(tmp_path / "r.html"), "--markdown", str(tmp_path / "r.md")]) == 0
    assert "1 of 2 runs are proved exact" in capsys.readouterr().out
    page, text = (tmp_path / "r.html").read_text(), (tmp_path / "r.md").read_text()
    assert f'<td>pass <a href="#proof-{name}">{name}</a></td>' in page
    assert page.count(f'<tr id="proof-{name}">') == 1
    assert "<td>proof/lossless.json</td>" in page
    assert "<td>peer</td>" in page
    assert f"pass [{name}](#proofs)" in text
    assert "## Proofs" in text
    assert report_command.main(["--table", "terminal", str(tmp_path / "runs")]) == 0
    told = capsys.readouterr().out
    assert mark in told
    assert "proof not judged: no verdict on these settings is recorded" in told


@pytest.mark.slow
def test_the_real_battery_certifies_a_run_and_convicts_a_wrong_drafter(command: Callable[..., int], tmp_path: Path, assistant: str) -> None:
    effort = ("+battery.effort.samples=640", "+battery.effort.long_texts=2000", "+battery.effort.mutants=false", "+battery.num_prompts=1")
    common = (*SMALL, "certify=true", "+battery.max_new_tokens=8", "drafter=draft_model", f"drafter.name={assistant}", "drafter.num_tokens=2")
    assert command(f"hydra.run.dir={tmp_path / 'right'}", *common, *effort, "sampling=sample") == 0
    right = summary_of(tmp_path / "right")
    assert right["proof"]["verdict"] == "pass"
    assert right["exact"] is None  # with less effort than is usual
    assert "less effort" in right["proof"]["mark"]
    wrong = (f"drafter._target_={UsersSoftArgmax.__module__}.UsersSoftArgmax", "trusted_packages=[tests]")
    assert command(f"hydra.run.dir={tmp_path / 'wrong'}", *common, *effort, "sampling=sample", *wrong) == 1
    assert summary_of(tmp_path / "wrong")["proof"]["verdict"] == "fail"
    assert not summary_of(tmp_path / "wrong")["valid"]


def test_judging_returns_what_it_writes(composed: Callable[..., DictConfig], tmp_path: Path, battery: FakeBattery) -> None:
    config = battery_config(resolved(composed()), {})
    settings = Settings.of(config)
    result = judge_parts(config, build(config, settings, prompts_of(config, settings)), tmp_path)
    assert json.loads((tmp_path / "lossless.json").read_text())["record"] == result["record"]
