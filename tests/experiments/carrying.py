"""A drafter that remembers what it should forget, to be found out."""

import torch

from spec.interfaces import Drafter, Traits
from spec.sampling import Sampler
from spec.state import DecodeState
from spec.types import Draft


class Carrying(Drafter):
    """Drafts one token more in every text than in the one before."""

    def __init__(self, declared: bool = False):
        self.traits, self.texts = Traits(keeps_state=declared), 0

    def reset(self, state: DecodeState) -> None:
        self.texts += 1

    def propose(self, state: DecodeState, sampler: Sampler) -> Draft:
        length = min(self.texts % 7, min(state.room) - 1)
        return Draft.chain(torch.tensor([[root] * (1 + length) for root in state.roots]))
