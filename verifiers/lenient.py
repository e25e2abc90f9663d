"""Lenient rejection, LOSSY: token-level speculative sampling that treats the target as more probable than it is.

Source: Leviathan et al., arXiv 2211.17192, appendix A.5, where the leniency is l: q is replaced by l q in the test.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from spec.chains import require_chain, token_by_token
from spec.noise import StepNoise
from spec.types import Draft, Verdict


@dataclass(frozen=True)
class Lenient:
    """Accepts x with probability min(1, p(x) / (l q(x))) and corrects a rejection from (p / l - q)+, l = leniency.

    No token becomes more than 1 / l times as probable as the target has it. l = 1 is lossless token-level verification, smaller accepts more.
    Raises ValueError unless 0 < leniency <= 1.
    """

    leniency: float = 0.8
    exact: ClassVar[bool] = False
    chains_only: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.leniency <= 1:
            raise ValueError(f"leniency={self.leniency}: give more than 0 (accept anything) and at most 1 (lossless)")

    def __call__(self, p: Tensor, draft: Draft, noise: StepNoise) -> Verdict:
        """p [B, N, V] -> Verdict with D = N. Raises ValueError for a draft that may branch."""
        require_chain(draft, self)
        return token_by_token(p, draft, noise, lambda ratio: ratio / self.leniency, scale=1 / self.leniency)
