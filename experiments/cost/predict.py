"""From measured times and recorded steps to speedups: of the runs as they went, and of every other length of draft.

Predicted speedup = (seconds of plain decoding per token) / (seconds of the method per token). A forward costs its drafting, t(slots, context) of the
target, and the rest of the step; how many forwards a text takes is recorded, or follows from acceptance by position (`steps_needed`).
Letters: g draft tokens at most, K the deepest recorded one, U units (prompts, or batches of them), L the longest answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from experiments.cost.calibrate import Calibration, StepTimes
from experiments.cost.fit import Centre, ForwardModel, PhaseModel, fit_forward, fit_phase, median
from experiments.cost.forwards import Forwarded, Forwards
from experiments.cost.timing import CHAIN, TARGET, Cell, Shape


@dataclass(frozen=True)
class PhaseCosts:
    """Seconds per step outside the target's forward."""

    draft: PhaseModel
    rest: PhaseModel
    plain_draft: float  # what the loop spends on `none` drafting nothing
    plain_rest: float


@dataclass(frozen=True)
class Costs:
    """All fitted curves."""

    forward: dict[tuple[Shape, int], ForwardModel]  # by shape of the draft and batch size
    phases: dict[str, PhaseCosts]  # by setup

    def method(self, run: Forwarded, drafted: NDArray, context: NDArray | float) -> NDArray:
        """Predicted seconds of steps that drafted so many tokens, [..., 3]: draft, target, rest."""
        costs = self.phases[run.setup]
        target = self.forward[run.shape, run.batch](1 + drafted + run.shape.scratch, context)
        return np.stack(np.broadcast_arrays(costs.draft(drafted), target, costs.rest(drafted)), -1)

    def plain(self, run: Forwarded, forwards: Forwards) -> NDArray:
        """Predicted seconds of plain decoding's steps, [F, 3]."""
        costs = self.phases[run.setup]
        target = self.forward[CHAIN, run.batch](1, forwards.context)
        return np.stack(np.broadcast_arrays(costs.plain_draft, target, costs.plain_rest), -1)


def fit_costs(cells: Mapping[Cell, NDArray], calibrations: Mapping[str, Calibration], centre: Centre = median) -> Costs:
    """Fits every curve to the measurements, each summed up by `centre`."""
    grouped: dict[tuple[Shape, int], list[tuple[int, int, float]]] = {}
    for cell, seconds in cells.items():
        if cell.model == TARGET:
            grouped.setdefault((cell.shape, cell.batch), []).append((cell.slots, cell.context, centre(seconds)))
    forward = {key: fit_forward(*np.array(rows, dtype=float).T) for key, rows in grouped.items()}
    return Costs(forward, {setup: _phases(found, centre) for setup, found in calibrations.items()})


def _phases(found: Calibration, centre: Centre) -> PhaseCosts:
    method: StepTimes = found.method
    draft, rest = (fit_phase(method.drafted, seconds, centre) for seconds in (method.draft, method.rest))
    return PhaseCosts(draft, rest, centre(found.plain.draft), centre(found.plain.rest))


def by_unit(values: NDArray, unit: NDArray, num_units: int) -> NDArray:
    """Sums of `values` over the entries of each unit, [U]."""
    return np.bincount(unit, weights=values, minlength=num_units)


def speedup_of_run(run: Forwarded, costs: Costs, units: NDArray) -> float:
    """Predicted speedup of the run with its recorded steps, over the chosen units."""
    num_units = len(run.lengths)
    spent = by_unit(costs.method(run, run.method.drafted, run.method.context).sum(-1), run.method.unit, num_units)
    plain = by_unit(costs.plain(run, run.baseline).sum(-1), run.baseline.unit, num_units)
    return _per_token(plain, run.baseline_tokens, units) / _per_token(spent, run.tokens, units)


def _per_token(seconds: NDArray, tokens: NDArray, units: NDArray) -> float:
    return float(seconds[units].sum() / tokens[units].sum())


@dataclass(frozen=True)
class Acceptance:
    """What one run says about its drafter."""

    conditional: NDArray  # [K] chance that a token is accepted if those before it were
    depths: NDArray  # [K + 1] share of the drafts that are so deep
    forward_depths: NDArray  # [K + 1] the same of the deepest draft in a batch: what the forward must score


def acceptance_of(run: Forwarded, units: NDArray) -> Acceptance:
    """Pooled over the chosen units. Raises ValueError for a drafter of trees, whose length is not one number."""
    if run.shape.tree or run.num_tokens is None:
        raise ValueError(f"{run.label}: other lengths can be predicted for drafters of chains with num_tokens only")
    weight = np.bincount(units, minlength=len(run.lengths)).astype(float)
    tested, kept = weight @ run.judged.tested, weight @ run.judged.kept
    most = run.num_tokens
    conditional = np.zeros(most)
    conditional[: len(tested)] = (kept / np.maximum(tested, 1.0))[:most]
    depths = np.bincount(run.judged.depth, weight[run.judged.depth_unit], most + 1)
    uncut = run.method.drafted if run.batch > 1 else run.judged.depth
    unit = run.method.unit if run.batch > 1 else run.judged.depth_unit
    forward_depths = np.bincount(uncut, weight[unit], most + 1)
    return Acceptance(conditional, depths / depths.sum(), forward_depths / forward_depths.sum())


def clipped(depths: NDArray, lengths: NDArray) -> NDArray:
    """The shares of depths [K + 1] if drafts were cut at each length; [G, K + 1]."""
    column = np.arange(len(depths))
    kept = np.where(column < lengths[:, None], depths, 0.0)
    kept[np.arange(len(lengths)), lengths] = 1 - kept.sum(1)
    return kept


def accepted_distribution(acceptance: Acceptance, lengths: NDArray) -> NDArray:
    """P(so many tokens are accepted) for each length, [G, K + 1]: depth i is reached if it was drafted and all before it were accepted."""
    reached = np.concatenate([[1.0], np.cumprod(acceptance.conditional)])
    drafted = clipped(acceptance.depths, lengths)[:, ::-1].cumsum(1)[:, ::-1]  # P(depth >= i)
    survival = np.pad(reached * drafted, ((0, 0), (0, 1)))
    return survival[:, :-1] - survival[:, 1:]


def tokens_per_step(acceptance: Acceptance, lengths: NDArray) -> NDArray:
    """Expected, far from the end of the text; [G]. With equal rates at all positions it is `theory.expected_tokens`."""
    distribution = accepted_distribution(acceptance, lengths)
    return 1 + distribution @ np.arange(distribution.shape[1])


def steps_needed(distribution: NDArray, forward_depths: NDArray, seconds: NDArray, longest: int) -> NDArray:
    """Expected forwards and their seconds for texts of 0 ... L tokens, [G, L + 1, 4]: steps, draft, target, rest.

    `distribution` [G, K + 1] of accepted tokens, `forward_depths` [G, K + 1], `seconds` [K + 1, 3] by drafted tokens. The last draft of a text is
    shortened to what is left of the text, so short answers take more steps than length / tokens per step.
    """
    column, found = np.arange(distribution.shape[1]), np.zeros((len(distribution), longest + 1, 4))
    step = np.concatenate([np.ones((len(seconds), 1)), seconds], 1)
    for left in range(1, longest + 1):
        found[:, left] = forward_depths @ step[np.minimum(column, left - 1)]
        behind = left - 1 - np.arange(min(distribution.shape[1], left - 1))  # what is left after each count; emitting all of it ends the text
        found[:, left] += np.einsum("gk,gkc->gc", distribution[:, : len(behind)], found[:, behind])
    return found


def speedup_at_lengths(run: Forwarded, costs: Costs, units: NDArray, lengths: Sequence[int]) -> NDArray:
    """Predicted speedup at each length of draft up to the recorded one, from this run's acceptance alone; [G]."""
    acceptance, wanted = acceptance_of(run, units), np.asarray(lengths)
    rows = np.concatenate([run.lengths[unit] for unit in units])
    context = float(run.method.context.mean())
    seconds = costs.method(run, np.arange(len(acceptance.depths)), context)
    table = steps_needed(accepted_distribution(acceptance, wanted), clipped(acceptance.forward_depths, wanted), seconds, int(rows.max()))
    spent = table[:, rows, 1:].sum((1, 2)) / rows.sum() / run.method.rows.mean()  # rows that share a forward share its time
    num_units = len(run.lengths)
    plain = by_unit(costs.plain(run, run.baseline).sum(-1), run.baseline.unit, num_units)
    return _per_token(plain, run.baseline_tokens, units) / spent
