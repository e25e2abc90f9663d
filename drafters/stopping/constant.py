"""Always the same length: transformers' "constant" schedule."""

from collections.abc import Sequence

from spec.arguments import whole
from spec.stopping import StoppingRule


class Constant(StoppingRule):
    """num_tokens tokens, or as many as the drafter allows. Raises ValueError for less than 1."""

    def __init__(self, num_tokens: int = 5):
        self.num_tokens = whole("num_tokens", num_tokens, "at least 1 token", 1)

    def start(self, longest: Sequence[int]) -> list[int]:
        return [min(self.num_tokens, most) for most in longest]
