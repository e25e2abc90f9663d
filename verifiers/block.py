"""Block verification: a chain is judged as a whole, so that a token which alone would be rejected can be saved by those after it.

Source: Sun et al., arXiv 2403.10444, algorithm 2. r_i is the clipped joint ratio of the first i tokens (p_i there), h_i the chance to stop at i.
Never worse than token-level verification, equal to it for one token, for one-hot drafts and at temperature 0.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from spec.chains import keep_chain, require_chain, root_only
from spec.mass import mass
from spec.noise import Purpose, StepNoise
from spec.types import Draft, Verdict

CERTAIN = 1e3  # stands for the logarithm of an infinite ratio: q(x) underflowed to 0


@dataclass(frozen=True)
class Block:
    """Keeps the longest prefix i whose own uniform number is below h_i (i = 0 always is), then draws from (r_i p - q)+, or from p after the last.

    r_0 = 1, r_i = min(1, r_{i-1} p(x_i) / q(x_i)); h_i = S_i / (S_i + 1 - r_i) with S_i the mass of (r_i p - q)+, and h = r at the end of the chain.
    """

    exact: ClassVar[bool] = True
    matches: ClassVar[bool] = True
    chains_only: ClassVar[bool] = True

    def __call__(self, p: Tensor, draft: Draft, noise: StepNoise) -> Verdict:
        """p [B, N, V] -> Verdict with D = N. Raises ValueError for a draft that may branch."""
        require_chain(draft, self)
        if draft.num_slots == 1:
            return root_only(p, draft, noise)
        slots, log_r = draft.slots[:, 1:], log_joint_ratio(p, draft)
        accepted = noise.bernoulli(stopping_odds(p, draft, log_r), Purpose.ACCEPT, slots)
        node = (accepted * slots).amax(1)
        r = torch.nn.functional.pad(log_r, (1, 0)).gather(1, node[:, None]).squeeze(1).exp()
        return keep_chain(node, p, draft, noise, r)


def log_joint_ratio(p: Tensor, draft: Draft) -> Tensor:
    """log r_i of slots 1 to N - 1; float64 [B, N - 1]. A running sum clipped at 0 is the plain sum minus its running maximum."""
    tokens = draft.tokens[:, 1:, None]
    wanted = p[:, :-1].gather(2, tokens).squeeze(2).double().log()
    if draft.q is None:
        return wanted.cumsum(1)
    steps = (wanted - draft.q[:, 1:].gather(2, tokens).squeeze(2).double().log()).clamp(max=CERTAIN)
    total = torch.where(wanted == -torch.inf, wanted, steps).cumsum(1)
    return total - total.clamp(min=0).cummax(1).values


def stopping_odds(p: Tensor, draft: Draft, log_r: Tensor) -> Tensor:
    """h_i of slots 1 to N - 1; float64 [B, N - 1], 0 for padding."""
    r, sizes = log_r.exp(), draft.sizes[:, None]
    if draft.q is None:  # p - q is p without the drafted token
        left = r[:, :-1] * (1 - p[:, 1:-1].gather(2, draft.tokens[:, 2:, None]).squeeze(2).double()).clamp(min=0)
    else:
        left = mass((p[:, 1:-1] * r[:, :-1, None].to(p.dtype)).sub_(draft.q[:, 2:]).clamp_(min=0))
    h = (left / (left - torch.expm1(log_r[:, :-1]))).nan_to_num(0.0)  # 0 / 0: r = 1 and no residual mass
    h = torch.cat([torch.where(draft.slots[:, 2:] < sizes, h, r[:, :-1]), r[:, -1:]], 1)
    return torch.where(draft.slots[:, 1:] < sizes, h, 0.0)
