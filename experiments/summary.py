"""From records to `summary.json`: rates, speedup with its interval, and whether the numbers can be right.

Terms are those of `spec/stats.py`: acceptance rate = accepted / drafted; accepted per step leaves the bonus out; tokens per step counts it.
Everything is computed from `records.jsonl`, so a resumed or interrupted run is summed up like any other.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from experiments.records import Pair, Record
from experiments.repetition import NGRAM
from experiments.statistics import speedup
from spec.stats import PHASES

NEAR_TIE_ULPS = 4  # a greedy choice between logits this close may flip when the same numbers are summed in another order
BUSY = 0.75  # load per core above which clocks are not to be trusted


def summarise(pairs: Sequence[Pair], config: dict[str, Any], provenance: dict[str, Any], *, exact: bool, interrupted: bool = False) -> dict[str, Any]:
    """The whole summary of a run. `pairs` must not be empty; `config` is the resolved configuration, `exact` the verifier's own word."""
    result = figures(pairs, config["seed"])
    result["baseline_repetition"] = repetition([pair.baseline for pair in pairs])
    result["baseline_loops"] = sum(pair.baseline.loops for pair in pairs)
    result["exact"] = exact
    result |= greedy_identity(pairs) if config["sampling"].get("temperature") == 0 else {"greedy_identical": None, "divergences": []}
    result["by_category"] = {
        category: figures([pair for pair in pairs if pair.method.category == category], config["seed"])
        for category in sorted({pair.method.category for pair in pairs})
    }
    errors = impossible(pairs, result) + (unexplained(result["divergences"], provenance["dtype"]) if exact else [])
    result["valid"], result["interrupted"] = not errors, interrupted
    result["warnings"] = errors + doubts(result, provenance)
    return result | {"labels": labels(config), "provenance": provenance, "config": config}


def figures(pairs: Sequence[Pair], seed: int) -> dict[str, Any]:
    """Rates and speedup of some prompts; also used for each category alone."""
    methods, baselines = [pair.method for pair in pairs], [pair.baseline for pair in pairs]
    tokens, steps = sum(len(record.tokens) for record in methods), sum(record.num_steps for record in methods)
    drafted, accepted = sum(record.num_drafted for record in methods), sum(record.num_accepted for record in methods)
    gain = speedup(pairs, seed)
    return {
        "num_prompts": len(pairs),
        "num_tokens": tokens,
        "num_steps": steps,
        "tokens_per_step": tokens / steps,
        "accepted_per_step": accepted / steps,
        "acceptance_rate": accepted / drafted if drafted else None,
        "acceptance_by_position": by_position(methods),
        "repetition": repetition(methods),
        "loops": sum(record.loops for record in methods),
        "tokens_per_second": tokens / sum(record.decode_seconds for record in methods),
        "baseline_tokens_per_second": sum(len(record.tokens) for record in baselines) / sum(record.decode_seconds for record in baselines),
        "speedup": gain.ratio,
        "speedup_interval": gain.interval,
        "speedup_macro": gain.macro,
        "speedup_with_prefill": gain.with_prefill,
        "seconds": seconds(methods),
        "baseline_seconds": seconds(baselines),
    }


def seconds(records: Sequence[Record]) -> dict[str, float]:
    """Decode seconds by phase, added up."""
    return {phase: sum(record.seconds[phase] for record in records) for phase in (*PHASES, "other")}


def by_position(records: Sequence[Record]) -> list[float]:
    """Conditional rates: of the steps in which the draft token at this depth was judged, the share in which it was accepted."""
    depth = max((len(record.tested) for record in records), default=0)
    tested = [sum(record.tested[k] for record in records if k < len(record.tested)) for k in range(depth)]
    kept = [sum(record.kept[k] for record in records if k < len(record.kept)) for k in range(depth)]
    return [accepted / judged for accepted, judged in zip(kept, tested, strict=True)]


def repetition(records: Sequence[Record]) -> float | None:
    """Share of all emitted 8-grams that stood in the same answer before; None where no answer has eight tokens."""
    counts = [(record.repetition, len(record.tokens) - NGRAM + 1) for record in records if record.repetition is not None]
    total = sum(count for _, count in counts)
    return sum(share * count for share, count in counts) / total if total else None


def greedy_identity(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Share of prompts whose tokens equal the baseline's, and where the others part."""
    parted = [{"prompt": pair.method.prompt, **(pair.method.divergence or {})} for pair in pairs if pair.method.tokens != pair.baseline.tokens]
    return {"greedy_identical": 1 - len(parted) / len(pairs), "divergences": parted}


def impossible(pairs: Sequence[Pair], result: dict[str, Any]) -> list[str]:
    """Numbers that cannot be, whatever was measured: each is a fault of ours."""
    found = []
    for record in (record for pair in pairs for record in pair):
        where = f"prompt {record.prompt} ({record.role})"
        if len(record.tokens) != record.num_accepted + record.num_steps:
            found.append(f"{where}: {len(record.tokens)} tokens emitted, but {record.num_accepted} accepted in {record.num_steps} steps")
        if record.after_eos:
            found.append(f"{where}: {record.after_eos} tokens were emitted after an EOS")
    low = (result["speedup_interval"] or [result["speedup"]])[0]
    if low > result["tokens_per_step"]:
        bound = result["tokens_per_step"]
        found.append(f"speedup {result['speedup']:.2f} (at least {low:.2f}) exceeds tokens per step {bound:.2f}: the baseline is too slow")
    return found


def unexplained(divergences: Iterable[dict[str, Any]], dtype: str) -> list[str]:
    """Divergences from greedy decoding that rounding does not excuse."""
    epsilon = torch.finfo(getattr(torch, dtype)).eps
    return [
        f"prompt {item['prompt']}: leaves greedy decoding at token {item['index']} where the margin is {item['margin']:.3g}, too wide for rounding"
        for item in divergences
        if item["margin"] > NEAR_TIE_ULPS * epsilon * max(1.0, abs(item["logit"]))
    ]


def doubts(result: dict[str, Any], provenance: dict[str, Any]) -> list[str]:
    """Reasons to read the numbers with care."""
    found = []
    loads = [provenance.get(name) for name in ("load_average_before", "load_average_after")]
    busiest, cores = max((load for load in loads if load is not None), default=0.0), provenance.get("cpu_count") or 1
    if provenance["device"] == "cpu" and busiest > max(BUSY * cores, provenance["threads"] + BUSY):
        found.append(f"the machine was busy (load average {busiest:.2f} on {cores} cores): clocks may be off, counts are not")
    if result["loops"]:
        found.append(f"{result['loops']} of {result['num_prompts']} answers end in a loop, which flatters every method that copies")
    if result["speedup_interval"] is None:
        found.append("fewer than two batches of prompts: the speedup has no interval")
    if result["divergences"]:
        found.append(f"{len(result['divergences'])} of {result['num_prompts']} answers differ from plain greedy decoding; see divergences")
    return found


def labels(config: dict[str, Any]) -> dict[str, str]:
    """Short names of a run's parts, as the command line gives them."""
    temperature = config["sampling"].get("temperature", 1.0)
    return {
        "target": str(config["target"].get("name")).rstrip("/").split("/")[-1] if config["target"].get("name") != "embedded/target" else "embedded",
        "drafter": _stem(config["drafter"]),
        "verifier": _stem(config["verifier"]),
        "data": str(config["data"].get("name") or config["data"].get("path") or "embedded").rstrip("/").split("/")[-1],
        "sampling": "greedy" if temperature == 0 else f"T={temperature:g}",
    }


def _stem(part: dict[str, Any]) -> str:
    return part["_target_"].split(".")[-2]


def to_json(summary: dict[str, Any]) -> str:
    return json.dumps(summary, indent=2) + "\n"
