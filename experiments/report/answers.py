"""Answers of a report in colour: which tokens were drafted and accepted, which the target added, which drafts it rejected."""

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
    tokenizers: dict[str, Any] = {}
    for method, document in list(zip(runs.methods, runs.documents, strict=False))[:MOST_RUNS]:
        name = str(document["config"]["target"].get("name"))
        if name not in tokenizers:
            tokenizers[name] = _tokenizer(name)
        if tokenizers[name] is None:
            notes.append(Text(f"{method}: the tokenizer of {name} could not be loaded, so its answers are not shown.", "warn"))
            continue
        shown[method] = [(_headline(record), _html(record, runs.steps, tokenizers[name])) for record in _chosen(runs.records, method)]
    if len(runs.documents) > MOST_RUNS:
        notes.append(Text(f"Answers of the first {MOST_RUNS} runs; give fewer folders to see those of others."))
    return [Heading("Answers, token by token"), *([Coloured(shown)] if shown else []), *notes]


def _tokenizer(name: str) -> Any:
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


def _html(record: dict[str, Any], steps: pd.DataFrame, tokenizer: Any) -> str:
    own = pd.DataFrame(steps[(steps["method"] == record["method"]) & (steps["role"] == "method") & (steps["prompt"] == record["prompt"])])
    lines = [{**step, "proposed": step["proposed"] if isinstance(step.get("proposed"), list) else []} for step in own.to_dict("records")]
    return coloured(record["tokens"], lines, tokenizer)
