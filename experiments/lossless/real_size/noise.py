"""The distribution of the first token of a step over a whole vocabulary: outcomes are followed one by one where the draft decides, otherwise all at
once.

A draw over the vocabulary has one outcome for each drafted token and one for all others together. What a step does next cannot depend on which of the
others it was; if one of them is the first token of the step, its probability is spread over them by the distribution that it was drawn from.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from experiments.lossless.enumeration.branches import Branches, BranchingNoise, Keys, enumerate_distribution
from experiments.lossless.enumeration.step_distribution import check_verdict
from experiments.lossless.real_size.rows import Drafts
from spec.interfaces import Verifier
from spec.noise import Purpose
from spec.types import Draft

ROWS = 8  # at once
NEAR, FURTHEST, PRECISION = 1e-3, 200.0, 1e-11  # of a Gumbel number that is moved until the choice changes: by this much about where it should


@dataclass(frozen=True)
class WideNoise(BranchingNoise):
    """`BranchingNoise` for draws over a vocabulary; what it does with them stands in `drawn`."""

    tokens: Tensor | None = None  # [B, K] drafted
    vocabulary: int = 0
    drawn: list[tuple[Tensor, Tensor]] = field(default_factory=list)  # (token that stands for all not drafted [B], -1: none; their masses [B, V])

    def categorical(self, distribution: Tensor, purpose: Purpose, slots: Tensor) -> Tensor:
        """As `BranchingNoise.categorical`."""
        if distribution.ndim == 3 or distribution.shape[-1] != self.vocabulary:
            return super().categorical(distribution, purpose, slots)
        assert self.tokens is not None
        distribution = distribution.double()
        repeated = (self.tokens[:, :, None] == self.tokens[:, None, :]).tril(-1).any(2)
        own = distribution.gather(1, self.tokens).masked_fill(repeated, 0.0)
        others = distribution.scatter(1, self.tokens, 0.0)
        odds = torch.cat([own, others.sum(1, keepdim=True)], 1)
        total = odds.sum(1, keepdim=True)
        odds = torch.cat([torch.where(total > 0, odds / total, 0.0), (total <= 0).double()], 1)
        choice = self._choose(odds, purpose, slots)[:, None]
        standing = self._standing(others)
        self.drawn.append((standing, others))
        outcomes = torch.cat([self.tokens, standing[:, None], torch.full_like(standing[:, None], self.vocabulary)], 1)
        return outcomes.gather(1, choice)[:, 0]

    def _standing(self, others: Tensor) -> Tensor:
        """A token of positive mass in every row, [B], as far as possible another one than in earlier draws of the step; -1 where there is none."""
        unused = others
        for token, _ in self.drawn:
            unused = unused.scatter(1, token.clamp(min=0)[:, None], 0.0)
        most, token = torch.where(unused.sum(1, keepdim=True) > 0, unused, others).max(1)
        return torch.where(most > 0, token, -1)


def first_token_distribution(verifier: Verifier, drafts: Drafts) -> Tensor:
    """The distribution of the first token that a step emits, all randomness followed, that of the draft included; float64 [V + 1], the last for no
    token.

    Only its sums over classes are meaningful: within a class the probability is at the token that was drafted. Raises GumbelError.
    """
    distribution = torch.zeros(len(drafts.p) + 1, dtype=torch.float64)

    def run(branches: Branches) -> Tensor:
        draft = part_of(drafts.draft, branches.origins)
        noise = WideNoise(branches, torch.zeros_like(branches.origins), tokens=draft.tokens[:, 1:], vocabulary=len(drafts.p))
        verdict = verifier(drafts.p.repeat(len(branches), draft.num_slots, 1), draft, noise)  # pyright: ignore[reportArgumentType]
        check_verdict(draft, verdict)
        first = verdict.emitted(draft)[:, 0]
        for row, (token, weight) in enumerate(zip(first.tolist(), branches.weights.tolist(), strict=True)):
            spread = next((masses[row] for standing, masses in noise.drawn if int(standing[row]) == token), None)
            if spread is None:
                distribution[token] += weight
            else:
                distribution[:-1].add_(spread, alpha=weight / float(spread.sum()))
        return torch.full((len(branches), 1), -1)

    enumerate_distribution(run, Keys(drafts.draft.num_slots), drafts.weights, batch=ROWS)
    return distribution


def part_of(draft: Draft, rows: Tensor) -> Draft:
    """The given rows of a draft."""
    q = None if draft.q is None else draft.q[rows]
    return Draft(draft.tokens[rows], draft.parents[rows], draft.sizes[rows], q, width=draft.width)


@dataclass(frozen=True)
class MovedNoise:
    """Gumbel numbers that are all 0, but for one token in every row."""

    tokens: Tensor  # [B]
    moved: Tensor  # [B] float64

    @property
    def root_positions(self) -> Tensor:
        """[B]."""
        return torch.zeros_like(self.tokens)

    def gumbel(self, positions: Tensor, vocabulary: int) -> Tensor:
        """[B, ..., V]."""
        numbers = torch.zeros(*positions.shape, vocabulary, dtype=torch.float64)
        at = self.tokens.view(-1, *[1] * positions.ndim).expand(*positions.shape, 1)
        return numbers.scatter_(-1, at, self.moved.view(at.shape[:1] + (1,) * positions.ndim).expand_as(at))


def race_distribution(verifier: Verifier, drafts: Drafts) -> Tensor:
    """The distribution of a verifier that takes the largest of a score plus a Gumbel number: it is softmax of the scores, by the theorem of
    Gumbel-max.

    The scores are found from outside, to 1e-11: the number of one token of each class is raised until it wins. float64 [V + 1]; the mass of a class
    stands at one token of it. Raises AttributeError if the verifier wants other random numbers as well.
    """
    num_classes = int(drafts.classes.max()) + 1
    tokens = torch.stack([(drafts.classes == number).int().argmax() for number in range(num_classes)])

    def winners(moved: Tensor) -> Tensor:
        parts = zip(tokens.split(ROWS), moved.split(ROWS), strict=True)
        return torch.cat([_winners(verifier, drafts, MovedNoise(*part)) for part in parts])

    nothing = torch.zeros(num_classes, dtype=torch.float64)
    best, wins = winners(nothing), winners(nothing + FURTHEST) == tokens
    expected = (drafts.reference[best].log() - drafts.reference[tokens].log()).clamp(0, FURTHEST)
    low, high = (expected - NEAR).clamp(min=0), expected + NEAR
    low, high = torch.where(winners(low) == tokens, nothing, low), torch.where(winners(high) == tokens, high, FURTHEST)
    while float((high - low).max()) > PRECISION:
        middle = (low + high) / 2
        won = winners(middle) == tokens
        low, high = torch.where(won, low, middle), torch.where(won, middle, high)
    height = torch.where(drafts.classes[tokens] == drafts.classes[best], 0.0, (low + high) / 2)
    counts = torch.bincount(drafts.classes, minlength=num_classes)
    weights = torch.where(wins, counts * torch.exp(-height), 0.0)
    distribution = torch.zeros(len(drafts.p) + 1, dtype=torch.float64)
    return distribution.index_put_((tokens,), weights / weights.sum())


def _winners(verifier: Verifier, drafts: Drafts, noise: Any) -> Tensor:
    rows = torch.zeros_like(noise.tokens)
    draft = part_of(drafts.draft, rows)
    verdict = verifier(drafts.p.repeat(len(rows), draft.num_slots, 1), draft, noise)
    return verdict.emitted(draft)[:, 0]
