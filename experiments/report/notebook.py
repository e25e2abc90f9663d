"""What the notebooks share: finding recorded runs from wherever Jupyter was started, and showing them as tables."""

from pathlib import Path
from typing import Any

import pandas as pd
import torch

from experiments.analysis.coloured import LEGEND, STYLE, coloured
from experiments.analysis.frames import Runs, load_runs
from experiments.analysis.tables import comparison_rows, names
from experiments.lossless.checks.enumerated_steps import EXACT
from experiments.lossless.enumeration.proposals import chain
from experiments.lossless.enumeration.step_distribution import examine
from experiments.lossless.enumeration.tables import GOLDEN
from experiments.lossless.mutants.chains import MUTANTS
from experiments.parts.roles import step_lines
from experiments.recording.folder import newest_sweep
from spec.decode import Generation
from verifiers.block import Block
from verifiers.recursive import Recursive
from verifiers.rejection import Rejection
from verifiers.traversal import Traversal

ROOT = Path(__file__).resolve().parents[2]


def open_runs(results: str | Path | None = None, command: str = "draftproof run experiment=default_sweep") -> Runs:
    """The runs of a folder; None: of the newest sweep. Raises ValueError with the command that makes some."""
    try:
        return load_runs([results if results is not None else newest_sweep(ROOT / "multirun")])
    except ValueError as error:
        raise ValueError(f"{error}. To make results: {command}; then set results to the folder that it names, or to None for the newest") from error


def overview(runs: Runs, *columns: str) -> pd.DataFrame:
    """The comparison of all runs, as the command line prints it, under what was measured.

    With `columns`, these alone, beside the drafter, the sampling, and whatever else tells the runs apart.
    """
    print("\n".join(filter(None, (runs.head, runs.incomparable))))
    rows = comparison_rows(runs.documents)
    if not columns:
        return pd.DataFrame(rows)
    samplings = [{"drafter": row["drafter"], "sampling": run["labels"]["sampling"]} for row, run in zip(rows, runs.documents, strict=True)]
    told = [sampling | own for sampling, own in zip(samplings, names(runs.documents), strict=True)]
    return pd.DataFrame([own | {column: row[column] for column in columns} for own, row in zip(told, rows, strict=True)])


def answer(generation: Generation, tokenizer: Any, row: int = 0) -> str:
    """An answer just decoded, as HTML in colour."""
    shown = coloured(generation.new_tokens(row), step_lines(generation.stats, row), tokenizer)
    return f"<style>{STYLE}</style>{LEGEND}{shown}"


def enumerate_rules(num_tokens: int = 3) -> pd.DataFrame:
    """Columns rule, sound, tv, tokens_per_step: exact distributions of one step on a table model of four tokens, by enumerating every outcome.

    tv is the total variation distance between the distribution of the emitted text and the target's own, and sound says whether it is zero within
    rounding: what was found, not what a rule says of itself. The wrong rules are each wrong in one way that has been seen in the field.
    """
    torch.set_num_threads(1)
    rows = []
    for verifier in (Recursive(), Rejection(), Block(), Traversal()):
        found = examine(GOLDEN, chain(GOLDEN, num_tokens), verifier)
        rows.append({"rule": type(verifier).__name__.lower(), "sound": found.error < EXACT, "tv": found.error, "tokens_per_step": found.expected})
    for mutant in MUTANTS:
        found = examine(GOLDEN, mutant.proposals(), mutant.verifier)
        rows.append({"rule": mutant.name, "sound": found.error < EXACT, "tv": found.error, "tokens_per_step": found.expected})
    return pd.DataFrame(rows)
