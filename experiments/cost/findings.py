"""Predicted against measured, with bootstrap intervals, and what the difference is made of; everything as plain rows for JSON, tables and plots."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.analysis.theory import best_num_tokens, walltime_gain
from experiments.cost.calibrate import Calibration
from experiments.cost.fit import ForwardModel, PhaseModel, fit_phase, interval, resampled_median
from experiments.cost.forwards import PHASES, Forwarded
from experiments.cost.predict import Costs, acceptance_of, fit_costs, speedup_at_lengths, speedup_of_run, tokens_per_step
from experiments.cost.timing import CHAIN, DRAFTER, TARGET, Cell

Row = dict[str, Any]
TARGET_PHASE = PHASES.index("target")
TOLERANCE = 0.1  # a prediction further off than this is explained
ACCEPTANCES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
DRAFT_COSTS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)  # one forward of the drafter over one of the target


@dataclass
class Model:
    """The fitted curves, and draws of them that show how sure they are."""

    cells: Mapping[Cell, NDArray]
    calibrations: Mapping[str, Calibration]
    resamples: int
    seed: int = 0
    costs: Costs = field(init=False)
    draws: list[Costs] = field(init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.costs = fit_costs(self.cells, self.calibrations)
        self.draws = [fit_costs(self.cells, self.calibrations, resampled_median(self.rng)) for _ in range(self.resamples)]

    def spread(self, num_units: int, figure: Callable[[Costs, NDArray], Any]) -> tuple[Any, list[Any]]:
        """A figure by the fitted curves and all units, and its draws: measurements and units both resampled."""
        drawn = [figure(costs, self.rng.integers(num_units, size=num_units)) for costs in self.draws]
        return figure(self.costs, np.arange(num_units)), drawn


def run_rows(model: Model, runs: Sequence[Forwarded]) -> list[Row]:
    """A row per run: predicted and measured speedup, by its own steps and by one run's acceptance, and seconds per step by phase."""
    rows = []
    for run in runs:
        found, drawn = model.spread(len(run.lengths), lambda costs, units, run=run: speedup_of_run(run, costs, units))
        measured = run.summary["speedup"]
        row = {"folder": run.folder.as_posix(), "run": run.label, "setup": run.setup, "gamma": run.num_tokens, "batch": run.batch}
        row |= {"predicted": found, "predicted_interval": interval(drawn), "measured": measured}
        row |= {"measured_interval": run.summary["speedup_interval"], "error": found / measured - 1}
        rows.append(row | {"phases": phase_rows(model.costs, run)})
    return rows


def phase_rows(costs: Costs, run: Forwarded) -> list[Row]:
    """Mean seconds per step, predicted and recorded, by role and phase.

    `at_pace`: the prediction, scaled by how much slower plain decoding's forwards were in the run than when they were timed: a machine that is
    slower altogether changes no speedup. `moves`: the factor, minus one, by which the remaining difference changes the predicted speedup. `typical`:
    the median over steps of recorded / at pace, which a few interrupted steps do not change; None where no time is predicted.
    """
    found = []
    plain = costs.plain(run, run.baseline)
    pace = float(run.baseline.seconds[:, TARGET_PHASE].mean() / plain[:, TARGET_PHASE].mean())
    for role, sign, predicted, recorded in (
        ("method", -1, costs.method(run, run.method.drafted, run.method.context), run.method.seconds),
        ("plain", 1, plain, run.baseline.seconds),
    ):
        total = float(recorded.mean(0).sum())
        for number, phase in enumerate(PHASES):
            expected, clocked = float(predicted[:, number].mean()), float(recorded[:, number].mean())
            row = {"role": role, "phase": phase, "predicted": expected, "at_pace": pace * expected, "recorded": clocked}
            known = predicted[:, number] > 0
            row["typical"] = float(np.median(recorded[known, number] / predicted[known, number]) / pace) if known.any() else None
            found.append(row | {"moves": (1 + (pace * expected - clocked) / total) ** sign - 1})
    return found


def gamma_rows(model: Model, runs: Sequence[Forwarded]) -> tuple[list[Row], list[Row]]:
    """The curve of speedup over gamma of every setup, predicted from its longest drafts alone; and the best gamma of each, with its uncertainty."""
    curves, best = [], []
    for setup in dict.fromkeys(run.setup for run in runs if run.num_tokens is not None and not run.shape.tree):
        rivals = [run for run in runs if run.setup == setup]
        source = max(rivals, key=lambda run: run.num_tokens or 0)
        assert source.num_tokens is not None
        lengths = range(1, source.num_tokens + 1)
        found, drawn = model.spread(
            len(source.lengths), lambda costs, units, source=source, lengths=lengths: speedup_at_lengths(source, costs, units, lengths)
        )
        measured = {run.num_tokens: run.summary for run in rivals}
        tokens = tokens_per_step(acceptance_of(source, np.arange(len(source.lengths))), np.array(lengths))
        for place, gamma in enumerate(lengths):
            row = {"setup": setup, "run": source.setup_label, "gamma": gamma, "source_gamma": source.num_tokens}
            row |= {"predicted": float(found[place]), "predicted_interval": interval([draw[place] for draw in drawn])}
            row |= {"tokens_per_step": float(tokens[place]), "measured": None, "measured_interval": None, "error": None}
            if gamma in measured:
                speedup = measured[gamma]["speedup"]
                row |= {"measured": speedup, "measured_interval": measured[gamma]["speedup_interval"], "error": float(found[place] / speedup - 1)}
            curves.append(row)
        best.append(_best(curves[-len(lengths) :], [best_of(draw) for draw in drawn]))
    return curves, best


def best_of(speedups: NDArray) -> int:
    """The length with the largest predicted speedup, 0 where none reaches 1; speedups [G] of lengths 1 ... G."""
    return int(np.argmax([1.0, *speedups]))


def _best(curve: Sequence[Row], drawn: Sequence[int]) -> Row:
    predicted = best_of(np.array([row["predicted"] for row in curve]))
    measured = {row["gamma"]: row["measured"] for row in curve if row["measured"] is not None}
    spread = interval(drawn)
    return {
        "setup": curve[0]["setup"],
        "run": curve[0]["run"],
        "gamma": predicted,
        "gamma_interval": None if spread is None else [int(np.floor(spread[0])), int(np.ceil(spread[1]))],
        "predicted": curve[predicted - 1]["predicted"] if predicted else 1.0,
        "measured_gamma": max(measured, key=measured.__getitem__) if len(measured) > 1 else None,
        "measured": max(measured.values()) if len(measured) > 1 else None,
        "at_the_end": predicted == curve[-1]["gamma"],
    }


def forward_rows(model: Model) -> list[Row]:
    """Points of the curves of forward time: medians with their spread, and the fitted curve at the same place."""
    rows = []
    for cell, seconds in sorted(model.cells.items()):
        curve = model.costs.forward.get((cell.shape, cell.batch)) if cell.model == TARGET else None
        low, middle, high = np.quantile(seconds, [0.25, 0.5, 0.75])
        place = {"model": cell.model, "shape": str(cell.shape), "batch": cell.batch, "context": cell.context, "slots": cell.slots}
        fitted = None if curve is None else float(curve(cell.slots, cell.context))
        rows.append({**place, "seconds": float(middle), "low": float(low), "high": float(high), "fitted": fitted})
    return rows


def curve_rows(model: Model, runs: Sequence[Forwarded]) -> list[Row]:
    """The coefficients of every setup: seconds per step and per drafted token outside the target, with intervals, and the drafter's bare forward."""
    rows = []
    for setup, costs in model.costs.phases.items():
        run = next(run for run in runs if run.setup == setup)
        row: Row = {"setup": setup, "run": run.setup_label, "plain_rest": costs.plain_rest, "drafter_forward": bare_forward(model, run)}
        for name in ("draft", "rest"):
            curve: PhaseModel = getattr(costs, name)
            drawn = [getattr(draw.phases[setup], name) for draw in model.draws]
            row |= {f"{name}_per_step": curve.per_step, f"{name}_per_token": curve.per_token}
            row[f"{name}_per_token_interval"] = interval([draw.per_token for draw in drawn])
        times = model.calibrations[setup].method
        row["loop_target"] = float(fit_phase(times.drafted, times.target).per_step)
        rows.append(row)
    return rows


def bare_forward(model: Model, run: Forwarded) -> float | None:
    """Seconds of one token through the drafter's own model, over the contexts; None where it has none."""
    name = f"{DRAFTER} {run.config['drafter'].get('name')}"
    found = [float(np.median(seconds)) for cell, seconds in model.cells.items() if (cell.model, cell.batch) == (name, run.batch)]
    return float(np.mean(found)) if found else None


def theory_rows(curve: ForwardModel, context: float, limit: int = 16) -> list[Row]:
    """The best gamma for equal acceptance at all positions and a drafter of given cost: with free verification, and at the measured one."""
    measured = lambda slots: float(curve(slots, context) / curve(1, context))  # noqa: E731
    rows = []
    for acceptance in ACCEPTANCES:
        for cost in DRAFT_COSTS:
            for name, verify in (("free", None), ("measured", measured)):
                gamma = best_num_tokens(acceptance, cost, verify, limit)
                gain = walltime_gain(acceptance, gamma, cost, 1.0 if verify is None else verify(gamma + 1))
                rows.append({"acceptance": acceptance, "draft_cost": cost, "verification": name, "gamma": gamma, "speedup": gain})
    return rows


def median_error(rows: Sequence[Row]) -> float | None:
    """Median of |predicted / measured - 1| where both are known."""
    errors = [abs(row["error"]) for row in rows if row["error"] is not None]
    return float(np.median(errors)) if errors else None


def missing(rows: Sequence[Row]) -> list[str]:
    """For every prediction that is further off than 10 %, which phase of which role differs, worst first."""
    found = []
    for row in sorted((row for row in rows if abs(row["error"]) > TOLERANCE), key=lambda row: -abs(row["error"])):
        guilty = sorted((phase for phase in row["phases"] if phase["moves"] * row["error"] > 0), key=lambda phase: -abs(phase["moves"]))[:2]
        named = "; ".join(map(_difference, guilty)) or "no one phase"
        found.append(f"{row['run']}: predicted {row['predicted']:.2f}, measured {row['measured']:.2f} ({row['error']:+.0%}): {named}")
    return found


def _difference(phase: Row) -> str:
    whose = "plain decoding" if phase["role"] == "plain" else "the method"
    text = f"{phase['phase']} of {whose} took {1000 * phase['recorded']:.2f} ms per step, {1000 * phase['at_pace']:.2f} predicted"
    if abs(phase["at_pace"] / max(phase["predicted"], 1e-12) - 1) > TOLERANCE and phase["predicted"]:
        text += f" at the run's pace ({1000 * phase['predicted']:.2f} as timed)"
    mostly = phase["typical"] is not None and abs(phase["typical"] - 1) < TOLERANCE
    few = ", though most steps took what was predicted: a few were interrupted" if mostly and phase["recorded"] > 1.1 * phase["at_pace"] else ""
    return f"{text} ({phase['moves']:+.0%} on the speedup{few})"


def plain_curve(model: Model) -> ForwardModel:
    """The target's curve for chains at the smallest measured batch."""
    return model.costs.forward[CHAIN, min(batch for shape, batch in model.costs.forward if shape == CHAIN)]
