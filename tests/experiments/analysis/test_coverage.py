"""How often a "95 %" interval holds the truth: over samples from made-up distributions, and over samples from a recorded default sweep.

The sweep (`default_sweep.jsonl`) is that of `make run`: 44 prompts, three drafters, greedy and at T=0.8, plain decoding beside each. Its prompts are
taken for all there are, so the truth is known, and samples of them are drawn with replacement.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from experiments.analysis.interval import MIN_UNITS, ends, log_ratio, mean_interval, median_interval, ratio_interval

TRIALS = 8000
SIZES = (6, 7, 8, 12, 24, 44)  # units
Ends = Callable[[NDArray], tuple[NDArray, NDArray]]  # columns [4, trials, units] -> both ends [trials], of the logarithm
SWEEP = [json.loads(line) for line in (Path(__file__).parent / "default_sweep.jsonl").read_text().splitlines()]
ARMS = [f"{line['drafter']} {line['sampling']}" for line in SWEEP]


def ours(columns: NDArray) -> tuple[NDArray, NDArray]:
    return ends(columns, log_ratio)


def percentile_bootstrap(columns: NDArray) -> tuple[NDArray, NDArray]:
    """What stood here before."""
    draws, (_, trials, units) = np.random.default_rng(1), columns.shape
    found = np.empty((200, trials))
    for row in found:
        chosen = draws.integers(0, units, (1, trials, units))
        row[:] = log_ratio(np.take_along_axis(columns, chosen.repeat(4, 0), -1).sum(-1))
    low, high = np.quantile(found, [0.025, 0.975], axis=0)
    return low, high


def share(columns: NDArray, truth: float, method: Ends) -> float:
    """In which share of the trials the interval holds the truth; columns [4, trials, units]."""
    low, high = method(columns)
    return float(((low <= truth) & (truth <= high)).mean())


def recorded(arm: int, *, end_to_end: bool) -> NDArray:
    """Seconds and tokens of plain decoding, then of the method; [4, 44]."""
    columns = []
    for role in ("baseline", "method"):
        held = SWEEP[arm][role]
        prefill = np.array(held["prefill_seconds"]) if end_to_end else 0
        columns += [np.array(held["seconds"]) + prefill, np.array(held["tokens"], float)]
    return np.array(columns)


def resampled(arm: int, units: int, trials: int, method: Ends, *, end_to_end: bool) -> float:
    everything = recorded(arm, end_to_end=end_to_end)
    chosen = np.random.default_rng([arm, units]).integers(0, everything.shape[1], (trials, units))
    return share(everything[:, chosen], float(log_ratio(everything.sum(1))), method)


def columns_of(ratios: NDArray) -> NDArray:
    """Units of equal size whose own ratios are given, [trials, units]."""
    ones = np.ones_like(ratios)
    return np.array([ratios, ones, ones, ones])


def normal(deviation: float, units: int, trials: int, method: Ends) -> float:
    """The logarithms of the units' ratios are normal, and the units do not have the same number of tokens."""
    draws = np.random.default_rng(units)
    tokens = draws.integers(24, 49, (trials, units)).astype(float)
    ratios = np.exp(draws.normal(0.4, deviation, (trials, units)))
    return share(np.array([tokens * ratios, tokens, tokens, tokens]), 0.4 + deviation**2 / 2, method)


def exponential(units: int, trials: int, method: Ends) -> float:
    """Every unit gains something, and few gain much: ratios of 1 plus an exponential number."""
    return share(columns_of(1 + np.random.default_rng(units).exponential(1, (trials, units))), np.log(2), method)


def exponential_logarithm(units: int, trials: int, method: Ends) -> float:
    """The same with an exponential logarithm, which leans even more."""
    ratios = np.exp(np.random.default_rng(units).exponential(0.3, (trials, units)))
    return share(columns_of(ratios), np.log(1 / 0.7), method)


def faults(method: Ends, trials: int = TRIALS, sizes: tuple[int, ...] = SIZES) -> list[str]:
    """Everything that an interval is asked to cover and does not."""
    asked: dict[str, tuple[float, Callable[[int], float]]] = {}
    for deviation in (0.1, 0.3):
        asked[f"normal, {deviation}"] = (0.94, lambda units, deviation=deviation: normal(deviation, units, trials, method))
    asked["exponential"] = (0.9, lambda units: exponential(units, trials, method))
    asked["exponential logarithm"] = (0.9, lambda units: exponential_logarithm(units, trials, method))
    for end_to_end in (True, False):
        arms = [lambda units, arm=arm, whole=end_to_end: resampled(arm, units, trials, method, end_to_end=whole) for arm in range(len(ARMS))]
        name = "end to end" if end_to_end else "decode only"
        asked |= {f"{arm}, {name}": (0.94 if end_to_end else 0.93, found) for arm, found in zip(ARMS, arms, strict=True)}
        asked[f"the whole sweep, {name}"] = (0.94, lambda units, arms=arms: float(np.mean([arm(units) for arm in arms])))
    measured = [(f"{name}, {units} units", least, found(units)) for name, (least, found) in asked.items() for units in sizes]
    return [f"{name}: {found:.3f} < {least}" for name, least, found in measured if found < least]


def test_intervals_cover_what_they_say() -> None:
    assert faults(ours) == []


@pytest.mark.parametrize("units", [6, 12])
def test_a_percentile_bootstrap_does_not(units: int) -> None:
    found = faults(percentile_bootstrap, 400, (units,))
    assert any(line.startswith("the whole sweep, end to end") for line in found)
    assert any(line.startswith("normal, 0.3") for line in found)


def test_intervals_are_no_wider_than_they_must_be() -> None:
    """Of many units they are those of a plain jackknife; an interval over everything would cover, too."""
    columns = columns_of(np.exp(np.random.default_rng(0).normal(0.4, 0.3, (2000, 44))))
    low, high = ours(columns)
    assert float(np.median(high - low)) < 1.1 * 2 * 1.96 * 0.3 / np.sqrt(44)
    assert share(columns, 0.4 + 0.045, ours) < 0.97


def test_one_sample_has_the_interval_that_it_has_among_many() -> None:
    columns = recorded(0, end_to_end=True)
    low, high = ours(columns[:, None])
    assert ratio_interval(columns) == pytest.approx((float(np.exp(low[0])), float(np.exp(high[0]))))


@pytest.mark.parametrize("of", [lambda units: ratio_interval(np.ones((4, units))), lambda units: mean_interval(np.zeros(units))])
def test_units_that_agree_leave_no_doubt_and_few_units_no_interval(of: Callable[[int], object]) -> None:
    assert of(MIN_UNITS) == pytest.approx((1.0, 1.0))
    assert of(MIN_UNITS - 1) is None


def test_the_median_of_any_distribution_is_covered() -> None:
    draws = np.random.default_rng(0)
    for units in (6, 9, 25):
        found = [median_interval(draws.exponential(1, units)) for _ in range(2000)]
        held = [low <= np.log(2) <= high for low, high in filter(None, found)]
        assert len(held) == 2000
        assert np.mean(held) > 0.94
    assert median_interval(np.arange(5.0)) is None
    assert median_interval(np.arange(6.0)) == (0.0, 5.0)
