"""The wrong drafters on a table of 80 tokens: small enough for seconds, large enough for faults that four tokens cannot show."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from experiments.lossless.enumeration.loop import PROMPT, golden_model
from experiments.lossless.enumeration.tables import GOLDEN_P, GOLDEN_Q
from experiments.lossless.mutants import drafters as wrong
from experiments.lossless.subject import Effort, Subject
from spec.interfaces import Drafter
from spec.model import CausalLM
from spec.sampling import Sampler
from verifiers.recursive import Recursive

VOCABULARY = 80
EFFORT = Effort(long_texts=8_000, long_batch=32)


@dataclass(frozen=True)
class DrafterMutant:
    """A wrong drafter by name."""

    name: str
    drafter: Callable[..., Drafter]
    settings: dict[str, Any] = field(default_factory=dict)

    def subject(self) -> Subject:
        """On the large table, at temperature 0.7."""
        target, assistant = (golden_model(constants, VOCABULARY) for constants in (GOLDEN_P, GOLDEN_Q))
        make = partial(self.drafter, **self.settings)
        prompts = [PROMPT, PROMPT[:-1] + [5], PROMPT[1:] + [7]]
        return Subject(CausalLM(target), lambda model=assistant: make(model=model), Recursive(), Sampler(0.7), prompts)


DRAFTER_MUTANTS = (
    DrafterMutant("D1 declares the distribution before temperature", wrong.DistributionBeforeTemperature),
    DrafterMutant("D2 declared distributions off by one", wrong.DistributionsOffByOne),
    DrafterMutant("D3 declares the distributions of the step before", wrong.StaleDistributions),
    DrafterMutant("D4 drops unlikely tokens", wrong.DropsTheUnlikely),
    DrafterMutant("D5 drops end tokens", wrong.DropsTheEnd, {"end": 2}),
    DrafterMutant("D6 draws from the top 2 alone", wrong.SilentTop),
    DrafterMutant("D7 draws from the top 50 alone", wrong.SilentTop50),
    DrafterMutant("D8 argmax declared soft", wrong.ArgmaxDeclaredSoft),
    DrafterMutant("D9 argmax declared soft after 12 tokens", wrong.ArgmaxAfterTwelve),
    DrafterMutant("D10 distributions rounded to bfloat16", wrong.DistributionsInBfloat16),
    DrafterMutant("D11 distributions of another row", wrong.DistributionsOfAnotherRow),
    DrafterMutant("D12 siblings merged", wrong.SiblingsMerged),
    DrafterMutant("D13 siblings reordered", wrong.SiblingsReordered),
    DrafterMutant("D14 draws with ACCEPT numbers", wrong.DrawsWithAcceptNumbers),
    DrafterMutant("D15 draws with RESIDUAL numbers", wrong.DrawsWithResidualNumbers),
    DrafterMutant("D16 peeks at ACCEPT numbers", wrong.PeeksAtAcceptNumbers),
    DrafterMutant("D17 wrong after rows have changed", wrong.WrongAfterRowsChanged),
    DrafterMutant("D18 wrong beyond 4 slots", wrong.WrongBeyondFourSlots),
    DrafterMutant("D19 wrong beyond 64 tokens", wrong.WrongBeyond64Tokens),
)
RIGHT_DRAFTERS = (DrafterMutant("right chain", wrong.WrongChain), DrafterMutant("right siblings", wrong.WrongSiblings))
