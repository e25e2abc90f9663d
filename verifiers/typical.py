"""Typical acceptance, LOSSY: a drafted token is kept if the target finds it likely enough for how undecided it is; of the paths the longest wins.

Source: Medusa, Cai et al., arXiv 2401.10774, section 2.3.1, with the defaults of its published code.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from spec.noise import Purpose, StepNoise
from spec.residual import rows_at
from spec.tree import longest_path
from spec.types import Draft, Verdict


@dataclass(frozen=True)
class Typical:
    """Keeps x where p(x) > min(epsilon, delta exp(-H(p))); of equally long paths the most probable wins; what follows is drawn from p.

    Not a sampling rule: whatever passes is kept, so an argmax draft gives almost greedy text at any temperature. At temperature 0 it is greedy.
    Raises ValueError unless 0 <= epsilon < 1 and delta >= 0.
    """

    epsilon: float = 0.09
    delta: float = 0.3
    exact: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 <= self.epsilon < 1:
            raise ValueError(f"epsilon={self.epsilon}: give a probability threshold from 0 up to but not including 1; the published one is 0.09")
        if not 0 <= self.delta < float("inf"):
            raise ValueError(f"delta={self.delta}: give a factor of at least 0; the published one is 0.3")

    def __call__(self, p: Tensor, draft: Draft, noise: StepNoise) -> Verdict:
        """p [B, N, V] -> Verdict with D = N."""
        parents = draft.parents.clamp(min=0)
        likelihood = p.flatten(1).gather(1, parents * p.shape[2] + draft.tokens)
        threshold = (self.delta * torch.exp(-torch.special.entr(p).sum(-1))).clamp(max=self.epsilon)
        hit = draft.children_of(torch.ones_like(draft.tokens, dtype=torch.bool)) & (likelihood > threshold.gather(1, parents))
        logs = torch.where(hit, likelihood, 1.0).log()
        path, counts = longest_path(hit, draft.ancestors, (draft.ancestors.to(logs.dtype) @ logs[..., None]).squeeze(2))
        node = path.gather(1, counts[:, None] - 1)
        return Verdict(path, noise.categorical(rows_at(p, node)[:, 0], Purpose.RESIDUAL, node[:, 0]), counts)
