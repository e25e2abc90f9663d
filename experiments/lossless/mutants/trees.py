"""Wrong verifiers and drafts of trees, each wrong in one way, and the correct rules that they are variations of.

Traversal: Weng et al., arXiv 2505.12398. K-SEQ: Sun et al., 2310.15141. Greedy multi-draft: Hu et al., 2502.18779.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from experiments.lossless.enumeration.branches import BranchingNoise
from experiments.lossless.enumeration.proposals import Partial, Proposals, Row, Rule, distinct, independent, one_hot, propose, top_then_one, tree
from experiments.lossless.enumeration.tables import GOLDEN, A, Instance
from experiments.lossless.mutants.chains import Mutant, at, normalised, own_rows, ratio
from spec.noise import Purpose
from spec.types import Draft, Verdict
from verifiers.greedy_multi import GreedyMulti


def drawn_order(leaves: Sequence[int], parents: Sequence[int]) -> int:
    """The leaf that comes first in depth-first order, which makes the whole a post-order."""
    return leaves[0]


def deepest_first(leaves: Sequence[int], parents: Sequence[int]) -> int:
    """The leaf farthest from the root, whatever stands before it."""
    return max(leaves, key=lambda leaf: len(path_to(leaf, parents)))


def path_to(slot: int, parents: Sequence[int]) -> list[int]:
    """Slots from the root down to `slot`."""
    return [slot] if slot == 0 else [*path_to(parents[slot], parents), slot]


@dataclass(frozen=True)
class TraversalRule:
    """Leaf-to-root verification as it is written down, one leaf after another, for trees of one shape in all rows. The defaults are right."""

    exact: ClassVar[bool] = True
    next_leaf: Callable[[Sequence[int], Sequence[int]], int] = drawn_order

    def __call__(self, p: Tensor, draft: Draft, noise: BranchingNoise) -> Verdict:
        """p [B, N, V]; all rows have the same parents and use all slots."""
        q, parents, num_rows = own_rows(draft), draft.parents[0].tolist(), len(p)
        distributions, weights = list(p.unbind(1)), {0: torch.ones(num_rows, dtype=p.dtype)}
        remaining = set(range(draft.num_slots))
        distribution, node, decided = p[:, 0], torch.zeros(num_rows, dtype=torch.int64), torch.zeros(num_rows, dtype=torch.bool)
        while remaining:
            leaf = self.next_leaf(self._leaves(remaining, parents), parents)
            for slot in path_to(leaf, parents)[1:]:
                if slot not in weights:  # first visit: the path's weight so far, against this token's row
                    wanted = weights[parents[slot]] * at(distributions[parents[slot]], draft.tokens[:, slot])
                    weights[slot] = (wanted / at(q[:, slot], draft.tokens[:, slot])).nan_to_num(0.0).clamp(max=1)
            chance = torch.where(decided, 0.0, weights[leaf] if leaf else torch.ones_like(weights[0]))
            accepted = noise.bernoulli(chance, Purpose.ACCEPT, torch.full_like(node, leaf))
            node, distribution = torch.where(accepted, leaf, node), torch.where(accepted[:, None], distributions[leaf], distribution)
            decided, remaining = decided | accepted, remaining - {leaf}
            if leaf:
                self._reject(leaf, parents[leaf], q, distributions, weights)
        bonus = noise.categorical(distribution, Purpose.RESIDUAL, node)
        path, counts = draft.slots_to(node)
        return Verdict(path, bonus, counts)

    @staticmethod
    def _leaves(remaining: set[int], parents: Sequence[int]) -> list[int]:
        """Slots without remaining children, in depth-first order of the drawn tree."""
        leaves = [slot for slot in remaining if all(parents[other] != slot for other in remaining)]
        return sorted(leaves, key=lambda leaf: path_to(leaf, parents))

    @staticmethod
    def _reject(leaf: int, parent: int, q: Tensor, distributions: list[Tensor], weights: dict[int, Tensor]) -> None:
        rest = (weights[parent][:, None] * distributions[parent] - q[:, leaf]).clamp(min=0)
        mass = rest.sum(1)
        distributions[parent] = normalised(rest, distributions[parent])
        if parent:
            weights[parent] = (mass / (mass + (1 - weights[parent]))).nan_to_num(0.0)


@dataclass(frozen=True)
class LongestChain:
    """Wrong: verifies K independent chains token by token, each on its own, and keeps the one that got farthest."""

    exact: ClassVar[bool] = True

    def __call__(self, p: Tensor, draft: Draft, noise: BranchingNoise) -> Verdict:
        """p [B, N, V] of trees whose branching is all at the root, the same in all rows."""
        q, parents = own_rows(draft), draft.parents[0].tolist()
        leaves = [slot for slot in range(draft.num_slots) if slot not in parents]
        slots = draft.slots[:, 1:]
        odds = torch.stack([ratio(p[:, parents[slot]], q[:, slot], draft.tokens[:, slot]) for slot in range(1, draft.num_slots)], 1)
        accepted = torch.nn.functional.pad(noise.bernoulli(odds, Purpose.ACCEPT, slots), (1, 0), value=True)
        node, distribution, best = torch.zeros_like(draft.sizes), p[:, 0], torch.zeros_like(draft.sizes)
        for leaf in leaves:
            chain = path_to(leaf, parents)
            kept = accepted[:, chain].long().cumprod(1).sum(1)
            failed = torch.tensor([*chain[1:], leaf])[kept - 1]
            own = torch.tensor(chain)[kept - 1]
            rows = torch.arange(len(p))
            residual = normalised((p[rows, own] - q[rows, failed]).clamp(min=0), p[rows, own])
            residual = torch.where((kept == len(chain))[:, None], p[rows, own], residual)
            farther = kept > best
            node, distribution, best = (
                torch.where(farther, own, node),
                torch.where(farther[:, None], residual, distribution),
                torch.where(farther, kept, best),
            )
        bonus = noise.categorical(distribution, Purpose.RESIDUAL, node)
        path, counts = draft.slots_to(node)
        return Verdict(path, bonus, counts)


def smallest_rho(p: Tensor, q: Tensor, num_siblings: int) -> Tensor:
    """The rho in [1, K] at which 1 - (1 - beta)^K = rho beta; p, q [B, V] -> [B]."""
    low, high = torch.ones(len(p), dtype=p.dtype), torch.full((len(p),), float(num_siblings), dtype=p.dtype)
    for _ in range(60):
        rho = (low + high) / 2
        beta = torch.minimum(q, p / rho[:, None]).sum(1)
        below = 1 - (1 - beta) ** num_siblings > rho * beta
        low, high = torch.where(below, rho, low), torch.where(below, high, rho)
    return high


@dataclass(frozen=True)
class KSeqRule:
    """K-SEQ among the K children of the root, by the first child's row. It does not compare the rows; apart from that, the defaults are right."""

    exact: ClassVar[bool] = True
    rho: Callable[[Tensor, Tensor, int], Tensor] = smallest_rho

    def __call__(self, p: Tensor, draft: Draft, noise: BranchingNoise) -> Verdict:
        """p [B, N, V] of trees of depth one whose rows all have K = N - 1 children."""
        distribution, q, num_siblings = p[:, 0], own_rows(draft)[:, 1], draft.num_slots - 1
        rho = self.rho(distribution, q, num_siblings)[:, None]
        overlap = torch.minimum(q, distribution / rho)
        beta = overlap.sum(1, keepdim=True)
        odds = torch.stack([ratio(distribution / rho, q, draft.tokens[:, slot]) for slot in range(1, draft.num_slots)], 1)
        accepted = noise.bernoulli(odds, Purpose.ACCEPT, draft.slots[:, 1:])
        node = torch.where(accepted.any(1), 1 + accepted.int().argmax(1), 0)
        share = torch.where(beta > 0, (1 - (1 - beta) ** num_siblings) / beta, 0.0)
        residual = normalised((distribution - overlap * share).clamp(min=0), distribution)
        return _one_level(torch.where((node > 0)[:, None], p[torch.arange(len(p)), node], residual), node, noise)


@dataclass(frozen=True)
class GreedyRule:
    """Greedy multi-draft among the K children of the root. The defaults are right."""

    exact: ClassVar[bool] = True
    residual: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda p, q, others: (p - q).clamp(min=0)  # of [B, V], [B, V], [B, K - 1] tokens
    goes_on: bool = True  # the walk goes on after a sibling that holds the residual's token

    def __call__(self, p: Tensor, draft: Draft, noise: BranchingNoise) -> Verdict:
        """p [B, N, V] of trees of depth one whose rows all have K = N - 1 children."""
        distribution, q, last, rows = p[:, 0], own_rows(draft)[:, -1], draft.num_slots - 1, torch.arange(len(p))
        others = draft.tokens[:, 1:last]
        accepted = noise.bernoulli(ratio(distribution, q, draft.tokens[:, last]), Purpose.ACCEPT, torch.zeros_like(draft.sizes))
        rest = normalised(self.residual(distribution, q, others), distribution)
        token = noise.categorical(torch.where(accepted[:, None], one_hot(0, p.shape[2]), rest), Purpose.ACCEPT, torch.ones_like(draft.sizes))
        hit = others == token[:, None]
        node = torch.where(accepted, last, torch.where(hit.any(1) & self.goes_on, 1 + hit.int().argmax(1), 0))
        stays = torch.nn.functional.one_hot(token, p.shape[2]).to(p.dtype)
        return _one_level(torch.where((node > 0)[:, None], p[rows, node], stays), node, noise)


def _one_level(distribution: Tensor, node: Tensor, noise: BranchingNoise) -> Verdict:
    """The verdict on a tree of depth one of which `node` [B] is kept, 0 being the root alone; the last token follows distribution [B, V]."""
    bonus = noise.categorical(distribution, Purpose.RESIDUAL, torch.zeros_like(node))
    return Verdict(torch.stack([torch.zeros_like(node), torch.where(node > 0, node, -1)], 1), bonus, 1 + (node > 0).long())


def soft_top(num_children: int) -> Rule:
    """The draft of greedy multi-draft whose certain children are declared with the soft row that they are the tops of."""
    honest = top_then_one(num_children)

    def rule(instance: Instance, growth: Partial, slot: int) -> Row | None:
        row = honest(instance, growth, slot)
        certain = len(growth.siblings(slot)) < num_children - 1
        return row if row is None or not certain else Row(row.distribution, instance.q(growth.path(slot)))

    return rule


def unrestricted(num_children: int) -> Rule:
    """The draft of greedy multi-draft whose last child is declared with q itself and not with what the others leave of it."""
    honest = top_then_one(num_children)

    def rule(instance: Instance, growth: Partial, slot: int) -> Row | None:
        row = honest(instance, growth, slot)
        certain = len(growth.siblings(slot)) < num_children - 1
        return row if row is None or certain else Row(row.distribution, instance.q(growth.path(slot)))

    return rule


def deep_child(deep: int) -> list[tuple[int, Rule]]:
    """Two children of the root without replacement, and a chain of two below child number `deep`."""
    return [(0, distinct), (0, distinct), (deep, distinct), (3, distinct)]


def without(p: Tensor, q: Tensor, others: Tensor) -> Tensor:
    """(p - q)+ without the tokens of the other children."""
    return (p - q).clamp(min=0).scatter(1, others, 0.0)


def always(rho: float) -> Callable[[Tensor, Tensor, int], Tensor]:
    """The same rho for any distributions."""
    return lambda p, q, num_siblings: torch.full_like(p[:, 0], rho)


@dataclass(frozen=True)
class SlowMutant:
    """A pair of drafter and verifier that is exact and yet wrong: only the expected number of tokens shows it."""

    name: str
    instance: Instance
    proposals: Callable[[], Proposals]
    verifier: Any  # a Verifier that is only ever called with the branching noise
    right: float  # tokens a step of the pair that it is a variation of
    slow: float  # tokens a step that it emits


TREE_MUTANTS = (
    Mutant("T1 deepest leaf first", 0.066404, lambda: tree(GOLDEN, [2, 1], distinct), TraversalRule(deepest_first)),
    Mutant("T2 longest of independently verified chains", 0.127045, lambda: tree(GOLDEN, [2, 1], independent), LongestChain()),
    Mutant("S1 K-SEQ with rho = 1", 0.131714, lambda: tree(GOLDEN, [3], independent), KSeqRule(always(1))),
    Mutant("S2 K-SEQ for siblings without replacement", 0.122891, lambda: tree(GOLDEN, [3], distinct), KSeqRule()),
    Mutant("G1 residual without the certain children", 0.194637, lambda: tree(GOLDEN, [3], top_then_one(3)), GreedyRule(without)),
    Mutant("G2 last child declared with q itself", 0.604638, lambda: tree(GOLDEN, [3], unrestricted(3)), GreedyMulti()),
    Mutant("G3 certain last child declared soft", 0.764706, lambda: tree(GOLDEN, [5], soft_top(5)), GreedyMulti()),
)
SLOW_TREE_MUTANTS = (
    SlowMutant("deep subtree under the last child", A, lambda: propose(A, deep_child(2)), TraversalRule(), 2.815, 1.970),
    SlowMutant("K-SEQ with rho = K", GOLDEN, lambda: tree(GOLDEN, [3], independent), KSeqRule(always(3)), 1.9037351450798389, 46 / 27),
    SlowMutant(
        "greedy multi-draft stops at a certain child",
        GOLDEN,
        lambda: tree(GOLDEN, [2], top_then_one(2)),
        GreedyRule(goes_on=False),
        167 / 85,
        269 / 170,
    ),
)
