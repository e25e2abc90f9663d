"""Summaries as tables: one run, or several side by side; for a terminal, for a log, or as Markdown."""

import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

Row = dict[str, str]
PARTS = ("target", "data", "drafter", "verifier", "sampling")
KNOBS = ("drafter", "verifier", "sampling")


def number(value: float | None, digits: int = 2, unit: str = "") -> str:
    return "-" if value is None else f"{value:.{digits}f}{unit}"


def percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"


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


def comparison_rows(summaries: Sequence[dict[str, Any]]) -> list[Row]:
    """A row per run; parts that are the same in all runs are left out, settings in which runs with the same parts differ are added to the name."""
    named = [name for name in PARTS if len({summary["labels"][name] for summary in summaries}) > 1 or name == "drafter"]
    rows = []
    for summary in summaries:
        row = {name: summary["labels"][name] for name in named}
        row["drafter"] += _differing_settings(summary, summaries)
        phases, total = summary["seconds"], sum(summary["seconds"].values())
        row |= rates(summary)
        row["time in draft/target/rest"] = " / ".join(
            percent(share / total) for share in (phases["draft"], phases["target"], total - phases["draft"] - phases["target"])
        )
        row["same as greedy"] = percent(summary["greedy_identical"])
        row["sound"] = ("yes" if summary["valid"] else "NO") + (" (stopped)" if summary["interrupted"] else "")
        rows.append(row)
    return rows


def render(rows: Sequence[Row], *, title: str = "", markdown: bool = False) -> None:
    """Prints rows of equal columns: a rich table on a terminal, aligned plain lines elsewhere, Markdown if asked."""
    if not rows:
        return
    header = list(rows[0])
    body = [[row[column] for column in header] for row in rows]
    if markdown:
        print("\n".join("| " + " | ".join(line) + " |" for line in [header, ["---"] * len(header), *body]))
    elif sys.stdout.isatty():
        table = Table(*header, title=title or None)
        for line in body:
            table.add_row(*line)
        Console().print(table)
    else:
        widths = [max(map(len, column)) for column in zip(header, *body, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in [header, *body]]
        print("\n".join([title, *lines] if title else lines), flush=True)


def describe(summary: dict[str, Any]) -> str:
    """The line above a run's table."""
    named, origin = summary["labels"], summary["provenance"]
    parts = ", ".join(f"{part} {named[part]}" for part in PARTS)
    return f"{parts}; {origin['dtype']} on {origin['cpu'] if origin['device'] == 'cpu' else origin['device']}, {origin['date'][:10]}"


def footnotes(summary: dict[str, Any]) -> list[str]:
    """What must be read with the table: how far the clock can be explained, and every warning."""
    phases, total = summary["seconds"], sum(summary["seconds"].values())
    clocks = ", ".join(f"{phase} {percent(spent / total)}" for phase, spent in phases.items())
    notes = [f"decode time of the method: {clocks}"]
    if summary["acceptance_by_position"]:
        notes.append("accepted by position: " + " ".join(f"{share:.2f}" for share in summary["acceptance_by_position"]))
    if summary["greedy_identical"] is not None:
        notes.append(f"same as plain greedy decoding: {percent(summary['greedy_identical'])} of the answers")
    return notes + [f"warning: {text}" for text in summary["warnings"]]


def _differing_settings(summary: dict[str, Any], summaries: Sequence[dict[str, Any]]) -> str:
    rivals = [other for other in summaries if other["labels"] == summary["labels"]]
    notes = []
    for group in KNOBS:
        for key, value in summary["config"][group].items():
            if any(other["config"][group].get(key) != value for other in rivals):
                notes.append(f"{key}={value}")
    for key, value in summary["config"].items():
        if not isinstance(value, dict) and any(other["config"].get(key) != value for other in rivals):
            notes.append(f"{key}={value}")
    return f" ({', '.join(dict.fromkeys(notes))})" if notes else ""
