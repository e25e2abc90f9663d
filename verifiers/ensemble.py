"""Ensemble verification, LOSSY: the drafted places follow a mixture of target and drafter, which is accepted more often than the target alone.

Source: DIVERSE, arXiv 2604.07622; `assistant_ensemble_weight` in transformers.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from spec.chains import require_chain, token_by_token
from spec.noise import StepNoise
from spec.types import Draft, Verdict


@dataclass(frozen=True)
class Ensemble:
    """Accepts x with probability min(1, 1 - w + w p(x) / q(x)) and corrects a rejection from (p - q)+, w = weight of the target.

    Every drafted place then follows w p + (1 - w) q exactly; the token after a whole accepted chain follows p. w = 1 is lossless.
    Raises ValueError unless 0 <= weight <= 1.
    """

    weight: float = 0.8
    exact: ClassVar[bool] = False
    chains_only: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            raise ValueError(f"weight={self.weight}: give the target's share, from 0 (the drafter alone) to 1 (lossless)")

    def __call__(self, p: Tensor, draft: Draft, noise: StepNoise) -> Verdict:
        """p [B, N, V] -> Verdict with D = N. Raises ValueError for a draft that may branch."""
        require_chain(draft, self)
        return token_by_token(p, draft, noise, lambda ratio: 1 - self.weight + self.weight * ratio)
