"""Whatever is given to the report, and however it is stopped, it ends with a line and an exit code."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.report import command
from experiments.report.command import main
from tests.experiments.recorded import config, write_run

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    for name, length in (("0", 2), ("1", 4)):
        write_run(tmp_path / "sweep" / name, drafter=config()["drafter"] | {"num_tokens": length})
    return tmp_path / "sweep"


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line with which the command refuses."""
    assert main([str(argument) for argument in arguments]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert told.count("\n") == 1
    return told


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--nonsense"], "unknown option '--nonsense'"),
        (["--table", "latex"], "invalid choice: 'latex'"),
        (["--html"], "--html: expected one argument"),
        (["--answer", "p0"], "give both"),
        (["--table", "terminal", "--html", "x.html"], "--table and --categories print"),
        (["--categories", "--picture", "x"], "--table and --categories print"),
    ],
)
def test_wrong_arguments_are_one_line(arguments: list[str], expected: str, sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert expected in refused(capsys, sweep, *arguments)


def test_an_empty_folder_and_a_folder_of_failed_runs_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no summary.json in" in refused(capsys, tmp_path)
    for name, reason in (("0", "ValueError: no such model"), ("1", "OSError: no disk")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "error.json").write_text(json.dumps({"error": reason}))
    for more in ([], ["--table", "terminal"], ["--html", tmp_path / "r.html"], ["--picture", tmp_path / "p"]):
        told = refused(capsys, tmp_path, *more)
        assert f"no run in {tmp_path} has results: 2 failed; the first is {tmp_path / '0'}: ValueError: no such model" in told
    (tmp_path / "0" / "error.json").write_text("{}")
    assert f"2 failed; the first is {tmp_path / '0'}: failed, " in refused(capsys, tmp_path)


def cut(path: Path) -> None:
    path.write_text(path.read_text()[: len(path.read_text()) // 2])


def without(key: str) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        rows = [json.loads(line) for line in path.read_text().splitlines()] if path.suffix == ".jsonl" else [json.loads(path.read_text())]
        path.write_text("".join(json.dumps({name: value for name, value in row.items() if name != key}) + "\n" for row in rows))

    return spoil


def changed(key: str, value: object) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        rows = [json.loads(line) for line in path.read_text().splitlines()] if path.suffix == ".jsonl" else [json.loads(path.read_text())]
        path.write_text("".join(json.dumps(row | {key: value}) + "\n" for row in rows))

    return spoil


@pytest.mark.parametrize("more", [[], ["--table", "terminal"], ["--categories"]], ids=["report", "table", "categories"])
@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("summary.json", cut),
        ("summary.json", lambda path: path.write_text("")),
        ("summary.json", lambda path: path.write_bytes(b"\xff\xfe\x00")),
        ("summary.json", without("provenance")),
        ("summary.json", without("config")),
        ("summary.json", without("seconds")),
        ("summary.json", without("warnings")),
        ("summary.json", changed("labels", [])),
        ("summary.json", changed("speedup", "fast")),
        ("summary.json", changed("speedup_interval", [1])),
        ("summary.json", changed("by_category", {"a": 1})),
        ("records.jsonl", without("tokens")),
        ("records.jsonl", without("role")),
        ("records.jsonl", changed("tokens", 3)),
        ("records.jsonl", lambda path: path.write_text("[1]\n")),
        ("records.jsonl", lambda path: path.write_text('{"prompt": \n' + path.read_text())),
        ("steps.jsonl", without("prompt")),
        ("steps.jsonl", changed("seconds", 3)),
    ],
)
def test_damaged_files_are_named(
    name: str, spoil: Callable[[Path], None], more: list[str], sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(sweep / "1" / name)
    files = more or ["--html", tmp_path / "r.html", "--markdown", tmp_path / "r.md"]
    assert str(sweep / "1" / name) in refused(capsys, sweep, *files)
    assert not (tmp_path / "r.html").exists()


def test_steps_that_do_not_belong_to_the_records_end_in_a_line(sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = sweep / "1" / "steps.jsonl"
    changed("emitted", 7)(path)
    assert main([str(sweep), "--html", str(tmp_path / "r.html")]) == 0
    warning = "prompt_lookup (num_tokens=4): steps.jsonl does not fit records.jsonl, so its answers are not shown"
    assert warning in capsys.readouterr().out
    assert main([str(sweep), "--answer-picture", str(tmp_path / "a")]) == 0  # of the other run: this one is not valid
    path.unlink()
    assert main([str(sweep / "1"), "--html", str(tmp_path / "r.html")]) == 0
    assert "give the folder of a run that has both" in refused(capsys, sweep / "1", "--answer-picture", tmp_path / "a")


@pytest.mark.parametrize("option", ["--html", "--markdown", "--picture", "--answer-picture"])
def test_an_unwritable_place_is_one_line(option: str, sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert f"{tmp_path / 'file' / 'r'}" in refused(capsys, sweep, option, tmp_path / "file" / "r")
    blocked = {"--picture": "b-light.svg", "--answer-picture": "b-light.svg"}.get(option, "b")
    (tmp_path / "folder" / blocked).mkdir(parents=True)
    assert "is a folder" in refused(capsys, sweep, option, tmp_path / "folder" / "b")
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == [blocked]


@pytest.mark.parametrize(("wanted", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_it_without_a_traceback(
    wanted: signal.Signals, code: int, sweep: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    ctrl_c = signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background ignores it
    monkeypatch.setattr(command, "compose", lambda *_: signal.raise_signal(wanted))
    assert main([str(sweep)]) == code
    signal.signal(signal.SIGINT, ctrl_c)
    assert capsys.readouterr().err == ""
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.slow
@pytest.mark.parametrize(("wanted", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("wait", [0.5, 1.5, 3.0])
def test_signals_end_the_process_while_it_still_imports(wanted: signal.Signals, code: int, wait: float, sweep: Path, tmp_path: Path) -> None:
    arguments = [sys.executable, "-m", "experiments.report", str(sweep), "--markdown", str(tmp_path / "r.md")]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"})
    time.sleep(wait)
    process.send_signal(wanted)
    _, told = process.communicate(timeout=60)
    status = process.returncode if process.returncode >= 0 else 128 - process.returncode  # as a shell says it: a library that is
    assert status in (code, 0)  # being imported may have put the default handler in place. 0: it was done before
    assert b"Traceback" not in told


def test_wrong_arguments_are_answered_before_anything_heavy_is_imported() -> None:
    script = (
        "import sys; from experiments.parts.door.plain import plain; print(plain('report', ['--nonsense']), {'torch', 'pandas'} & {*sys.modules})"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert found.stdout == "2 set()\n"
    assert found.stderr.startswith("error: unknown option '--nonsense'")
