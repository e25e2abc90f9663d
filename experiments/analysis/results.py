"""Recorded runs as they are reported: figures as this version makes them, and the runs of one setting under several seeds as one.

The unit stays the prompt (or the batch of prompts that share a clock): what its seeds took and made is added up, so three seeds of 44 prompts are 44
units and not 132. Runs are pooled if nothing but their seeds differs (settings, machine, versions, commit) and they answered the same prompts.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from experiments.analysis.measured import LIBRARIES, machine
from experiments.analysis.summary import figures_of_run
from experiments.recording.folder import RunFolder, read_summaries, summary_files
from experiments.recording.identity import VOLATILE
from experiments.recording.record import Pair

Summary = dict[str, Any]
UNIT = tuple[str, ...]


@dataclass(frozen=True)
class Result:
    """One row of a table: a run, or the runs of one setting under several seeds."""

    folders: tuple[Path, ...]
    document: Summary
    pairs: list[Pair]  # none where the summary lies alone, or sums up other records


def read_results(paths: list[Path]) -> list[Result]:
    """Everything at or below the paths. Raises ValueError as `read_summaries` does."""
    return results_of(summary_files(paths), read_summaries(paths))


def results_of(files: Sequence[Path], documents: Sequence[Summary]) -> list[Result]:
    """Summaries that were read from these files, with what lies beside them."""
    return pooled([result_of(file.parent, document) for file, document in zip(files, documents, strict=True)])


def result_of(folder: Path, document: Summary) -> Result:
    """One run. A summary of an earlier version is made again from its records; where they are missing, it loses its intervals."""
    pairs = RunFolder(folder).pairs if (folder / "records.jsonl").exists() else []
    if sum(len(pair.method.tokens) for pair in pairs) != document["num_tokens"]:
        pairs = []
    if is_current(document):
        return Result((folder,), document, pairs)
    made = figures_of_run(pairs, document["config"]) if pairs else without_intervals(document)
    return Result((folder,), document | made, pairs)


def is_current(figures: Summary) -> bool:
    """Whether the intervals of a summary cover what they say: earlier versions wrote no `speedup_units`."""
    return "speedup_units" in figures


def without_intervals(figures: Summary) -> Summary:
    """The same figures; intervals of earlier versions covered less than they said."""
    bare = {name: None if name.endswith("_interval") else value for name, value in figures.items()}
    nested = [name for name in ("by_category", "by_group", "peers") if figures.get(name)]
    return bare | {name: {part: without_intervals(held) for part, held in figures[name].items()} for name in nested}


def pooled(found: Sequence[Result]) -> list[Result]:
    """Results in their order, those of one setting under different seeds as one where the first of them stands."""
    groups: dict[Any, list[Result]] = {}
    for place, result in enumerate(found):
        groups.setdefault(setting_of(result) if result.pairs else place, []).append(result)
    rows: list[Result] = []
    for group in groups.values():
        seeds = [seed_of(result.document) for result in group]
        rows += [one_of(group)] if len(group) > 1 and len(set(seeds)) == len(seeds) else group
    return sorted(rows, key=lambda row: min(place for place, result in enumerate(found) if result.folders[0] in row.folders))


def setting_of(result: Result) -> str:
    """Everything that must be the same in runs that are pooled, as text."""
    document, origin = result.document, result.document["provenance"]
    config = {name: value for name, value in document["config"].items() if name not in (*VOLATILE, "seed")}
    config["sampling"] = {name: value for name, value in config["sampling"].items() if name != "seed"}
    versions = [origin.get("versions", {}).get(name) for name in LIBRARIES]
    facts = [machine(document), *(origin.get(name) for name in ("device", "dtype", "threads", "git_commit")), versions]
    return json.dumps([config, document["labels"], facts, sorted(set(units(result.pairs).values()))], sort_keys=True, default=str)


def seed_of(document: Summary) -> Any:
    """The seed of the sampled answers, which is that of the run unless it was given one of its own."""
    drawn = document["config"]["sampling"].get("seed")
    return document["config"].get("seed") if drawn is None else drawn


def units(pairs: Iterable[Pair]) -> dict[int, UNIT]:
    """Batch of a run -> the prompts that were decoded in it, which name the unit in every run."""
    found: dict[int, set[str]] = {}
    for pair in pairs:
        found.setdefault(pair.method.batch, set()).add(pair.method.prompt)
    return {batch: tuple(sorted(prompts)) for batch, prompts in found.items()}


def one_of(group: Sequence[Result]) -> Result:
    """The runs of one setting as one: counts and clocks of a unit are added up over the seeds."""
    order = {unit: place for place, unit in enumerate(dict.fromkeys(units(group[0].pairs).values()))}
    named = [(units(result.pairs), result.pairs) for result in group]
    pairs = [renumbered(pair, order[unit_of[pair.method.batch]]) for unit_of, own in named for pair in own]
    documents = [result.document for result in group]
    first = documents[0] | figures_of_run(pairs, documents[0]["config"])
    weakest = next((document for document in documents if document.get("exact") is not True), documents[0])
    state: Summary = {
        "valid": all(document["valid"] for document in documents),
        "interrupted": any(document["interrupted"] for document in documents),
    }
    state["seeds"] = [seed_of(document) for document in documents]
    state |= {name: weakest[name] for name in ("proof", "exact") if name in weakest}
    told = {name: said(documents, name) for name in ("errors", "warnings")}
    return Result(tuple(folder for result in group for folder in result.folders), first | state | told, pairs)


def renumbered(pair: Pair, unit: int) -> Pair:
    peers = {name: replace(record, batch=unit) for name, record in pair.peers.items()}
    return Pair(replace(pair.method, batch=unit), replace(pair.baseline, batch=unit), peers)


def said(documents: Sequence[Summary], name: str) -> list[str]:
    """Errors or warnings of all seeds; those that not every seed has name theirs."""
    lines = [(seed_of(document), text) for document in documents for text in document.get(name) or []]
    common = {text for _, text in lines if sum(other == text for _, other in lines) == len(documents)}
    return list(dict.fromkeys(text if text in common else f"seed {seed}: {text}" for seed, text in lines))
