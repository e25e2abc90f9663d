"""Which slots see which: additive masks and positions of a forward over a draft that follows the cached tokens.

A mask holds 0 where a slot is seen and the dtype's minimum elsewhere; that is right for `sdpa` and `eager` attention, and `flex_attention` takes
the same as blocks.
"""

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

from spec.cache import KVCache
from spec.tree import numbers
from spec.types import Draft
from spec.windows import Windows


def draft_bias(draft: Draft, dtype: torch.dtype) -> Tensor:
    """Which new slots see which: the draft's slots, then its scratch slots; [B or 1, 1, N + M, N + M]."""
    if draft.is_chain and draft.scratch is None:
        return chain_bias(draft.num_slots, dtype, draft.tokens.device)
    visible = draft.ancestors
    if draft.scratch is not None:
        visible = torch.nn.functional.pad(visible, (0, draft.scratch.tokens.shape[1]), value=False)
        visible = torch.cat([visible, draft.scratch.visible], 1)
    bias = torch.full(visible.shape, torch.finfo(dtype).min, dtype=dtype, device=visible.device)
    return bias.masked_fill(visible, 0.0)[:, None]


def chain_bias(num_slots: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Every slot of a chain sees itself and those before it; [1, 1, N, N]."""
    return torch.full((1, 1, num_slots, num_slots), torch.finfo(dtype).min, dtype=dtype, device=device).triu(1)


def behind_prefix(bias: Tensor, first: Tensor, width: int) -> Tensor:
    """The mask over a whole view: everything before column `first` [B], then `bias` [B or 1, 1, new, all], then nothing; [B, 1, new, width]."""
    num_new, num_all = bias.shape[2:]
    relative = numbers(width, bias.device) - first[:, None]
    inside = relative.clamp(0, num_all - 1)[:, None, None, :].expand(-1, 1, num_new, -1)
    block = bias.expand(len(relative), -1, -1, -1).gather(3, inside)
    block = block.masked_fill((relative >= num_all)[:, None, None, :], torch.finfo(bias.dtype).min)
    return block.masked_fill((relative < 0)[:, None, None, :], 0.0)


def uniform_mask(bias: Tensor, width: int) -> Tensor:
    """As `behind_prefix`, for rows that all end at the last column of the view: zeros, then `bias`."""
    mask = bias.new_zeros(bias.shape[0], 1, bias.shape[2], width)
    mask[..., width - bias.shape[3] :] = bias
    return mask


def up_to(columns: Tensor, width: int, dtype: torch.dtype) -> Tensor:
    """The mask of chains: the slot written at columns[b, i] sees every column up to its own; [B, 1, N, width]."""
    mask = torch.zeros(*columns.shape, width, dtype=dtype, device=columns.device)
    return mask.masked_fill_(numbers(width, columns.device) > columns[..., None], torch.finfo(dtype).min)[:, None]


def by_window(mask: Tensor, windows: Windows, draft: Draft, cache: KVCache, num_scored: int, queries: Tensor | None = None) -> list[Tensor]:
    """An additive mask [B or 1, 1, N, width], and what each window hides beside it; one of that shape for each window.

    `queries` [B or 1, N]: the positions of the N slots, for a chain that is padded; None: those of the draft's slots to run.
    """
    own = positions(draft, cache, num_scored) if queries is None else queries
    others, hidden = positions_of_columns(draft, cache, num_scored, mask.shape[3]), torch.finfo(mask.dtype).min
    return [mask if window is None else mask.masked_fill(window.hides(own, others)[:, None], hidden) for window in windows.windows]


def positions_of_columns(draft: Draft, cache: KVCache, num_scored: int, width: int) -> Tensor:
    """The positions of what the columns of a view hold, [B or 1, width]: slots that were committed, slots of the draft, its scratch."""
    columns = numbers(width, cache.device)[None]
    if draft.is_chain and draft.scratch is None:
        return columns
    depths, first = depths_of(draft), cache.starts()[:, None] - num_scored
    inside = (columns - first).clamp(0, depths.shape[1] - 1)
    return torch.where(columns < first, columns, first + depths.gather(1, inside))


def depths_of(draft: Draft) -> Tensor:
    """How far behind the root the draft's slots stand, then its scratch slots; [B, N + M]."""
    return draft.depths() if draft.scratch is None else torch.cat([draft.depths(), draft.scratch.positions], 1)


def positions(draft: Draft, cache: KVCache, num_scored: int, context: int = 2**31) -> Tensor:
    """Absolute positions [B or 1, slots to run]; slots beyond the context can never be emitted, so their positions are clamped."""
    start, stop = cache.longest, cache.longest + draft.num_slots - num_scored
    if draft.is_chain and draft.scratch is None and cache.columns is None and stop <= context:
        return numbers(cache.capacity, cache.device)[None, start:stop]
    if draft.is_chain and draft.scratch is None and cache.columns is not None:
        return cache.columns if stop <= context else cache.columns.clamp(max=context - 1)
    places = depths_of(draft)[:, num_scored:] + (start if cache.columns is None else cache.columns[:, :1]) - num_scored
    return places if stop <= context and draft.scratch is None else places.clamp(max=context - 1)


def block_mask(mask: Tensor) -> BlockMask:
    """An additive mask [B, 1, N, width] in the form of `flex_attention`, which would crash on the mask itself."""
    seen = mask[:, 0] == 0
    num_rows, num_new, width = seen.shape
    return create_block_mask(lambda row, head, slot, column: seen[row, slot, column], num_rows, None, num_new, width, device=mask.device)
