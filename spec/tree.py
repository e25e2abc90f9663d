"""Pure functions of `parents`: the shape of a draft, apart from what its tokens are.

Letters: B rows, N slots of a draft (slot 0 is the root), R the largest number of siblings. Padding slots are told apart by `sizes`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=256)
def numbers(stop: int, device: torch.device) -> Tensor:
    """0, 1, ..., stop - 1, made once; never write into it. At these sizes making a tensor costs as much as using it."""
    with torch.inference_mode(False):  # what is kept must serve callers under autograd too
        return torch.arange(stop, device=device)


def on_device(values: Sequence, device: torch.device | str) -> Tensor:
    """Numbers of the host as a tensor; on CUDA without waiting for what the device is doing."""
    if torch.device(device).type != "cuda":
        return torch.tensor(values, device=device)
    return torch.tensor(values, pin_memory=True).to(device, non_blocking=True)


@lru_cache(maxsize=256)
def chain_parents(num_rows: int, num_slots: int, device: torch.device = torch.device("cpu")) -> Tensor:  # noqa: B008
    """Parents of a chain: -1, 0, 1, ...; [B, N]; made once, never write into it."""
    with torch.inference_mode(False):
        return torch.arange(-1, num_slots - 1, device=device).expand(num_rows, num_slots)


@lru_cache(maxsize=1024)
def constant(values: tuple[int, ...], device: torch.device) -> Tensor:
    """Numbers that the host knows, [K]; made once, never write into it."""
    with torch.inference_mode(False):
        return torch.tensor(values, device=device)


@lru_cache(maxsize=256)
def same_parents(shape: tuple[int, ...], num_rows: int, device: torch.device) -> Tensor:
    """Parents that are `shape` in every row, [B, N]; made once, never write into it."""
    return constant(shape, device).expand(num_rows, -1)


@lru_cache(maxsize=64)
def tables_of(shape: tuple[int, ...], device: torch.device) -> "Tables":
    """What follows from parents that are `shape`, made once."""
    with torch.inference_mode(False):
        parents, sizes = constant(shape, device)[None], torch.tensor([len(shape)], device=device)
        ancestors = ancestor_mask(parents)
        return Tables(ancestors, ancestors.sum(-1) - 1, older_siblings(parents, sizes), children(parents, sizes))


@dataclass(frozen=True)
class Tables:
    """Of a tree of N slots that are all in use."""

    ancestors: Tensor  # [1, N, N] as `ancestor_mask`
    depths: Tensor  # [1, N]
    older: Tensor  # [1, N, N] as `older_siblings`
    children: Tensor  # [1, R, N] as `children`


def ancestor_mask(parents: Tensor) -> Tensor:
    """mask[b, i, j]: slot j is slot i or one of its ancestors; bool [B, N, N]. The reach doubles with every product."""
    num_slots = parents.shape[1]
    slots = numbers(num_slots, parents.device)
    reach = ((parents[:, :, None] == slots) | (slots[:, None] == slots)).float()
    for _ in range(max(num_slots - 1, 0).bit_length()):
        reach = (reach @ reach).clamp_(max=1)
    return reach > 0


def older_siblings(parents: Tensor, sizes: Tensor) -> Tensor:
    """older[b, i, j]: slot j is a sibling of slot i, drawn before it; bool [B, N, N]. Padding is nobody's sibling."""
    slots = numbers(parents.shape[1], parents.device)
    used = (slots > 0) & (slots < sizes[:, None])
    return (parents[:, :, None] == parents[:, None, :]) & (used[:, None, :] & (slots < slots[:, None]))


def children(parents: Tensor, sizes: Tensor, width: int | None = None) -> Tensor:
    """children[b, r, u]: the r-th child of slot u in drawn order, or -1; [B, R, N]. Giving R as `width` saves a transfer from the device."""
    num_rows, num_slots = parents.shape
    slots = numbers(num_slots, parents.device)
    used = (slots > 0) & (slots < sizes[:, None])
    rank = torch.where(used, older_siblings(parents, sizes).sum(-1), -1)
    if width is None:
        width = max(int(rank.max()) + 1, 1)
    table = torch.full((num_rows, width, num_slots + 1), -1, dtype=torch.int64, device=parents.device)
    rows = torch.arange(num_rows, device=parents.device)[:, None].expand_as(parents)
    column = torch.where(used, parents, num_slots)  # the root and padding go to a column that is cut off
    table[rows, rank.clamp(min=0), column] = slots.expand_as(parents)
    return table[:, :, :num_slots]


def path_to(node: Tensor, ancestors: Tensor) -> tuple[Tensor, Tensor]:
    """The slots from the root down to `node` [B]: [B, N] with -1 after the end, and how many they are [B]; ancestors [B, N, N]."""
    num_slots = ancestors.shape[2]
    kept = ancestors[numbers(len(node), node.device), node]
    path = torch.where(kept, numbers(num_slots, node.device), num_slots).sort(1).values
    return path.masked_fill(path == num_slots, -1), kept.sum(1)


def longest_path(hit: Tensor, ancestors: Tensor, preference: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The longest path from the root through slots that `hit` [B, N], as `path_to` gives it; the root need not hit, padding must not.

    Of equally long paths the one whose end has the largest `preference` [B, N] wins, and of those the first.
    """
    slots = numbers(hit.shape[1], hit.device)
    reached = ~(ancestors & ~(hit | (slots == 0))[:, None, :]).any(-1)
    length = torch.where(reached, ancestors.sum(-1), 0)
    if preference is None:
        return path_to(length.argmax(1), ancestors)
    longest = length == length.amax(1, keepdim=True)
    return path_to(torch.where(longest, preference, -torch.inf).argmax(1), ancestors)


def merge_chains(chains: list[list[int]]) -> tuple[list[int], list[int]]:
    """Lays chains of tokens into one tree by common prefixes; returns (tokens, parents) of the slots after the root, in order of first appearance.

    Legal for deterministic drafts only: merging sampled chains would have to keep their order and their distributions.
    """
    tokens: list[int] = []
    parents: list[int] = []
    slot_of: dict[tuple[int, int], int] = {}
    for chain in chains:
        node = 0
        for token in chain:
            if (node, token) not in slot_of:
                tokens.append(token)
                parents.append(node)
                slot_of[node, token] = len(tokens)
            node = slot_of[node, token]
    return tokens, parents
