"""What a report says, in which order: the verdict first, then numbers, figures, answers, circumstances, and what the words mean."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from experiments.analysis import curves
from experiments.analysis.frames import OURS, Runs
from experiments.analysis.interval import MIN_UNITS
from experiments.analysis.tables import LEGEND, comparison_rows, peer_rows
from experiments.analysis.terminal import Row, number, percent, ranged
from experiments.recording.record import BASELINE
from experiments.report import plots
from experiments.report.answers import answers
from experiments.report.blocks import Block, Heading, Items, Picture, Report, Rows, Text
from experiments.report.proofs import proofs, proved

MOST_METHODS = 12  # in figures that draw every method in one place
TERMS = (
    ("step", "one forward of the target over a draft; plain decoding takes one step per token"),
    ("acceptance rate", "accepted / drafted tokens"),
    ("accepted per step", "accepted draft tokens / steps; the bonus token, which the target adds to every step, is not counted"),
    ("tokens per step", "emitted tokens / steps, so accepted per step + 1; no decode-only speedup can be larger"),
    ("acceptance by position", "of the steps that judged the draft token at a depth, having accepted all before it, the share that accepted it too"),
    ("repetition", "emitted 8-grams that stood in the same answer before; text that repeats itself flatters every method that copies"),
    (
        "end-to-end speedup",
        "what speculation gains: seconds per token of our own plain decoding by the same runtime / those of the method; same prompts, same run, from "
        "the prompt to the last token; ratio of the totals",
    ),
    (
        "over fastest plain",
        "what a user gains: the same over the fastest plain decoding in the run, peers included; in brackets which that was",
    ),
    ("decode-only speedup", "over our own plain decoding, the prompt's own forward left out on both sides; tokens per step bound it"),
    (
        "units",
        "what the intervals are over: prompts, or batches whose prompts share a clock; several seeds of one setting are one row, in which what they "
        "made of a prompt is added up",
    ),
    (
        "interval",
        f"95 %: a studentised jackknife of the log ratio of totals, wider where few units gain most; below {MIN_UNITS} units there is none, and a "
        "dash stands there with the number of units",
    ),
    ("same as greedy", "answers equal to plain greedy decoding, token by token; only at temperature 0"),
    (
        "sound",
        "no check failed: the books balance, nothing after an EOS, decode-only speedup not above tokens per step, no divergence beyond rounding",
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
        blocks.append(Rows([own_row(row) for row in comparison_rows(runs.documents)], f"Every run. {LEGEND}"))
    peers = [{"method": name} | row for name, document in zip(runs.methods, runs.documents, strict=False) for row in peer_rows(document)]
    if peers:
        blocks.append(Rows(peers, "Peers in the same runs, end to end."))
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
    shown = {name: value for name, value in row.items() if not name.startswith("decode time in")}
    before = dict(list(shown.items())[: list(shown).index("prompts")])
    return before | {"sound": row["sound"], "proof": row["proof"]} | shown


def imported_row(row: dict[str, Any]) -> Row:
    known = {key: None if pd.isna(value) else value for key, value in row.items()}
    units = known.get("num_units")
    fastest = known.get("fastest_plain")
    return {
        "method": row["method"],
        "prompts": str(row["num_prompts"]),
        "units": "-" if units is None else f"{units:g}",
        "tokens/step": number(known["tokens_per_step"]),
        "accepted": percent(known["acceptance_rate"]),
        "end-to-end tokens/s": number(known.get("tokens_per_second_with_prefill"), 1),
        "decode-only tokens/s": number(known.get("tokens_per_second"), 1),
        "end-to-end speedup": gain(known, "speedup_with_prefill"),
        "over fastest plain": gain(known, "over_fastest_plain") + (f" ({'our own' if fastest == BASELINE else fastest})" if fastest else ""),
        "decode-only speedup": gain(known, "speedup"),
    }


def gain(known: dict[str, Any], name: str) -> str:
    """A gain of a row of a frame with its interval, or how many units were too few for one."""
    ends = (known[f"{name}_low"], known[f"{name}_high"]) if known.get(f"{name}_low") is not None else None
    return ranged(known.get(name), ends, None if known.get("num_units") is None else int(known["num_units"]))


def figures(runs: Runs, beside: Beside) -> list[Block]:
    """Every figure for which the runs have the numbers. With more than MOST_METHODS methods the crowded ones show the whole run only."""
    categories, crowded = runs.categories, len(runs.summaries) > MOST_METHODS
    if crowded:
        categories = pd.DataFrame(categories[categories["category"] == "all"])
    timed = categories.dropna(subset=["speedup_with_prefill"])
    found: list[Picture] = []
    if len(timed):
        found.append(
            Picture(
                "speedup",
                plots.speedup(timed, runs.head),
                "Right of the line is faster than our own plain decoding. An interval that crosses it proves nothing, nor does a bare dot.",
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
            Picture("positions", plots.acceptance_by_position(positions, runs.head), "Intervals (95 %, over prompts) widen where few drafts reach.")
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
        Items([f"{row['folders']}: {row['method']}" for row in runs.summaries.to_dict("records") if row["source"] == OURS], folded="Folders")
    )
    return blocks


def _spread(values: Sequence[Any]) -> str:
    """One value, a range of numbers, or all there are."""
    distinct = sorted({value for value in values if value is not None}, key=str)
    if len(distinct) > 3:
        return f"{min(distinct)} to {max(distinct)}"
    return ", ".join(map(str, distinct))
