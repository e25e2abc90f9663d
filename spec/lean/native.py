"""The lean forward over few slots as one call of code that was built for the processor: no operator of torch between the layers.

It is `spec/native/layers.h`. Each of its sums is taken in an order that depends on nothing beside it: logits of a chain are, to the last bit, those
of the same tokens one by one. It reads the very weights of the model's modules. Where they lie is asked at every forward, so that none can be stale.
"""

import logging
from collections.abc import Iterator, Sequence
from ctypes import Structure, addressof, byref, c_double, c_int64, c_void_p
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spec.cache import KVCache
from spec.lean.parts import NotLean
from spec.native import NoKernel, bypasses, kernel
from spec.once import say_once

if TYPE_CHECKING:
    from spec.lean.forward import Layer, Lean

MOST_SLOTS = 128  # of all rows together; more of them are worth torch's own products and attention
KINDS = {torch.float16: 0, torch.bfloat16: 1, torch.float32: 2}
GATES = (F.silu, lambda x: F.gelu(x, approximate="tanh"))
DONE, NO_SUCH_PLACE, NO_SUCH_TOKEN, NO_MEMORY = range(4)
LOG = logging.getLogger(__name__)


class CNorm(Structure):
    _fields_ = [("weight", c_void_p), ("eps", c_double), ("offset", c_double)]


class CLinear(Structure):
    _fields_ = [("weight", c_void_p), ("bias", c_void_p), ("num_in", c_int64), ("num_out", c_int64), ("kind", c_int64)]


class CLayer(Structure):
    _fields_ = [
        *((name, CNorm) for name in ("before_attention", "before_mlp", "of_queries", "of_keys")),
        *(("qkv", CLinear * 3), ("out", CLinear), ("gate_up", CLinear * 2), ("down", CLinear)),
        *(("heads", c_int64), ("groups", c_int64), ("scale", c_double), ("gate", c_int64)),
    ]


class CModel(Structure):
    _fields_ = [
        *(("layers", c_void_p), ("num_layers", c_int64), ("hidden", c_int64), ("head_size", c_int64)),
        *(("last", CNorm), ("head", CLinear), ("embedding", CLinear), ("embedding_scale", c_double)),
    ]


class CCall(Structure):
    _fields_ = [
        *((name, c_int64) for name in ("rows", "slots", "width", "is_last_alone", "num_places")),
        *((name, c_int64) for name in ("token_stride", "place_stride", "mask_row_stride", "mask_slot_stride", "threads")),
        *((name, c_void_p) for name in ("tokens", "cos", "sin", "places", "starts", "mask", "cache", "states", "logits")),
    ]


def native_of(lean: "Lean") -> "Native | None":
    """None where the weights, norms or activation are of other kinds, or where nothing can be built, which is said once."""
    if lean.device.type != "cpu" or lean.body.norm.weight.dtype != torch.float32:
        return None
    try:
        return Native(lean)
    except NotLean:
        return None
    except NoKernel as error:
        say_once(LOG, f"no code for this processor, forwards are made of torch's operators: {error}")
        return None


class Native:
    """Describes a model's weights to the compiled forward. Raises NotLean for what that does not compute, NoKernel where it cannot be built."""

    def __init__(self, lean: "Lean"):
        self.call = kernel().forward
        self.layers, self.last, self.head, self.embedding = lean.layers, lean.body.norm, lean.head, lean.body.embed_tokens
        self.groups = [layer.num_groups for layer in lean.layers]
        self.hidden, self.size = self.last.weight.numel(), lean.head_size
        self.places = [*self._places()]
        self._describe()

    def _places(self) -> Iterator[tuple[Any, str]]:
        """Where modules keep their tensors; an access by name would take five times as long."""
        norms = [*(part for layer in self.layers for part in _norms(layer)), self.last]
        linears = [*(part for layer in self.layers for part in _linears(layer)), self.head]
        for part in (*norms, *linears, self.embedding):
            yield (part._parameters if "weight" in part._parameters else part._buffers), "weight"
        for part in linears:
            yield part._parameters, "bias"

    def _addresses(self) -> list[int]:
        return [0 if (found := store.get(name)) is None else found.data_ptr() for store, name in self.places]

    def _describe(self) -> None:
        """The description keeps the memory that it names, also where the model has got other memory since, or gets it from another thread."""
        described, held = self._addresses(), [store[name].detach() for store, name in self.places if store.get(name) is not None]
        layers = (CLayer * len(self.layers))(*(self._layer(layer) for layer in self.layers))
        check(self.head.in_features == self.hidden)
        last, head, table = _norm(self.last, self.hidden), _linear(self.head), _table(self.embedding, self.hidden)
        model = CModel(addressof(layers), len(self.layers), self.hidden, self.size, last, head, *table)
        model.held = layers, held
        check(described == self._addresses())
        self.described, self.model = described, model

    def _layer(self, layer: "Layer") -> CLayer:
        heads, groups, inner, hidden = layer.num_heads, layer.num_groups, layer.mlp.down_proj.in_features, self.hidden
        out, down = layer.attention.o_proj, layer.mlp.down_proj
        check(heads * self.size == out.in_features and groups > 0 and heads % groups == 0 and self.size % 2 == 0)
        check(sum(part.out_features for part in layer.qkv) == (heads + 2 * groups) * self.size)
        check(sum(part.out_features for part in layer.gate_up) == 2 * inner)
        check(out.out_features == down.out_features == hidden and all(part.in_features == hidden for part in (*layer.qkv, *layer.gate_up)))
        sizes = (hidden, hidden, self.size, self.size)
        norms = [_norm(part, size) for part, size in zip(_norms(layer), sizes, strict=False)]
        norms += [CNorm() for _ in range(4 - len(norms))]
        qkv, gate_up = (CLinear * 3)(*map(_linear, layer.qkv)), (CLinear * 2)(*map(_linear, layer.gate_up))
        scale = float(layer.attention.scaling)
        return CLayer(*norms, qkv, _linear(out), gate_up, _linear(down), heads, groups, scale, _gate(layer.act))

    def serves(self, tokens: Tensor) -> bool:
        """Whether these tokens [B, N] are few, and code may be called past torch."""
        return tokens.numel() <= MOST_SLOTS and bypasses(tokens)

    def run(
        self, tokens: Tensor, places: Tensor, table: tuple[Tensor, Tensor], mask: Tensor | None, cache: KVCache, last: bool
    ) -> tuple[Tensor, Tensor] | None:
        """As `Lean.run`; places [B or 1, N] are rows of `table`. None where this does not serve."""
        num_rows, num_slots = tokens.shape
        width = cache.end + num_slots
        slots = self._slots(cache, num_rows, width)
        if slots is None or not (_fits(tokens, (num_slots,), num_rows, torch.int64) and _fits(places, (num_slots,), num_rows, torch.int64)):
            return None
        if mask is not None and not (_fits(mask, (1, num_slots, width), num_rows, torch.float32) and mask.stride(-1) == 1):
            return None
        if self._addresses() != self.described:
            try:
                self._describe()
            except NotLean:
                return None
        model, tokens, places = self.model, tokens.contiguous(), places.contiguous()
        states = table[0].new_empty(num_rows, num_slots, self.hidden)
        logits = states.new_empty(num_rows, 1 if last else num_slots, self.head.out_features)
        starts = (c_int64 * num_rows)(*(cache.lengths if cache.row is None else [cache.lengths[cache.row]]))
        strides = (_row_stride(tokens), _row_stride(places), *((0, 0) if mask is None else (_row_stride(mask), mask.stride(2))))
        call = CCall(
            *(num_rows, num_slots, width, last, table[0].shape[0], *strides, torch.get_num_threads()),
            *(tokens.data_ptr(), table[0].data_ptr(), table[1].data_ptr(), places.data_ptr(), addressof(starts)),
            *(0 if mask is None else mask.data_ptr(), addressof(slots), states.data_ptr(), logits.data_ptr()),
        )
        outcome = self.call(byref(model), byref(call))
        if outcome in (NO_SUCH_PLACE, NO_SUCH_TOKEN):
            what = f"a position lies outside of {len(table[0])}" if outcome == NO_SUCH_PLACE else "a token lies outside of the vocabulary"
            raise IndexError(what)
        return (logits, states) if outcome == DONE else None

    def _slots(self, cache: KVCache, num_rows: int, width: int) -> Any:
        """Where the layers' slots lie: keys, values, the strides of rows and heads for each. None before they are made, or in another form."""
        row, found = cache.row or 0, []
        if width > cache.capacity or len(cache.slot_layers) < len(self.groups) or row + num_rows > cache.num_buffer_rows:
            return None
        for layer, groups in zip(cache.slot_layers, self.groups, strict=False):
            if layer.keys is None:
                layer.lazy_initialization(*[torch.empty(num_rows, groups, 0, self.size, dtype=torch.float32)] * 2)
            keys, values = layer.keys, layer.values
            if keys is None or values is None or keys.dtype != torch.float32:
                return None
            strides = keys.stride()
            if strides != values.stride() or strides[2:] != (self.size, 1) or keys.shape[1] != groups or keys.shape[2] < width:
                return None
            offset = 4 * row * strides[0]
            found += (keys.data_ptr() + offset, values.data_ptr() + offset, *strides[:2])
        return (c_int64 * len(found))(*found)


def _norms(layer: "Layer") -> Sequence[Any]:
    own, attention = layer.own, layer.attention
    return own.input_layernorm, own.post_attention_layernorm, *((attention.q_norm, attention.k_norm) if layer.head_norms is not None else ())


def _linears(layer: "Layer") -> Sequence[nn.Linear]:
    return *layer.qkv, layer.attention.o_proj, *layer.gate_up, layer.mlp.down_proj


def _norm(own: Any, size: int) -> CNorm:
    weight, eps = own.weight, next((getattr(own, name) for name in ("variance_epsilon", "eps") if isinstance(getattr(own, name, None), float)), None)
    check(weight.dtype == torch.float32 and weight.shape == (size,) and weight.is_contiguous() and weight.is_cpu and eps is not None)
    probe = torch.linspace(-1, 2, size, dtype=torch.float32)[None, None]
    for offset in (0.0, 1.0):
        if torch.allclose(F.rms_norm(probe, (size,), weight + offset, eps), own(probe), rtol=1e-5, atol=1e-6):
            return CNorm(weight.data_ptr(), eps, offset)
    raise NotLean("its norm is another")


def _linear(part: Any) -> CLinear:
    weight, bias = part.weight, part.bias
    check(weight.dtype in KINDS and weight.is_contiguous() and weight.is_cpu and weight.shape == (part.out_features, part.in_features))
    if bias is not None:
        check(bias.dtype == torch.float32 and bias.is_contiguous() and bias.is_cpu and bias.shape == weight.shape[:1])
    return CLinear(weight.data_ptr(), None if bias is None else bias.data_ptr(), part.in_features, part.out_features, KINDS[weight.dtype])


def _table(own: Any, hidden: int) -> tuple[CLinear, float]:
    """The rows of an embedding, and what they are multiplied by."""
    weight, scale = own.weight, float(getattr(own, "embed_scale", 1.0))
    check(weight.dtype in KINDS and weight.is_contiguous() and weight.is_cpu and weight.shape[1:] == (hidden,))
    ids = torch.arange(min(len(weight), 8))[None]
    check(torch.equal(own(ids), F.embedding(ids, weight).float() * scale))
    return CLinear(weight.data_ptr(), None, hidden, len(weight), KINDS[weight.dtype]), scale


def _fits(tensor: Tensor, shape: tuple[int, ...], num_rows: int, dtype: torch.dtype) -> bool:
    """Whether it is of this shape, for every row or once for all."""
    return tensor.dtype == dtype and tensor.is_cpu and tensor.shape[1:] == shape and tensor.shape[0] in (1, num_rows)


def _row_stride(tensor: Tensor) -> int:
    """From one row to the next; 0 where all rows share one."""
    return tensor.stride(0) if tensor.shape[0] > 1 else 0


def _gate(act: Any) -> int:
    probe = torch.linspace(-8, 8, 64, dtype=torch.float32)
    for kind, known in enumerate(GATES):
        if torch.allclose(act(probe), known(probe), rtol=1e-5, atol=1e-6):
            return kind
    raise NotLean("its activation is another")


def check(fits: bool) -> None:
    if not fits:
        raise NotLean("its weights are of another form")
