"""Recorded runs as the cost model sees them: what every forward of the target was given, how long it took, and which drafts were accepted."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drafters.lookahead import Lookahead
from experiments.analysis.results import result_of
from experiments.cost.timing import Shape
from experiments.parts.build import make
from experiments.recording.folder import RunFolder, read_summaries, summary_files
from experiments.recording.identity import config_hash
from experiments.recording.record import BASELINE, METHOD, Record
from spec.auto import is_auto

PHASES = ("draft", "target", "rest")
CLOCKS = ("draft", "target", "verify", "commit")  # of a step, in steps.jsonl


@dataclass(frozen=True)
class Forwards:
    """The steps of one role, one entry per forward of the target; [F]. Rows that were decoded together share a forward."""

    unit: NDArray  # which independent unit it belongs to: a prompt, or a batch of them
    drafted: NDArray  # draft tokens, in the row that had most
    context: NDArray  # cached positions, in the row that had most
    rows: NDArray  # unfinished rows
    seconds: NDArray  # recorded, [F, 3]: draft, target, and the rest

    @property
    def count(self) -> int:
        return len(self.unit)


@dataclass(frozen=True)
class Judged:
    """What became of the method's drafts; units are those of `Forwards`."""

    tested: NDArray  # [units, K] drafts whose token at this depth was judged
    kept: NDArray  # [units, K] those in which it was accepted
    depth_unit: NDArray  # [S] of every draft that the budget did not shorten
    depth: NDArray  # [S]


@dataclass(frozen=True)
class Forwarded:
    """One run folder."""

    folder: Path
    summary: dict[str, Any]
    method: Forwards
    baseline: Forwards
    judged: Judged
    lengths: list[NDArray]  # per unit: tokens of each answer of the method
    baseline_tokens: NDArray  # per unit
    prompts: list[list[int]]  # token ids
    shape: Shape  # of the method's drafts

    @property
    def config(self) -> dict[str, Any]:
        return self.summary["config"]

    @property
    def batch(self) -> int:
        return self.config["batch_size"]

    @property
    def num_tokens(self) -> int | None:
        """Gamma, where the drafter has such a setting."""
        return self.config["drafter"].get("num_tokens")

    @property
    def tokens(self) -> NDArray:
        """Tokens of the method, per unit."""
        return np.array([lengths.sum() for lengths in self.lengths])

    @property
    def setup(self) -> str:
        """A key that is equal for runs that differ in gamma only."""
        drafter = {key: value for key, value in self.config["drafter"].items() if key != "num_tokens"}
        return config_hash(self.config | {"drafter": drafter})

    @property
    def setup_label(self) -> str:
        labels = self.summary["labels"]
        return f"{labels['drafter']}, {labels['sampling']}" + (f", batch {self.batch}" if self.batch > 1 else "")

    @property
    def label(self) -> str:
        return self.setup_label if self.num_tokens is None else f"{self.setup_label}, gamma {self.num_tokens}"


def shape_of(config: dict[str, Any]) -> Shape:
    """The shape of the drafts that the drafter of a run makes. Raises ValueError where it cannot be made here."""
    drafter = make(config, "drafter")
    return Shape(drafter.traits.makes_trees, len(drafter.positions) if isinstance(drafter, Lookahead) else 0)


def load_runs(paths: Sequence[Path]) -> list[Forwarded]:
    """Every run at or below the paths. Raises ValueError where there is none, or one lacks what is needed."""
    return [load_run(file.parent) for file in summary_files(list(paths))]


def load_run(folder: Path) -> Forwarded:
    """One run folder. Raises ValueError naming what is missing, damaged or too old."""
    summary = read_summaries([folder / "summary.json"])[0]
    if not (folder / "steps.jsonl").exists():
        raise ValueError(f"{folder} has no steps.jsonl, which says what every forward was given; run it again, or leave it out")
    if is_auto(summary["config"]["drafter"]):
        raise ValueError(f"{folder}: its drafter chose its lengths itself (auto); leave it out, and give runs of one length each")
    run = RunFolder(folder)
    pairs, lines = run.pairs, run.steps_of
    if not pairs or not all((pair.method.prompt, role) in lines for pair in pairs for role in (METHOD, BASELINE)):
        raise ValueError(f"{folder}: records.jsonl or steps.jsonl does not hold what summary.json sums up; run it again, or leave it out")
    if run.unbalanced:
        raise ValueError(f"{folder}: {run.unbalanced}; run it again, or leave it out")
    summary = result_of(folder, summary).document
    if missing := [name for name in CLOCKS if any(name not in line["seconds"] for line in run.steps)]:
        raise ValueError(f"{folder / 'steps.jsonl'}: a step has no seconds of {missing[0]}; run it again, or leave it out")
    if any(pair.baseline.prompt_ids is None for pair in pairs):
        raise ValueError(f"{folder} was recorded without the prompts' token ids (prompt_ids), by an older version; run it again, or leave it out")
    keys = sorted({(pair.method.turn, pair.method.batch) for pair in pairs})
    unit = {key: number for number, key in enumerate(keys)}
    methods, baselines = [pair.method for pair in pairs], [pair.baseline for pair in pairs]
    lengths: list[list[int]] = [[] for _ in keys]
    baseline_tokens = np.zeros(len(keys))
    for pair in pairs:
        lengths[unit[pair.method.turn, pair.method.batch]].append(len(pair.method.tokens))
        baseline_tokens[unit[pair.method.turn, pair.method.batch]] += len(pair.baseline.tokens)
    return Forwarded(
        folder=folder,
        summary=summary,
        method=_forwards(methods, lines, unit),
        baseline=_forwards(baselines, lines, unit),
        judged=_judged(methods, lines, unit, summary["config"]),
        lengths=[np.array(answers) for answers in lengths],
        baseline_tokens=baseline_tokens,
        prompts=[pair.baseline.prompt_ids or [] for pair in pairs],
        shape=shape_of(summary["config"]),
    )


Lines = dict[tuple[str, str], list[dict[str, Any]]]  # (prompt, role) -> its lines of steps.jsonl


def _forwards(records: Iterable[Record], lines: Lines, unit: dict[tuple[int, int], int]) -> Forwards:
    """Row-steps with the same place in the same batch are one forward; time outside the phases is spread evenly."""
    found: dict[tuple[int, int], list[Any]] = {}
    other = 0.0
    for record in records:
        context, other = record.prompt_tokens - 1, other + record.seconds.get("other", 0.0)
        for line in lines[record.prompt, record.role]:
            clocks = line["seconds"]
            phases = [clocks["draft"], clocks["target"], clocks["verify"] + clocks["commit"]]
            held = found.setdefault((unit[record.turn, record.batch], line["step"]), [0, 0, 0, phases])
            held[:3] = max(held[0], line["drafted"]), max(held[1], context), held[2] + 1
            context += line["emitted"]
    seconds = np.array([held[3] for held in found.values()], dtype=float)
    seconds[:, 2] += other / len(found)
    drafted, contexts, rows = np.array([held[:3] for held in found.values()]).T
    return Forwards(np.array([key[0] for key in found]), drafted, contexts, rows, seconds)


def _judged(records: Iterable[Record], lines: Lines, unit: dict[tuple[int, int], int], config: dict[str, Any]) -> Judged:
    records = list(records)
    width = max(len(record.tested) for record in records)
    tested, kept = np.zeros((2, len(unit), width))
    depths = []
    for record in records:
        place, emitted = unit[record.turn, record.batch], 0
        tested[place, : len(record.tested)] += record.tested
        kept[place, : len(record.kept)] += record.kept
        for line in lines[record.prompt, record.role]:
            room = config["max_new_tokens"] - emitted - 1  # deeper drafts were of no use
            depths.append((place, line["depth"], line["depth"] == room and room < (config["drafter"].get("num_tokens") or 0)))
            emitted += line["emitted"]
    chosen = [depth for depth in depths if not depth[2]] or depths
    return Judged(tested, kept, np.array([depth[0] for depth in chosen]), np.array([depth[1] for depth in chosen]))
