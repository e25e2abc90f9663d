"""The head of tables and figures says what was measured, and runs whose numbers cannot be compared are marked."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from experiments.analysis.frames import load_runs
from experiments.analysis.measured import DEFAULTS, head, incomparable, part_labels
from experiments.analysis.summary import summarise
from experiments.analysis.tables import comparison_rows, describe, print_comparison
from experiments.parts.settings import Settings
from tests.experiments.recorded import PROVENANCE, a_pair, config, write_run


def summary(num_prompts: int = 2, provenance: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    return summarise([a_pair(index) for index in range(num_prompts)], config(**changes), PROVENANCE | (provenance or {}), exact=True)


def data(path: str, **changes: Any) -> dict[str, Any]:
    return {"_target_": "experiments.parts.data.sources.jsonl", "path": path, "field": None} | changes


def test_the_head_says_target_data_verifier_sizes_seed_and_machine() -> None:
    runs = [summary(max_new_tokens=24, seed=3), summary(max_new_tokens=24, seed=3, drafter=config()["drafter"] | {"num_tokens": 9})]
    parts = "target embedded; data embedded; 2 prompts; verifier recursive; sampling greedy; max_new_tokens 24; batch size 1; seed 3"
    assert head(runs) == f"{parts}; float32; a processor; threads 1; 2026-01-01"
    assert incomparable(runs) == ""
    assert describe(runs[0]) == f"drafter prompt_lookup; {head(runs)}"
    assert head([]) == ""


def test_settings_that_are_not_as_usual_are_said_and_the_usual_is_not() -> None:
    told = head([summary(chat_template=True, split="dev", system_prompt="Be brief")])
    assert "chat template yes" in told
    assert "split dev" in told
    assert "system prompt Be brief" in told
    assert not {"split", "chat", "stop_at_eos", "torch"} & set(head([summary()]).replace(";", "").split())


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("max_new_tokens", {"max_new_tokens": 16}, {"max_new_tokens": 48}),
        ("batch size", {"batch_size": 1}, {"batch_size": 4}),
        ("chat template", {"chat_template": False}, {"chat_template": True}),
        ("split", {}, {"split": "test"}),
        ("stop_at_eos", {}, {"stop_at_eos": False}),
        ("threads", {}, {"provenance": {"threads": 2}}),
        ("dtype", {}, {"provenance": {"dtype": "bfloat16"}}),
        ("hardware", {}, {"provenance": {"cpu": "another processor"}}),
        ("hardware", {}, {"provenance": {"device": "a GPU"}}),
        ("torch", {}, {"provenance": {"versions": {"torch": "2.11"}}}),
        ("target.runtime", {"target": config()["target"] | {"runtime": "auto"}}, {"target": config()["target"] | {"runtime": "compile"}}),
        ("data.num_rows", {"data": data("q.jsonl", num_rows=3)}, {"data": data("q.jsonl", num_rows=None)}),
    ],
)
def test_what_makes_runs_incomparable_has_a_column_and_a_note(
    name: str, one: dict[str, Any], other: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [summary(**one), summary(**other)]
    rows = comparison_rows(runs)
    assert rows[0][name] != rows[1][name]
    assert rows[0]["drafter"] == rows[1]["drafter"] == "prompt_lookup"
    values = ", ".join(row[name] for row in rows)
    print_comparison(runs)
    printed = capsys.readouterr().out
    assert f"runs differ in {name} ({values}): their speedups are not comparable" in printed
    assert f"{name} {values} (differs)" in printed.splitlines()[0]
    print_comparison(runs, markdown=True)
    assert f"\n\n**Note:** runs differ in {name}" in capsys.readouterr().out


@pytest.mark.parametrize("part", ["target", "data"])
def test_another_target_or_other_prompts_cannot_be_compared(part: str) -> None:
    other = {"target": config()["target"] | {"name": "large"}, "data": data("q.jsonl")}
    runs = [summary(), summary(**{part: other[part]})]
    assert f"{part} (embedded, " in incomparable(runs)
    assert part in comparison_rows(runs)[0]
    assert incomparable([summary(2), summary(3)]) == "runs differ in prompts (2, 3): their speedups are not comparable"


def test_several_reasons_make_one_sentence() -> None:
    runs = [summary(max_new_tokens=16, batch_size=1), summary(max_new_tokens=48, batch_size=2)]
    assert incomparable(runs) == "runs differ in max_new_tokens (16, 48) and batch size (1, 2): their speedups are not comparable"


def test_seeds_have_a_column_and_can_be_compared() -> None:
    runs = [summary(seed=0), summary(seed=1)]
    assert [row["seed"] for row in comparison_rows(runs)] == ["0", "1"]
    assert incomparable(runs) == ""
    assert "seed 0, 1;" in head(runs)
    own = config()["sampling"] | {"seed": 7}
    assert [row["seed"] for row in comparison_rows([summary(), summary(sampling=own)])] == ["0", "0, of sampling 7"]


def test_two_files_of_one_name_are_told_apart() -> None:
    runs = [summary(data=data(path)) for path in ("sets/a/question.jsonl", "sets/b/question.jsonl", "sets/b/other.jsonl")]
    assert part_labels(runs, "data") == ["a/question.jsonl", "b/question.jsonl", "other.jsonl"]
    labelled = [summary(data=data(path, label="spec_bench")) for path in ("a/question.jsonl", "b/question.jsonl")]
    assert [row["data"] for row in comparison_rows(labelled)] == ["spec_bench (a/question.jsonl)", "spec_bench (b/question.jsonl)"]
    assert "runs differ in data (spec_bench (a/question.jsonl), " in incomparable(labelled)


def test_two_models_of_one_name_are_told_apart() -> None:
    runs = [summary(target=config()["target"] | {"name": name}) for name in ("/m/a/x/model", "/m/b/x/model", "model")]
    assert part_labels(runs, "target") == ["a/x/model", "b/x/model", "model"]
    assert [row["target"] for row in comparison_rows(runs[:2])] == ["a/x/model", "b/x/model"]


def test_other_prompts_of_the_same_number_are_seen_in_the_records(tmp_path: Path) -> None:
    for name, asked in (("one", [1, 2]), ("same", [1, 2]), ("other", [1, 3])):
        path = write_run(tmp_path / name) / "records.jsonl"
        path.write_text(path.read_text().replace('"prompt_ids": null', f'"prompt_ids": {asked}'))
    assert load_runs([tmp_path / "one", tmp_path / "same"]).incomparable == ""
    assert load_runs([tmp_path / "one", tmp_path / "other"]).incomparable.startswith("runs differ in prompts (4 (set 1), 4 (set 2))")


def test_names_of_methods_hold_what_differs_and_are_never_the_same(tmp_path: Path) -> None:
    write_run(tmp_path / "a" / "0", max_new_tokens=16)
    write_run(tmp_path / "a" / "1", max_new_tokens=48)
    assert load_runs([tmp_path]).methods == ["prompt_lookup · max_new_tokens 16", "prompt_lookup · max_new_tokens 48"]
    write_run(tmp_path / "b" / "0", max_new_tokens=16)
    assert load_runs([tmp_path]).methods[::2] == ["prompt_lookup · max_new_tokens 16 [a/0]", "prompt_lookup · max_new_tokens 16 [b/0]"]


def test_what_old_runs_do_not_name_is_what_it_was() -> None:
    defaults = {part.name: part.default for part in fields(Settings)}
    assert {name: defaults[name] for name in DEFAULTS} == DEFAULTS
