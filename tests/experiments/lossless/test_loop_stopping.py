"""Every stopping rule in the whole loop, enumerated; and for every reason to stop the drafter that drops the token which gave it, convicted."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from drafters.draft_model import DraftModel
from drafters.stopping.bandit import Bandit
from drafters.stopping.confidence import Confidence
from drafters.stopping.constant import Constant
from drafters.stopping.cost import Cost
from drafters.stopping.entropy import Entropy
from drafters.stopping.heuristic import Heuristic
from experiments.lossless.enumeration.loop import TableLoop
from experiments.lossless.enumeration.tables import SMALL
from spec.sampling import Sampler
from spec.state import DecodeState
from spec.stopping import StoppingRule
from spec.types import Draft

RULES: dict[str, Callable[[], StoppingRule]] = {
    "constant": lambda: Constant(1),
    "heuristic": lambda: Heuristic(1),
    "confidence": lambda: Confidence(0.4),
    "entropy": lambda: Entropy(0.2, 0.57),
    "entropy that follows the acceptance": lambda: Entropy(0.2, 0.57, target_acceptance=0.6, step=0.2),
    "cost": lambda: Cost(0.35, prior=1.0),
    "bandit": lambda: Bandit((1,), [Confidence(0.5), Entropy(0.2, 0.57)]),
}


@pytest.mark.parametrize("name", RULES)
def test_a_loop_that_stops_early_emits_the_distribution_of_the_target(name: str) -> None:
    loop = TableLoop(SMALL, 3 if name in ("constant", "confidence", "entropy") else 4)  # the others need a past to look at
    assert loop.error(lambda model: DraftModel(model=model, num_tokens=2, stopping=RULES[name]())) < 1e-12


@pytest.mark.parametrize("name", ["confidence", "entropy"])
def test_a_loop_that_stops_early_and_is_cut_at_eos(name: str) -> None:
    loop = TableLoop(eos=2)
    assert loop.error(lambda model: DraftModel(model=model, num_tokens=2, stopping=RULES[name]())) < 1e-12


Unwanted = Callable[[Tensor, Tensor, int], Tensor]  # distribution [B, V] that a token [B] at a depth was drawn from -> whether it is dropped [B]


class Drops(DraftModel):
    """Wrong: ends the draft before the first sampled token that `unwanted` names, instead of behind it."""

    def __init__(self, model: object, unwanted: Unwanted):
        super().__init__(model=model, num_tokens=2)
        self.unwanted = unwanted

    def propose(self, state: DecodeState, sampler: Sampler) -> Draft:
        draft = super().propose(state, sampler)
        if draft.q is None:
            return draft
        wanted = [~self.unwanted(draft.q[:, depth], draft.tokens[:, depth], depth) for depth in range(1, draft.num_slots)]
        return Draft.chain(draft.tokens, draft.sizes.minimum(1 + torch.stack(wanted, 1).long().cumprod(1).sum(1)), draft.q)


def own(distribution: Tensor, token: Tensor) -> Tensor:
    """The token's own probability."""
    return distribution.gather(1, token[:, None]).squeeze(1)


DROPS: dict[str, tuple[Unwanted, float]] = {
    "constant: the last token, where it is unlikely": (lambda distribution, token, depth: (own(distribution, token) < 0.4) & (depth == 2), 0.02),
    "confidence: the token below the threshold": (lambda distribution, token, depth: own(distribution, token) < 0.4, 0.1),
    "entropy: the token that surprises more than the distribution on average": (
        lambda distribution, token, depth: -own(distribution, token).log() > torch.special.entr(distribution).sum(1),
        0.02,
    ),
    "cost: the token not worth its price": (lambda distribution, token, depth: own(distribution, token) * distribution.amax(1) < 0.15, 0.02),
    "an end token": (lambda distribution, token, depth: token == 2, 0.1),
}


@pytest.mark.parametrize("name", DROPS)
def test_dropping_the_token_that_gave_the_reason_is_convicted(name: str) -> None:
    unwanted, least = DROPS[name]
    assert TableLoop(length=2 if "constant" not in name else 3).error(lambda model: Drops(model, unwanted)) > least
