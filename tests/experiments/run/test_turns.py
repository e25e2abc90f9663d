"""Conversations: every role continues the same history, the baseline's, and all turns of a prompt are one record in the end."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from experiments.run.job import execute
from tests.experiments.conftest import tokenizer


@pytest.fixture
def conversations(tmp_path: Path) -> str:
    rows: list[dict[str, Any]] = [{"id": f"c{index}", "turns": [f"hello {index} abcabc", f"and {index}?"]} for index in range(3)]
    rows.append({"id": "single", "turns": ["abcabcabc"]})
    path = tmp_path / "turns.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"data.path={path}"


def rows(folder: Path, name: str = "records.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def test_the_second_turn_has_the_baselines_answer_in_its_history(
    composed: Callable[..., DictConfig], tmp_path: Path, conversations: str, assistant: str
) -> None:
    model = ("drafter=draft_model", f"drafter.name={assistant}", "drafter.dtype=float64")
    summary = execute(composed(conversations, *model, "sampling=sample", "peers=generate"), tmp_path / "run")
    found = {(row["prompt"], row["role"]): row for row in rows(tmp_path / "run")}
    assert {name for name, _ in found} == {"c0", "c0/2", "c1", "c1/2", "c2", "c2/2", "single"}
    for name in ("c0", "c1", "c2"):
        first, second = found[name, "baseline"], found[f"{name}/2", "baseline"]
        assert (first["turn"], second["turn"], second["category"]) == (1, 2, first["category"])
        for role in ("method", "generate"):  # so it matters whose answer the history holds
            assert first["text"] != found[name, role]["text"]
        history = f"hello {name[1]} abcabc{first['text']}\n\nand {name[1]}?"
        assert second["prompt_ids"] == tokenizer()(history)["input_ids"]
        for role in ("method", "generate"):
            assert found[f"{name}/2", role]["prompt_tokens"] == second["prompt_tokens"] == len(second["prompt_ids"])
    assert summary["num_prompts"] == 7
    assert summary["num_units"] == 4  # the turns of a conversation are no independent evidence
    assert {step["prompt"] for step in rows(tmp_path / "run", "steps.jsonl")} == {name for name, _ in found}


@pytest.mark.parametrize("size", [1, 2])
def test_a_prompt_whose_second_turn_was_torn_off_is_decoded_anew(
    composed: Callable[..., DictConfig], tmp_path: Path, conversations: str, size: int
) -> None:
    config = composed(conversations, f"batch_size={size}")
    execute(config, tmp_path / "run")
    whole = [(row["prompt"], row["role"], row["tokens"]) for row in rows(tmp_path / "run")]
    path = tmp_path / "run" / "records.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    cut = 1 + [(name, role) for name, role, _ in whole].index(("c1", "baseline"))
    path.write_text("".join(lines[:cut]))
    (tmp_path / "run" / "summary.json").unlink()
    execute(config, tmp_path / "run")
    assert sorted((row["prompt"], row["role"], row["tokens"]) for row in rows(tmp_path / "run")) == sorted(whole)
