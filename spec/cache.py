"""A key/value cache of preallocated slots with a length per row: ragged batches and trees without forks, rollback for free.

A forward writes row b's N new slots at `lengths[b] + arange(N)` and attention gets the view up to the longest row; what a row must not see is
the mask's business (`spec.model`). Nothing is forgotten by a rejection: lengths simply do not advance, and the next forward writes over it.
"""

import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import CacheLayerMixin


class SlotLayer(CacheLayerMixin):
    """One layer's slots, [B, heads, capacity, head_dim]; where a forward writes is decided by the cache that owns it."""

    is_sliding = False

    def __init__(self, cache: "KVCache"):
        super().__init__()
        self.cache = cache

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        capacity = self.cache.capacity
        self.keys = key_states.new_zeros(*key_states.shape[:2], capacity, key_states.shape[3])
        self.values = value_states.new_zeros(*value_states.shape[:2], capacity, value_states.shape[3])
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        if self.keys is None:
            self.lazy_initialization(key_states, value_states)
        return self.write(self.keys, key_states), self.write(self.values, value_states)

    def write(self, slots: Tensor | None, new: Tensor) -> Tensor:
        assert slots is not None
        cache, num_new = self.cache, new.shape[2]
        if cache.columns is None:
            start = cache.lengths[0]
            slots[:, :, start : start + num_new] = new
        else:
            slots.scatter_(2, cache.columns.to(slots.device)[:, None, :, None].expand_as(new), new)
        return slots[:, :, : cache.longest + num_new]

    def move(self, source: Tensor, into: Tensor) -> None:
        """Copies the slots at columns `source` to columns `into`, both [B, 1, D, 1]."""
        for slots in (self.keys, self.values):
            if slots is not None:
                shape = (slots.shape[0], slots.shape[1], source.shape[2], slots.shape[3])
                moved = slots.gather(2, source.to(slots.device).expand(shape))
                slots.scatter_(2, into.to(slots.device).expand(shape), moved)

    def resize(self, capacity: int) -> None:
        if self.keys is not None and self.values is not None:
            room = capacity - self.keys.shape[2]
            self.keys, self.values = (torch.nn.functional.pad(slots, (0, 0, 0, room)) for slots in (self.keys, self.values))

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.cache.longest + query_length, 0

    def get_seq_length(self) -> int:
        return self.cache.longest

    def get_max_length(self) -> int:
        return -1

    get_max_cache_shape = get_max_length  # its name before transformers 5.2x


class KVCache(Cache):
    """Slots for `num_rows` sequences. `lengths` (on the host) is the truth: what lies beyond a row's length does not exist.

    Invariant in the loop: lengths[b] = committed length - 1, because the root is never in the cache.
    """

    def __init__(self, num_layers: int, num_rows: int, capacity: int, device: torch.device):
        self.slot_layers = [SlotLayer(self) for _ in range(num_layers)]
        super().__init__(layers=[*self.slot_layers])
        self.capacity, self.device = capacity, device
        self.lengths = [0] * num_rows
        self.columns: Tensor | None = None  # [B, N] where the current forward writes; None when all rows stand at the same length

    @property
    def longest(self) -> int:
        return max(self.lengths)

    @property
    def is_uniform(self) -> bool:
        return min(self.lengths) == max(self.lengths)

    def starts(self) -> Tensor:
        """lengths as a tensor, [B]."""
        return torch.tensor(self.lengths, device=self.device)

    def reserve(self, num_slots: int) -> None:
        """Prepares for a forward over `num_slots` new slots per row; grows the buffers by half where they are too short."""
        if self.longest + num_slots > self.capacity:
            self.capacity = max(self.longest + num_slots, self.capacity * 3 // 2)
            for layer in self.slot_layers:
                layer.resize(self.capacity)
        self.columns = None if self.is_uniform else self.starts()[:, None] + torch.arange(num_slots, device=self.device)

    def keep(self, counts: list[int], path: Tensor | None = None) -> None:
        """Makes the first counts[b] slots of `path` [B, D] permanent and forgets the rest; path None = a chain, whose slots are in place."""
        if path is not None:
            start = self.starts()[:, None]
            into = start + torch.arange(path.shape[1], device=self.device)
            source = torch.where(path >= 0, start + path, into)
            for layer in self.slot_layers:
                layer.move(source[:, None, :, None], into[:, None, :, None])
        self.lengths = [length + count for length, count in zip(self.lengths, counts, strict=True)]

    def crop(self, max_lengths: list[int]) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Forgets what lies beyond max_lengths[b] in row b."""
        self.lengths = [min(length, limit) for length, limit in zip(self.lengths, max_lengths, strict=True)]
