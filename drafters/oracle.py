"""Drafts tokens that are accepted at a chosen rate: for measuring systems and for tests, not for speed.

Without recordings it runs the target itself: its draft distribution is q = (1 - w) p + w e, with e one-hot at the token m of least probability under
p. The overlap of p and q, which is the chance of acceptance, is (1 - w)(1 - p(m)) + p(m), so w = (1 - a) / (1 - p(m)) gives the wanted rate a.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from spec.arguments import real
from spec.assistant import Assistant
from spec.growth import Growth
from spec.interfaces import Drafter
from spec.model import CausalLM
from spec.noise import Purpose
from spec.sampling import Sampler
from spec.state import DecodeState
from spec.types import Draft, Scores, Verdict


class Oracle(Drafter):
    """A chain of num_tokens tokens, each accepted with probability `acceptance` by `rejection`, `recursive` and, at temperature 0, `greedy`.

    No distribution overlaps p by less than p(m), so the rate is at least p(m), which is at most 1 / V. The forwards of the target are counted as
    draft seconds and its second cache as memory; leave both out of a comparison.

    continuations: recorded new tokens by sequence id. Then no model is run: the next recorded token is proposed with probability `acceptance` and
    another one otherwise, declared one-hot. That is the cheap way where the output is known beforehand: at temperature 0, or with `coupled` and
    the same seed, record a run of drafter=none. It is exact in any case, but once a row differs from its recording, as 16-bit rounding can
    make it, less is accepted. After the end of a recording nothing is drafted. Raises ValueError for rates outside [0, 1].
    """

    def __init__(self, acceptance: float = 0.8, num_tokens: int | str = 5, continuations: Mapping[int, Sequence[int]] | None = None):
        self.acceptance = real("acceptance", acceptance, "a probability (the oracle drafts with the target itself)", lambda rate: 0 <= rate <= 1)
        self.set_length(num_tokens, "at least 1 token")
        self.continuations = continuations
        self.vocab_size = 0
        self.assistant: Assistant | None = None
        self.growth: Growth | None = None

    def attach(self, target: CausalLM) -> None:
        self.vocab_size = target.vocab_size
        self.assistant = Assistant(model=target) if self.continuations is None else None

    @property
    def models(self) -> Mapping[str, CausalLM]:
        return {} if self.assistant is None else {"assistant": self.assistant.model}

    def reset(self, state: DecodeState) -> None:
        self.growth = None
        if self.assistant is not None:
            self.assistant.reset(state)
            return
        assert self.continuations is not None
        self.ids = state.sequence_ids.tolist()
        missing = [number for number in self.ids if number not in self.continuations]
        if missing:
            raise ValueError(f"no continuation for the sequence ids {missing}; record one for every prompt, or give none to run the target")

    def rows_changed(self, state: DecodeState, origin: Sequence[int | None]) -> None:
        if self.assistant is None:
            self.reset(state)
        else:
            self.assistant.rows_changed(state, origin)

    def propose(self, state: DecodeState, sampler: Sampler) -> Draft:
        return self._recorded(state, sampler) if self.assistant is None else self._grown(state, sampler)

    def observe(self, state: DecodeState, draft: Draft, verdict: Verdict, scores: Scores) -> None:
        if self.growth is not None:
            self.growth.settle(verdict.path)

    def _grown(self, state: DecodeState, sampler: Sampler) -> Draft:
        self.growth = growth = Growth(self.assistant, state, sampler, width=1)
        for depth in range(min(self.num_tokens, growth.deepest)):
            token, row, _ = growth.draw([depth], blurred(growth.next_distributions(sharp=True), self.acceptance), None)
            growth.add([depth], token, None if sampler.greedy else row)
        return growth.draft()

    def _recorded(self, state: DecodeState, sampler: Sampler) -> Draft:
        assert self.continuations is not None
        chains: list[list[int]] = []
        for number, row, start, room in zip(self.ids, state.rows, state.prompt_lengths, state.room, strict=True):
            done = len(row) - start
            chains.append(list(self.continuations[number][done : done + max(min(self.num_tokens, room - 1), 0)]))
        draft = Draft.of_chains(state.roots, chains, state.device)
        if draft.num_slots == 1:
            return draft
        right, slots = draft.tokens[:, 1:], draft.slots[:, 1:]
        hit = sampler.noise(state).bernoulli(torch.full(slots.shape, self.acceptance, device=slots.device), Purpose.DRAFT, slots)
        return Draft.chain(torch.cat([draft.tokens[:, :1], torch.where(hit, right, (right + 1) % self.vocab_size)], 1), draft.sizes)


def blurred(p: Tensor, acceptance: float) -> Tensor:
    """The distribution that overlaps p [..., V] by `acceptance`, or by the smallest probability in p where that is more."""
    lowest, least = p.min(-1, keepdim=True)
    weight = ((1 - acceptance) / (1 - lowest)).clamp(max=1.0)
    return ((1 - weight) * p).scatter_add(-1, least, weight)
