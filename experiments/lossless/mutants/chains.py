"""Wrong verifiers and drafters, each wrong in one way that has been seen in the field, and the correct rule that they are variations of."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from drafters.draft_model import DraftModel
from experiments.lossless.enumeration.branches import BranchingNoise
from experiments.lossless.enumeration.proposals import (
    Partial,
    Proposals,
    Row,
    Rule,
    chain,
    distinct,
    grow,
    independent,
    one_hot,
    pack,
    tree,
    tree_plan,
)
from experiments.lossless.enumeration.tables import GOLDEN, Instance
from spec.noise import Purpose
from spec.sampling import Sampler
from spec.state import DecodeState
from spec.types import Draft, Verdict


def at(rows: Tensor, tokens: Tensor) -> Tensor:
    """rows [B, V], tokens [B] -> rows at those tokens [B]."""
    return rows.gather(1, tokens[:, None]).squeeze(1)


def normalised(distribution: Tensor, otherwise: Tensor) -> Tensor:
    """distribution [B, V] scaled to sum 1; `otherwise` where it has no mass."""
    mass = distribution.sum(-1, keepdim=True)
    return torch.where(mass > 0, distribution / mass, otherwise)


def ratio(p: Tensor, q: Tensor, tokens: Tensor) -> Tensor:
    """min(1, p(x) / q(x))."""
    return (at(p, tokens) / at(q, tokens)).nan_to_num(0.0).clamp(max=1)


def positive_part(p: Tensor, q: Tensor, tokens: Tensor) -> Tensor:
    """(p - q)+."""
    return (p - q).clamp(min=0)


def own_rows(draft: Draft) -> Tensor:
    """The rows that the draft declares."""
    assert draft.q is not None
    return draft.q


@dataclass(frozen=True)
class ChainRule:
    """Token-level speculative sampling, slot after slot; the fields are the places where it can go wrong. The defaults are right."""

    exact: ClassVar[bool] = True
    accept: Callable[[Tensor, Tensor, Tensor], Tensor] = ratio
    residual: Callable[[Tensor, Tensor, Tensor], Tensor] = positive_part
    offered: Callable[[Draft], Tensor] = own_rows  # the q rows [B, N, V] that it looks at
    wanted: Callable[[Tensor], Tensor] = lambda p: p  # the p rows [B, N, V] that it looks at
    bonus: Callable[[Tensor, Draft], Tensor] = lambda p, draft: p[:, -1]  # distribution after a fully accepted draft
    chances: Callable[[Tensor], Tensor] = lambda prob: prob  # [B, N-1] in order: chance of each slot, given that the earlier ones passed
    reuse: bool = False  # the uniform that rejected a token draws the residual, too
    emit_bonus: bool = True

    def __call__(self, p: Tensor, draft: Draft, noise: BranchingNoise) -> Verdict:
        """p [B, N, V] of chains that fill all slots."""
        p, q, num_slots = self.wanted(p), self.offered(draft), draft.num_slots
        tokens, rows = draft.tokens, torch.arange(len(p))
        prob = torch.stack([self.accept(p[:, slot - 1], q[:, slot], tokens[:, slot]) for slot in range(1, num_slots)], 1)
        slots = torch.arange(1, num_slots).expand(len(p), -1)
        counts = 1 + noise.bernoulli(self.chances(prob), Purpose.ACCEPT, slots).long().cumprod(1).sum(1)
        full = counts == num_slots
        failed = counts.clamp(max=num_slots - 1)
        residual = self.residual(p[rows, failed - 1], q[rows, failed], tokens[rows, failed])
        residual = normalised(residual, p[rows, failed - 1])
        if self.reuse:
            residual = _drawn_by(residual, prob[rows, failed - 1])
        distribution = torch.where(full[:, None], self.bonus(p, draft), residual)
        bonus = noise.categorical(distribution, Purpose.RESIDUAL, counts - 1)
        if not self.emit_bonus:
            bonus, counts = torch.where(full, tokens[:, -1], bonus), torch.where(full, counts - 1, counts)
        every = torch.arange(num_slots).expand(len(p), -1)
        return Verdict(torch.where(every < counts[:, None], every, -1), bonus, counts)


def _drawn_by(distribution: Tensor, lowest: Tensor) -> Tensor:
    """The distribution of an inverse-distribution draw from `distribution` [B, V] by a uniform number known to lie above `lowest` [B]."""
    upper = distribution.cumsum(-1)
    shares = (upper - torch.maximum(upper - distribution, lowest[:, None])).clamp(min=0)
    return normalised(shares, distribution)


def shared_uniform(prob: Tensor) -> Tensor:
    """Chances of one uniform number being below each of prob [B, K] in turn: it has shown itself to be below all the earlier ones."""
    least = prob.cummin(1).values
    before = torch.nn.functional.pad(least[:, :-1], (1, 0), value=1.0)
    return torch.where(before > 0, least / before, 0.0)


@dataclass(frozen=True)
class SiblingRule:
    """Recursive rejection among the K children of the root (slots 1 to K), one after another. The defaults are right.

    `tested` and `remaining` get the target's distribution p, what is left of it, and the first child's row, and say which distribution a child is
    tested with and which distribution the last token is drawn from once all children are rejected.
    """

    exact: ClassVar[bool] = True
    tested: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda p, left, q: left
    remaining: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda p, left, q: left
    num_tested: int | None = None  # children looked at; None: all

    def __call__(self, p: Tensor, draft: Draft, noise: BranchingNoise) -> Verdict:
        """p [B, N, V] of trees of depth one whose rows all have K = N - 1 children."""
        q, rows = own_rows(draft), torch.arange(len(p))
        left = p[:, 0]
        chosen = torch.zeros(len(p), dtype=torch.int64)
        for slot in range(1, 1 + (self.num_tested or draft.num_slots - 1)):
            prob = ratio(self.tested(p[:, 0], left, q[:, 1]), q[:, slot], draft.tokens[:, slot])
            accepted = noise.bernoulli(prob, Purpose.ACCEPT, torch.full_like(chosen, slot))
            chosen = torch.where((chosen == 0) & accepted, slot, chosen)
            left = normalised((left - q[:, slot]).clamp(min=0), left)
        distribution = torch.where((chosen > 0)[:, None], p[rows, chosen], self.remaining(p[:, 0], left, q[:, 1]))
        bonus = noise.categorical(distribution, Purpose.RESIDUAL, chosen)
        path = torch.stack([torch.zeros_like(chosen), torch.where(chosen > 0, chosen, -1)], 1)
        return Verdict(path, bonus, 1 + (chosen > 0).long())


def unmodified(p: Tensor, left: Tensor, q: Tensor) -> Tensor:
    """The target's distribution as it was before any rejection."""
    return p


def once_reduced(p: Tensor, left: Tensor, q: Tensor) -> Tensor:
    """(p - q)+ with the first child's row, however many were rejected."""
    return normalised((p - q).clamp(min=0), p)


def unmasked(instance: Instance, growth: Partial, slot: int) -> Row:
    """Drawn without replacement, declared as if drawn independently."""
    return Row(_distinct(instance, growth, slot), instance.q(growth.path(slot)))


def masked_only(instance: Instance, growth: Partial, slot: int) -> Row:
    """Drawn without replacement, declared with earlier siblings zeroed but not normalised again."""
    distribution = instance.q(growth.path(slot)).clone()
    distribution[growth.siblings(slot)] = 0
    return Row(distribution / distribution.sum(), distribution)


def masked_anyway(instance: Instance, growth: Partial, slot: int) -> Row:
    """Drawn independently, declared as if drawn without replacement."""
    return Row(instance.q(growth.path(slot)), _distinct(instance, growth, slot))


def argmax_as_soft(instance: Instance, growth: Partial, slot: int) -> Row:
    """The most probable token, declared with the distribution that it is the mode of."""
    distribution = instance.q(growth.path(slot))
    return Row(one_hot(int(distribution.argmax()), instance.vocabulary), distribution)


def other_temperature(instance: Instance, growth: Partial, slot: int) -> Row:
    """Drawn at temperature 1, declared at temperature 1/2."""
    distribution = instance.q(growth.path(slot))
    return Row(distribution, distribution**2 / (distribution**2).sum())


def _distinct(instance: Instance, growth: Partial, slot: int) -> Tensor:
    row = distinct(instance, growth, slot)
    assert row is not None
    return row.distribution


def sorted_siblings(num_children: int) -> Proposals:
    """Children of the golden root drawn without replacement, then sorted by q before they are handed over; their rows are made for the new order."""
    distribution = GOLDEN.q(())
    growths = []
    for growth in grow(GOLDEN, tree_plan([num_children], distinct)):
        tokens = sorted(growth.tokens[1:], key=lambda token: -distribution[token])
        growths.append(replace(growth, tokens=(0, *tokens)))
    return pack(GOLDEN, growths)


def next_row(draft: Draft) -> Tensor:
    """The golden drafter's distribution after the last slot, [B, V]."""
    return torch.stack([GOLDEN.q(tuple(tokens[1:])) for tokens in draft.tokens.tolist()])


def shifted(draft: Draft) -> Tensor:
    """Every slot judged by the row of the slot after it."""
    return torch.cat([own_rows(draft)[:, 1:], next_row(draft)[:, None]], 1)


class SoftArgmax(DraftModel):
    """Wrong: drafts the assistant's most probable tokens and declares the rows that they are the modes of."""

    def _next_distribution(self, *args) -> Tensor:
        self.distributions.append(super()._next_distribution(*args))
        return torch.zeros_like(self.distributions[-1]).scatter_(1, self.distributions[-1].argmax(1, keepdim=True), 1.0)

    def propose(self, state: DecodeState, sampler: Sampler) -> Draft:
        self.distributions: list[Tensor] = []
        draft = super().propose(state, sampler)
        if not self.distributions:
            return draft
        return Draft.chain(draft.tokens, draft.sizes, torch.stack([torch.zeros_like(self.distributions[0]), *self.distributions], 1))


@dataclass(frozen=True)
class Mutant:
    """A wrong pair of drafter and verifier on the golden instance, and how far it is from the target's distribution."""

    name: str
    error: float  # TV between the completed distribution of one step and the target's
    proposals: Callable[[], Proposals] = lambda: chain(GOLDEN, 3)
    verifier: Any = ChainRule()  # a Verifier that is only ever called with the branching noise


def _chain_of(rule: Rule) -> Callable[[], Proposals]:
    return lambda: chain(GOLDEN, 3, rule)


def _three(rule: Rule) -> Callable[[], Proposals]:
    return lambda: tree(GOLDEN, [3], rule)


MUTANTS = (
    Mutant("M1 resamples p", 0.148427, verifier=ChainRule(residual=lambda p, q, x: p)),
    Mutant("M1b resamples p without the rejected token", 0.111768, verifier=ChainRule(residual=lambda p, q, x: p.scatter(1, x[:, None], 0.0))),
    Mutant("M2 accepts with p(x)", 0.205751, verifier=ChainRule(accept=lambda p, q, x: at(p, x))),
    Mutant("M3 inverts the ratio", 0.383012, verifier=ChainRule(accept=lambda p, q, x: ratio(q, p, x))),
    Mutant("M4 residual (q - p)+", 0.374624, verifier=ChainRule(residual=lambda p, q, x: (q - p).clamp(min=0))),
    Mutant("M5 residual |p - q|", 0.187312, verifier=ChainRule(residual=lambda p, q, x: (p - q).abs())),
    Mutant("M6 bonus from q", 0.088518, verifier=ChainRule(bonus=lambda p, draft: next_row(draft))),
    Mutant("M7 q row off by one", 0.354450, verifier=ChainRule(offered=shifted)),
    Mutant("M8 argmax declared soft", 0.325105, _chain_of(argmax_as_soft)),
    Mutant("M9 declared at another temperature", 0.115610, _chain_of(other_temperature)),
    Mutant("M11 stale p rows", 0.319620, lambda: chain(GOLDEN, 2), ChainRule(wanted=lambda p: p[:, :1].expand_as(p))),
    Mutant("M12 one uniform for all slots", 0.095314, verifier=ChainRule(chances=shared_uniform)),
    Mutant("M13 rejecting uniform draws the residual", 0.187631, verifier=ChainRule(reuse=True)),
    Mutant("R1 p not updated", 0.050346, _three(distinct), SiblingRule(tested=unmodified, remaining=once_reduced)),
    Mutant("R2 rows not masked", 0.083937, _three(unmasked), SiblingRule()),
    Mutant("R3 masked rows not normalised", 0.083937, _three(masked_only), SiblingRule()),
    Mutant("R4 masked rows for independent draws", 0.052633, _three(masked_anyway), SiblingRule()),
    Mutant("R5 siblings sorted by q", 0.261854, lambda: sorted_siblings(3), SiblingRule()),
    Mutant("R6 independent tests", 0.131714, _three(independent), SiblingRule(tested=unmodified, remaining=once_reduced)),
)
