"""Drafters as a user might write them by mistake, each wrong in one way; none of them may pass.

`draftproof lossless drafter._target_=experiments.lossless.mutants.drafters.StaleDistributions` judges one.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from drafters.draft_model import DraftModel
from drafters.multi_draft import MultiDraft
from spec.noise import Purpose
from spec.sampling import Sampler
from spec.state import DecodeState
from spec.types import Draft


class Coin:
    """Says in which steps a drafter is wrong."""

    def __init__(self, share: float):
        self.share, self.generator = share, torch.Generator().manual_seed(5)

    def __call__(self) -> bool:
        return bool(torch.rand((), generator=self.generator) < self.share)


class WrongChain(DraftModel):
    """A small model that draws from `drawn_from(distribution)` and declares what `declared` makes of the true distributions. The defaults are
    right."""

    def __init__(self, model: Any = None, share: float = 1.0, **settings: Any):
        super().__init__(model=model, **settings)
        self.coin, self.wrong = Coin(share), False

    def propose(self, state: DecodeState, sampler: Sampler) -> Draft:
        self.wrong, self.distributions, self.drawn = self.coin(), [], []
        draft = super().propose(state, self.sampler_of(sampler) if self.wrong else sampler)
        if draft.q is None or not self.distributions or not self.wrong:
            return draft
        q = torch.stack([torch.zeros_like(self.distributions[0]), *self.distributions], 1)[:, : draft.num_slots]
        return self.declared(replace(draft, q=q), state, sampler)

    def _next_distribution(self, state: DecodeState, tokens: list[Tensor], sampler: Sampler) -> Tensor:
        distribution = super()._next_distribution(state, tokens, sampler)
        self.distributions.append(distribution)
        self.drawn.append(self.drawn_from(distribution) if self.wrong and not sampler.greedy else distribution)
        return self.drawn[-1]

    def sampler_of(self, sampler: Sampler) -> Sampler:
        return sampler

    def drawn_from(self, distribution: Tensor) -> Tensor:
        """distribution [B, V] -> the distribution [B, V] that the next token is drawn from."""
        return distribution

    def declared(self, draft: Draft, state: DecodeState, sampler: Sampler) -> Draft:
        """The draft with the distributions before `drawn_from`; what is handed over."""
        return draft


def normalised(distribution: Tensor) -> Tensor:
    return distribution / distribution.sum(-1, keepdim=True).clamp(min=1e-30)


class DistributionBeforeTemperature(WrongChain):
    """Declares the distribution before the temperature was applied."""

    def declared(self, draft: Draft, state: DecodeState, sampler: Sampler) -> Draft:
        assert draft.q is not None
        return replace(draft, q=normalised(draft.q**sampler.temperature) * (draft.q.sum(-1, keepdim=True) > 0))


class DistributionsOffByOne(WrongChain):
    """Declares for every token the distribution of the one before it."""

    def declared(self, draft: Draft, state: DecodeState, sampler: Sampler) -> Draft:
        assert draft.q is not None
        rows = torch.cat([draft.q[:, :2], draft.q[:, 1:-1]], 1)[:, : draft.num_slots]
        return replace(draft, q=rows)


class StaleDistributions(WrongChain):
    """From the second step on declares the distributions of the step before."""

    last: Tensor | None = None

    def declared(self, draft: Draft, state: DecodeState, sampler: Sampler) -> Draft:
        assert draft.q is not None
        last, self.last = self.last, draft.q
        return draft if last is None or last.shape != draft.q.shape else replace(draft, q=last)


def cut_before(draft: Draft, bad: Tensor) -> Draft:
    """The chains up to the first `bad` token [B, N]."""
    bad = bad & (draft.slots > 0)
    first = torch.where(bad.any(1), bad.int().argmax(1), draft.num_slots)
    return Draft.chain(draft.tokens, torch.minimum(draft.sizes, first), draft.q)


class DropsTheUnlikely(WrongChain):
    """Ends its draft before a token that it found unlikely itself."""

    def declared(self, draft: Draft, state: DecodeState, sampler: Sampler) -> Draft:
        assert draft.q is not None
        own = draft.q.gather(2, draft.tokens[..., None]).squeeze(2)
        return cut_before(draft, own < draft.q.amax(2) / 4)


class DropsTheEnd(WrongChain):
    """Ends its draft before an end token (`end`, or the one of the model)."""

    def __init__(self, model: Any = None, share: float = 1.0, end: int | None = None, **settings: Any):
        super().__init__(model, share, **settings)
        self.end = end

    def declared(self, draft: Draft, state: DecodeState, sampler: Sampler) -> Draft:
        end = self.assistant.model.config.eos_token_id if self.end is None else self.end
        return cut_before(draft, draft.tokens == (end if end is not None else 0))


class SilentTop(WrongChain):
    """Draws from its most probable tokens alone and declares the whole distribution."""

    kept = 2

    def drawn_from(self, distribution: Tensor) -> Tensor:
        least = distribution.topk(min(self.kept, distribution.shape[1])).values[:, -1:]
        return normalised(torch.where(distribution >= least, distribution, 0.0))


class SilentTop50(SilentTop):
    """The same with fifty tokens."""

    kept = 50


class ArgmaxDeclaredSoft(WrongChain):
    """Takes the most probable token and declares the distribution that it is the top of."""

    def propose(self, state: DecodeState, sampler: Sampler) -> Draft:
        self.state = state
        return super().propose(state, sampler)

    def drawn_from(self, distribution: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(distribution.argmax(-1), distribution.shape[-1]).to(distribution.dtype)


class ArgmaxAfterTwelve(ArgmaxDeclaredSoft):
    """The same, but only once an answer holds more than twelve tokens."""

    def drawn_from(self, distribution: Tensor) -> Tensor:
        lengths = [len(row) - start for row, start in zip(self.state.rows, self.state.prompt_lengths, strict=True)]
        late = torch.tensor([length > 12 for length in lengths], device=distribution.device)[:, None]
        return torch.where(late, super().drawn_from(distribution), distribution)


class DistributionsInBfloat16(WrongChain):
    """Declares its distributions rounded to bfloat16."""

    def declared(self, draft: Draft, state: DecodeState, sampler: Sampler) -> Draft:
        assert draft.q is not None
        return replace(draft, q=draft.q.bfloat16().to(draft.q.dtype))


class DistributionsOfAnotherRow(WrongChain):
    """Declares for every row the distributions of its neighbour in the batch."""

    def declared(self, draft: Draft, state: DecodeState, sampler: Sampler) -> Draft:
        assert draft.q is not None
        return replace(draft, q=draft.q.roll(1, 0))


class WrongAfterRowsChanged(DistributionsOfAnotherRow):
    """Right until rows leave or join the batch; from then on it mixes rows up."""

    changed = False

    def rows_changed(self, state: DecodeState, origin: Any) -> None:
        super().rows_changed(state, origin)
        self.changed = True

    def declared(self, draft: Draft, state: DecodeState, sampler: Sampler) -> Draft:
        return super().declared(draft, state, sampler) if self.changed else draft


@dataclass(frozen=True)
class Swapped:
    """Noise that takes numbers of another purpose for drafting."""

    inner: Any
    purpose: Purpose

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def categorical(self, distribution: Tensor, purpose: Purpose, slots: Tensor) -> Tensor:
        return self.inner.categorical(distribution, self.purpose if purpose == Purpose.DRAFT else purpose, slots)


def swapped(sampler: Sampler, purpose: Purpose) -> Sampler:
    """The same sampler, whose drafts are drawn with numbers of `purpose`."""
    return sampler.with_noise(lambda state: Swapped(sampler.noise(state), purpose))


class DrawsWithAcceptNumbers(WrongChain):
    """Draws its tokens with the numbers that will judge them."""

    def sampler_of(self, sampler: Sampler) -> Sampler:
        return swapped(sampler, Purpose.ACCEPT)


class DrawsWithResidualNumbers(WrongChain):
    """Draws its tokens with the numbers that replace a rejected token."""

    def sampler_of(self, sampler: Sampler) -> Sampler:
        return swapped(sampler, Purpose.RESIDUAL)


class PeeksAtAcceptNumbers(WrongChain):
    """Looks at the number that will judge its first token, and drafts nothing where it is high."""

    def declared(self, draft: Draft, state: DecodeState, sampler: Sampler) -> Draft:
        number = sampler.noise(state).uniform(torch.ones_like(draft.sizes), Purpose.ACCEPT)
        return Draft.chain(draft.tokens, torch.where(number > 0.5, 1, draft.sizes), draft.q)


class WrongBeyondFourSlots(WrongChain):
    """Takes the most probable token at the fifth drafted place and later, and declares the distribution that it is the top of."""

    def drawn_from(self, distribution: Tensor) -> Tensor:
        return (
            torch.nn.functional.one_hot(distribution.argmax(-1), distribution.shape[-1]).to(distribution.dtype)
            if len(self.distributions) > 4
            else distribution
        )


class WrongBeyond64Tokens(WrongChain):
    """Never draws a token of an id of 64 or more, and declares the whole distribution."""

    def drawn_from(self, distribution: Tensor) -> Tensor:
        kept = distribution.clone()
        kept[:, 64:] = 0
        return torch.where(kept.sum(-1, keepdim=True) > 0, normalised(kept), distribution)


class WrongSiblings(MultiDraft):
    """Two chains whose first tokens are drawn independently, and then put into another order by `order`."""

    def __init__(self, model: Any = None, share: float = 1.0, **settings: Any):
        super().__init__(model=model, **settings)
        self.coin = Coin(share)

    def propose(self, state: DecodeState, sampler: Sampler) -> Draft:
        draft = super().propose(state, sampler)
        if draft.q is None or draft.num_slots < 3 or not self.coin() or self.num_chains != 2:
            return draft
        return self.changed(draft)

    def reordered(self, draft: Draft, order: Tensor, parents: Tensor, sizes: Tensor) -> Draft:
        """Slot i becomes what slot order[b, i] was."""
        assert draft.q is not None
        assert self.growth is not None
        self.growth.order = order if self.growth.order is None else self.growth.order.gather(1, order)
        q = draft.q.gather(1, order[..., None].expand_as(draft.q))
        return Draft(draft.tokens.gather(1, order), parents, sizes, q, width=draft.width)

    def changed(self, draft: Draft) -> Draft:
        return draft


class SiblingsReordered(WrongSiblings):
    """Puts the likelier of the two chains first."""

    def changed(self, draft: Draft) -> Draft:
        assert draft.q is not None
        mirrored = draft.slots + torch.where(draft.slots == 0, 0, torch.where(draft.slots % 2 == 1, 1, -1))
        full = (draft.sizes == draft.num_slots) & (draft.num_slots % 2 == 1)
        prob = draft.q.gather(2, draft.tokens[..., None]).squeeze(2)
        swap = full & (prob[:, 2] > prob[:, 1])
        order = torch.where(swap[:, None], mirrored.clamp(max=draft.num_slots - 1), draft.slots)
        return self.reordered(draft, order, draft.parents, draft.sizes)


class SiblingsMerged(WrongSiblings):
    """Leaves the second chain out where it begins as the first one does."""

    def changed(self, draft: Draft) -> Draft:
        if draft.num_slots % 2 == 0:
            return draft
        merged = (draft.sizes == draft.num_slots) & (draft.tokens[:, 1] == draft.tokens[:, 2])
        depth = (draft.num_slots - 1) // 2
        alone = torch.tensor([0, *range(1, draft.num_slots, 2), *range(2, draft.num_slots, 2)], device=draft.tokens.device)
        order = torch.where(merged[:, None], alone, draft.slots)
        chain = torch.where(draft.slots <= depth, draft.slots - 1, 0)
        parents = torch.where(merged[:, None], chain, draft.parents)
        return self.reordered(draft, order, parents, torch.where(merged, depth + 1, draft.sizes))
