"""Drafters that choose their lengths and look where they must not: at the tokens of the draft whose length they choose."""

from typing import Any

import torch

from drafters.draft_model import DraftModel
from spec.auto import AutoLength
from spec.sampling import Sampler
from spec.state import DecodeState
from spec.types import Draft


class LooksAtTheDraft(DraftModel):
    """Drafts as much as it may and then keeps what still pays, given how likely the drafted tokens were: the choice is made too late."""

    def __init__(self, model: Any = None, num_tokens: int = 2):
        super().__init__(model=model, num_tokens=num_tokens)

    def propose(self, state: DecodeState, sampler: Sampler) -> Draft:
        draft = super().propose(state, sampler)
        if draft.q is None:
            return draft
        own = draft.q.gather(2, draft.tokens[..., None]).squeeze(2)[:, 1:]
        tokens = torch.nn.functional.pad(own.cumprod(1).cumsum(1), (1, 0)) + 1
        costs = 1 + 0.35 * torch.arange(draft.num_slots) ** 0.8
        return Draft.chain(draft.tokens, torch.minimum(draft.sizes, (tokens / costs).argmax(1) + 1), draft.q)


class LearnsFromTheDraft(DraftModel):
    """Counts a token as accepted as soon as it is drafted and likely, and shortens the very draft that it learned from."""

    def __init__(self, model: Any = None, num_tokens: int = 2):
        super().__init__(model=model, num_tokens="auto")
        self.let_choose(AutoLength(range(num_tokens + 1)))
        self.by_nominal_costs()

    def propose(self, state: DecodeState, sampler: Sampler) -> Draft:
        draft, auto = super().propose(state, sampler), self.auto
        if draft.q is None or auto is None:
            return draft
        own = draft.q.gather(2, draft.tokens[..., None]).squeeze(2)[:, 1:].amin(0).tolist()
        for depth, chance in enumerate(own, start=1):
            auto.counts["judged"][depth] += 6
            auto.counts["kept"][depth] += 6 * (chance > 0.4)
        kept = auto.choose(state.num_rows, draft.num_slots - 1)
        return Draft.chain(draft.tokens, draft.sizes.clamp(max=1 + kept), draft.q)
