"""How much faster, and how sure of it: ratios of seconds per token, paired unit by unit, with a bootstrap and a sign test over the units."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from experiments.recording.record import Record

CONFIDENCE = 0.95
RESAMPLES = 4000


@dataclass(frozen=True)
class Timed:
    """What one role spent and made in each independent unit: a prompt, or the prompts of a batch, which share one clock."""

    seconds: NDArray  # [units]
    tokens: NDArray  # [units]


@dataclass(frozen=True)
class Comparison:
    """Seconds per token of the reference over those of the measured role: above 1 the measured one is faster.

    The intervals are None where there are fewer than two units; `sign_p` is None where every unit is a tie.
    """

    ratio: float  # ratio of the totals: every token counts the same
    macro: float  # geometric mean of the units' own ratios: every unit counts the same
    interval: tuple[float, float] | None  # 95 %, of `ratio`
    wins: int  # units in which the measured role was the faster one
    losses: int
    sign_p: float | None  # two-sided probability of so uneven a count of wins and losses if neither were faster
    ties: int = 0
    macro_interval: tuple[float, float] | None = None  # 95 %, of `macro`


def compare(reference: Timed, measured: Timed, seed: int) -> Comparison:
    """The measured role against the reference, unit i of one paired with unit i of the other; `seed` is the bootstrap's.

    Raises ValueError unless all four arrays are one-dimensional, equally long, not empty and positive.
    """
    columns = np.array([reference.seconds, reference.tokens, measured.seconds, measured.tokens], dtype=np.float64)  # [4, units]
    if columns.ndim != 2 or not columns.size or not (columns > 0).all():
        raise ValueError(f"seconds and tokens have shape {columns.shape[1:]}; give positive numbers, one per unit and at least one unit")
    own = np.log((columns[0] / columns[1]) / (columns[2] / columns[3]))
    wins, losses = int((own > 0).sum()), int((own < 0).sum())
    return Comparison(
        ratio=float(ratio(*columns)),
        macro=float(np.exp(own.mean())),
        interval=interval(columns, ratio, seed),
        wins=wins,
        losses=losses,
        ties=own.size - wins - losses,
        sign_p=float(stats.binomtest(wins, wins + losses).pvalue) if wins + losses else None,
        macro_interval=interval(own[None], geometric_mean, seed),
    )


def ratio(reference_seconds: NDArray, reference_tokens: NDArray, seconds: NDArray, tokens: NDArray, axis: int = -1) -> NDArray:
    """Ratio of the totals along `axis`."""
    return (reference_seconds.sum(axis) / reference_tokens.sum(axis)) / (seconds.sum(axis) / tokens.sum(axis))


def geometric_mean(logarithms: NDArray, axis: int = -1) -> NDArray:
    """Geometric mean along `axis` of the numbers whose logarithms are given."""
    return np.exp(logarithms.mean(axis))


def interval(columns: NDArray, statistic: Callable[..., NDArray], seed: int) -> tuple[float, float] | None:
    """95 % percentile bootstrap interval of `statistic(*columns, axis=)`, units resampled together; columns [k, units]. None below two units."""
    if columns.shape[1] < 2:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        found = stats.bootstrap(
            tuple(columns), statistic, paired=True, vectorized=True, n_resamples=RESAMPLES, confidence_level=CONFIDENCE, method="percentile", rng=seed
        )
    low, high = found.confidence_interval
    return float(low), float(high)


def timed(records: Sequence[Record], *, end_to_end: bool = False) -> Timed:
    """Seconds and tokens by independent unit: a batch, whose prompts share their clock, or at batch size 1 a prompt; all turns belong to it."""
    place = {batch: index for index, batch in enumerate(sorted({record.batch for record in records}))}
    seconds, tokens = np.zeros(len(place)), np.zeros(len(place))
    for record in records:
        unit = place[record.batch]
        seconds[unit] += record.end_to_end_seconds if end_to_end else record.decode_seconds
        tokens[unit] += len(record.tokens)
    return Timed(seconds, tokens)


def faster(reference: Sequence[Record], measured: Sequence[Record], seed: int, *, end_to_end: bool = False) -> Comparison:
    """How much faster `measured` is than `reference` on the same prompts."""
    return compare(timed(reference, end_to_end=end_to_end), timed(measured, end_to_end=end_to_end), seed)


def figures_of(found: Comparison, name: str) -> dict[str, Any]:
    """A comparison as keys of `summary.json`, all beginning with `name`."""
    return {name if key == "ratio" else f"{name}_{key}": value for key, value in asdict(found).items()}
