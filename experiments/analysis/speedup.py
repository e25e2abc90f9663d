"""How much faster, and how sure of it: ratios of seconds per token, paired unit by unit, with intervals and a sign test over the units."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from experiments.analysis.interval import Interval, mean_interval, ratio_interval
from experiments.recording.record import Record


@dataclass(frozen=True)
class Timed:
    """What one role spent and made in each independent unit: a prompt, or the prompts of a batch, which share one clock."""

    seconds: NDArray  # [units]
    tokens: NDArray  # [units]


@dataclass(frozen=True)
class Comparison:
    """Seconds per token of the reference over those of the measured role: above 1 the measured one is faster.

    The intervals are None below `interval.MIN_UNITS` units; `sign_p` is None where every unit is a tie.
    """

    ratio: float  # ratio of the totals: every token counts the same
    macro: float  # geometric mean of the units' own ratios: every unit counts the same
    interval: Interval | None  # 95 %, of `ratio`
    wins: int  # units in which the measured role was the faster one
    losses: int
    sign_p: float | None  # two-sided probability of so uneven a count of wins and losses if neither were faster
    ties: int
    macro_interval: Interval | None  # 95 %, of `macro`
    units: int  # independent ones; records of earlier versions have no such entry, and intervals that cover less than they say


def compare(reference: Timed, measured: Timed) -> Comparison:
    """The measured role against the reference, unit i of one paired with unit i of the other.

    Raises ValueError unless all four arrays are one-dimensional, equally long, not empty and positive.
    """
    columns = np.array([reference.seconds, reference.tokens, measured.seconds, measured.tokens], dtype=np.float64)  # [4, units]
    if columns.ndim != 2 or not columns.size or not (columns > 0).all():
        raise ValueError(f"seconds and tokens have shape {columns.shape[1:]}; give positive numbers, one per unit and at least one unit")
    own = np.log((columns[0] / columns[1]) / (columns[2] / columns[3]))
    totals = columns.sum(1)
    wins, losses = int((own > 0).sum()), int((own < 0).sum())
    return Comparison(
        ratio=float((totals[0] / totals[1]) / (totals[2] / totals[3])),
        macro=float(np.exp(own.mean())),
        interval=ratio_interval(columns),
        wins=wins,
        losses=losses,
        ties=own.size - wins - losses,
        sign_p=float(stats.binomtest(wins, wins + losses).pvalue) if wins + losses else None,
        macro_interval=mean_interval(own),
        units=own.size,
    )


def timed(records: Sequence[Record], *, end_to_end: bool = False) -> Timed:
    """Seconds and tokens by independent unit: a batch, whose prompts share their clock, or at batch size 1 a prompt; all turns belong to it."""
    place = {batch: index for index, batch in enumerate(sorted({record.batch for record in records}))}
    seconds, tokens = np.zeros(len(place)), np.zeros(len(place))
    for record in records:
        unit = place[record.batch]
        seconds[unit] += record.end_to_end_seconds if end_to_end else record.decode_seconds
        tokens[unit] += len(record.tokens)
    return Timed(seconds, tokens)


def faster(reference: Sequence[Record], measured: Sequence[Record], *, end_to_end: bool = False) -> Comparison:
    """How much faster `measured` is than `reference` on the same prompts."""
    return compare(timed(reference, end_to_end=end_to_end), timed(measured, end_to_end=end_to_end))


def per_token(records: Sequence[Record]) -> float:
    """Seconds per token, end to end."""
    return sum(record.end_to_end_seconds for record in records) / sum(len(record.tokens) for record in records)


def figures_of(found: Comparison, name: str) -> dict[str, Any]:
    """A comparison as keys of `summary.json`, all beginning with `name`."""
    return {name if key == "ratio" else f"{name}_{key}": value for key, value in asdict(found).items()}
