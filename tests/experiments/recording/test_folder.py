"""A run's folder is read file by file, and whatever is missing or damaged in it is named."""

from pathlib import Path

import pytest

from experiments.recording.folder import RunFolder
from tests.experiments.recorded import write_run


def test_what_a_run_left_is_read_with_its_steps_by_prompt_and_role(tmp_path: Path) -> None:
    run = RunFolder(write_run(tmp_path / "run", num_prompts=2))
    assert [pair.method.prompt for pair in run.pairs] == ["p0", "p1"]
    assert len(run.records) == 4
    own, plain = {(name, "method"): [0, 1] for name in ("p0", "p1")}, {(name, "baseline"): [0, 1, 2, 3, 4] for name in ("p0", "p1")}
    assert {key: [step["step"] for step in steps] for key, steps in run.steps_of.items()} == own | plain
    assert run.summary is not None


def test_names_that_have_moved_are_todays_but_in_the_raw_configuration(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("target:\n  _target_: experiments.build.load_target\n")
    run = RunFolder(tmp_path)
    assert run.config == {"target": {"_target_": "experiments.parts.target.load_target", "store": "float32"}}
    assert run.raw_config == {"target": {"_target_": "experiments.build.load_target"}}


def test_a_summary_older_than_the_records_is_none(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", num_prompts=2)
    lines = (folder / "records.jsonl").read_text().splitlines(keepends=True)
    (folder / "records.jsonl").write_text("".join(lines[:2]))
    assert RunFolder(folder).summary is None
    (folder / "summary.json").unlink()
    assert RunFolder(folder).summary is None


@pytest.mark.parametrize(
    ("name", "content", "read", "message"),
    [
        ("config.yaml", "a: [1\nb: 2\n", lambda run: run.config, r"config\.yaml: is not the configuration of a run \(.*line 2"),
        ("config.yaml", "- 1\n", lambda run: run.config, r"config\.yaml: is not the configuration of a run"),
        ("config.yaml", None, lambda run: run.config, "holds no config.yaml"),
        ("summary.json", "{", lambda run: run.summary, r"summary\.json: is not the summary of a run"),
        ("records.jsonl", "{}\nbroken\n", lambda run: run.records, r"records\.jsonl:2: damaged record"),
        ("steps.jsonl", "[]\n", lambda run: run.steps, r"steps\.jsonl:1: holds list"),
    ],
)
def test_damage_is_named(tmp_path: Path, name: str, content: str | None, read, message: str) -> None:
    folder = write_run(tmp_path / "run", num_prompts=1)
    if content is not None:
        (folder / name).write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        read(RunFolder(folder))
    assert "\n" not in str(caught.value)
