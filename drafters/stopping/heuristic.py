"""Two tokens more after a draft that was fully accepted, one less after any other: transformers' "heuristic" schedule."""

from collections.abc import Sequence

import torch

from spec.arguments import whole
from spec.stopping import StoppingRule


class Heuristic(StoppingRule):
    """Begins with num_tokens in every generation; never below 1, never above what the drafter allows. Raises ValueError for less than 1."""

    per_row = ("lengths",)

    def __init__(self, num_tokens: int = 5):
        self.num_tokens = whole("num_tokens", num_tokens, "at least 1 token", 1)
        self.lengths: list[int] = []

    def reset(self, num_rows: int, device: torch.device) -> None:
        self.lengths = [self.num_tokens] * num_rows

    def start(self, longest: Sequence[int]) -> list[int]:
        chosen = [min(length, most) for length, most in zip(self.lengths, longest, strict=True)]
        self.lengths = [max(length, 1) for length in chosen]
        return chosen

    def observe(self, drafted: Sequence[int], accepted: Sequence[int], cut: Sequence[bool]) -> None:
        for row, (offered, taken) in enumerate(zip(drafted, accepted, strict=True)):
            if offered:
                self.lengths[row] = self.lengths[row] + 2 if taken == offered else max(1, self.lengths[row] - 1)
