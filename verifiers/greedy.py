"""Greedy match: keep the longest path of the draft that the target's argmax follows. A fast path; `recursive` gives the same for one-hot
distributions."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from spec.chains import match
from spec.checks import refuse_where
from spec.noise import StepNoise
from spec.types import Draft, Verdict


@dataclass(frozen=True)
class Greedy:
    """Exact at temperature 0 only: raises ValueError for a distribution that is not one-hot, which it would silently turn into greedy decoding."""

    exact: ClassVar[bool] = True
    matches: ClassVar[bool] = True

    def __call__(self, p: Tensor, draft: Draft, noise: StepNoise) -> Verdict:
        """p [B, N, V] one-hot -> Verdict with D = N. Ties were broken by the sampler (lowest id)."""
        choice = p.argmax(-1)
        refuse_where(
            p.gather(2, choice[..., None]) != 1,
            "the greedy verifier needs one-hot distributions (temperature 0); for sampling use verifiers.recursive.Recursive()",
        )
        return match(choice, draft)
