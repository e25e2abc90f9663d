"""Traversal verification: a tree is judged from its leaves to its root, so that a token which alone would be rejected can be saved by those below it.

Source: Weng et al., arXiv 2505.12398. Every node u carries a measure m_u, the target's distribution after u times a weight w_u, at first 1 at the
root and min(1, m(x) / q(x)) at a child x. Nodes are tried in post-order, children before their parent and siblings in drawn order; u is accepted with
w_u. The rejection of a child leaves its parent m' = (m - q)+ / (S + 1 - w) and w' = S / (S + 1 - w), S the mass of (m - q)+. On a chain this is block
verification (2403.10444), on a tree of depth one recursive rejection. It gains most where the deepest subtree stands under the first child.
"""

from dataclasses import dataclass
from itertools import chain
from typing import ClassVar

import torch
from torch import Tensor

from spec.chains import chain_odds, root_only
from spec.checks import NAN_ROW, refuse_nan_rows, refuse_where
from spec.mass import mass
from spec.noise import Purpose, StepNoise
from spec.residual import over, rows_at
from spec.tree import children, numbers
from spec.types import Draft, Verdict


@dataclass(frozen=True)
class Traversal:
    """Exact for every draft that keeps the q contract (`spec.types.Draft`).

    No weight depends on what was accepted, only on the draft: so all of them are computed first, level by level, and one draw picks the node. Trees
    need one transfer from the device per step, for their shape. Raises ValueError where q is NaN.
    """

    exact: ClassVar[bool] = True
    matches: ClassVar[bool] = True

    def __call__(self, p: Tensor, draft: Draft, noise: StepNoise) -> Verdict:
        """p [B, N, V] -> Verdict with D = N."""
        if draft.num_slots == 1:
            return root_only(p, draft, noise)
        refuse_nan_rows(draft)
        if draft.is_chain:
            weights, odds = chain_weights(p, draft)
            order, table = draft.slots.flip(1), torch.where(draft.slots + 1 < draft.sizes[:, None], draft.slots + 1, -1)[:, None]
        else:
            levels = levels_of(draft)
            weights, odds = tree_weights(p, draft, levels)
            order, table = post_order(draft), children_of(draft, levels)
        odds[:, 0] = 1.0
        sorted_odds = odds.gather(1, order)
        distribution = sorted_odds * torch.nn.functional.pad((1 - sorted_odds[:, :-1]).cumprod(1), (1, 0), value=1.0)
        refuse_where(distribution.isnan(), NAN_ROW)
        first = noise.categorical(distribution, Purpose.ACCEPT, torch.zeros_like(draft.sizes))
        node = order.gather(1, first[:, None]).squeeze(1)
        bonus = noise.categorical(leftover(p, draft, node, (weights, table)), Purpose.RESIDUAL, node)
        path, counts = draft.slots_to(node)
        return Verdict(path, bonus, counts)


def reject(measure: Tensor, weight: Tensor, draft: Draft, child: Tensor) -> tuple[Tensor, Tensor]:
    """What the rejection of `child` [K], flat slots b * N + i, leaves of its parent's measure [K, V] and weight [K] float64; zero where S = 0."""
    if draft.q is None:
        rest = measure.scatter(1, draft.tokens.flatten()[child][:, None], 0.0)
    else:
        rest = draft.q.flatten(0, 1).index_select(0, child)
        rest = torch.sub(measure, rest, out=rest).clamp_(min=0)
    left = mass(rest)
    room = left + (1 - weight)
    scale = torch.where(room == 0, 0.0, 1 / room)
    return rest.mul_(scale[:, None].to(rest.dtype)), left * scale


def chain_weights(p: Tensor, draft: Draft) -> tuple[Tensor, Tensor]:
    """Weights of a chain's slots on arrival and after the rejection of their child; float64 [B, N], the second 0 for padding."""
    total = chain_odds(p, draft).double().log().cumsum(1)
    weights = (total - total.clamp(min=0).cummax(1).values).exp()  # a product that may not rise above 1
    weights = torch.nn.functional.pad(weights, (1, 0), value=1.0)
    measure = p[:, :-1] * weights[:, :-1, None].to(p.dtype)
    if draft.q is None:
        measure.scatter_(2, draft.tokens[:, 1:, None], 0.0)
    else:
        measure.sub_(draft.q[:, 1:]).clamp_(min=0)
    left = mass(measure)
    room = left + (1 - weights[:, :-1])
    after = torch.nn.functional.pad(torch.where(room == 0, 0.0, left / room), (0, 1))
    inner = draft.slots + 1 < draft.sizes[:, None]
    return weights, torch.where(inner, after, torch.where(draft.slots < draft.sizes[:, None], weights, 0.0))


def levels_of(draft: Draft) -> list[list[Tensor]]:
    """The used slots below the root by depth, and at each depth by rank among siblings, as flat slots b * N + i.

    Large families come first: the parents of the slots of rank r are the first parents of that depth.
    """
    num_slots, families = draft.num_slots, {}
    table = torch.cat([draft.parents, draft.sizes[:, None]], 1).tolist()
    for row, (*parents, size) in enumerate(table):
        for slot in range(1, size):
            families.setdefault(row * num_slots + parents[slot], []).append(row * num_slots + slot)
    levels, nodes = [], [row * num_slots for row in range(len(table))]
    while level := sorted((families[node] for node in nodes if node in families), key=len, reverse=True):
        levels.append([[family[rank] for family in level if len(family) > rank] for rank in range(len(level[0]))])
        nodes = list(chain.from_iterable(level))
    ranks = list(chain.from_iterable(levels))
    packed = iter(torch.tensor(list(chain.from_iterable(ranks)), dtype=torch.int64, device=draft.tokens.device).split([len(rank) for rank in ranks]))
    return [[next(packed) for _ in level] for level in levels]


def children_of(draft: Draft, levels: list[list[Tensor]]) -> Tensor:
    """`Draft.children`, whose width the levels tell without a look at the device."""
    return draft.children if draft.tables is not None else children(draft.parents, draft.sizes, max(map(len, levels), default=1))


def tree_weights(p: Tensor, draft: Draft, levels: list[list[Tensor]]) -> tuple[Tensor, Tensor]:
    """Weights of all slots on arrival and after the rejection of all their children; float64 [B, N], 0 for padding."""
    num_rows, num_slots = draft.tokens.shape
    tokens, parents = draft.tokens.flatten(), (draft.parents + numbers(num_rows, p.device)[:, None] * num_slots).flatten()
    offered = None if draft.q is None else draft.q.gather(2, draft.tokens[..., None]).flatten()
    weights = (draft.slots == 0).double().flatten()
    odds = weights.clone()
    for level in levels:
        nodes = parents[level[0]]
        weight = weights[nodes]
        measure = p.flatten(0, 1).index_select(0, nodes).mul_(weight[:, None].to(p.dtype))
        for child in level:
            measure, weight = measure[: len(child)], weight[: len(child)]
            wanted = measure.gather(1, tokens[child][:, None]).squeeze(1)
            weights[child] = (wanted if offered is None else over(wanted, offered[child])).clamp(max=1).double()
            measure, weight = reject(measure, weight, draft, child)
            odds[parents[child]] = weight
        last = torch.cat(level)
        odds[last] = weights[last]
    return weights.view(num_rows, num_slots), odds.view(num_rows, num_slots)


def post_order(draft: Draft) -> Tensor:
    """The slots in the order in which they are tried, children before parents and older siblings with all below them first; [B, N], padding last."""
    used = draft.slots < draft.sizes[:, None]
    num_below = (draft.ancestors & used[:, :, None]).sum(1).float()  # the slot itself included
    before = (draft.older.float() @ num_below[..., None]).squeeze(2)
    place = num_below + (draft.ancestors.float() @ before[..., None]).squeeze(2)
    return torch.where(used, place, torch.inf).argsort(1)


def leftover(p: Tensor, draft: Draft, node: Tensor, weighed: tuple[Tensor, Tensor]) -> Tensor:
    """The target's measure at `node` [B] after all its children were rejected, [B, V], given (weights [B, N], children [B, R, N]) of all slots."""
    weights, table = weighed
    rows = numbers(len(node), p.device)
    weight = weights[rows, node]
    measure = rows_at(p, node[:, None])[:, 0] * weight[:, None].to(p.dtype)
    for child in table[rows, :, node].unbind(1):
        reduced, left = reject(measure, weight, draft, rows * draft.num_slots + child.clamp(min=0))
        # a rejection implies mass in exact arithmetic; where rounding leaves none, what there was before is the right answer
        kept = (child > 0) & (left > 0)
        measure, weight = torch.where(kept[:, None], reduced, measure), torch.where(kept, left, weight)
    return measure
