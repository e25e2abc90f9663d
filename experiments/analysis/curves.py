"""What the figures show, worked out from frames: acceptance by position, time by phase, curves over draft length and batch size, with theory."""

# pandas' own annotations allow a Series or an array wherever a frame is indexed:
# pyright: reportCallIssue=false, reportArgumentType=false, reportAttributeAccessIssue=false, reportGeneralTypeIssues=false, reportReturnType=false

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from experiments.analysis.frames import ALL, Runs, by_prompt
from experiments.analysis.interval import ratio_interval, share_interval
from experiments.analysis.theory import expected_tokens, step_compression, walltime_gain
from spec.stats import PHASES

METHOD, JUDGING = "method", ("tested", "kept")
CLOCKS = (*PHASES, "other")


def acceptance_by_position(records: pd.DataFrame) -> pd.DataFrame:
    """Columns method, position (1 is the first draft token), judged, accepted, rate, low, high.

    The rate is conditional: of the steps that accepted everything before, those that accepted this one. Intervals: 95 %, over the prompts that have
    such steps, see `interval.share_interval`.
    """
    rows = []
    judging = _own(records).dropna(subset=["tested"]) if "tested" in records else pd.DataFrame({"method": []})  # imported results do not record it
    for name, held in judging.groupby("method", sort=False):
        depth = max(map(len, held["tested"]), default=0)
        for place in range(depth):
            counts = held[["prompt"]].assign(**{column: [row[place] if len(row) > place else 0 for row in held[column]] for column in JUDGING})
            tested, kept = by_prompt(counts if "turn" not in held else counts.assign(turn=held["turn"]), list(JUDGING))
            judged, accepted = int(tested.sum()), int(kept.sum())
            low, high = share_interval(kept[tested > 0], tested[tested > 0]) or (None, None)
            rate = accepted / judged if judged else None
            rows.append({"method": name, "position": place + 1, "judged": judged, "accepted": accepted, "rate": rate, "low": low, "high": high})
    return pd.DataFrame(rows)


def accepted_lengths(steps: pd.DataFrame) -> pd.DataFrame:
    """Columns method, accepted, steps, share: how many steps accepted how many draft tokens; the bonus is not counted."""
    own = _own(steps)
    if not len(own):
        return pd.DataFrame()
    counts = own.groupby(["method", "accepted"], sort=False).size().rename("steps").reset_index()
    return counts.assign(share=counts["steps"] / counts.groupby("method")["steps"].transform("sum"))


def phase_times(summaries: pd.DataFrame) -> pd.DataFrame:
    """Columns method, phase, milliseconds (per emitted token, decode-only) and relative (plain decoding of the same run = 1)."""
    rows = []
    for run in summaries.to_dict("records"):
        for phase in CLOCKS:
            seconds = run.get(f"{phase}_seconds")
            if seconds is not None and not pd.isna(seconds):
                each = seconds / run["num_tokens"]
                relative = each * run["baseline_tokens_per_second"]
                rows.append({"method": run["method"], "phase": phase, "milliseconds": 1000 * each, "relative": relative})
    return pd.DataFrame(rows)


def gamma_curves(runs: Runs) -> pd.DataFrame:
    """A row per run with a draft length, where a curve has at least two: curve, draft_tokens, tokens_per_step and speedup with low and high.

    The speedup is decode-only, as the theory's is.

    `curve` names what the runs share; the columns theory_tokens and theory_speedup say what one acceptance for all positions would give.
    """
    if "draft_tokens" not in runs.summaries:
        return pd.DataFrame()
    held = runs.summaries[runs.summaries["draft_tokens"].notna()]
    limits = runs.categories[runs.categories["category"] == ALL].set_index("method")
    found = []
    for (drafter, sampling, size), group in held.groupby(["drafter", "sampling", "batch_size"], sort=False):
        if group["draft_tokens"].nunique() < 2:
            continue
        curve = f"{drafter} · {sampling}" + (f" · batch {size}" if held["batch_size"].nunique() > 1 else "")
        group = group.sort_values("draft_tokens")
        bounds = {name: limits.loc[group["method"], name].to_numpy() for name in ("tokens_per_step_low", "tokens_per_step_high")}
        found.append(group.assign(curve=curve, **bounds, **theory(group, runs)))
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def theory(group: pd.DataFrame, runs: Runs) -> dict[str, list[float]]:
    """Tokens per step if every drafted token were accepted with the same probability, and the speedup at the measured price of a step.

    Acceptance and the share of steps that draft at all are pooled over the curve. 2211.17192, equation (1); 2402.02057, section 4.
    """
    records, steps = (_own(frame) for frame in (runs.records, runs.steps))
    records, steps = (frame[frame["method"].isin(group["method"])] if len(frame) else frame for frame in (records, steps))
    judged = sum(map(sum, records["tested"])) if len(records) else 0
    drafting = float((steps["depth"] > 0).mean()) if len(steps) else 0.0
    if not judged or not drafting:
        return {"theory_tokens": [float("nan")] * len(group), "theory_speedup": [float("nan")] * len(group)}
    acceptance = sum(map(sum, records["kept"])) / judged
    tokens = np.array([step_compression(expected_tokens(acceptance, int(length)), 1 / drafting) for length in group["draft_tokens"]])
    price = (group["tokens_per_step"] / group["speedup"]).to_numpy(float)  # of a step, in steps of plain decoding
    return {"theory_tokens": tokens.tolist(), "theory_speedup": (tokens / price).tolist()}


def throughput(runs: Runs) -> pd.DataFrame:
    """Columns curve, batch_size, role, tokens_per_second, low, high, where a method was run at two batch sizes or more.

    Tokens of the whole batch per second, decode-only; intervals are over batches.
    """
    if "drafter" not in runs.summaries or not len(runs.records):
        return pd.DataFrame()
    rows = []
    for (drafter, sampling, length), group in runs.summaries.dropna(subset=["drafter"]).groupby(
        ["drafter", "sampling", "draft_tokens"], sort=False, dropna=False
    ):
        if group["batch_size"].nunique() < 2:
            continue
        curve = f"{drafter} · {sampling}" + (f" · {length:g} drafted" if runs.summaries["draft_tokens"].nunique() > 1 and not pd.isna(length) else "")
        for run in group.sort_values("batch_size").to_dict("records"):
            for role in (METHOD, "baseline"):
                rows.append({"curve": curve, "batch_size": run["batch_size"], "role": role} | _rate(runs.records, run["method"], role))
    return pd.DataFrame(rows)


def _rate(records: pd.DataFrame, method: str, role: str) -> dict[str, Any]:
    held = records[(records["method"] == method) & (records["role"] == role)]
    units = pd.DataFrame({"batch": held["batch"], "tokens": held["num_tokens"], "seconds": held["seconds"].map(lambda clock: sum(clock.values()))})
    columns = units.groupby("batch")[["tokens", "seconds"]].sum().to_numpy(float).T
    limits, (tokens, seconds) = ratio_interval(columns), columns.sum(1)
    return {"tokens_per_second": float(tokens / seconds), "low": limits and limits[0], "high": limits and limits[1]}


def _own(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of the method itself."""
    return frame[frame["role"] == METHOD] if len(frame) else frame


def against_peers(runs: Runs) -> pd.DataFrame:
    """Columns method, category (over which peer), speedup of the method over it with low and high.

    End to end, since a peer's clock has the prompt in it; plain decoding by our own loop stands beside the peers.
    """
    rows = []
    for name, document in zip(runs.methods, runs.documents, strict=False):
        peers = document.get("peers") or {}
        rows += [{"method": name, "category": f"over {peer}", **_gain(figures)} for peer, figures in peers.items()]
        if peers:
            rows.append({"method": name, "category": "over our plain loop", **_gain(document)})
    return pd.DataFrame(rows)


def draft_price(summaries: pd.DataFrame) -> pd.Series:
    """Seconds of one drafted token over those of one step of plain decoding, by method, for the runs that have a draft length."""
    held = summaries.dropna(subset=["draft_tokens"]).set_index("method")
    return held["draft_seconds"] / held["num_steps"] / held["draft_tokens"] * held["baseline_tokens_per_second"]


def gains(summaries: pd.DataFrame) -> pd.DataFrame:
    """Columns method, tokens_per_step, speedup, possible, made, lost: what acceptance would gain if only forwards cost time, and what was gained.

    Decode-only, since only then tokens per step bound the speedup.
    Gains are in times plain decoding: possible = tokens per step - 1, made = speedup - 1, lost = 1 - made / possible. More than all of it is lost
    where a method is slower than plain decoding. NaN where nothing was to be gained.
    """
    held = summaries[["method", "tokens_per_step", "speedup"]].copy()
    held["possible"], held["made"] = held["tokens_per_step"] - 1, held["speedup"] - 1
    held["lost"] = 1 - held["made"] / held["possible"].where(held["possible"] > 0)
    return held


def expected_gain(acceptances: Sequence[float], draft_cost: float, longest: int = 10) -> pd.DataFrame:
    """Columns acceptance, draft_tokens, speedup: 2211.17192, theorem 3.8, verification free, `draft_cost` in steps of plain decoding."""
    cells = [(acceptance, length) for acceptance in acceptances for length in range(longest + 1)]
    rows = [{"acceptance": share, "draft_tokens": length, "speedup": walltime_gain(share, length, draft_cost)} for share, length in cells]
    return pd.DataFrame(rows)


def _gain(figures: dict[str, Any]) -> dict[str, Any]:
    low, high = figures.get("speedup_with_prefill_interval") or (None, None)
    return {"speedup": figures["speedup_with_prefill"], "speedup_low": low, "speedup_high": high}


def differing_settings(documents: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """A row per run, a column per setting that is not the same in all of them, as text."""
    table = pd.DataFrame([pd.json_normalize(document["config"]).iloc[0].map(str).to_dict() for document in documents]).fillna("-")
    return table.loc[:, table.nunique() > 1]
