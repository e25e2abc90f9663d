"""How much faster, and how sure of it: ratios of seconds per token, paired prompt by prompt, with a bootstrap over prompts."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from experiments.records import Pair

CONFIDENCE = 0.95
RESAMPLES = 4000


@dataclass(frozen=True)
class Speedup:
    """Baseline seconds per token over the method's. `interval` is None where there are fewer than two independent units."""

    ratio: float  # of totals: every token counts the same
    macro: float  # geometric mean of the prompts' own ratios: every prompt counts the same
    interval: tuple[float, float] | None  # 95 %, of `ratio`
    with_prefill: float  # of totals, the prompt's own forward included


def speedup(pairs: Sequence[Pair], seed: int) -> Speedup:
    """Prompts that were decoded in one batch share their clock, so batches are what is resampled; at batch size 1 these are the prompts."""
    units = np.array([_totals(pairs, batch) for batch in sorted({pair.method.batch for pair in pairs})]).T  # [4, units]
    prompts = np.array([_columns(pair) for pair in pairs]).T
    seconds_before = [sum(pair[role].prefill_seconds for pair in pairs) for role in (1, 0)]
    totals = units.sum(1)
    whole = ((totals[0] + seconds_before[0]) / totals[1]) / ((totals[2] + seconds_before[1]) / totals[3])
    macro = float(np.exp(np.mean(np.log((prompts[0] / prompts[1]) / (prompts[2] / prompts[3])))))
    return Speedup(float(ratio(*units)), macro, _interval(units, seed), float(whole))


def ratio(baseline_seconds: NDArray, baseline_tokens: NDArray, seconds: NDArray, tokens: NDArray, axis: int = -1) -> NDArray:
    """Ratio of the totals along `axis`."""
    return (baseline_seconds.sum(axis) / baseline_tokens.sum(axis)) / (seconds.sum(axis) / tokens.sum(axis))


def _interval(units: NDArray, seed: int) -> tuple[float, float] | None:
    if units.shape[1] < 2:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        found = stats.bootstrap(
            tuple(units), ratio, paired=True, vectorized=True, n_resamples=RESAMPLES, confidence_level=CONFIDENCE, method="percentile", rng=seed
        )
    low, high = found.confidence_interval
    return float(low), float(high)


def _columns(pair: Pair) -> tuple[float, float, float, float]:
    return pair.baseline.decode_seconds, len(pair.baseline.tokens), pair.method.decode_seconds, len(pair.method.tokens)


def _totals(pairs: Sequence[Pair], batch: int) -> NDArray:
    return np.sum([_columns(pair) for pair in pairs if pair.method.batch == batch], axis=0)
