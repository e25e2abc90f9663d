"""Stops before a token is drawn from a distribution of high entropy: AdaEDL (Agrawal et al., arXiv 2410.18351).

1 - sqrt(scale * H(q)) bounds the acceptance from below, H in nats; the draft ends where this bound is below the threshold. The threshold may adapt to
the observed acceptance; how it does so is our own reading of the paper's idea, not its formula.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from spec.stopping import StoppingRule


class Entropy(StoppingRule):
    """scale, threshold: as above. target_acceptance: null leaves the threshold alone; otherwise it moves by `step` after every step of the row.

    It rises while the smoothed share of accepted tokens is below the target, and falls while it is above. Raises ValueError for values outside their
    ranges.
    """

    SMOOTHING = 0.9  # of the acceptance
    per_row = ("thresholds", "rates")

    def __init__(self, scale: float = 0.2, threshold: float = 0.3, target_acceptance: float | None = None, step: float = 0.01):
        if scale <= 0 or threshold > 1 or step < 0:
            raise ValueError(f"scale={scale}, threshold={threshold}, step={step}: give scale > 0, threshold <= 1 and step >= 0")
        if target_acceptance is not None and not 0 < target_acceptance < 1:
            raise ValueError(f"target_acceptance={target_acceptance}: give a share between 0 and 1, or null for a fixed threshold")
        self.scale, self.threshold, self.target_acceptance, self.step = scale, threshold, target_acceptance, step

    def reset(self, num_rows: int, device: torch.device) -> None:
        self.thresholds = torch.full((num_rows,), self.threshold, device=device, dtype=torch.float64)
        self.rates = torch.full_like(self.thresholds, self.target_acceptance or 0.0)

    def before(self, distribution: Tensor, depth: int) -> Tensor:
        entropy = torch.special.entr(distribution).sum(-1)
        return 1 - (self.scale * entropy).sqrt() >= self.thresholds

    def observe(self, drafted: Sequence[int], accepted: Sequence[int], cut: Sequence[bool]) -> None:
        if self.target_acceptance is None:
            return
        offered = torch.tensor(drafted, device=self.rates.device)
        share = torch.tensor(accepted, device=self.rates.device) / offered.clamp(min=1)
        judged = (offered > 0) & ~torch.tensor(cut, device=self.rates.device)
        self.rates = torch.where(judged, self.SMOOTHING * self.rates + (1 - self.SMOOTHING) * share, self.rates)
        moved = self.thresholds + self.step * torch.sign(self.target_acceptance - self.rates)
        # a row that drafts nothing would learn nothing, so its threshold falls until it drafts again
        self.thresholds = torch.where(judged, moved, torch.where(offered > 0, self.thresholds, self.thresholds - self.step)).clamp(-1, 1)
