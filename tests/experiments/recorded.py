"""Run folders written by hand: what reports, frames and figures read, without a model."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from experiments.analysis.summary import summarise, to_json
from experiments.recording.record import Pair
from tests.experiments.samples import record

PROVENANCE: dict[str, Any] = {
    "versions": {"python": "3.11", "torch": "2.13"},
    "git_commit": "abc",
    "dtype": "float32",
    "device": "cpu",
    "cpu": "a processor",
    "cpu_count": 8,
    "threads": 1,
    "date": "2026-01-01T00:00:00",
    "load_average_before": 1.0,
    "load_average_after": 1.0,
}


def config(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "seed": 0,
        "batch_size": 1,
        "target": {"_target_": "experiments.parts.target.load_target", "name": "embedded/target"},
        "drafter": {"_target_": "drafters.prompt_lookup.PromptLookup", "num_tokens": 2},
        "verifier": {"_target_": "verifiers.recursive.Recursive"},
        "data": {"_target_": "experiments.parts.data.sources.embedded"},
        "sampling": {"_target_": "spec.sampling.Sampler", "temperature": 0.0},
    }
    return found | changes


def clocks(total: float) -> dict[str, float]:
    return {"draft": 0.2 * total, "target": 0.5 * total, "verify": 0.1 * total, "commit": 0.1 * total, "other": 0.1 * total}


def a_pair(index: int, seconds: float = 1.0) -> Pair:
    """Five tokens in two steps that accept two and one of two drafted tokens each, against five in five, 1.5 / seconds as fast."""
    common = {"batch": index, "tokens": [50, 51, 52, 53, 54], "category": "ab"[index % 2]}
    counts = {"num_steps": 2, "num_drafted": 4, "num_accepted": 3, "tested": [2, 2], "kept": [2, 1]}
    plain = {"num_steps": 5, "num_drafted": 0, "num_accepted": 0, "tested": [], "kept": []}
    method = record(f"p{index}", **common, **counts, seconds=clocks(seconds))
    return Pair(method, record(f"p{index}", "baseline", **common, **plain, seconds=clocks(1.5)))


def steps_of(index: int) -> list[dict[str, Any]]:
    common = {"prompt": f"p{index}", "role": "method", "drafted": 2, "depth": 2, "cut": False, "seconds": {"draft": 0.1, "target": 0.25}}
    first = common | {"step": 0, "accepted": 2, "emitted": 3, "proposed": [50, 51]}
    return [first, common | {"step": 1, "accepted": 1, "emitted": 2, "proposed": [53, 60]}]


def plain_steps_of(index: int) -> list[dict[str, Any]]:
    counts = {"drafted": 0, "depth": 0, "accepted": 0, "emitted": 1, "cut": False, "proposed": []}
    return [{"prompt": f"p{index}", "role": "baseline", "step": step, **counts, "seconds": {"draft": 0.0, "target": 0.3}} for step in range(5)]


def write_run(folder: Path, num_prompts: int = 4, seconds: float = 1.0, **changes: Any) -> Path:
    """A run folder; `changes` go into its configuration."""
    folder.mkdir(parents=True)
    pairs = [a_pair(index, seconds) for index in range(num_prompts)]
    (folder / "summary.json").write_text(to_json(summarise(pairs, config(**changes), PROVENANCE, exact=True)))
    rows = [asdict(item) for pair in pairs for item in (pair.method, pair.baseline)]
    (folder / "records.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    steps = [step for index in range(num_prompts) for step in (*steps_of(index), *plain_steps_of(index))]
    (folder / "steps.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))
    return folder
