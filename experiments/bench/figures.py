"""From runs to figures: milliseconds per token, ratios to every peer, where the time went, and how close it came to the memory bandwidth."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from experiments.analysis.divergence import unexplained
from experiments.analysis.speedup import Comparison, Timed, compare
from experiments.analysis.terminal import ranged
from experiments.bench.interleaved import Rounds, Run
from experiments.bench.traffic import Footprint, bytes_per_token
from experiments.parts.peers.greedy import GreedyCheck
from experiments.parts.roles import Loop, Role

Way = dict[str, Any]  # the figures of one way, as they are recorded
PLAIN = "none"  # our own plain decoding
OTHERS_PLAIN = ("bare loop", "generate", "generate, static and compiled", "openvino", "ctranslate2")  # others' decoding without drafts


def by_prompt(runs: Sequence[Run], number: Callable[[Run], float]) -> np.ndarray:
    """The median over rounds of a number, for every prompt in order."""
    prompts = sorted({run.prompt for run in runs})
    return np.array([np.median([number(run) for run in runs if run.prompt == prompt]) for prompt in prompts])


def whole(runs: Sequence[Run]) -> Timed:
    """Seconds and tokens of every prompt, its own forward included: what a user waits for, counted the same for all roles."""
    return Timed(by_prompt(runs, lambda run: run.spent.seconds), by_prompt(runs, lambda run: len(run.answer.tokens)))


def figures(role: Role, rounds: Rounds, prompt_lengths: Sequence[int], prints: dict[str, Footprint], bandwidth: float) -> dict[str, Any]:
    """All figures of one role but its ratios; `prints`: what a forward of "target" and "drafter" reads, `bandwidth` in bytes per second."""
    runs = rounds.runs[role.name]
    timed = whole(runs)
    per_token = timed.seconds / timed.tokens
    process = by_prompt(runs, lambda run: run.spent.process_seconds)
    found: dict[str, Any] = {
        "way": role.name,
        "ours": isinstance(role, Loop),
        "note": role.note,
        "runtime": role.runtime,
        "ms_per_token": 1000 * float(np.median(per_token)),
        "tokens_per_second": float(timed.tokens.sum() / timed.seconds.sum()),
        "process_ms_per_token": 1000 * float(np.median(process / timed.tokens)),
        "seconds_by_prompt": timed.seconds.tolist(),
        "tokens_by_prompt": timed.tokens.tolist(),
        "tokens_per_forward": rate(runs),
        "outside_forwards": outside(runs) if role.sites else None,
        "outside_forwards_of_steps": outside_of_steps(runs) if role.sites and role.steps_apart else None,
        "warmup_seconds": rounds.warmup_seconds[role.name],
        "load_check_seconds": role.load_check_seconds,
    }
    return found | decoding(role, runs, prompt_lengths, prints, bandwidth) | phases(runs)


def rate(runs: Sequence[Run]) -> float:
    """Tokens per forward of the target after the prompt's own; 1 for plain decoding. Assisted peers check a draft in that one: it counts."""
    ours = runs[0].answer.stats is not None
    forwards = sum(run.decode_forwards for run in runs)
    if ours or forwards == sum(run.decode_tokens for run in runs):
        return sum(run.decode_tokens for run in runs) / max(forwards, 1)
    return sum(len(run.answer.tokens) for run in runs) / (forwards + len(runs))


def outside(runs: Sequence[Run]) -> float:
    """The median share of a run that is spent outside the forwards of target and drafter."""
    return float(np.median([1 - run.spent.forward_seconds() / run.spent.seconds for run in runs]))


def outside_of_steps(runs: Sequence[Run]) -> float:
    """The same without the prompt's forwards, one of the target and one of the drafter: they are so long that they would hide the other costs."""
    shares = []
    for run in runs:
        target, drafter = ([seconds for role, seconds in run.spent.forwards if role == wanted] for wanted in ("target", "drafter"))
        inside = sum(target[len(target) - run.decode_forwards :]) + sum(drafter[1:])
        shares.append(1 - inside / (run.decode_seconds or run.spent.seconds))
    return float(np.median(shares))


def decoding(role: Role, runs: Sequence[Run], lengths: Sequence[int], prints: dict[str, Footprint], bandwidth: float) -> dict[str, Any]:
    """Figures after the prompt's own forward: milliseconds and bytes per token, and which share of that time moving the bytes must take.

    None where they cannot be told: assisted peers check a draft in their first forward, and unwatched forwards are not counted.
    """
    found: dict[str, Any] = {"decode_ms_per_token": None, "bytes_per_token": None, "of_bandwidth": None}
    if any(run.decode_seconds is None for run in runs) or not role.steps_apart:
        return found
    seconds = by_prompt(runs, lambda run: (run.decode_seconds or 0.0) / run.decode_tokens)
    found["decode_ms_per_token"] = 1000 * float(np.median(seconds))
    moved = by_prompt(runs, lambda run: moved_per_token(run, lengths[run.prompt], prints))
    return found | {"bytes_per_token": float(np.median(moved)), "of_bandwidth": float(np.median(moved / bandwidth / seconds))}


def moved_per_token(run: Run, prompt_tokens: int, prints: dict[str, Footprint]) -> float:
    """Bytes that the forwards of one run read per token."""
    moved = bytes_per_token(prints["target"], run.decode_forwards, prompt_tokens, run.decode_tokens)
    if behind_prompt := max(run.spent.num_forwards("drafter") - 1, 0):
        moved += bytes_per_token(prints["drafter"], behind_prompt, prompt_tokens, run.decode_tokens)
    return moved


def phases(runs: Sequence[Run]) -> dict[str, Any]:
    """Milliseconds per token by phase of our loop, `prefill` included; over all runs."""
    kept = [(run.answer.stats, len(run.answer.tokens)) for run in runs if run.answer.stats is not None]
    if not kept:
        return {}
    tokens = sum(count for _, count in kept)
    sums: dict[str, float] = {"prefill": 0.0}
    for stats, _ in kept:
        sums["prefill"] += stats.prefill_seconds
        for phase, seconds in stats.seconds.items():
            sums[phase] = sums.get(phase, 0.0) + seconds
    drafted = sum(stats.num_drafted for stats, _ in kept)
    accepted = sum(stats.num_accepted for stats, _ in kept)
    return {
        "phase_ms_per_token": {phase: 1000 * seconds / tokens for phase, seconds in sums.items()},
        "acceptance_rate": accepted / drafted if drafted else None,
    }


def against(way: Way, other: Way) -> Comparison:
    """How many times as fast as another way a way is, end to end: seconds per token of the other over its own, paired by prompt."""
    return compare(*(Timed(np.array(each["seconds_by_prompt"]), np.array(each["tokens_by_prompt"])) for each in (other, way)))


def own_plain(ways: Sequence[Way], way: Way) -> Way | None:
    """Our own plain decoding under the runtime of one of our ways; None for others' ways, and where it was not timed."""
    runtime = way["way"].split(",")[1:]
    return next((each for each in ways if each["ours"] and way["ours"] and each["way"].split(",") == [PLAIN, *runtime]), None)


def fastest_plain(ways: Sequence[Way]) -> Way | None:
    """The fastest plain decoding of all, ours under any runtime and others'; None where no plain decoding was timed."""
    plain = [way for way in ways if (way["way"].split(",")[0] == PLAIN if way["ours"] else way["way"] in OTHERS_PLAIN)]
    return max(plain, key=lambda way: way["tokens_per_second"], default=None)


def gains(ways: Sequence[Way], way: Way) -> dict[str, Any]:
    """Both gains of a way: what speculation gains, over our own plain decoding by the same runtime, and what a user gains, over the fastest one.

    None over itself.
    """
    own, fastest = own_plain(ways, way), fastest_plain(ways)
    return {
        "over_own_plain": None if own in (None, way) else asdict(against(way, own)),
        "over_fastest_plain": None if fastest in (None, way) else asdict(against(way, fastest)),
        "fastest_plain": None if fastest is None else fastest["way"],
    }


def ratios(way: Way, ways: Sequence[Way]) -> dict[str, dict[str, Any]]:
    """How many times as fast as each way of others a way is."""
    return {peer["way"]: asdict(against(way, peer)) for peer in ways if not peer["ours"] and peer["way"] != way["way"]}


def describe(ratio: dict[str, Any] | Comparison | None) -> str:
    """A ratio and its interval, for tables. Intervals of earlier versions, which do not name their units, are left out: they covered too little."""
    if ratio is None:
        return "-"
    found = asdict(ratio) if isinstance(ratio, Comparison) else ratio
    return ranged(found["ratio"], found["interval"] if found.get("units") else None, found.get("units"))


def identity(check: GreedyCheck, runs: Sequence[Run], dtype: str) -> dict[str, Any]:
    """How many prompts of a greedy role came out as `generate`'s, and how many that did not cannot be explained by rounding."""
    answers = {run.prompt: run.answer.tokens for run in runs}
    parted = check.divergences(answers)
    return {"identical": len(answers) - len(parted), "compared": len(answers), "unexplained": len(unexplained(parted, dtype))}
