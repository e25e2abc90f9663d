"""Every draft that a table drafter can make, with its probability, packed as one batch of `Draft` rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from experiments.lossless.enumeration.tables import Instance, Prefix
from spec.types import Draft

PADDING = 0  # padding tokens are legal ids, as in any drafter


@dataclass(frozen=True)
class Partial:
    """A draft under construction: what a rule may look at before it decides how the next token is drawn."""

    tokens: tuple[int, ...] = (0,)  # slot 0 is the root
    parents: tuple[int, ...] = (-1,)
    rows: tuple[Tensor, ...] = ()  # declared distributions of slots 1...
    slots: dict[int, int] = field(default_factory=lambda: {0: 0})  # planned node -> slot
    weight: float = 1.0

    def path(self, slot: int) -> Prefix:
        """Tokens from the root's child down to `slot`."""
        found: list[int] = []
        while slot > 0:
            found.append(self.tokens[slot])
            slot = self.parents[slot]
        return tuple(found[::-1])

    def siblings(self, slot: int) -> list[int]:
        """Tokens of the children that `slot` has so far, in drawn order."""
        return [token for token, parent in zip(self.tokens, self.parents, strict=True) if parent == slot]


@dataclass(frozen=True)
class Row:
    """How a node's token is drawn and what the drafter declares; declared=None means honestly."""

    distribution: Tensor
    declared: Tensor | None = None


Rule = Callable[[Instance, Partial, int], Row | None]  # (instance, growth, parent slot) -> None: the node is not made
Plan = Sequence[tuple[int, Rule]]  # nodes 1... in drawing order: (planned parent, rule)


def one_hot(token: int, vocabulary: int) -> Tensor:
    return torch.nn.functional.one_hot(torch.tensor(token), vocabulary).double()


def independent(instance: Instance, growth: Partial, slot: int) -> Row:
    """Siblings drawn independently."""
    return Row(instance.q(growth.path(slot)))


def distinct(instance: Instance, growth: Partial, slot: int) -> Row | None:
    """Siblings drawn without replacement; no node where nothing is left to draw."""
    distribution = instance.q(growth.path(slot)).clone()
    distribution[growth.siblings(slot)] = 0
    return Row(distribution / distribution.sum()) if distribution.sum() > 0 else None


def top(instance: Instance, growth: Partial, slot: int) -> Row | None:
    """The most probable token under q that no sibling has: deterministic, hence one-hot."""
    distribution = instance.q(growth.path(slot)).clone()
    distribution[growth.siblings(slot)] = -1
    return Row(one_hot(int(distribution.argmax()), instance.vocabulary)) if distribution.max() >= 0 else None


def top_then_one(num_children: int) -> Rule:
    """The draft of greedy multi-draft (Hu et al., arXiv 2502.18779): all children but the last are q's most probable tokens, one-hot, and the last
    is drawn from what they leave of q. Where q has fewer tokens than that there are fewer children, and none is drawn."""

    def rule(instance: Instance, growth: Partial, slot: int) -> Row | None:
        distribution = instance.q(growth.path(slot)).clone()
        siblings = growth.siblings(slot)
        distribution[siblings] = 0
        if distribution.sum() <= 0:
            return None
        if len(siblings) < num_children - 1:
            return Row(one_hot(int(distribution.argmax()), instance.vocabulary))
        return Row(distribution / distribution.sum())

    rule.__name__ = f"top_then_one({num_children})"
    return rule


def tree_plan(widths: Sequence[int], rule: Rule) -> list[tuple[int, Rule]]:
    """A tree whose nodes of depth d have widths[d] children each, breadth first; (1, 1) is a chain of two."""
    plan: list[tuple[int, Rule]] = []
    level = [0]
    for width in widths:
        following = []
        for node in level:
            for _ in range(width):
                plan.append((node, rule))
                following.append(len(plan))
        level = following
    return plan


def grow(instance: Instance, plan: Plan) -> list[Partial]:
    """All drafts of positive probability."""
    growths = [Partial()]
    for node, (parent, rule) in enumerate(plan, start=1):
        growths = [child for growth in growths for child in _extend(instance, growth, node, parent, rule)]
    return growths


def _extend(instance: Instance, growth: Partial, node: int, parent: int, rule: Rule) -> list[Partial]:
    row = rule(instance, growth, growth.slots[parent]) if parent in growth.slots else None
    if row is None:
        return [growth]
    declared = row.distribution if row.declared is None else row.declared
    return [
        Partial(
            growth.tokens + (token,),
            growth.parents + (growth.slots[parent],),
            growth.rows + (declared,),
            growth.slots | {node: len(growth.tokens)},
            growth.weight * probability,
        )
        for token, probability in enumerate(row.distribution.tolist())
        if probability > 0
    ]


@dataclass(frozen=True)
class Proposals:
    """All drafts as a batch of S rows, the target's rows at their slots, and the probability of each."""

    draft: Draft
    p: Tensor  # [S, N, V]
    weights: Tensor  # [S]

    def rows(self, index: Tensor) -> "Proposals":
        """The given rows, in that order."""
        q = None if self.draft.q is None else self.draft.q[index]
        draft = replace(self.draft, tokens=self.draft.tokens[index], parents=self.draft.parents[index], sizes=self.draft.sizes[index], q=q)
        return Proposals(draft, self.p[index], self.weights[index])


def pack(instance: Instance, growths: Sequence[Partial], num_slots: int = 0, declare: bool = True, width: int | None = None) -> Proposals:
    """Pads growths to one batch. Padding slots are children of the root and have uniform rows; declare=False leaves q out (every distribution
    one-hot)."""
    num_slots = max([num_slots, *(len(growth.tokens) for growth in growths)])
    tokens = torch.full((len(growths), num_slots), PADDING)
    parents = torch.zeros_like(tokens)
    sizes = torch.tensor([len(growth.tokens) for growth in growths])
    q = torch.full((len(growths), num_slots, instance.vocabulary), 1 / instance.vocabulary, dtype=torch.float64)
    p = q.clone()
    for index, growth in enumerate(growths):
        size = len(growth.tokens)
        tokens[index, :size] = torch.tensor(growth.tokens)
        parents[index, :size] = torch.tensor(growth.parents)
        p[index, :size] = torch.stack([instance.p(growth.path(slot)) for slot in range(size)])
        if growth.rows:
            q[index, 1:size] = torch.stack(growth.rows)
    parents[:, 0] = -1
    weights = torch.tensor([growth.weight for growth in growths], dtype=torch.float64)
    return Proposals(Draft(tokens, parents, sizes, q if declare else None, width=width), p, weights)


def propose(instance: Instance, plan: Plan, **packing: object) -> Proposals:
    """`grow`, then `pack`."""
    return pack(instance, grow(instance, plan), **packing)  # type: ignore[arg-type]


def chain(instance: Instance, gamma: int, rule: Rule = independent, **packing: object) -> Proposals:
    """All chains of `gamma` tokens."""
    return propose(instance, tree_plan([1] * gamma, rule), **({"width": 1} | packing))


def tree(instance: Instance, widths: Sequence[int], rule: Rule, **packing: object) -> Proposals:
    """All trees with the given widths."""
    return propose(instance, tree_plan(widths, rule), **packing)
