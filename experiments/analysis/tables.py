"""Summaries as rows of tables: one run, or several side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.analysis.measured import DEFAULTS, extra_columns, head, incomparable, part_labels
from experiments.analysis.terminal import Row, alarm, number, percent, render
from experiments.recording.folder import failures
from experiments.recording.identity import VOLATILE
from experiments.recording.proofs.proof import PEER, mark_of, reason_of
from spec.auto import is_auto

PARTS = ("target", "data", "drafter", "verifier", "sampling")
KNOBS = ("drafter", "verifier", "sampling")


def print_comparison(summaries: list[dict[str, Any]], *, markdown: bool = False) -> None:
    """What was measured, the table, whether its runs can be compared, and what its marks of proof mean, each once."""
    print(head(summaries) + "\n" * markdown)
    render(comparison_rows(summaries), markdown=markdown)
    if peers := peers_of_all(summaries):
        print("\npeers in the same runs, prompts included:" + "\n" * markdown)
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
    interval = summary["speedup_interval"]
    return {
        "prompts": str(summary["num_prompts"]),
        "tokens/step": number(summary["tokens_per_step"]),
        "accepted": percent(summary["acceptance_rate"]),
        "repetition": percent(summary["repetition"]),
        "tokens/s": number(summary["tokens_per_second"], 1),
        "baseline": number(summary["baseline_tokens_per_second"], 1),
        "speedup": number(summary["speedup"]) + (f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else ""),
    }


def run_rows(summary: dict[str, Any]) -> list[Row]:
    """One row for the run and one for each of its categories."""
    rows = [{"category": "all", **rates(summary)}]
    categories = summary["by_category"]
    return rows + [{"category": name, **rates(figures)} for name, figures in categories.items() if len(categories) > 1]


def peer_rows(summary: dict[str, Any]) -> list[Row]:
    """One row for every peer; all of its times have the prompt in them, and so has the method's in the comparison."""
    rows = []
    for name, peer in (summary.get("peers") or {}).items():
        interval, sure = peer["speedup_with_prefill_interval"], peer["speedup_with_prefill_sign_p"]
        rows.append(
            {
                "peer": name,
                "tokens/step": number(peer["tokens_per_step"]),
                "tokens/s with prompt": number(peer["tokens_per_second_with_prefill"], 1),
                "the method is faster by": number(peer["speedup_with_prefill"]) + (f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else ""),
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
        row["time in draft/target/rest"] = " / ".join(
            percent(share / total) for share in (phases["draft"], phases["target"], total - phases["draft"] - phases["target"])
        )
        for name in dict.fromkeys(name for other in summaries for name in other.get("peers") or {}):
            row[f"over {name}"] = number((summary.get("peers") or {}).get(name, {}).get("speedup_with_prefill"))
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
    render(peer_rows(summary), title="beside it, prompts included:")
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
