"""From records to `summary.json`: rates, speedup with its interval, and whether the numbers can be right.

Terms are those of `spec/stats.py`: acceptance rate = accepted / drafted; accepted per step leaves the bonus out; tokens per step counts it.
Everything is computed from `records.jsonl`, so a resumed or interrupted run is summed up like any other.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.analysis.divergence import unexplained
from experiments.analysis.interval import MIN_UNITS
from experiments.analysis.repetition import NGRAM
from experiments.analysis.speedup import faster, figures_of, per_token
from experiments.recording.naming import method_name
from experiments.recording.proofs.proof import Proof, without_verdict
from experiments.recording.record import BASELINE, Pair, Record
from spec.stats import PHASES

DISPROVED = "failed its proof"
WARM = (
    "decoded again at the end, the first prompts are drafted otherwise: the drafter carries something from prompt to prompt, so every prompt's "
    "figures depend on those before it; empty it in `reset`, or declare it with `traits = Traits(keeps_state=True)`"
)
CLOCKS_WOBBLE = 1.05  # factor by which a speedup's interval may exceed its bound by chance, as that of plain decoding against itself may
BUSY = 0.75  # load per core above which clocks are not to be trusted
LOUD = math.log(1e6)  # an exact verifier's bets win this much once in a million runs


def summarise(
    pairs: Sequence[Pair],
    config: dict[str, Any],
    provenance: dict[str, Any],
    *,
    exact: bool,
    interrupted: bool = False,
    drafts_repeat: bool | None = None,
    keeps_state: bool = False,
    proof: Proof | None = None,
    bets: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The whole summary of a run. `pairs` must not be empty; `config` is the resolved configuration, `exact` the verifier's own word.

    `drafts_repeat`: whether the first prompts were drafted the same again at the end (None: not asked); `keeps_state` the drafter's own word;
    `proof`: the battery's verdict, without which the summary does not call a run exact; `bets`: what the run's own texts say (`self_test.figures`).
    """
    result = figures_of_run(pairs, config)
    proof = proof or without_verdict("nobody has looked for a verdict", exact)
    result["drafts_repeat"] = drafts_repeat
    errors = impossible(pairs, result) + (unexplained(result["divergences"], provenance["dtype"]) if exact else [])
    if drafts_repeat is False and not keeps_state:
        errors.append(WARM)
    if exact and (reason := refuted(bets)):
        errors.append(reason)
    result["bets"] = bets
    result["valid"], result["interrupted"], result["errors"] = not errors, interrupted, errors
    result["warnings"] = errors + doubts(result, provenance)
    return with_proof(result | {"labels": labels(config), "provenance": provenance, "config": config}, proof)


def figures_of_run(pairs: Sequence[Pair], config: dict[str, Any]) -> dict[str, Any]:
    """All that follows from the records alone: the figures of the whole run, of every category and group, and where greedy answers part."""
    result = figures(pairs)
    result["baseline_repetition"] = repetition([pair.baseline for pair in pairs])
    result["baseline_loops"] = sum(pair.baseline.loops for pair in pairs)
    result |= greedy_identity(pairs) if config["sampling"].get("temperature") == 0 else {"greedy_identical": None, "divergences": []}
    result["by_category"] = {
        category: figures([pair for pair in pairs if pair.method.category == category])
        for category in sorted({pair.method.category for pair in pairs})
    }
    groups = grouping(config["data"])
    result["by_group"] = {
        group: figures([pair for pair in pairs if groups.get(pair.method.category) == group])
        for group in sorted({groups[pair.method.category] for pair in pairs if pair.method.category in groups})
    }
    return result


def with_proof(summary: dict[str, Any], proof: Proof) -> dict[str, Any]:
    """The summary with another proof, and with what follows from it: `exact`, and that a run is invalid whose proof failed."""
    old = [text for text in summary["errors"] if not text.startswith(DISPROVED)]
    errors = old + ([f"{DISPROVED}: {proof.reason} ({proof.file})"] if proof.disproved else [])
    warnings = [text for text in summary["warnings"] if not text.startswith(DISPROVED)]
    told = {"claims_exact": proof.claims_exact, "exact": proof.exact, "proof": proof.to_json()}
    return summary | told | {"valid": not errors, "errors": errors, "warnings": errors[len(old) :] + warnings}


def figures(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Rates and gains of some prompts; also used for each category alone. What is end to end says `with_prefill`, other times are decode-only."""
    methods, baselines = [pair.method for pair in pairs], [pair.baseline for pair in pairs]
    tokens, steps = sum(len(record.tokens) for record in methods), sum(record.num_steps for record in methods)
    drafted, accepted = sum(record.num_drafted for record in methods), sum(record.num_accepted for record in methods)
    gain, whole = faster(baselines, methods), faster(baselines, methods, end_to_end=True)
    return {
        "num_prompts": len({record.prompt for record in methods}),
        "num_tokens": tokens,
        "num_steps": steps,
        "tokens_per_step": tokens / steps,
        "accepted_per_step": accepted / steps,
        "drafted_per_step": drafted / steps,
        "acceptance_rate": accepted / drafted if drafted else None,
        "acceptance_by_position": by_position(methods),
        "repetition": repetition(methods),
        "loops": sum(record.loops for record in methods),
        "tokens_per_second": tokens / sum(record.decode_seconds for record in methods),
        "baseline_tokens_per_second": sum(len(record.tokens) for record in baselines) / sum(record.decode_seconds for record in baselines),
        "tokens_per_second_with_prefill": 1 / per_token(methods),
        "baseline_tokens_per_second_with_prefill": 1 / per_token(baselines),
        "num_units": gain.units,
        **figures_of(gain, "speedup"),
        **figures_of(whole, "speedup_with_prefill"),
        **over_fastest_plain(pairs),
        "process_speedup": process_speedup(baselines, methods),
        "seconds": seconds(methods),
        "baseline_seconds": seconds(baselines),
        "peers": {name: against_peer(pairs, name) for name in pairs[0].peers},
    }


def over_fastest_plain(pairs: Sequence[Pair]) -> dict[str, Any]:
    """What a user gains: the method over the fastest plain decoding of the run, end to end; `fastest_plain` names it, "baseline" or a peer."""
    ways = {BASELINE: [pair.baseline for pair in pairs]} | {name: [pair.peers[name] for pair in pairs] for name in pairs[0].peers}
    plain = {name: records for name, records in ways.items() if all(record.num_steps == len(record.tokens) for record in records)}
    fastest = min(plain, key=lambda name: per_token(plain[name]), default=BASELINE)
    gain = faster(ways[fastest], [pair.method for pair in pairs], end_to_end=True)
    return {"fastest_plain": fastest, **figures_of(gain, "over_fastest_plain")}


def against_peer(pairs: Sequence[Pair], name: str) -> dict[str, Any]:
    """What a peer did on these prompts, and how much faster the method is. A peer's clock has the prompt in it, so end to end is compared."""
    peers, methods = [pair.peers[name] for pair in pairs], [pair.method for pair in pairs]
    tokens, steps = sum(len(record.tokens) for record in peers), sum(record.num_steps for record in peers)
    gain = faster(peers, methods, end_to_end=True)
    parted = [pair for pair in pairs if pair.peers[name].divergence is not None]
    same = [pair for pair in pairs if pair.peers[name].tokens == pair.baseline.tokens]
    return {
        "num_tokens": tokens,
        "num_steps": steps,
        "tokens_per_step": tokens / steps,
        "tokens_per_second_with_prefill": tokens / sum(record.end_to_end_seconds for record in peers),
        "num_units": gain.units,
        **figures_of(gain, "speedup_with_prefill"),
        "baseline_speedup_with_prefill": per_token(peers) / per_token([pair.baseline for pair in pairs]),
        "process_speedup": process_speedup(peers, methods),
        "greedy_identical": len(same) / len(pairs) if parted or len(same) == len(pairs) else None,
    }


def process_speedup(reference: Sequence[Record], measured: Sequence[Record]) -> float | None:
    """The speedup with prefill, in processor time instead of wall clock; None where that was not recorded."""
    spent = [[record.process_seconds for record in records if record.process_seconds is not None] for records in (reference, measured)]
    if len(spent[0]) < len(reference) or len(spent[1]) < len(measured) or not sum(spent[1]):
        return None
    tokens = [sum(len(record.tokens) for record in records) for records in (reference, measured)]
    return (sum(spent[0]) / tokens[0]) / (sum(spent[1]) / tokens[1])


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
    """Numbers that are impossible, whatever was measured: each means a bug of ours."""
    found = []
    for record in (record for pair in pairs for record in pair.records):
        where = f"prompt {record.prompt} ({record.role})"
        if len(record.tokens) != record.num_accepted + record.num_steps:
            found.append(f"{where}: {len(record.tokens)} tokens emitted, but {record.num_accepted} accepted in {record.num_steps} steps")
        if record.after_eos:
            found.append(f"{where}: {record.after_eos} tokens were emitted after an EOS")
    if result["speedup_interval"] is not None and beyond(result["speedup_interval"][0], result):
        found.append(f"speedup {result['speedup']:.2f} (at least {result['speedup_interval'][0]:.2f}) {too_slow(result)}")
    return found


def beyond(speedup: float, result: dict[str, Any]) -> bool:
    """Whether a speedup is larger than the tokens per step allow: a step costs at least as much as one of plain decoding."""
    return speedup > CLOCKS_WOBBLE * result["tokens_per_step"]


def too_slow(result: dict[str, Any]) -> str:
    return f"exceeds tokens per step {result['tokens_per_step']:.2f}: the baseline is too slow"


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
        units = result["num_units"]
        found.append(f"{units} independent unit{'s' * (units != 1)} (prompts or batches): no interval, which takes {MIN_UNITS}; run more prompts")
        if beyond(result["speedup"], result):
            found.append(f"speedup {result['speedup']:.2f} {too_slow(result)}, or the machine was busy; run more prompts")
    if result["drafts_repeat"] is False and not result["errors"]:
        found.append("the drafter carries state from prompt to prompt and says so: a prompt's figures depend on those before it")
    for name, peer in result["peers"].items():
        if peer["greedy_identical"] is not None and peer["greedy_identical"] < 1:
            found.append(f"{1 - peer['greedy_identical']:.0%} of the answers of the peer {name} differ from our plain greedy decoding")
    if result["divergences"]:
        found.append(f"{len(result['divergences'])} of {result['num_prompts']} answers differ from plain greedy decoding; see divergences")
    return found


def labels(config: dict[str, Any]) -> dict[str, str]:
    """Short names of a run's parts, as the command line gives them."""
    temperature = config["sampling"].get("temperature", 1.0)
    return {
        "target": str(config["target"].get("name")).rstrip("/").split("/")[-1] if config["target"].get("name") != "embedded/target" else "embedded",
        "drafter": method_name(config["drafter"]),
        "verifier": method_name(config["verifier"]),
        "data": str(next((config["data"][key] for key in ("name", "label", "path") if config["data"].get(key)), "embedded"))
        .rstrip("/")
        .split("/")[-1],
        "sampling": "greedy" if temperature == 0 else f"T={temperature:g}",
    }


def to_json(summary: dict[str, Any]) -> str:
    return json.dumps(summary, indent=2) + "\n"


def grouping(settings: Mapping[str, Any]) -> dict[str, str]:
    """Category -> group, for the categories that the data settings of a run group: Spec-Bench's eight categories of MT-Bench are one task."""
    return {category: group for group, members in (settings.get("groups") or {}).items() for category in members}


def refuted(found: dict[str, Any] | None) -> str | None:
    """Why a run of a verifier that claims to be exact cannot be right by its own texts; None if nothing speaks against it."""
    if found is None or found["p_value"] > math.exp(-LOUD):
        return None
    about = f"bets on {found['tokens']} emitted tokens won more than a million times their stake ({found['won_most_by']})"
    return f"the texts do not follow the target's distribution: {about}; draftproof lossless looks closer"
