"""Recorded runs as pandas frames: what reports and notebooks draw from. Reads run folders; decodes nothing.

Every frame has the column `method`: the run's name, made of the parts and settings in which the loaded runs differ. Times are seconds.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from experiments.analysis.interval import ratio_interval
from experiments.analysis.measured import head, incomparable, tail_of
from experiments.analysis.results import Result, results_of
from experiments.analysis.summary import grouping
from experiments.analysis.tables import PARTS, comparison_rows, footnotes, names, peer_rows, run_rows
from experiments.recording.folder import RunFolder, read_summaries, summary_files
from experiments.recording.proofs.proof import mark_of
from spec.auto import is_auto

OURS = "Draftproof"
NEEDED = ("prompt", "category", "role", "batch", "tokens", "num_steps", "seconds", "tested", "kept")  # of a record, in frames and curves
ALL = "all"  # the category that stands for every prompt of a run
RATES = ("tokens_per_step", "accepted_per_step", "acceptance_rate", "tokens_per_second", "baseline_tokens_per_second", "repetition")
LATER_RATES = ("tokens_per_second_with_prefill", "baseline_tokens_per_second_with_prefill")  # which summaries of earlier versions do not hold
GAINS = ("speedup", "speedup_with_prefill", "over_fastest_plain")  # decode-only; end to end; end to end over the fastest plain decoding of the run


@dataclass(frozen=True)
class Runs:
    """Runs side by side. A frame without rows means that the runs did not record it."""

    summaries: pd.DataFrame  # a row per run, its seeds pooled: method, source, folder, parts, rates, gains with low and high, valid, proof
    categories: pd.DataFrame  # a row per run and kind of prompt, "all" first: rates and gains, each interval as <name>_low and <name>_high
    records: pd.DataFrame  # a row per prompt, role and seed, as in records.jsonl, and num_tokens
    steps: pd.DataFrame  # a row per step, role and seed, as in steps.jsonl, the clocks as <phase>_seconds
    documents: list[dict[str, Any]] = field(default_factory=list)  # the summaries themselves; empty for imported results
    notes: list[str] = field(default_factory=list)  # what must be read with imported results

    @property
    def methods(self) -> list[str]:
        return self.summaries["method"].tolist()

    @property
    def head(self) -> str:
        """What was measured, of the recorded runs; "" where all are imported."""
        return head(self.documents)

    @property
    def incomparable(self) -> str:
        """Why speedups of the recorded runs are not comparable; "" where they are."""
        return incomparable(self.documents)


def load_runs(paths: Sequence[str | Path]) -> Runs:
    """All runs at or below the paths, which may be run folders, sweep folders or `summary.json` files.

    Raises ValueError naming what is missing or damaged.
    """
    places = [Path(path) for path in ([paths] if isinstance(paths, (str, Path)) else paths)]
    if missing := [str(path) for path in places if not path.exists()]:
        raise ValueError(f"{', '.join(missing)} does not exist; give the folder of a run or of a sweep, as draftproof run names it")
    files, summaries = summary_files(places), read_summaries(places)
    for file, document in zip(files, summaries, strict=True):
        check(file, document)
    lines = {file.parent: lines_of(RunFolder(file.parent)) for file in files}
    found = results_of(files, summaries)
    documents = [result.document | {"answered": answered([row for folder in result.folders for row in lines[folder][0]])} for result in found]
    names = method_names(documents, [result.folders[0] for result in found])
    records, steps = [], []
    for name, result in zip(names, found, strict=True):
        labels = result.document["labels"]
        for folder in result.folders:
            marks = {"method": name, "source": OURS, "sampling": labels["sampling"], "drafter": labels["drafter"], "folder": str(folder)}
            records += [marks | row for row in lines[folder][0]]
            steps += [marks | row for row in lines[folder][1]]
    record_frame = pd.DataFrame(records)
    return Runs(
        summaries=pd.DataFrame([summary_row(name, result) for name, result in zip(names, found, strict=True)]),
        categories=pd.DataFrame(
            [row for name, document in zip(names, documents, strict=True) for row in category_rows(name, document, record_frame)]
        ),
        records=record_frame,
        steps=pd.DataFrame(steps),
        documents=documents,
    )


def check(file: Path, document: dict[str, Any]) -> None:
    """Raises ValueError naming the file if a summary lacks what tables need, or holds it as something else."""
    try:
        comparison_rows([document])
        run_rows(document)
        peer_rows(document)
        summary_row("", Result((file.parent,), document, []))
        category_rows("", document, pd.DataFrame())
        footnotes(document)
        head([document])
    except (KeyError, TypeError, AttributeError, ValueError, IndexError, ZeroDivisionError) as error:
        raise ValueError(f"{file}: is damaged ({type(error).__name__}: {error}); run it again with resume=true, or leave it out") from error


def lines_of(run: RunFolder) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The lines of a folder's records and steps, with what frames add. Raises ValueError naming the file whose lines are not what they were."""
    name = "records.jsonl"
    try:
        records = [{key: row[key] for key in NEEDED} | row | {"num_tokens": len(row["tokens"])} for row in run.records]
        name = "steps.jsonl"
        steps = [{key: row[key] for key in ("prompt", "role")} | flat(row) for row in run.steps]
    except (KeyError, TypeError, AttributeError) as error:
        told = f"holds lines that are not those of a run ({type(error).__name__}: {error})"
        raise ValueError(f"{run.path / name}: {told}; leave the folder out, or run it again") from error
    return records, steps


def answered(records: Sequence[dict[str, Any]]) -> str | None:
    """Which prompts a run answered: a hash over their ids and tokens; None where no record says. Later turns depend on answers and are left out."""
    asked = {str(row["prompt"]): row["prompt_ids"] for row in records if row.get("prompt_ids") and row.get("turn", 1) == 1}
    return hashlib.sha256(json.dumps(sorted(asked.items())).encode()).hexdigest()[:12] if asked else None


def joined(parts: Iterable[Runs]) -> Runs:
    """Runs of several origins in one."""
    held = list(parts)
    if not held:
        raise ValueError("there is nothing to join; give at least one set of runs")
    frames = {name: _stacked([getattr(part, name) for part in held]) for name in ("summaries", "categories", "records", "steps")}
    return Runs(**frames, documents=[item for part in held for item in part.documents], notes=[item for part in held for item in part.notes])


def method_names(documents: Sequence[dict[str, Any]], folders: Sequence[Path]) -> list[str]:
    """A short name for each run that tells it from the others; runs of one configuration are told apart by their folders."""
    order = (*PARTS[2:], *PARTS[:2])
    found = []
    for row in names(documents):
        circumstances = [f"{name} {value}" for name, value in row.items() if name not in order]
        found.append(" · ".join([*(row[part] for part in order if part in row), *circumstances]))
    named = []
    for name, folder in zip(found, folders, strict=True):
        rivals = {other.as_posix() for rival, other in zip(found, folders, strict=True) if rival == name}
        named.append(f"{name} [{tail_of(folder.as_posix(), rivals)}]" if found.count(name) > 1 else name)
    return named


def summary_row(name: str, result: Result) -> dict[str, Any]:
    """The row of one run in `summaries`; of pooled seeds `folder` is that of the first."""
    document, config = result.document, result.document["config"]
    length = config["drafter"].get("num_tokens")
    knobs = {"draft_tokens": None if is_auto(config["drafter"]) else length, "batch_size": config.get("batch_size", 1)}
    state = {key: document[key] for key in ("num_prompts", "num_tokens", "num_steps", "greedy_identical", "valid", "interrupted")}
    state["proof"] = mark_of(document)
    state |= {"num_units": document.get("num_units"), "fastest_plain": document.get("fastest_plain")}
    clocks = {f"{phase}_seconds": spent for phase, spent in document["seconds"].items()}
    places = {"folder": str(result.folders[0]), "folders": ", ".join(map(str, result.folders))}
    return {"method": name, "source": OURS, **places, **document["labels"], **knobs, **state, **rates_of(document), **clocks}


def rates_of(figures: dict[str, Any]) -> dict[str, Any]:
    """Rates and gains of a summary or a category, the ends of intervals as <name>_low and <name>_high."""
    found = {key: figures[key] for key in RATES} | {key: figures.get(key) for key in (*LATER_RATES, *GAINS)} | {"speedup": figures["speedup"]}
    for name in GAINS:
        found[f"{name}_low"], found[f"{name}_high"] = figures.get(f"{name}_interval") or (None, None)
    return found


def category_rows(name: str, document: dict[str, Any], records: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of one run in `categories`: the whole run, then its kinds of prompts, grouped as the data set says, if there are several."""
    groups = grouping(document["config"]["data"])  # of categories, e.g. Spec-Bench's eight kinds of conversation
    parts = document.get("by_group", {}) | {kind: figures for kind, figures in document["by_category"].items() if kind not in groups}
    own = pd.DataFrame(records[(records["method"] == name) & (records["role"] == "method")] if len(records) else records)
    rows = []
    for category, figures in ({ALL: document} | (parts if len(parts) > 1 else {})).items():
        everything = category == ALL or not len(own)
        held = own if everything else pd.DataFrame(own[own["category"].map(lambda kind: groups.get(kind, kind)) == category])
        fewest, most = rate_interval(held) or (None, None)
        limits = {"tokens_per_step_low": fewest, "tokens_per_step_high": most}
        sizes = {"num_prompts": figures["num_prompts"], "num_units": figures.get("num_units"), "fastest_plain": figures.get("fastest_plain")}
        rows.append({"method": name, "source": OURS, "category": category, **sizes, **rates_of(figures), **limits})
    return rows


def rate_interval(records: pd.DataFrame) -> tuple[float, float] | None:
    """95 % interval of tokens per step, over prompts, whose turns and seeds are added up; None for too few prompts."""
    return ratio_interval(by_prompt(records, ["num_tokens", "num_steps"])) if len(records) else None


def by_prompt(records: pd.DataFrame, columns: list[str]) -> NDArray:
    """Totals of the columns for every prompt, over its turns and seeds; [columns, prompts]."""
    turns = records["turn"] if "turn" in records else pd.Series(1, records.index)
    names = [prompt.removesuffix(f"/{turn:g}") if turn > 1 else prompt for prompt, turn in zip(records["prompt"], turns.fillna(1), strict=True)]
    codes, _ = pd.factorize(np.array(names, dtype=object))
    return np.array([np.bincount(codes, records[column].to_numpy(float)) for column in columns])


def flat(step: dict[str, Any]) -> dict[str, Any]:
    """A line of steps.jsonl with its clocks beside its counts."""
    clocks = {f"{phase}_seconds": spent for phase, spent in step.get("seconds", {}).items()}
    return {key: value for key, value in step.items() if key != "seconds"} | clocks


def _stacked(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    filled = [frame for frame in frames if len(frame)]
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame()
