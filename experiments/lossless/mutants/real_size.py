"""Parts that are right on a small vocabulary and wrong on a real one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from experiments.lossless.mutants.loops import LoopMutant
from spec.noise import Purpose
from spec.sampling import Sampler
from spec.types import Draft, Verdict
from verifiers.recursive import Recursive

NARROW = 65_536


class RawSoftmax(Sampler):
    """V1: returns the plain softmax, which over a real vocabulary in float32 does not sum to 1."""

    def distribution(self, logits: Tensor, contexts: Callable[[int, int], list[int]] | None = None) -> Tensor:
        return super().distribution(logits, contexts) if self.greedy else self.processed(logits, contexts).softmax(-1)


@dataclass(frozen=True)
class NarrowNoise:
    """V2: draws none but the tokens that a 16-bit number can name."""

    inner: Any  # StepNoise, or its branching stand-in

    def bernoulli(self, prob: Tensor, purpose: Purpose, slots: Tensor) -> Tensor:
        return self.inner.bernoulli(prob, purpose, slots)

    def categorical(self, distribution: Tensor, purpose: Purpose, slots: Tensor) -> Tensor:
        kept = distribution.clone()
        kept[..., NARROW:] = 0.0
        return self.inner.categorical(kept, purpose, slots)


class NarrowDraws:
    """V2: a verifier that draws from the first tokens only."""

    exact: ClassVar[bool] = True

    def __call__(self, p: Tensor, draft: Draft, noise: Any) -> Verdict:
        return Recursive()(p, draft, NarrowNoise(noise))  # pyright: ignore[reportArgumentType]


class RealMutant(LoopMutant):
    """A mutant that only the check of a real vocabulary has to reject."""


REAL_MUTANTS = (
    RealMutant("V1 distributions not normalised", sampler=RawSoftmax),
    RealMutant("V2 drawn from the first 65,536 tokens", verifier=NarrowDraws()),
)
