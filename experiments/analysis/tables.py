"""Summaries as rows of tables: one run, or several side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.analysis.interval import MIN_UNITS
from experiments.analysis.measured import DEFAULTS, extra_columns, head, incomparable, part_labels
from experiments.analysis.terminal import Row, alarm, number, percent, ranged, render
from experiments.recording.folder import failures
from experiments.recording.identity import VOLATILE
from experiments.recording.proofs.proof import PEER, mark_of, reason_of
from experiments.recording.record import BASELINE
from spec.auto import is_auto

PARTS = ("target", "data", "drafter", "verifier", "sampling")
KNOBS = ("drafter", "verifier", "sampling")
LEGEND = (
    "end-to-end: from the prompt to the last token; decode-only: without the prompt's own forward. Speedup: over our own plain decoding by the same "
    "runtime; over fastest plain: over the fastest plain decoding in the run, peers included. Brackets: 95 % interval over the units, which are "
    f"prompts, or batches whose prompts share a clock; below {MIN_UNITS} units there is none."
)


def print_comparison(summaries: list[dict[str, Any]], *, markdown: bool = False) -> None:
    """What was measured, the table, whether its runs can be compared, and what its marks of proof mean, each once."""
    print(head(summaries) + "\n" * markdown)
    render(comparison_rows(summaries), markdown=markdown)
    print("\n" * markdown + LEGEND)
    if peers := peers_of_all(summaries):
        print("\npeers in the same runs, end to end:" + "\n" * markdown)
        render(peers, markdown=markdown)
    if doubt := incomparable(summaries):
        print("\n**Note:** " * markdown + doubt)
    notes = dict.fromkeys(f"{mark_of(summary)}: {reason_of(summary)}" for summary in summaries)
    print("\n" * markdown + "\n".join(f"{'- ' * markdown}proof {note}" for note in notes))


def print_failures(paths: list[Path]) -> None:
    """A line for every run that ended in an error, so that it is not missed in the table."""
    for line in failures(paths):
        print(f"failed: {line}")


def rates(summary: dict[str, Any]) -> Row:
    """The columns that every table has, in their order."""
    return {
        "prompts": str(summary["num_prompts"]),
        "units": str(summary.get("num_units") or "-") + seeds_of(summary),
        "tokens/step": number(summary["tokens_per_step"]),
        "accepted": percent(summary["acceptance_rate"]),
        "repetition": percent(summary["repetition"]),
        "end-to-end tokens/s": number(summary.get("tokens_per_second_with_prefill"), 1),
        "plain": number(summary.get("baseline_tokens_per_second_with_prefill"), 1),
        "end-to-end speedup": gain(summary, "speedup_with_prefill"),
        "over fastest plain": over_fastest(summary),
        "decode-only speedup": gain(summary, "speedup"),
    }


def gain(figures: dict[str, Any], name: str) -> str:
    """One of the gains of a summary with its interval, or why there is none."""
    return ranged(figures.get(name), figures.get(f"{name}_interval"), figures.get(f"{name}_units"))


def over_fastest(figures: dict[str, Any]) -> str:
    """The gain over the fastest plain decoding, and which it was: our own, for which the interval stands beside, or a peer's."""
    fastest = figures.get("fastest_plain")
    if fastest in (None, BASELINE):
        return number(figures.get("over_fastest_plain")) + (" (our own)" if fastest else "")
    return f"{gain(figures, 'over_fastest_plain')} ({fastest})"


def seeds_of(summary: dict[str, Any]) -> str:
    """How many seeds are pooled in every unit, where there are several."""
    seeds = summary.get("seeds") or []
    return f" of {len(seeds)} seeds" if len(seeds) > 1 else ""


def run_rows(summary: dict[str, Any]) -> list[Row]:
    """One row for the run and one for each of its categories."""
    rows = [{"category": "all", **rates(summary)}]
    seeds, categories = {"seeds": summary.get("seeds")}, summary["by_category"]
    return rows + [{"category": name, **rates(figures | seeds)} for name, figures in categories.items() if len(categories) > 1]


def peer_rows(summary: dict[str, Any]) -> list[Row]:
    """One row for every peer; all of its times are end to end, and so are the method's in the comparison."""
    rows = []
    for name, peer in (summary.get("peers") or {}).items():
        sure = peer["speedup_with_prefill_sign_p"]
        rows.append(
            {
                "peer": name,
                "tokens/step": number(peer["tokens_per_step"]),
                "end-to-end tokens/s": number(peer["tokens_per_second_with_prefill"], 1),
                "the method is faster by": gain(peer, "speedup_with_prefill"),
                "in": f"{peer['speedup_with_prefill_wins']} of {peer['num_units']}" + (f" (p = {sure:.2g})" if sure is not None else ""),
                "same as greedy": percent(peer["greedy_identical"]),
                "proof": PEER,
            }
        )
    return rows


def peers_of_all(summaries: Sequence[dict[str, Any]]) -> list[Row]:
    """A row for every peer of every run, behind what tells the runs apart."""
    return [row | peer for summary, row in zip(summaries, names(summaries), strict=True) for peer in peer_rows(summary)]


def comparison_rows(summaries: Sequence[dict[str, Any]]) -> list[Row]:
    """A row per run: the columns of `names`, rates, peers, checks, and the mark of proof."""
    rows = []
    for summary, row in zip(summaries, names(summaries), strict=True):
        phases, total = summary["seconds"], sum(summary["seconds"].values())
        row |= rates(summary)
        if any(map(chooses, summaries)):
            row["drafted/step"] = number(summary.get("drafted_per_step"))
        row["decode time in draft/target/rest"] = " / ".join(
            percent(share / total) for share in (phases["draft"], phases["target"], total - phases["draft"] - phases["target"])
        )
        for name in dict.fromkeys(name for other in summaries for name in other.get("peers") or {}):
            row[f"end-to-end over {name}"] = number((summary.get("peers") or {}).get(name, {}).get("speedup_with_prefill"))
        row["same as greedy"] = percent(summary["greedy_identical"])
        row["sound"] = ("yes" if summary["valid"] else "NO") + (" (stopped)" if summary["interrupted"] else "")
        row["proof"] = mark_of(summary)
        rows.append(row)
    return rows


def chooses(summary: dict[str, Any]) -> bool:
    """Whether the drafter of a run chooses its lengths itself, so that the settings do not say them."""
    return is_auto(summary["config"]["drafter"])


def names(summaries: Sequence[dict[str, Any]]) -> list[Row]:
    """What tells the runs apart, a row per run: the drafter, the parts and circumstances that are not the same in all runs, a column each.

    Settings in which runs of the same parts differ are added to the drafter.
    """
    targets, sets = (part_labels(summaries, part) for part in ("target", "data"))
    told = [summary["labels"] | {"target": target, "data": data} for summary, target, data in zip(summaries, targets, sets, strict=True)]
    shown = [part for part in PARTS if len({labels[part] for labels in told}) > 1 or part == "drafter"]
    rows = [{part: labels[part] for part in shown} for labels in told]
    extra = extra_columns(summaries)
    for place, (row, summary) in enumerate(zip(rows, summaries, strict=True)):
        rivals = [other for other, labels in zip(summaries, told, strict=True) if labels == told[place]]
        row["drafter"] += _differing_settings(summary, rivals)
        row |= {fact.name: fact.values[place] or "-" for fact in extra}
    return rows


def print_run(summary: dict[str, Any], folder: Path) -> None:
    """All that is shown of a run when it ends; what makes it invalid stands last, in red on a terminal."""
    render(run_rows(summary), title=describe(summary))
    print(LEGEND)
    render(peer_rows(summary), title="beside it, end to end:")
    print("\n".join([*footnotes(summary), f"results in {folder}"]), flush=True)
    for text in summary.get("errors", []):
        alarm(f"INVALID: {text}")


def describe(summary: dict[str, Any]) -> str:
    """The line above a run's table."""
    return f"drafter {summary['labels']['drafter']}; {head([summary])}"


def footnotes(summary: dict[str, Any]) -> list[str]:
    """What must be read with the table: how far the clock can be explained, and every warning."""
    phases, total = summary["seconds"], sum(summary["seconds"].values())
    clocks = ", ".join(f"{phase} {percent(spent / total)}" for phase, spent in phases.items())
    notes = [f"decode time of the method: {clocks}"]
    if chooses(summary):
        notes.append(f"chosen: {number(summary.get('drafted_per_step'))} tokens drafted per step; costs.json holds what steps cost here")
    if summary["acceptance_by_position"]:
        notes.append("accepted by position: " + " ".join(f"{share:.2f}" for share in summary["acceptance_by_position"]))
    if summary["greedy_identical"] is not None:
        notes.append(f"same as plain greedy decoding: {percent(summary['greedy_identical'])} of the answers")
    notes.append(f"proof: {mark_of(summary)}: {reason_of(summary)}")
    return notes + [f"warning: {text}" for text in summary["warnings"] if text not in summary.get("errors", [])]


def _differing_settings(summary: dict[str, Any], rivals: Sequence[dict[str, Any]]) -> str:
    """The settings in which a run differs from others of the same parts, without those that have a column."""
    notes = []
    for group in KNOBS:
        for key, value in summary["config"][group].items():
            if (group, key) != ("sampling", "seed") and any(other["config"][group].get(key) != value for other in rivals):
                notes.append(f"{key}={value}")
    for key, value in summary["config"].items():
        said = key in (*VOLATILE, *DEFAULTS, "seed", "threads") or isinstance(value, dict)
        if not said and any(other["config"].get(key) != value for other in rivals):
            notes.append(f"{key}={value}")
    return f" ({', '.join(dict.fromkeys(notes))})" if notes else ""
