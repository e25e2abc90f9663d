"""Between the loop and `spec.auto`: steps that are tried and taken back, to measure what they cost, and what a real step showed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from spec.auto import Happened
from spec.interfaces import Drafter
from spec.model import CausalLM
from spec.sampling import Sampler
from spec.state import DecodeState
from spec.tree import on_device
from spec.types import Draft, Verdict

Judge = Callable[[Draft, Tensor, DecodeState, Sampler], Verdict]


@dataclass
class Trial:
    """Drafts, scores and verifies as a step does, and commits nothing. Noise is keyed by position, so trying uses none of it up."""

    target: CausalLM
    drafter: Drafter
    judge: Judge  # as in a step; an observer is not shown what does not happen
    state: DecodeState
    sampler: Sampler

    def __call__(self, option: int) -> None:
        """A step in which this much is drafted, to its end on the device; 0: plain decoding."""
        state, hidden = self.state, "hidden" in self.drafter.traits.needs
        draft = self._draft(option)
        lengths = list(state.cache.lengths)
        scores = self.target.score(draft, state.cache, hidden=hidden)
        state.cache.crop(lengths)
        self.judge(draft, scores.logits, state, self.sampler).bonus.tolist()

    def _draft(self, option: int) -> Draft:
        """The drafter's own; a chain that it made shorter than asked, having found nothing to copy, is filled up."""
        root = on_device(self.state.roots, self.state.device)[:, None]
        if option == 0:
            return Draft.chain(root)
        state, limits = self.state, self.state.max_lengths
        state.max_lengths = [min(len(row) + option + 1, state.context) for row in state.rows]  # as if there were room for all of it
        try:
            draft = self.drafter.try_out(state, self.sampler, option)
        finally:
            state.max_lengths = limits
        if draft.is_chain and draft.scratch is None and draft.num_slots <= option:
            return Draft.chain(root.repeat(1, option + 1))
        return draft


def happened(verdict: Verdict, limits: Sequence[int]) -> list[Happened]:
    """What a step that was cut to its limits showed of each row that was live; `limits`: the most that each row could draft."""
    assert verdict.tokens is not None
    assert verdict.depths is not None
    cut = verdict.cut or [False] * len(limits)
    rows = zip(limits, verdict.depths, verdict.tokens, cut, strict=True)
    return [Happened(limit, depth, len(tokens) - 1, short) for limit, depth, tokens, short in rows if tokens]
