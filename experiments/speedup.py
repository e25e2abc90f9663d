"""From the records of two roles to how much faster one of them is: decode-only where both know it, and end to end."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from experiments.records import Record
from experiments.statistics import Comparison, Timed, compare


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
