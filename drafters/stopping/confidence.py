"""Stops after a token that the drafter itself found unlikely: transformers' confidence criterion, and SpecDec++'s idea (arXiv 2405.19715)."""

from torch import Tensor

from spec.stopping import StoppingRule


class Confidence(StoppingRule):
    """Goes on while the last token's own probability is at least `threshold`; a token below it is kept. Raises ValueError outside [0, 1]."""

    def __init__(self, threshold: float = 0.4):
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold={threshold}: give a probability")
        self.threshold = threshold

    def after(self, prob: Tensor, depth: int) -> Tensor:
        return prob >= self.threshold
