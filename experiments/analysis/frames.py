"""Recorded runs as pandas frames: what reports and notebooks draw from. Reads run folders; decodes nothing.

Every frame has the column `method`: the run's name, made of the parts and settings in which the loaded runs differ. Times are seconds.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.analysis.measured import head, incomparable, tail_of
from experiments.analysis.speedup import interval
from experiments.analysis.summary import grouping
from experiments.analysis.tables import PARTS, comparison_rows, footnotes, names, peer_rows, run_rows
from experiments.recording.folder import RunFolder, read_summaries, summary_files
from experiments.recording.proofs.proof import mark_of
from spec.auto import is_auto

OURS = "Draftproof"
NEEDED = ("prompt", "category", "role", "batch", "tokens", "num_steps", "seconds", "tested", "kept")  # of a record, in frames and curves
ALL = "all"  # the category that stands for every prompt of a run
SCALARS = ("tokens_per_step", "accepted_per_step", "acceptance_rate", "tokens_per_second", "baseline_tokens_per_second", "speedup", "repetition")


@dataclass(frozen=True)
class Runs:
    """Runs side by side. A frame without rows means that the runs did not record it."""

    summaries: pd.DataFrame  # a row per run: method, source, folder, parts, rates, speedup with low and high, valid, proof
    categories: pd.DataFrame  # a row per run and kind of prompt, "all" first: the rates, each interval as <name>_low and <name>_high
    records: pd.DataFrame  # a row per prompt and role, as in records.jsonl, and num_tokens
    steps: pd.DataFrame  # a row per step and role, as in steps.jsonl, the clocks as <phase>_seconds
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
    lines = [lines_of(RunFolder(file.parent)) for file in files]
    documents: list[dict[str, Any]] = [document | {"answered": answered(own)} for document, (own, _) in zip(summaries, lines, strict=True)]
    names = method_names(documents, [file.parent for file in files])
    records, steps = [], []
    for name, labels, (own_records, own_steps) in zip(names, (document["labels"] for document in documents), lines, strict=True):
        marks = {"method": name, "source": OURS, "sampling": labels["sampling"], "drafter": labels["drafter"]}
        records += [marks | row for row in own_records]
        steps += [marks | row for row in own_steps]
    record_frame = pd.DataFrame(records)
    return Runs(
        summaries=pd.DataFrame([summary_row(*item) for item in zip(names, files, documents, strict=True)]),
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
        summary_row("", file, document)
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
    asked = sorted((str(row["prompt"]), row["prompt_ids"]) for row in records if row.get("prompt_ids") and row.get("turn", 1) == 1)
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:12] if asked else None


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


def summary_row(name: str, file: Path, document: dict[str, Any]) -> dict[str, Any]:
    """The row of one run in `summaries`."""
    config = document["config"]
    low, high = document["speedup_interval"] or (None, None)
    length = config["drafter"].get("num_tokens")
    knobs = {"draft_tokens": None if is_auto(config["drafter"]) else length, "batch_size": config.get("batch_size", 1)}
    state = {key: document[key] for key in ("num_prompts", "num_tokens", "num_steps", "greedy_identical", "valid", "interrupted")}
    state["proof"] = mark_of(document)
    rates = {key: document[key] for key in SCALARS} | {"speedup_low": low, "speedup_high": high}
    clocks = {f"{phase}_seconds": spent for phase, spent in document["seconds"].items()}
    return {"method": name, "source": OURS, "folder": str(file.parent), **document["labels"], **knobs, **state, **rates, **clocks}


def category_rows(name: str, document: dict[str, Any], records: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of one run in `categories`: the whole run, then its kinds of prompts, grouped as the data set says, if there are several."""
    groups = grouping(document["config"]["data"])  # of categories, e.g. Spec-Bench's eight kinds of conversation
    parts = document.get("by_group", {}) | {kind: figures for kind, figures in document["by_category"].items() if kind not in groups}
    own = pd.DataFrame(records[(records["method"] == name) & (records["role"] == "method")] if len(records) else records)
    rows = []
    for category, figures in ({ALL: document} | (parts if len(parts) > 1 else {})).items():
        everything = category == ALL or not len(own)
        held = own if everything else pd.DataFrame(own[own["category"].map(lambda kind: groups.get(kind, kind)) == category])
        low, high = figures["speedup_interval"] or (None, None)
        fewest, most = rate_interval(held) or (None, None)
        limits = {"speedup_low": low, "speedup_high": high, "tokens_per_step_low": fewest, "tokens_per_step_high": most}
        scalars = {key: figures[key] for key in SCALARS}
        rows.append({"method": name, "source": OURS, "category": category, "num_prompts": figures["num_prompts"], **scalars, **limits})
    return rows


def rate_interval(records: pd.DataFrame) -> tuple[float, float] | None:
    """95 % bootstrap interval of tokens per step, over prompts; None below two prompts."""
    if len(records) < 2:
        return None
    columns = records[["num_tokens", "num_steps"]].to_numpy(float).T
    return interval(columns, lambda tokens, steps, axis=-1: tokens.sum(axis) / steps.sum(axis), seed=0)


def flat(step: dict[str, Any]) -> dict[str, Any]:
    """A line of steps.jsonl with its clocks beside its counts."""
    clocks = {f"{phase}_seconds": spent for phase, spent in step.get("seconds", {}).items()}
    return {key: value for key, value in step.items() if key != "seconds"} | clocks


def _stacked(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    filled = [frame for frame in frames if len(frame)]
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame()
