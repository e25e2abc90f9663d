"""`held_out` and `proofs`: wrong arguments and folders that they cannot use are one line, exit code 2."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.lossless import proofs
from experiments.recording.folder import newest_sweep
from experiments.run import held_out

RECORDED = Path(__file__).resolve().parents[1] / "recorded_before"
Main = Callable[[list[str]], int]


def refused(main: Main, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of an exit with code 2."""
    try:
        code: object = main(arguments)
    except SystemExit as end:
        code = end.code
    said = capsys.readouterr()
    assert code == 2, said
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    return said.err


@pytest.mark.parametrize("main", [held_out.main, proofs.main], ids=["held_out", "proofs"])
def test_wrong_arguments_are_one_line(main: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    assert "--help says what it takes" in refused(main, ["--unknown"], capsys)
    for arguments in (["nowhere"], ["file"]):
        assert arguments[0] in refused(main, arguments, capsys)
    assert not (tmp_path / "nowhere").exists()


def test_what_is_no_sweep_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert "no results in multirun/" in refused(held_out.main, [], capsys)
    (tmp_path / "empty").mkdir()
    assert "no summary.json in empty" in refused(held_out.main, ["empty"], capsys)
    assert "is no folder" in refused(held_out.main, [str(RECORDED / "summary.json")], capsys)
    with pytest.raises(ValueError, match="no results in"):
        newest_sweep()


def test_a_sweep_with_a_damaged_run_or_without_room_for_the_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = tmp_path / "sweep"
    shutil.copytree(RECORDED, sweep / "0")
    file = sweep / "0" / "summary.json"
    whole = json.loads(file.read_text())
    whole["config"] |= {"split": "dev", "objective": "speedup"}
    for change, said in (({"speedup": None}, "summary.json"), ({"config": whole["config"] | {"split": 3}}, "split=3")):
        file.write_text(json.dumps(whole | change))
        assert said in refused(held_out.main, [str(sweep)], capsys)
    file.write_text(json.dumps(whole))
    assert held_out.best_run(sweep)["config"]["split"] == "dev"
    (sweep / "held_out").write_text("")
    assert "held_out cannot be written to" in refused(held_out.main, [str(sweep)], capsys)
    (sweep / "0" / "steps.jsonl").unlink()  # the run is not valid any more
    assert "no finished, valid run over split=dev" in refused(held_out.main, [str(sweep)], capsys)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "{}", '{"verdict": "pass", "checks": []}', "\x00\xff"])
def test_damaged_verdicts_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str) -> None:
    file = tmp_path / "run" / "lossless.json"
    file.parent.mkdir()
    file.write_text(content)
    assert str(file) in refused(proofs.main, [str(tmp_path / "run"), "--into", str(tmp_path / "kept")], capsys)
    file.unlink()
    file.mkdir()
    assert str(file) in refused(proofs.main, [str(tmp_path / "run"), "--into", str(tmp_path / "kept")], capsys)
    assert not (tmp_path / "kept").exists()


def test_verdicts_are_not_kept_in_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    for arguments in ([], [str(tmp_path)]):
        assert "is a file; give a folder" in refused(proofs.main, [*arguments, "--into", str(tmp_path / "file")], capsys)
