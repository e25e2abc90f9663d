"""Answers of a report in colour: which tokens were drafted and accepted, which the target added, which drafts it rejected."""

from functools import cache
from typing import Any

import pandas as pd

from experiments.analysis.coloured import coloured
from experiments.analysis.frames import Runs
from experiments.report.blocks import Block, Coloured, Heading, Text
from spec.loading import load_tokenizer

MOST_RUNS, MOST_PROMPTS = 8, 4


def answers(runs: Runs) -> list[Block]:
    """One answer of each kind of prompt, for the first runs. Without the target's tokenizer there is only a sentence that says so."""
    if not len(runs.steps) or not runs.documents:
        return []
    notes: list[Block] = []
    shown: dict[str, list[tuple[str, str]]] = {}
    for method, document in list(zip(runs.methods, runs.documents, strict=False))[:MOST_RUNS]:
        name = str(document["config"]["target"].get("name"))
        tokenizer = tokenizer_of(name)
        if tokenizer is None:
            notes.append(Text(f"{method}: the tokenizer of {name} could not be loaded, so its answers are not shown.", "warn"))
            continue
        try:
            shown[method] = [(_headline(record), _html(record, runs.steps, tokenizer)) for record in _chosen(runs.records, method)]
        except (ValueError, KeyError) as error:
            notes.append(Text(f"{method}: steps.jsonl does not fit records.jsonl, so its answers are not shown ({error}).", "warn"))
    if len(runs.documents) > MOST_RUNS:
        notes.append(Text(f"Answers of the first {MOST_RUNS} runs; give fewer folders to see those of others."))
    return [Heading("Answers, token by token"), *([Coloured(shown)] if shown else []), *notes]


@cache
def tokenizer_of(name: str) -> Any:
    """The target's tokenizer; None where it cannot be loaded."""
    try:
        return load_tokenizer(name)
    except ValueError:
        return None


def _chosen(records: pd.DataFrame, method: str) -> list[dict[str, Any]]:
    """The first answer of each kind of prompt."""
    own = pd.DataFrame(records[(records["method"] == method) & (records["role"] == "method")])
    return own.drop_duplicates("category").head(MOST_PROMPTS).to_dict("records")


def _headline(record: dict[str, Any]) -> str:
    steps = record["num_steps"]
    return f"{record['prompt']}: {record['num_tokens']} tokens in {steps} steps ({record['num_tokens'] / max(steps, 1):.2f} per step)"


def lines_of(record: dict[str, Any], steps: pd.DataFrame) -> list[dict[str, Any]]:
    """The lines of `steps.jsonl` of the method's answer in a record."""
    same = (steps[["folder", "role", "prompt"]] == [record["folder"], "method", record["prompt"]]).all(axis=1)
    own = pd.DataFrame(steps[same])
    return [{**step, "proposed": step["proposed"] if isinstance(step.get("proposed"), list) else []} for step in own.to_dict("records")]


def _html(record: dict[str, Any], steps: pd.DataFrame, tokenizer: Any) -> str:
    return coloured(record["tokens"], lines_of(record, steps), tokenizer)
