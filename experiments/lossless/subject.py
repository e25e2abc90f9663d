"""What the battery is given (`Subject`), how hard it looks (`Effort`) and what every check answers (`Check`)."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from drafters.none import NoDraft
from spec.decode import Generation, decode
from spec.interfaces import Drafter, Verifier
from spec.model import CausalLM
from spec.sampling import Sampler
from spec.state import Limits

PASS, FAIL, NOT_APPLICABLE, NOT_RUN = "pass", "fail", "not applicable", "not run"


@dataclass(frozen=True)
class Check:
    """The answer of one check; figures that it does not have are None."""

    name: str
    verdict: str  # "pass", "fail", "not applicable" (there is nothing to look at) or "not run" (there was, and nobody looked)
    detail: str  # one sentence: what was looked at, or what is wrong
    statistic: float | None = None
    p_value: float | None = None  # below alpha: fail
    tv: float | None = None  # distance found between the distributions; exact where they were enumerated
    detectable_tv: float | None = None  # a bias at least this large between what the check compares is found with probability `power`
    power: float | None = None
    alpha: float | None = None  # false-alarm rate that the p-value was compared with; None: `Effort.alpha`

    @property
    def failed(self) -> bool:
        return self.verdict == FAIL


@dataclass(frozen=True)
class Effort:
    """How many samples, tokens and prompts a check takes. `alpha` is the false-alarm rate of each statistical check."""

    samples: int = 6000  # texts
    looks: int = 4
    alpha: float = 1e-6
    power: float = 0.999
    tokens: int | None = None  # tokens of each text that are compared; None: the drafts' depth plus one, at most 6
    batch: int = 500  # texts decoded together
    long_tokens: int = 32  # of answers that are compared token by token
    long_texts: int = 100_000  # emitted tokens of long answers that are bet on
    long_batch: int = 48  # of these answers decoded together
    level: float = 1e-3  # false alarms of all those bets together
    long_power: float = 0.95  # at which their detectable_tv is stated
    mutants: bool = True


@dataclass(frozen=True)
class Subject:
    """What is judged. `make_drafter()` gives the drafter for the target, `make_drafter(model)` one for a table model, with `model` for assistant.

    The second may raise ValueError with the reason why there is none.
    """

    target: CausalLM
    make_drafter: Callable[..., Drafter]
    verifier: Verifier
    sampler: Sampler
    prompts: Sequence[Sequence[int]]
    wrap: Callable[[Any], CausalLM] = CausalLM  # how a table model becomes a target
    in_float64: bool = True  # the target may be copied in float64

    def decode(self, prompts: Sequence[Sequence[int]], num_tokens: int, **changes: Any) -> Generation:
        """`spec.decode` with this subject's parts, or those in `changes` (target, drafter, verifier, sampler, sequence_ids, limits, batch_size)."""
        target, drafter = changes.get("target", self.target), changes.get("drafter") or self.make_drafter()
        verifier, sampler = changes.get("verifier", self.verifier), changes.get("sampler", self.sampler)
        limits = changes.get("limits") or Limits(num_tokens)
        more: dict[str, Any] = {name: changes.get(name) for name in ("sequence_ids", "batch_size")}
        return decode(target, drafter, verifier, prompts, sampler=sampler, limits=limits, allow_lossy=True, **more)

    def baseline(self, prompts: Sequence[Sequence[int]], num_tokens: int, **changes: Any) -> Generation:
        """The same without a drafter."""
        return self.decode(prompts, num_tokens, drafter=NoDraft(), **changes)

    def doubled(self) -> "Subject | None":
        """The same on the target in float64; None where it is too large to be copied."""
        if self.target.dtype.itemsize == 8:
            return self
        model: nn.Module = self.target.model
        if not self.in_float64:
            return None
        return replace(self, target=type(self.target)(copy.deepcopy(model).double(), self.target.context))


def greedy(sampler: Sampler) -> Sampler:
    """The same sampler at temperature 0."""
    clone = copy.copy(sampler)
    clone.temperature, clone.greedy = 0.0, True
    return clone


def drawn(sampler: Sampler) -> Sampler:
    """The same sampler, at temperature 1 if it was greedy."""
    return Sampler(1.0, seed=sampler.seed) if sampler.greedy else sampler
