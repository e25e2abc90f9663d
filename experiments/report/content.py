"""What a report says, in which order: the verdict first, then numbers, figures, answers, circumstances, and what the words mean."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.analysis import curves
from experiments.analysis.frames import OURS, Runs
from experiments.analysis.tables import comparison_rows, peer_rows
from experiments.analysis.terminal import Row, number, percent
from experiments.report import plots
from experiments.report.answers import answers
from experiments.report.blocks import Block, Heading, Items, Picture, Report, Rows, Text
from experiments.report.proofs import proofs, proved

MOST_METHODS = 12  # in figures that draw every method in one place
TERMS = (
    ("step", "one forward of the target over a draft; plain decoding takes one step per token"),
    ("acceptance rate", "accepted / drafted tokens"),
    ("accepted per step", "accepted draft tokens / steps; the bonus token, which the target adds to every step, is not counted"),
    ("tokens per step", "emitted tokens / steps, so accepted per step + 1; no speedup can be larger"),
    ("acceptance by position", "of the steps that judged the draft token at a depth, having accepted all before it, the share that accepted it too"),
    ("repetition", "emitted 8-grams that stood in the same answer before; text that repeats itself flatters every method that copies"),
    (
        "speedup",
        "seconds per token of plain decoding / those of the method; same prompts, same run, prefill left out; interval: 95 %, bootstrap over prompts",
    ),
    ("same as greedy", "answers equal to plain greedy decoding, token by token; only at temperature 0"),
    (
        "sound",
        "no check failed: the books balance, nothing after an EOS, speedup not above tokens per step, no divergence that rounding cannot explain",
    ),
    (
        "proof",
        "the battery's verdict for exactly this drafter, verifier, sampling and code, by its name; in brackets, where it was passed on other terms. "
        "Not judged: there is none, and the verifier's own word is no proof. Lossy: the verifier changes the distribution by design. "
        "Peer: another program, which draftproof peers tests",
    ),
)


@dataclass(frozen=True)
class Beside:
    """What else is to be shown: runs that ended in an error, ceilings from replay, predictions of the cost model."""

    failed: Sequence[str] = ()
    ceilings: pd.DataFrame = field(default_factory=pd.DataFrame)  # see other_results.load_ceilings
    predictions: pd.DataFrame = field(default_factory=pd.DataFrame)  # see other_results.load_predictions


def compose(runs: Runs, beside: Beside | None = None) -> Report:
    """The whole report."""
    beside = beside or Beside()
    dates = sorted(document["provenance"]["date"][:10] for document in runs.documents)
    span = "" if not dates else dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    sources = runs.summaries["source"].value_counts(sort=False)
    counts = ", ".join(f"{count} run{'s' * (count != 1)}{'' if source == OURS else f' of {source}'}" for source, count in sources.items())
    blocks: list[Block] = [*verdict(runs, beside.failed), *results(runs), *figures(runs, beside), *kinds(runs), *answers(runs)]
    blocks += [*proofs(runs), *circumstances(runs), Heading("What the words mean"), Items(TERMS)]
    return Report("Speculative decoding: results", ", ".join(part for part in (counts, span) if part), blocks, runs.head)


def verdict(runs: Runs, failed: Sequence[str]) -> list[Block]:
    """Whether the numbers may be believed, before any of them is shown."""
    named = list(zip(runs.methods, runs.documents, strict=False))
    broken = [(name, document) for name, document in named if not document["valid"]]
    blocks: list[Block] = []
    if broken:
        blocks.append(Text(f"{len(broken)} of {len(named)} runs are NOT valid; do not use their numbers.", "bad"))
        blocks.append(Items([f"{name}: {text}" for name, document in broken for text in errors_of(document)], "bad"))
    elif named:
        every = "The run is sound" if len(named) == 1 else f"All {len(named)} runs are sound"
        blocks.append(Text(f"{every}: no validity check failed.", "good"))
    if runs.incomparable:
        blocks.append(Text(f"The {runs.incomparable}.", "warn"))
    blocks += proved(runs)
    if failed:
        blocks.append(Items([f"failed: {line}" for line in failed], "bad"))
    if stopped := [name for name, document in named if document["interrupted"]]:
        blocks.append(Text(f"Stopped before the end: {', '.join(stopped)}.", "warn"))
    doubts = [f"{name}: {text}" for name, document in named for text in document["warnings"] if text not in errors_of(document)]
    if doubts:
        blocks.append(Items(doubts, "warn", f"{len(doubts)} reasons to read the numbers with care"))
    return [*blocks, *(Text(note, "warn") for note in runs.notes)]


def errors_of(document: dict[str, Any]) -> list[str]:
    """What makes a run invalid; older summaries do not tell errors from doubts."""
    return document.get("errors", [] if document["valid"] else document["warnings"])


def results(runs: Runs) -> list[Block]:
    """The tables of our runs, of the peers in them, and of results from elsewhere."""
    blocks: list[Block] = [Heading("Results")]
    if runs.documents:
        blocks.append(Rows([own_row(row) for row in comparison_rows(runs.documents)], "Every run. Intervals: 95 %, over prompts."))
    peers = [{"method": name} | row for name, document in zip(runs.methods, runs.documents, strict=False) for row in peer_rows(document)]
    if peers:
        blocks.append(Rows(peers, "Peers in the same runs; all times from prompt to last token."))
    imported = pd.DataFrame(runs.summaries[runs.summaries["source"] != OURS])
    if len(imported):
        blocks.append(
            Rows(
                [imported_row(row) | {"proof": "from elsewhere"} for row in imported.to_dict("records")],
                "Results from elsewhere; see the notes on how they were counted.",
            )
        )
    return blocks


def own_row(row: Row) -> Row:
    """A row of the comparison with its verdict where a narrow screen still shows it, without the times by phase: they have a figure."""
    shown = {name: value for name, value in row.items() if not name.startswith("time in")}
    before = dict(list(shown.items())[: list(shown).index("prompts")])
    return before | {"sound": row["sound"], "proof": row["proof"]} | shown


def imported_row(row: dict[str, Any]) -> Row:
    known = {key: None if pd.isna(value) else value for key, value in row.items()}
    interval = f" [{known['speedup_low']:.2f}, {known['speedup_high']:.2f}]" if known["speedup_low"] is not None else ""
    return {
        "method": row["method"],
        "prompts": str(row["num_prompts"]),
        "tokens/step": number(known["tokens_per_step"]),
        "accepted": percent(known["acceptance_rate"]),
        "tokens/s": number(known["tokens_per_second"], 1),
        "speedup": number(known["speedup"]) + interval,
    }


def figures(runs: Runs, beside: Beside) -> list[Block]:
    """Every figure for which the runs have the numbers. With more than MOST_METHODS methods the crowded ones show the whole run only."""
    categories, crowded = runs.categories, len(runs.summaries) > MOST_METHODS
    if crowded:
        categories = pd.DataFrame(categories[categories["category"] == "all"])
    timed = categories.dropna(subset=["speedup"])
    found: list[Picture] = []
    if len(timed):
        found.append(
            Picture(
                "speedup",
                plots.speedup(timed, runs.head),
                "Right of the line is faster than plain decoding. An interval that crosses it proves nothing.",
            )
        )
    found.append(
        Picture(
            "tokens_per_step",
            plots.tokens_per_step(categories, runs.head),
            "What the acceptance would bring if drafting and longer forwards were free.",
        )
    )
    curve, rates = curves.gamma_curves(runs), curves.throughput(runs)
    if len(curve):
        found.append(
            Picture(
                "gamma",
                plots.gamma_curves(curve, runs.head, beside.ceilings if len(beside.ceilings) else None),
                "Longer drafts are worth it while the lower curve rises. Theory takes the price of a step as measured.",
            )
        )
    if len(rates):
        found.append(
            Picture(
                "throughput",
                plots.throughput(rates, runs.head),
                "Where a solid line falls below its dashed one, plain decoding is the better choice.",
            )
        )
    times = curves.phase_times(runs.summaries)
    if len(times):
        found.append(
            Picture(
                "phases",
                plots.time_per_phase(times, runs.head),
                "What a method spends to emit one token; left of the dashed line it is faster than plain decoding.",
            )
        )
    positions, lengths = curves.acceptance_by_position(runs.records), curves.accepted_lengths(runs.steps)
    if len(positions) and not crowded:
        found.append(
            Picture("positions", plots.acceptance_by_position(positions, runs.head), "Intervals (95 %, Wilson) widen where few drafts reach.")
        )
    if len(lengths) and not crowded:
        found.append(
            Picture(
                "lengths",
                plots.accepted_lengths(lengths, runs.head),
                "A method that drafts rarely has its steps at zero, and may be fast all the same.",
            )
        )
    if len(beside.predictions):
        caption = "What the cost model makes of measured forwards and recorded acceptance. Off the band something is not understood."
        found.append(Picture("predictions", plots.predicted_against_measured(beside.predictions), caption))
    return [Heading("Figures"), *found]


def kinds(runs: Runs) -> list[Block]:
    """The table of every kind of prompt."""
    held = pd.DataFrame(runs.categories[runs.categories["category"] != "all"])
    rows = [
        {"method": row["method"], "kind": row["category"], **{key: value for key, value in imported_row(row).items() if key != "method"}}
        for row in held.to_dict("records")
    ]
    return [Heading("By kind of prompt"), Rows(rows)] if rows else []


def circumstances(runs: Runs) -> list[Block]:
    """Hardware, versions, dates, and in which settings the runs differ."""
    if not runs.documents:
        return []
    origins = [document["provenance"] for document in runs.documents]
    facts = {key: [origin.get(key) for origin in origins] for key in ("device", "cpu", "cpu_count", "threads", "dtype", "git_commit", "date")}
    facts |= {f"version of {name}": [origin["versions"].get(name) for origin in origins] for name in origins[0].get("versions", {})}
    facts["models ran by"] = [", ".join(f"{name} {how}" for name, how in origin.get("served", {}).items()) or None for origin in origins]
    facts["load average"] = [origin.get("load_average_after") for origin in origins]
    rows = [
        {"fact": name.replace("_", " "), "value": _spread(values)} for name, values in facts.items() if any(value is not None for value in values)
    ]
    blocks: list[Block] = [Heading("Circumstances"), Rows(rows)]
    settings = curves.differing_settings(runs.documents)
    if len(settings.columns):
        differ = [{"run": name, **row} for name, row in zip(runs.methods, settings.to_dict("records"), strict=False)]
        blocks.append(Rows(differ, "Settings in which the runs differ."))
    blocks.append(
        Items([f"{Path(row['folder'])}: {row['method']}" for row in runs.summaries.to_dict("records") if row["source"] == OURS], folded="Folders")
    )
    return blocks


def _spread(values: Sequence[Any]) -> str:
    """One value, a range of numbers, or all there are."""
    distinct = sorted({value for value in values if value is not None}, key=str)
    if len(distinct) > 3:
        return f"{min(distinct)} to {max(distinct)}"
    return ", ".join(map(str, distinct))
