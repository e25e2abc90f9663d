"""What a step costs here: seconds by the rows of the batch and by how much is drafted.

Measured once, before the first step, by steps that are tried and taken back. Nothing in it depends on a token that is drawn, so whoever decides by it
leaves the output's distribution as it is.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf, log
from statistics import median_low
from typing import Any

import torch

LENGTHS = (0, 1, 2, 4, 8, 16)  # drafted tokens that are tried; 0 is plain decoding
BUDGET = 0.35  # seconds of measuring for one number of rows; models whose rounds are slower than that are tried in `ROUNDS` rounds
ROUNDS = 3  # at least; the first of them warms up
IN_A_ROW, COUNTED = 10, 4  # tries of a length, where rounds are fast, and how many of them count


@dataclass
class StepCosts:
    """`lengths` are the amounts that are measured, in rising order and with 0 among them; between them a cost is interpolated."""

    lengths: Sequence[int] = LENGTHS
    seconds: dict[int, dict[int, float]] = field(default_factory=dict)  # rows -> length -> seconds of a step of the whole batch
    _curves: dict[int, list[float]] = field(default_factory=dict, init=False, repr=False, compare=False)
    fixed: bool = False  # nothing more is measured: what is not there is answered by the nearest number of rows
    measured_for: tuple[Any, ...] | None = None  # whose steps these are

    def serve(self, *whose: Any) -> None:
        """Forgets what was measured for a model, runtime or verifier other than these."""
        if not self.fixed and self.measured_for != whose:
            self.know({})
            self.measured_for = whose

    def lacks(self, num_rows: int) -> bool:
        """Whether steps of a batch of this size should be measured now."""
        return not self.seconds or (not self.fixed and num_rows not in self.seconds)

    def measure(self, num_rows: int, step: Callable[[int], None], clock: Callable[[], float]) -> None:
        """`step` tries a step at a length and waits until it is done. The median of several rounds counts, the lower one of two.

        Where rounds are fast, a length is tried `IN_A_ROW` times in a row and the last `COUNTED` of them count: what a small model's step costs
        depends on how much of its weights the steps before it have left in the processor's caches.
        """
        start = clock()
        first = [_seconds(step, length, clock, 1) for length in self.lengths]  # warms up
        in_a_row = IN_A_ROW if sum(first) * IN_A_ROW * (ROUNDS - 1) < BUDGET else 1
        rounds: list[list[float]] = []
        while len(rounds) < ROUNDS - 1 or clock() - start < BUDGET * (1 - 1 / (1 + len(rounds))):
            rounds.append([_seconds(step, length, clock, in_a_row) for length in self.lengths])
        least, found = 0.0, {}
        for length, taken in zip(self.lengths, zip(*rounds, strict=True), strict=True):
            least = found[length] = max(least, median_low(taken))  # more slots are never faster
        self.know({**self.seconds, num_rows: found})

    def know(self, seconds: dict[int, dict[int, float]]) -> None:
        """Takes over what was measured, here or in an earlier run."""
        self.seconds, self._curves = seconds, {}

    def curve(self, num_rows: int) -> list[float]:
        """Seconds of a step by the tokens that it drafts in each row, from 0 to the most; of the nearest number of rows that was measured."""
        if self._curves.get(num_rows) is None:
            row = self.seconds[min(self.seconds, key=lambda rows: (abs(log(rows / num_rows)), rows))]
            self._curves[num_rows] = [_between(row, length) for length in range(max(row) + 1)]
        return self._curves[num_rows]

    def of(self, num_rows: int, length: int) -> float:
        """One point of the curve; beyond its end it goes on as it ends."""
        curve = self.curve(num_rows)
        over = max(length - len(curve) + 1, 0)
        return curve[length - over] + over * (curve[-1] - curve[-2])

    def to_json(self) -> dict[str, dict[str, float]]:
        """What was measured, rows -> length -> seconds."""
        return {str(rows): {str(length): value for length, value in row.items()} for rows, row in self.seconds.items()}

    def restore(self, held: Any) -> None:
        """Goes on with what `to_json` gave, and measures nothing more. Raises ValueError for what it cannot have given."""
        try:
            seconds = {int(rows): {int(length): float(value) for length, value in row.items()} for rows, row in held.items()}
        except (TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"costs are numbers by rows and length ({type(error).__name__}: {error})") from error
        if not seconds or any(rows < 1 or sorted(row) != sorted(self.lengths) or not 0 < min(row.values()) < inf for rows, row in seconds.items()):
            raise ValueError(f"costs are seconds above 0 for 1 or more rows and the lengths {', '.join(map(str, self.lengths))}")
        self.know(seconds)
        self.fixed = True

    def marginal(self, num_rows: int, length: int) -> float:
        """What the last of `length` tokens adds to a step, in steps of plain decoding."""
        return (self.of(num_rows, length) - self.of(num_rows, length - 1)) / self.of(num_rows, 0)


def _seconds(step: Callable[[int], None], length: int, clock: Callable[[], float], in_a_row: int) -> float:
    """Of one step at a length: the mean of the last ones of some in a row."""
    marks = [clock()]
    for _ in range(in_a_row):
        step(length)
        marks.append(clock())
    counted = marks[-min(COUNTED, in_a_row) - 1 :]
    return (counted[-1] - counted[0]) / (len(counted) - 1)


def nominal(lengths: Sequence[int]) -> StepCosts:
    """Costs that are not measured: where a drafter is judged, and not timed. Every length pays for some acceptance, and none for all."""
    return StepCosts(lengths, {1: {length: 1 + 0.35 * length**0.8 for length in lengths}}, fixed=True)


def clock_of(device: torch.device) -> Callable[[], float]:
    """Processor time where one thread does the work, which other processes hardly change; else wall time."""
    return time.thread_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter


def _between(row: dict[int, float], length: int) -> float:
    low = max(point for point in row if point <= length)
    high = min((point for point in row if point > length), default=low)
    return row[low] + (row[high] - row[low]) * (length - low) / max(high - low, 1)
