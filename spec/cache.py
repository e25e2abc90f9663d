"""A key/value cache of preallocated slots with a length per row: ragged batches and trees without forks, rollback for free.

A forward writes row b's N new slots at `lengths[b] + arange(N)` and attention gets the view up to the longest row; the mask (`spec.masks`) hides what
a row must not see. A rejection erases nothing: `lengths` do not advance, and the next forward overwrites the rejected slots.
"""

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import repeat

import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import CacheLayerMixin

from spec.tree import numbers, on_device


class SlotLayer(CacheLayerMixin):
    """One layer's slots, [B, heads, capacity, head_dim]; where a forward writes is decided by the cache that owns it."""

    is_sliding = False

    def __init__(self, cache: "KVCache", index: int):
        super().__init__()
        self._cache = weakref.ref(cache)  # no reference cycle: the memory is freed as soon as nobody uses the cache
        self.index, self.is_stacked = index, False  # whether its slots are part of `KVCache.stacks`

    @property
    def cache(self) -> "KVCache":
        owner = self._cache()
        assert owner is not None
        return owner

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        num_rows, capacity = self.cache.num_buffer_rows, self.cache.capacity
        both = [(states, (num_rows, states.shape[1], capacity, states.shape[3])) for states in (key_states, value_states)]
        if not self.cache.stacks:
            self.cache.stacks = [states.new_zeros(self.cache.num_stacked, *shape) for states, shape in both]
        alike = zip(self.cache.stacks, both, strict=True)
        self.is_stacked = self.index < self.cache.num_stacked and all(
            (stack.shape[1:], stack.dtype, stack.device) == (shape, states.dtype, states.device) for stack, (states, shape) in alike
        )
        slots = [stack[self.index] for stack in self.cache.stacks] if self.is_stacked else [states.new_zeros(shape) for states, shape in both]
        self.keys, self.values = (half[: len(key_states)] for half in slots)
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        if self.keys is None:
            self.lazy_initialization(key_states, value_states)
        return self.write(self.keys, key_states), self.write(self.values, value_states)

    def write(self, slots: Tensor | None, new: Tensor) -> Tensor:
        assert slots is not None
        cache, num_new = self.cache, new.shape[2]
        if cache.row is not None:
            slots = slots[cache.row : cache.row + 1]
        if cache.row is not None or cache.columns is None:
            slots[:, :, cache.end : cache.end + num_new] = new
        else:
            slots.scatter_(2, cache.columns.to(slots.device)[:, None, :, None].expand_as(new), new)
        return slots[:, :, : cache.end + num_new]

    def move(self, source: Tensor, into: Tensor) -> None:
        """As `move`."""
        for slots in (self.keys, self.values):
            if slots is not None:
                move(slots, source, into)

    def rearrange(self, origin: Sequence[int | None], newcomers: "SlotLayer | None") -> None:
        """As `KVCache.rearrange`. Rows that stay where they are are not touched."""
        if self.keys is None and newcomers is not None and newcomers.keys is not None and newcomers.values is not None:
            self.lazy_initialization(*(slots[:1].expand(len(origin), -1, -1, -1) for slots in (newcomers.keys, newcomers.values)))
        if self.keys is None or self.values is None:
            return
        moved = [(row, old) for row, old in enumerate(origin) if old is not None and old != row]
        joined = [row for row, old in enumerate(origin) if old is None]
        for name, slots in (("keys", self.keys), ("values", self.values)):
            if moved:
                into, source = zip(*moved, strict=True)
                slots[list(into), :, : self.cache.longest] = slots[list(source), :, : self.cache.longest]
            if joined and newcomers is not None and newcomers.keys is not None:
                slots[joined, :, : newcomers.cache.longest] = getattr(newcomers, name)[:, :, : newcomers.cache.longest]
            setattr(self, name, slots[: len(origin)])

    def resize(self, capacity: int) -> None:
        if self.is_stacked and self.keys is not None:
            self.keys, self.values = (stack[self.index, : len(self.keys)] for stack in self.cache.stacks)
        elif self.keys is not None and self.values is not None:
            room, num_rows = capacity - self.keys.shape[2], self.cache.num_buffer_rows
            whole = (first_rows(slots, num_rows) for slots in (self.keys, self.values))
            self.keys, self.values = (torch.nn.functional.pad(slots, (0, 0, 0, room))[: len(self.keys)] for slots in whole)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.cache.end + query_length, 0

    def get_seq_length(self) -> int:
        return self.cache.end

    def get_max_length(self) -> int:
        return -1

    get_max_cache_shape = get_max_length  # its name before transformers 5.2x


class KVCache(Cache):
    """Slots for `num_rows` sequences. `lengths` (on the host) is the truth: what lies beyond a row's length does not exist.

    The slots of all layers whose keys and values have the shapes of the first one's are parts of two `stacks`, so that the slots of a tree are moved
    by a number of operators that does not grow with the layers. Layers of other shapes have slots of their own.

    Invariant in the loop: lengths[b] = committed length - 1, because the root is never in the cache.
    """

    def __init__(self, num_layers: int, num_rows: int, capacity: int, device: torch.device):
        self.slot_layers = [SlotLayer(self, index) for index in range(num_layers)]
        super().__init__(layers=[*self.slot_layers])
        self.capacity, self.device = capacity, device
        self.num_buffer_rows = num_rows  # rows that are allocated
        self.num_stacked = num_layers  # layers that `stacks` have memory for
        self.stacks: list[Tensor] = []  # keys and values, [layers, rows, heads, capacity, head_dim]; made by the first forward
        self.room: Callable[[int], int] | None = None  # number of slots needed -> capacity to grow to; None: grow by half
        self.lengths = [0] * num_rows
        self.columns: Tensor | None = None  # [B, N] where the current forward writes; None when all rows stand at the same length
        self.row: int | None = None  # the only row that the current forward reads and writes; None: all of them

    @contextmanager
    def only(self, row: int) -> Iterator[None]:
        """Inside, a forward over one row [1, N] is that of `row`, and to the model the cache ends where this row does."""
        self.row = row
        try:
            yield
        finally:
            self.row = None

    @property
    def end(self) -> int:
        """The number of slots before those of the current forward."""
        return self.longest if self.row is None else self.lengths[self.row]

    @property
    def longest(self) -> int:
        return max(self.lengths)

    @property
    def is_uniform(self) -> bool:
        return min(self.lengths) == max(self.lengths)

    def starts(self) -> Tensor:
        """lengths as a tensor, [B]."""
        return on_device(self.lengths, self.device)

    def reserve(self, num_slots: int) -> None:
        """Prepares for a forward over `num_slots` new slots per row; grows the buffers by half where they are too short."""
        self.grow(self.longest + num_slots)
        self.columns = None if self.is_uniform else self.starts()[:, None] + numbers(num_slots, self.device)

    def grow(self, needed: int) -> None:
        """Makes room for `needed` slots in every row."""
        if needed > self.capacity:
            self.capacity = max(needed, self.capacity * 3 // 2) if self.room is None else self.room(needed)
            for half, stack in enumerate(self.stacks):
                self.stacks[half] = torch.nn.functional.pad(stack, (0, 0, 0, self.capacity - stack.shape[3]))
            for layer in self.slot_layers:
                layer.resize(self.capacity)

    def rearrange(self, origin: Sequence[int | None], newcomers: "KVCache | None" = None) -> None:
        """Row i takes over row origin[i], or the next row of `newcomers` where that is None; all other old rows are dropped.

        There may be fewer rows than before, never more: they use the first rows of the same buffers.
        """
        if newcomers is not None:
            self.grow(newcomers.longest)
        for layer, joined in zip(self.slot_layers, newcomers.slot_layers if newcomers is not None else repeat(None), strict=False):
            layer.rearrange(origin, joined)
        lengths = iter(newcomers.lengths if newcomers is not None else ())
        self.lengths = [next(lengths) if old is None else self.lengths[old] for old in origin]

    def keep(self, counts: list[int], path: Tensor | None = None) -> None:
        """Makes the first counts[b] slots of `path` [B, D] permanent and forgets the rest; path None = a chain, whose slots are in place."""
        if path is not None:
            num_columns = path.shape[1]
            if self.is_uniform:
                start, into = self.longest, numbers(self.longest + num_columns, self.device)[self.longest :].expand_as(path)
            else:
                start = self.starts()[:, None]
                into = start + numbers(num_columns, self.device)
            source = torch.where(path >= 0, path + start, into)
            for stack in self.stacks:
                move(stack[:, : len(counts)], source[:, None, :, None], into[:, None, :, None])
            for layer in self.slot_layers:
                if not layer.is_stacked:
                    layer.move(source[:, None, :, None], into[:, None, :, None])
        self.lengths = [length + count for length, count in zip(self.lengths, counts, strict=True)]

    def crop(self, max_lengths: list[int]) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Forgets what lies beyond max_lengths[b] in row b."""
        self.lengths = [min(length, limit) for length, limit in zip(self.lengths, max_lengths, strict=True)]


def move(slots: Tensor, source: Tensor, into: Tensor) -> None:
    """Copies `slots` [..., B, heads, capacity, head_dim] at columns `source` to columns `into`, both [B, 1, D, 1]."""
    shape = *slots.shape[:-2], source.shape[2], slots.shape[-1]
    moved = slots.gather(-2, source.to(slots.device).expand(shape))
    slots.scatter_(-2, into.to(slots.device).expand(shape), moved)


def first_rows(slots: Tensor, num_rows: int) -> Tensor:
    """`slots` [B, heads, capacity, head_dim] is a view of the first B rows of a buffer; this is the view of its first `num_rows` rows."""
    return slots.as_strided((num_rows, *slots.shape[1:]), slots.stride())
