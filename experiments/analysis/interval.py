"""95 % intervals of ratios of totals over independent units: a jackknife, studentised, and corrected for units that lean to one side.

The statistic is computed again without each unit in turn. The spread of these values gives its standard error, and Student's t with two degrees of
freedom less than there are units (one for the mean, one for the skewness) says how many standard errors the interval takes (Tukey 1958). Where units
lean to one side (a few prompts gain five times as much as the others) such an interval ends too early on that side: Hall's transformation says how
much further it must reach (Hall, "On the removal of skewness by transformation", 1992, JRSS B 54, 221). The wider end of both is taken on each side,
but never more than MOST_REACH times what the spread alone asks for: one odd unit among a few must not make an interval that says nothing. Nothing is
drawn, so an interval is the same every time. What it covers is measured in `tests/experiments/analysis/test_coverage.py`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

CONFIDENCE = 0.95
MIN_UNITS = 6  # below, nothing that a few units show holds for others: there is no interval
MOST_REACH = 2

Interval = tuple[float, float]


def ratio_interval(columns: NDArray) -> Interval | None:
    """95 % interval of a ratio of totals; columns [k, units], all positive: k = 2 for a / b, k = 4 for (a / b) / (c / d). None below MIN_UNITS."""
    held = exponential(interval(columns, log_ratio))
    if held is None:
        return None
    totals = columns.sum(1).tolist()
    ratio = totals[0] / totals[1] if len(totals) == 2 else (totals[0] / totals[1]) / (totals[2] / totals[3])
    return min(held[0], ratio), max(held[1], ratio)  # the logarithm rounds: units that all agree must not leave their own ratio out


def mean_interval(logarithms: NDArray) -> Interval | None:
    """95 % interval of a geometric mean, from the logarithms [units]. None below MIN_UNITS."""
    return exponential(interval(np.stack([logarithms, np.ones_like(logarithms)]), lambda totals: totals[0] / totals[1]))


def share_interval(counted: NDArray, total: NDArray) -> Interval | None:
    """95 % interval of counted / total over all units, both [units]: Wilson's, or wider where units differ more than coins would.

    Half a case is added on both sides, so that a share of 0 or 1 has log odds. None below MIN_UNITS.
    """
    if counted.size < MIN_UNITS or not total.sum():
        return None
    wilson = stats.binomtest(int(counted.sum()), int(total.sum())).proportion_ci(CONFIDENCE, "wilson")
    odds = interval(np.stack([counted, total - counted]).astype(float), lambda totals: np.log((totals[0] + 0.5) / (totals[1] + 0.5)))
    low, high = 1 / (1 + np.exp(-np.array(odds)))
    return min(float(wilson.low), float(low)), max(float(wilson.high), float(high))


def median_interval(values: NDArray) -> Interval | None:
    """At least 95 % for the median of `values` [units], whatever their distribution: between two order statistics. None below MIN_UNITS."""
    if values.size < MIN_UNITS:
        return None
    outside = int(stats.binom.ppf((1 - CONFIDENCE) / 2, values.size, 0.5))  # the largest number of values that may be left out on each side
    low, high = np.sort(values)[[outside - 1, -outside]]
    return float(low), float(high)


def log_ratio(totals: NDArray) -> NDArray:
    """Logarithm of a / b or of (a / b) / (c / d); totals [2 or 4, ...]."""
    return np.tensordot([1, -1, -1, 1][: len(totals)], np.log(totals), 1)


def interval(columns: NDArray, of_totals: Callable[[NDArray], Any]) -> Interval | None:
    """95 % interval of `of_totals`, a smooth function of the columns' totals [k, ...]; columns [k, units]. None below MIN_UNITS."""
    if columns.shape[1] < MIN_UNITS:
        return None
    low, high = ends(columns, of_totals)
    return float(low), float(high)


def ends(columns: NDArray, of_totals: Callable[[NDArray], Any]) -> tuple[NDArray, NDArray]:
    """Both ends of the interval; columns [k, ..., units], the ends [...]: many samples at once are what the simulation asks for."""
    units = columns.shape[-1]
    totals = columns.sum(-1)
    without = of_totals(totals[..., None] - columns)  # [..., units]
    shares = (units - 1) * (without.mean(-1, keepdims=True) - without)  # how much each unit moves the statistic
    variance = (shares**2).mean(-1)
    error = np.sqrt(variance / (units - 1))
    skewness = np.divide((shares**3).mean(-1), variance**1.5, out=np.zeros_like(variance), where=variance > 1e-24)
    skewness *= np.sqrt(units * (units - 1)) / (units - 2)
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, units - 2))
    below, above = straightened(reach, skewness, units), -straightened(-reach, skewness, units)
    below, above = (np.clip(side, reach, MOST_REACH * reach) for side in (below, above))
    found = of_totals(totals)
    return found - error * below, found + error * above


def straightened(quantile: float, skewness: NDArray, units: int) -> NDArray:
    """The quantile of the studentised statistic whose units have this skewness; that of a symmetric one is `quantile`. Hall's transformation."""
    bend = skewness / np.sqrt(units)
    bend = np.where(np.abs(bend) < 1e-9, 1e-9, bend)
    return 3 / bend * (np.cbrt(1 + bend * (quantile - bend / 6)) - 1)


def exponential(ends_of: Interval | None) -> Interval | None:
    return None if ends_of is None else (float(np.exp(ends_of[0])), float(np.exp(ends_of[1])))
