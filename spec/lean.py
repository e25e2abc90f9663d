"""The forward of Llama-shaped models with a third of the operators: the same weights, packed, straight over the slot cache.

A decoder layer of that shape is RMSNorm, rotary attention of grouped heads, RMSNorm and a gated MLP. Here q, k and v come from one product, gate and
up from another, q and k are turned by one rotary operation, and the query heads that share a key head stand beside each other in one attention call.

The structure decides, not the name: a model whose parts are all of this kind is tried on a chain, a tree and rows of different lengths, and if its
own forward gives other logits, it keeps that. The packed weights are the model's own: its parameters become views of them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spec.cache import KVCache
from spec.reach import inner

LAYER = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
ATTENTION = ({"q_proj", "k_proj", "v_proj", "o_proj"}, {"qkv_proj", "o_proj"})
HEAD_NORMS = {"q_norm", "k_norm"}
MLP = ({"gate_proj", "up_proj", "down_proj"}, {"gate_up_proj", "down_proj"})
ACTIVATIONS = {"act_fn", "activation_fn"}


class NotLean(ValueError):
    """A model that is not of the shape; the message says why."""


@dataclass
class Product:
    """Linear layers that read the same input as one product; their weights are views of `weight`."""

    parts: list[nn.Linear]
    weight: Tensor = field(init=False)  # [sum of outputs, inputs]
    bias: Tensor | None = field(init=False)

    def __post_init__(self) -> None:
        if len({part.bias is None for part in self.parts}) > 1:
            raise NotLean("some of its q, k and v products have a bias and others have none")
        self.pack()

    def pack(self) -> None:
        """Lays the weights out behind each other; each part's own memory is given back as soon as it is copied."""
        sizes = [part.out_features for part in self.parts]
        with torch.inference_mode(False), torch.no_grad():
            for name in ("weight", "bias"):
                held = [getattr(part, name) for part in self.parts]
                whole = held[0] if held[0] is None or len(held) == 1 else torch.cat([one.data for one in held])
                setattr(self, name, whole if whole is None else whole.data)
                if len(held) > 1 and whole is not None:
                    for one, view in zip(held, whole.split(sizes), strict=True):
                        one.data = view

    @property
    def is_stale(self) -> bool:
        """Whether a part has got another weight since: not written into, which the product sees, but replaced."""
        place = self.weight.data_ptr()
        for part in self.parts:
            if part.weight.data_ptr() != place:
                return True
            place += part.weight.numel() * part.weight.element_size()
        return False

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


@dataclass
class Layer:
    """One decoder layer."""

    own: Any
    num_heads: int
    num_kv_heads: int
    scaling: float
    qkv: Product
    out: Product
    gate_up: Product
    down: Product
    norms: tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]
    head_norms: tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]] | None
    act: Callable[[Tensor], Tensor]

    @staticmethod
    def of(own: Any, config: Any, head_dim: int) -> "Layer":
        attention, mlp = own.self_attn, own.mlp
        names = {name for name, _ in own.named_children()}
        if names != LAYER:
            raise NotLean(f"its layers have {', '.join(sorted(names ^ LAYER))}")
        parts = {name for name, _ in attention.named_children()}
        if parts - HEAD_NORMS not in ATTENTION:
            raise NotLean(f"its attention is made of {', '.join(sorted(parts))}")
        inside = {name for name, _ in mlp.named_children()}
        if inside - ACTIVATIONS not in MLP:
            raise NotLean(f"its MLP is made of {', '.join(sorted(inside))}")
        qkv = [attention.qkv_proj] if "qkv_proj" in parts else [attention.q_proj, attention.k_proj, attention.v_proj]
        gate_up = [mlp.gate_up_proj] if "gate_up_proj" in inside else [mlp.gate_proj, mlp.up_proj]
        for part in (*qkv, attention.o_proj, *gate_up, mlp.down_proj):
            _plain(part)
        num_heads, num_kv_heads = attention.o_proj.in_features // head_dim, config.num_key_value_heads
        if sum(part.out_features for part in qkv) != (num_heads + 2 * num_kv_heads) * head_dim:
            raise NotLean("its q, k and v are not of one head size")
        act = next((getattr(mlp, name) for name in ACTIVATIONS if hasattr(mlp, name)), None)
        if act is None:
            raise NotLean("its MLP names no activation")
        norms = norm_of(own.input_layernorm), norm_of(own.post_attention_layernorm)
        heads = (norm_of(attention.q_norm), norm_of(attention.k_norm)) if parts >= HEAD_NORMS else None
        return Layer(
            own, num_heads, num_kv_heads, float(attention.scaling), Product(qkv), Product([attention.o_proj]), Product(gate_up),
            Product([mlp.down_proj]), norms, heads, act,
        )

    def __call__(self, x: Tensor, turn: tuple[Tensor, Tensor], mask: Tensor | None, cache_layer: Any) -> Tensor:
        num_rows, num_slots, _ = x.shape
        heads, groups, size = self.num_heads, self.num_kv_heads, turn[0].shape[-1]
        packed = self.qkv(self.norms[0](x)).view(num_rows, num_slots, -1, size)
        qk, v = packed[:, :, : heads + groups], packed[:, :, heads + groups :]
        if self.head_norms is not None:
            qk = torch.cat([self.head_norms[0](qk[:, :, :heads]), self.head_norms[1](qk[:, :, heads:])], 2)
        qk = torch.addcmul(qk * turn[0], qk.roll(size // 2, -1), turn[1])
        keys, values = cache_layer.update(qk[:, :, heads:].transpose(1, 2), v.transpose(1, 2))
        q = qk[:, :, :heads].view(num_rows, num_slots, groups, heads // groups, size).permute(0, 2, 3, 1, 4).reshape(num_rows, groups, -1, size)
        seen = F.scaled_dot_product_attention(q, keys, values, mask, scale=self.scaling)
        seen = seen.view(num_rows, groups, heads // groups, num_slots, size).permute(0, 3, 1, 2, 4).reshape(num_rows, num_slots, -1)
        x = x + self.out(seen)
        gate, up = self.gate_up(self.norms[1](x)).chunk(2, -1)
        return x + self.down(self.act(gate) * up)


def _plain(part: Any) -> None:
    """Raises NotLean for what is no linear layer of its own weight alone."""
    if type(part) is not nn.Linear or "forward" in vars(part) or part._forward_hooks or part._forward_pre_hooks:
        raise NotLean(f"{type(part).__name__} is no plain linear layer, or has hooks")


def norm_of(own: Any) -> Callable[[Tensor], Tensor]:
    """An RMSNorm as one operator where it computes as torch's does: in float32. In float64 transformers still computes in float32."""
    if list(own._parameters) != ["weight"] or own._forward_hooks or own._forward_pre_hooks:
        raise NotLean(f"{type(own).__name__} has other parameters than a weight, or hooks")
    if own.weight.dtype == torch.float64:
        return own
    eps = getattr(own, "variance_epsilon", getattr(own, "eps", None))
    probe = torch.linspace(-1, 2, own.weight.numel(), device=own.weight.device, dtype=own.weight.dtype)[None, None]
    for plus in (0.0, 1.0):
        weight = own.weight + plus if plus else own.weight
        if eps is not None and torch.allclose(F.rms_norm(probe, own.weight.shape, weight, eps), own(probe), rtol=1e-5, atol=1e-6):
            return lambda x: F.rms_norm(x, own.weight.shape, own.weight + plus if plus else own.weight, eps)
    return own


class Lean:
    """Runs a model's forwards. Raises NotLean for a model that is not of the shape."""

    def __init__(self, model: Any):
        base = inner(model)
        body = base.get_decoder() if hasattr(base, "get_decoder") else None
        names = {"embed_tokens", "layers", "norm", "rotary_emb"}
        found = {name for name, _ in body.named_children()} if isinstance(body, nn.Module) else set()
        if not isinstance(body, nn.Module) or found != names:
            raise NotLean(f"its body is made of {', '.join(sorted(found))}")
        self.body, self.head, self.config = body, base.get_output_embeddings(), model.config.get_text_config()
        _plain(self.head)
        if type(body.embed_tokens) is not nn.Embedding:
            raise NotLean(f"its embeddings are a {type(body.embed_tokens).__name__}")
        size = getattr(self.config, "head_dim", None) or self.config.hidden_size // self.config.num_attention_heads
        self.layers = [Layer.of(layer, self.config, size) for layer in body.layers]
        self.norm, self.group = norm_of(body.norm), self.layers[0].num_heads // self.layers[0].num_kv_heads
        self.turns = torch.empty(0), torch.empty(0)

    def __call__(self, tokens: Tensor, mask: Tensor, positions: Tensor, cache: KVCache, last: bool) -> tuple[Tensor, Tensor]:
        """Logits [B, N, V] and last hidden states [B, N, H] of slots `tokens` [B, N]; mask [B or 1, 1, N, width], positions [B or 1, N]."""
        cos, sin = self._turns(cache.capacity + tokens.shape[1])
        turn = cos[positions][:, :, None], sin[positions][:, :, None]
        folded = mask if self.group == 1 else mask.repeat(1, 1, self.group, 1)
        x = F.embedding(tokens, self.body.embed_tokens.weight)
        for layer, slots in zip(self.layers, cache.slot_layers, strict=False):
            x = layer(x, turn, folded, slots)
        x = self.norm(x)
        return F.linear(x[:, -1:] if last else x, self.head.weight, self.head.bias), x

    def _turns(self, needed: int) -> tuple[Tensor, Tensor]:
        """cos and signed sin of positions, [positions, head_dim]; made again, twice as long, where they are too short."""
        if len(self.turns[0]) < needed:
            places = torch.arange(2 * needed, device=self.head.weight.device)[None]
            cos, sin = (half[0] for half in self.body.rotary_emb(self.head.weight[:1, None], places))
            sign = torch.ones_like(sin)
            sign[:, : sin.shape[1] // 2] = -1
            self.turns = cos, sin * sign
        return self.turns
