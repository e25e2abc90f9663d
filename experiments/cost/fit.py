"""Simple curves fitted to measured times: a forward as a polygon over its slots plus lines in the context, a phase as a line in what was drafted.

All coefficients are times and none is negative (`scipy.optimize.nnls`); residuals are relative, so a slow cell weighs no more than a fast one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import nnls

PER = 1000.0  # cached positions that the context terms are stated for

Centre = Callable[[NDArray], float]  # what a set of repetitions is summed up by: its median, or that of a resample


def median(values: NDArray) -> float:
    return float(np.median(values))


def resampled_median(rng: np.random.Generator) -> Centre:
    """The median of as many values drawn with replacement: one draw of the bootstrap over measurements."""
    return lambda values: float(np.median(rng.choice(values, len(values))))


@dataclass(frozen=True)
class ForwardModel:
    """Seconds of a forward over N slots after C cached positions: base(N) + (per_cached + per_slot_cached N) C / 1000.

    `base` is linear between the knots; its last piece goes on beyond the last knot.
    """

    knots: NDArray  # [K] slots
    base: NDArray  # [K] seconds at an empty cache
    per_cached: float
    per_slot_cached: float

    def __call__(self, slots: ArrayLike, context: ArrayLike) -> NDArray:
        slots, context = np.asarray(slots, dtype=float), np.asarray(context, dtype=float)
        base = np.interp(slots, self.knots, self.base)
        if len(self.knots) > 1:
            slope = (self.base[-1] - self.base[-2]) / (self.knots[-1] - self.knots[-2])
            base = base + np.clip(slots - self.knots[-1], 0, None) * max(slope, 0.0)
        return base + (self.per_cached + self.per_slot_cached * slots) * context / PER


def fit_forward(slots: ArrayLike, context: ArrayLike, seconds: ArrayLike) -> ForwardModel:
    """The curve of cells measured at `slots`, `context`, `seconds`, [cells] each. A term that the cells cannot tell apart is left at zero.

    Raises ValueError unless there is a positive time for at least one cell.
    """
    slots, context, seconds = (np.asarray(column, dtype=float) for column in (slots, context, seconds))
    if not len(seconds) or not (seconds > 0).all():
        raise ValueError(f"{len(seconds)} measured forwards, of which all must have taken time; measure at least one number of slots")
    knots = np.unique(slots)
    columns = [(slots == knot).astype(float) for knot in knots]
    if len(np.unique(context)) > 1:
        columns += [context / PER] + ([slots * context / PER] if len(knots) > 1 else [])
    found = nnls(np.stack(columns, 1) / seconds[:, None], np.ones(len(seconds)))[0]
    rest = [*found[len(knots) :], 0.0, 0.0]
    return ForwardModel(knots, found[: len(knots)], float(rest[0]), float(rest[1]))


@dataclass(frozen=True)
class PhaseModel:
    """Seconds of a phase in a step that drafted n tokens: per_step + per_token n."""

    per_step: float
    per_token: float

    def __call__(self, drafted: ArrayLike) -> NDArray:
        return self.per_step + self.per_token * np.asarray(drafted, dtype=float)


def fit_phase(drafted: NDArray, seconds: NDArray, centre: Centre = median) -> PhaseModel:
    """A line through the centres of the steps that drafted equally many tokens; drafted, seconds [steps]."""
    counts, number = np.unique(drafted, return_counts=True)
    middles = np.array([centre(seconds[drafted == count]) for count in counts])
    columns = np.stack([np.ones(len(counts)), counts.astype(float)], 1) if len(counts) > 1 else np.ones((1, 1))
    weights = np.sqrt(number) / np.maximum(middles, 1e-9)
    found = nnls(columns * weights[:, None], middles * weights)[0]
    return PhaseModel(float(found[0]), float(found[1]) if len(found) > 1 else 0.0)


def interval(values: Sequence[float] | NDArray) -> list[float] | None:
    """The middle 95 % of bootstrap draws; None where there are fewer than two."""
    if len(values) < 2:
        return None
    low, high = np.quantile(np.asarray(values, dtype=float), [0.025, 0.975])
    return [float(low), float(high)]
