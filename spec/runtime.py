"""Forwards of fixed shapes: how one is run, eagerly, compiled or captured as a CUDA graph, changes its time and nothing else.

Rows, slots and capacity are padded to buckets and the cache is attended as a whole, so the shapes of a forward are few, and its buffers stay
where they are from one generation to the next. Padding slots are written after all real ones, no real slot sees them, and their logits are
dropped. What cannot be compiled or captured is run eagerly from then on, with one warning that says why.
"""

import types
import warnings
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import Cache
from transformers.cache_utils import CacheLayerMixin

from spec.attention import folding
from spec.cache import KVCache, first_rows
from spec.windows import NONE, Windows

FIXED = ("compile", "graphs")  # over fixed shapes
KINDS = ("auto", "hf", "lean", *FIXED)
BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128)  # slots of a forward, scratch included
SMALLEST_CAPACITY = 256
POOL = 4  # sets of buffers that are kept for the next generation
BACKEND = "inductor"
OUT_OF_MEMORY = "Lower batch_size, max_new_tokens or the capacity, draft fewer tokens, or load the weights in a smaller dtype."
CPU_OPTIONS = {"freezing": True, "cpp_wrapper": True}  # weights packed for their matrix products; the calls between kernels in C++


@dataclass(frozen=True)
class Inputs:
    """What one forward reads besides weights and cache."""

    tokens: Tensor  # [B, N]
    positions: Tensor  # [B, N]
    mask: Tensor  # [T, B, 1, N, capacity] additive, for each type of layers that attend within other windows; mostly T = 1
    columns: Tensor  # [B, N] where in the cache the slots are written

    def padded(self, num_rows: int, num_slots: int) -> "Inputs":
        """The same with more rows and slots: they are written after the others, see everything, and no real slot sees them."""
        rows, slots = num_rows - len(self.tokens), num_slots - self.tokens.shape[1]
        if not rows and not slots:
            return self
        behind = self.columns[:, -1:] + torch.arange(1, slots + 1, device=self.columns.device)
        columns = pad(torch.cat([self.columns, behind], 1), (0, 0, 0, rows))
        if rows:
            columns[-rows:] = torch.arange(num_slots, device=columns.device)
        mask = pad(self.mask, (0, 0, 0, slots, 0, 0, 0, rows))
        return Inputs(pad(self.tokens, (0, slots, 0, rows)), pad(self.positions, (0, slots, 0, rows)), mask, columns)

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.tokens, self.positions, self.mask, self.columns


class FixedLayer(CacheLayerMixin):
    """One layer's buffers, [B, heads, capacity, head_dim], as a forward of fixed shape sees them: written at `columns`, attended as a whole."""

    is_sliding = False

    def __init__(self, keys: Tensor, values: Tensor, columns: Tensor):
        super().__init__()
        self.keys, self.values, self.columns, self.is_initialized = keys, values, columns, True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None: ...

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        assert self.keys is not None
        assert self.values is not None
        rows = torch.arange(key_states.shape[0], device=key_states.device)[:, None, None]
        heads = torch.arange(key_states.shape[1], device=key_states.device)[None, :, None]
        place = (rows, heads, self.columns[:, None, :])
        self.keys.index_put_(place, key_states)
        self.values.index_put_(place, value_states)
        return self.keys, self.values

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        assert self.keys is not None
        return self.keys.shape[2], 0

    def get_seq_length(self) -> int:
        return 0

    def get_max_length(self) -> int:
        return -1

    get_max_cache_shape = get_max_length


@dataclass(eq=False)
class Buffers:
    """The slots of one cache, kept for the next one of the same shape, and the graphs that were captured over them."""

    keys: list[Tensor]  # per layer: the first rows, as many as the cache had at that time
    values: list[Tensor]
    num_rows: int  # that are allocated
    user: Callable[[], KVCache | None]  # a weak reference
    stacks: list[Tensor] = field(default_factory=list)  # as `KVCache.stacks`
    stacked: list[bool] = field(default_factory=list)  # which layers are part of them
    graphs: dict[tuple, "Graph"] = field(default_factory=dict)
    views: dict[int, tuple[list[Tensor], list[Tensor]]] = field(default_factory=dict)

    def first(self, num_rows: int) -> tuple[list[Tensor], list[Tensor]]:
        """Keys and values of the first rows, per layer."""
        if num_rows not in self.views:
            keys, values = ([first_rows(slots, num_rows) for slots in half] for half in (self.keys, self.values))
            self.views[num_rows] = keys, values
        return self.views[num_rows]


class Graph:
    """A forward captured on CUDA: inputs are copied in, kernels are replayed, outputs are at the same place every time."""

    def __init__(self, run: Callable[..., tuple], inputs: Inputs, buffers: tuple[list[Tensor], list[Tensor]]):
        self.inputs = Inputs(*(tensor.clone() for tensor in inputs.tensors()))
        self.replay, self.output = self.capture(lambda: run(*self.inputs.tensors(), *buffers))

    @staticmethod
    def capture(run: Callable[[], tuple]) -> tuple[Callable[[], None], tuple]:
        """Warms up on a side stream, then records. The warm-up writes only where the wanted forward will write."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                run()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = run()
        return graph.replay, output

    def __call__(self, inputs: Inputs) -> tuple:
        for kept, given in zip(self.inputs.tensors(), inputs.tensors(), strict=True):
            kept.copy_(given)
        self.replay()
        return self.output


class Runtime:
    """Runs one model's forwards over fixed shapes. `kind` is "compile" or "graphs", or "hf" once the wanted one has failed.

    `capacity`: slots of every cache; default the power of two that holds what is asked for. `windows`: those that a forward has masks for.
    Raises ValueError for a kind that does not exist.
    """

    def __init__(self, model: Any, kind: str, capacity: int | None = None, windows: Windows = NONE):
        self.model, self.kind, self.capacity, self.windows = model, kind, capacity, windows
        self.pool: list[Buffers] = []
        self.compiled: dict[tuple, Callable[..., tuple]] = {}
        if kind == "graphs" and model.device.type != "cuda":
            self.fall_back(f"CUDA graphs need a CUDA device and the model is on {model.device}")

    def bucket(self, num_slots: int) -> int:
        """The number of slots that a forward over `num_slots` has. Raises ValueError above the largest bucket."""
        if num_slots > BUCKETS[-1]:
            raise ValueError(
                f"a draft of {num_slots} slots (root and scratch included) is larger than the largest bucket, {BUCKETS[-1]}; "
                "draft less, or use runtime=auto"
            )
        return next(size for size in BUCKETS if size >= num_slots)

    def room(self, needed: int) -> int:
        """The capacity of a cache that needs `needed` slots. Raises ValueError if the capacity is fixed and too small."""
        if self.capacity is None:
            return max(SMALLEST_CAPACITY, 1 << (needed - 1).bit_length())
        if needed > self.capacity:
            raise ValueError(
                f"capacity={self.capacity} slots, and prompt, new tokens and draft need {needed}; give a larger capacity (null: as much as is "
                "needed), a shorter prompt or fewer new tokens"
            )
        return self.capacity

    def cache(self, num_layers: int, num_rows: int, needed: int) -> KVCache:
        """An empty cache; it reuses the buffers of an earlier one if there are any."""
        made = KVCache(num_layers, num_rows, self.room(needed), self.model.device)
        made.num_buffer_rows, made.room = row_bucket(num_rows), self.room
        for buffers in self.pool:
            if buffers.user() is None and (buffers.num_rows, buffers.keys[0].shape[2]) == (made.num_buffer_rows, made.capacity):
                buffers.user = weakref.ref(made)
                kept = buffers.first(made.num_buffer_rows)  # fewer layers if the last ones share the keys of others
                made.stacks = [*buffers.stacks]
                for layer, keys, values, stacked in zip(made.slot_layers, *kept, buffers.stacked, strict=False):
                    layer.keys, layer.values, layer.is_initialized = keys.zero_()[:num_rows], values.zero_()[:num_rows], True
                    layer.is_stacked = stacked
                break
        return made

    def buffers_of(self, cache: KVCache) -> Buffers:
        """The buffers of a cache; the pool holds them from now on."""
        first = cache.slot_layers[0].keys
        assert first is not None
        for buffers in self.pool:
            if buffers.keys[0].data_ptr() == first.data_ptr():
                return buffers
        halves = [layer.keys for layer in cache.slot_layers], [layer.values for layer in cache.slot_layers]
        self.pool = [buffers for buffers in self.pool if buffers.user() is not cache]  # it has grown since
        unused = [buffers for buffers in self.pool if buffers.user() is None]
        self.pool = [buffers for buffers in self.pool if buffers not in unused[: max(len(self.pool) + 1 - POOL, 0)]]
        kept = [[slots for slots in half if slots is not None] for half in halves]
        stacked = [layer.is_stacked for layer in cache.slot_layers]
        self.pool.append(Buffers(*kept, num_rows=cache.num_buffer_rows, user=weakref.ref(cache), stacks=[*cache.stacks], stacked=stacked))
        return self.pool[-1]

    def run(self, inputs: Inputs, cache: KVCache, hidden: bool = False) -> tuple[Tensor, Tensor | None]:
        """Logits [B, N, V] and, if asked for, the last hidden states [B, N, H], of the slots given; they are valid until the next call."""
        num_rows, num_slots = inputs.tokens.shape
        rows, slots = row_bucket(num_rows), self.bucket(num_slots)
        buffers = self.buffers_of(cache)
        padded, key = inputs.padded(rows, slots), (rows, slots, cache.capacity, hidden)
        with folding(self.model):
            logits, last = self._run(key, padded, buffers)
        return logits[:num_rows, :num_slots], None if last is None else last[:num_rows, :num_slots]

    def _run(self, key: tuple, inputs: Inputs, buffers: Buffers) -> tuple[Tensor, Tensor | None]:
        plain, slots = self.forward(key[-1]), buffers.first(key[0])
        if self.kind != "hf":
            try:
                if key not in self.compiled:
                    self.compiled[key] = compiled(plain, "forward_" + "_".join(map(str, key)), self.model.device)
                if self.kind == "compile":
                    return self.compiled[key](*inputs.tensors(), *slots)
                if key not in buffers.graphs:
                    buffers.graphs[key] = Graph(self.compiled[key], inputs, slots)
                return buffers.graphs[key](inputs)
            except torch.OutOfMemoryError as error:
                raise torch.OutOfMemoryError(f"{error} {OUT_OF_MEMORY}") from error
            except Exception as error:  # whatever a compiler raises, the forward can be run without it
                self.fall_back(f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no reason given'}")
        return plain(*inputs.tensors(), *slots)

    def fall_back(self, reason: str) -> None:
        warnings.warn(f"runtime={self.kind} is not possible here, forwards are run eagerly: {reason}", RuntimeWarning, stacklevel=4)
        self.kind = "hf"

    def forward(self, hidden: bool) -> Callable[..., tuple]:
        """The forward as a function of tensors alone, which is what can be compiled and captured."""
        model, by_name = self.model, self.windows.by_name

        def run(tokens: Tensor, positions: Tensor, mask: Tensor, columns: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor]) -> tuple:
            layers = [FixedLayer(*slots, columns) for slots in zip(keys, values, strict=True)]
            output = model(
                input_ids=tokens,
                attention_mask=by_name(mask.unbind(0)),
                position_ids=positions,
                past_key_values=Cache(layers=layers),  # pyright: ignore[reportArgumentType]
                use_cache=True,
                output_hidden_states=hidden,
            )
            return output.logits, output.hidden_states[-1] if hidden else None

        return run


def compiled(function: Callable[..., tuple], name: str, device: torch.device) -> Callable[..., tuple]:
    """`function` compiled for one set of shapes, with a code object of its own: torch counts and looks up what it compiled by code object."""
    assert isinstance(function, types.FunctionType)
    own = types.FunctionType(function.__code__.replace(co_name=name), function.__globals__, name, function.__defaults__, function.__closure__)
    options = CPU_OPTIONS if device.type == "cpu" and BACKEND == "inductor" else None
    return torch.compile(own, backend=BACKEND, fullgraph=True, dynamic=False, options=options)  # pyright: ignore[reportArgumentType, reportCallIssue]


def row_bucket(num_rows: int) -> int:
    """The smallest power of two that is at least `num_rows`."""
    return 1 << (num_rows - 1).bit_length()


def check_kind(kind: str) -> str:
    """`kind` itself. Raises ValueError if there is no such runtime."""
    if kind not in KINDS:
        raise ValueError(f"runtime={kind!r}: give one of {', '.join(KINDS)}")
    return kind
