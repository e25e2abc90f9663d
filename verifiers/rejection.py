"""Token-level speculative sampling: each drafted token is accepted on its own, and the first rejection is corrected from the residual.

Source: Leviathan et al., arXiv 2211.17192, algorithm 1; Chen et al., 2302.01318, algorithm 2, where p and q have each other's names.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from spec.chains import require_chain, token_by_token
from spec.noise import StepNoise
from spec.types import Draft, Verdict


@dataclass(frozen=True)
class Rejection:
    """Accepts token x with probability min(1, p(x) / q(x)); after the first rejection draws from the normalised (p - q)+, after none from p."""

    exact: ClassVar[bool] = True
    matches: ClassVar[bool] = True
    chains_only: ClassVar[bool] = True

    def __call__(self, p: Tensor, draft: Draft, noise: StepNoise) -> Verdict:
        """p [B, N, V] -> Verdict with D = N. Raises ValueError for a draft that may branch."""
        require_chain(draft, self)
        return token_by_token(p, draft, noise)
