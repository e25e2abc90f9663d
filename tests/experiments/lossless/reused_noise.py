"""The mutant that no single step shows: noise keyed by the absolute position of a token, so that a step reuses numbers that the last one looked at.

Keyed like that, token-level verification stays exact, because the numbers behind its first rejection were never looked at; block verification
(arXiv 2403.10444) judges a whole block before it rejects part of it, and the next step meets numbers of which something is known already.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from experiments.lossless.enumeration.branches import NUM_PURPOSES, Branches, BranchingNoise, Keys, enumerate_distribution
from experiments.lossless.enumeration.step_distribution import Distribution
from experiments.lossless.enumeration.tables import GOLDEN_P, GOLDEN_Q, golden_weights
from spec.interfaces import Verifier
from spec.noise import Purpose
from spec.types import Draft

SLIVER = 1e-14  # an interval shorter than this is a rounding error


class Known:
    """What every row knows of its uniform numbers by now: that each lies in [low, high)."""

    def __init__(self, num_rows: int, num_numbers: int):
        self.low = torch.zeros(num_rows, num_numbers, dtype=torch.float64)
        self.high = torch.ones(num_rows, num_numbers, dtype=torch.float64)


@dataclass(frozen=True)
class ReusedNoise(BranchingNoise):
    """`BranchingNoise` whose numbers belong to (root position + slot, purpose): what is drawn narrows what the same number may be later."""

    known: Known | None = None

    def bernoulli(self, prob: Tensor, purpose: Purpose, slots: Tensor) -> Tensor:
        """u < prob; bool, shaped as `prob` [B] or [B, K]."""
        if prob.ndim == 2:
            return torch.stack([self.bernoulli(prob[:, k], purpose, slots[:, k]) for k in range(prob.shape[1])], 1)
        true = prob.double().nan_to_num(0.0).clamp(0.0, 1.0)
        return self._choose(torch.stack([true, 1 - true], 1), purpose, slots) == 0

    def _choose(self, odds: Tensor, purpose: Purpose, slots: Tensor) -> Tensor:
        assert self.known is not None
        assert self.root_positions is not None
        assert self.live is not None
        rows, slots = torch.arange(len(odds)), slots.expand(len(odds))
        number = (self.root_positions + slots) * NUM_PURPOSES + int(purpose)
        low, high = self.known.low[rows, number], self.known.high[rows, number]
        end = odds.cumsum(1)
        starts, ends = torch.maximum(end - odds, low[:, None]), torch.minimum(end, high[:, None])
        share = (ends - starts) * (ends - starts > SLIVER)
        choice = super()._choose(share / share.sum(1, keepdim=True), purpose, slots)
        live = self.live & (choice < odds.shape[1])
        self.known.low[rows[live], number[live]] = starts[rows[live], choice[live]]
        self.known.high[rows[live], number[live]] = ends[rows[live], choice[live]]
        return choice


def first_tokens(verifier: Verifier, *, gamma: int = 2, length: int = 3, reuse: bool = True) -> Distribution:
    """The exact distribution of the first `length` tokens that steps of `gamma` drafted tokens write on the golden instance; reuse=False: keyed by
    step."""

    def run(branches: Branches) -> Tensor:
        known = Known(len(branches), (length + gamma) * NUM_PURPOSES)
        if reuse:
            return write(verifier, len(branches), lambda roots, live: ReusedNoise(branches, roots, live, known=known), gamma, length)
        return write(verifier, len(branches), lambda roots, live: BranchingNoise(branches, roots, live), gamma, length)

    return enumerate_distribution(run, Keys(gamma + 1, length), batch=50_000)


def write(verifier: Verifier, num_rows: int, noise_at: Callable[[Tensor, Tensor], Any], gamma: int, length: int) -> Tensor:
    """Texts of `length` tokens, [B, length], by as many steps as it takes; noise_at(roots [B], live [B]) is the noise of a step."""
    texts, place = torch.full((num_rows, length + gamma), -1), torch.arange(length + gamma)
    num_tokens = torch.zeros(num_rows, dtype=torch.int64)
    while bool((num_tokens < length).any()):
        live, start = num_tokens < length, num_tokens[:, None]
        noise = noise_at(torch.where(live, num_tokens, 0), live)
        p, draft = golden_step(noise, texts, num_tokens, gamma)
        verdict = verifier(p, draft, noise)
        new = (place >= start) & (place < start + verdict.counts[:, None]) & live[:, None]
        texts = torch.where(new, verdict.emitted(draft).gather(1, (place - start).clamp(0, gamma)), texts)
        num_tokens = num_tokens + torch.where(live, verdict.counts, 0)
    return texts[:, :length]


def golden_step(noise: Any, texts: Tensor, num_tokens: Tensor, gamma: int) -> tuple[Tensor, Draft]:
    """A chain drafted after texts [B, T] of `num_tokens` [B] tokens, and the target's distributions [B, gamma + 1, V] along it."""
    place = torch.arange(texts.shape[1])
    h = ((place + 1) * (texts + 1) * (place < num_tokens[:, None])).sum(1).double()
    tokens, wanted, offered = [torch.zeros_like(num_tokens)], [], [torch.zeros(len(texts), 4, dtype=torch.float64)]
    for slot in range(1, gamma + 2):
        wanted.append(_normalised(golden_weights(GOLDEN_P, h)))
        if slot > gamma:
            break
        offered.append(_normalised(golden_weights(GOLDEN_Q, h)))
        tokens.append(noise.categorical(offered[-1], Purpose.DRAFT, torch.full_like(num_tokens, slot)))
        h = h + (num_tokens + slot) * (tokens[-1] + 1)
    return torch.stack(wanted, 1), Draft.chain(torch.stack(tokens, 1), q=torch.stack(offered, 1))


def _normalised(weights: Tensor) -> Tensor:
    return weights / weights.sum(-1, keepdim=True)
