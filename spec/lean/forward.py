"""The forward of Llama-shaped models with half of the operators: the same weights, packed, straight over the slot cache.

A decoder layer of that shape is RMSNorm, rotary attention of grouped heads, RMSNorm and a gated MLP. Here q, k and v come from one product, gate and
up from another, q and k are turned by one rotary operation, and the query heads that share a key stand beside each other in one attention.

No list of names: the structure decides, and then a trial. What has other parts, or other logits than the model's own forward, keeps that. The packed
weights are the model's own: its parameters become views of them, so nothing is held twice, and what is written into a parameter is seen here.
"""

import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spec.cache import KVCache
from spec.reach import inner, read

BODY = ("embed_tokens", "layers", "norm", "rotary_emb")
LAYER = ("self_attn", "mlp", "input_layernorm", "post_attention_layernorm")
IDLE = (nn.Dropout, nn.Identity)  # what does nothing outside of training
# Settings that act beyond some size of the numbers only, which a trial need not reach.
LIMITING = ("clip_qkv", "attn_logit_softcapping", "final_logit_softcapping", "logit_softcapping")
Norm = Callable[[Tensor], Tensor]


class NotLean(ValueError):  # noqa: N818  an answer rather than an error
    """A model that is not of the shape; the message says why."""


class Product:
    """Linear layers that read the same input, as one product; their weights become views of it."""

    def __init__(self, *parts: Any):
        for part in parts:
            if type(part) is not nn.Linear:
                raise NotLean(f"{type(part).__name__} is no plain linear layer")
        if len({(part.bias is None, part.weight.dtype, part.weight.device) for part in parts}) > 1:
            raise NotLean("its products of one input differ in bias, dtype or device")
        self.parts = parts
        self.weight, self.bias = self._packed("weight"), self._packed("bias")

    def _packed(self, name: str) -> Any:
        """The parts behind each other; where they are several, each one's own memory is given back by the model."""
        held = [getattr(part, name) for part in self.parts]
        if len(held) == 1 or held[0] is None:
            return held[0]
        with torch.inference_mode(False), torch.no_grad():
            whole = torch.cat([one.data for one in held])
            for one, view in zip(held, whole.split([len(one) for one in held]), strict=True):
                one.data = view
        return whole

    def has_moved(self) -> bool:
        """Whether a layer has other memory by now; what was written into its memory is seen here."""
        for name in ("weight", "bias"):
            place = None
            for part in self.parts:
                own = getattr(part, name)
                place = getattr(self, name).data_ptr() if place is None and own is not None else place
                if own is not None and own.data_ptr() != place:
                    return True
                place = None if own is None else place + own.nbytes
        return False

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


@dataclass
class Layer:
    """One decoder layer: its products, norms of the input and of q and k, and numbers of heads."""

    qkv: Product
    out: Product
    gate_up: Product
    down: Product
    norms: tuple[Norm, Norm]
    head_norms: tuple[Norm, Norm] | None
    act: Callable[[Tensor], Tensor]
    scaling: float
    num_heads: int
    num_groups: int  # key heads; each serves num_heads / num_groups query heads

    @staticmethod
    def of(own: Any, head_dim: int) -> "Layer":
        _check_parts(own, LAYER)
        attention, mlp = own.self_attn, own.mlp
        qkv = ("qkv_proj",) if hasattr(attention, "qkv_proj") else ("q_proj", "k_proj", "v_proj")
        gate_up = ("gate_up_proj",) if hasattr(mlp, "gate_up_proj") else ("gate_proj", "up_proj")
        normed = ("q_norm", "k_norm") if hasattr(attention, "q_norm") else ()
        act = next((name for name in ("act_fn", "activation_fn") if hasattr(mlp, name)), "act_fn")
        _check_parts(attention, (*qkv, "o_proj", *normed))
        _check_parts(mlp, (*gate_up, "down_proj", act))
        num_heads = attention.o_proj.in_features // head_dim
        num_groups = (sum(getattr(attention, name).out_features for name in qkv) // head_dim - num_heads) // 2
        return Layer(
            Product(*(getattr(attention, name) for name in qkv)),
            Product(attention.o_proj),
            Product(*(getattr(mlp, name) for name in gate_up)),
            Product(mlp.down_proj),
            (norm_of(own.input_layernorm), norm_of(own.post_attention_layernorm)),
            (norm_of(attention.q_norm), norm_of(attention.k_norm)) if normed else None,
            getattr(mlp, act),
            float(attention.scaling),
            num_heads,
            num_groups,
        )

    def __call__(self, x: Tensor, turn: tuple[Tensor, Tensor], mask: Tensor | None, slots: Any) -> Tensor:
        """x [B, N, H] -> [B, N, H]; mask [B or 1, 1, query heads of a key head * N, width], or None where everything is seen."""
        num_rows, num_slots, _ = x.shape
        heads, groups, size = self.num_heads, self.num_groups, turn[0].shape[-1]
        packed = self.qkv(self.norms[0](x)).view(num_rows, num_slots, heads + 2 * groups, size)
        qk, v = packed[:, :, : heads + groups], packed[:, :, heads + groups :]
        if self.head_norms is not None:
            qk = torch.cat([self.head_norms[0](qk[:, :, :heads]), self.head_norms[1](qk[:, :, heads:])], 2)
        qk = torch.addcmul(qk * turn[0], qk.roll(size // 2, -1), turn[1])
        keys, values = slots.update(qk[:, :, heads:].transpose(1, 2), v.transpose(1, 2))
        q = qk[:, :, :heads].reshape(num_rows, num_slots, groups, -1, size).permute(0, 2, 3, 1, 4).reshape(num_rows, groups, -1, size)
        seen = F.scaled_dot_product_attention(q, keys, values, mask, scale=self.scaling)
        seen = seen.view(num_rows, groups, -1, num_slots, size).permute(0, 3, 1, 2, 4).reshape(num_rows, num_slots, -1)
        x = x + self.out(seen)
        gate, up = self.gate_up(self.norms[1](x)).chunk(2, -1)
        return x + self.down(self.act(gate) * up)


class Lean:
    """Runs the forwards of one model, and does not keep it alive. Raises NotLean where it is not of the shape."""

    def __init__(self, model: Any):
        check_untouched(model)
        self.modules = [weakref.ref(part) for part in model.modules()]
        self.body, config = model.get_decoder(), model.config.get_text_config()
        _check_parts(self.body, BODY)
        for name in LIMITING:
            if read(config, name) is not None:
                raise NotLean(f"{name} is {read(config, name)}")
        if len({part.device for part in model.parameters()}) > 1:
            raise NotLean("its layers are on several devices")
        size = read(config, "head_dim") or config.hidden_size // config.num_attention_heads
        self.layers = [Layer.of(layer, size) for layer in self.body.layers]
        self.head, self.norm = Product(model.get_output_embeddings()), norm_of(self.body.norm)
        self.turns = torch.empty(0), torch.empty(0)

    def has_changed(self, model: Any) -> bool:
        """Whether parts, their memory or hooks were replaced since; it is asked once per decode."""
        now = list(model.modules())
        if len(now) != len(self.modules) or any(part is not kept() for part, kept in zip(now, self.modules, strict=True)):
            return True
        products = (product for layer in self.layers for product in (layer.qkv, layer.out, layer.gate_up, layer.down))
        return any(product.has_moved() for product in (self.head, *products)) or next(_hooked(model), None) is not None

    def __call__(self, tokens: Tensor, mask: Tensor | None, positions: Tensor, cache: KVCache, last: bool) -> tuple[Tensor, Tensor]:
        """Logits [B, N, V], of the last slot alone if `last`, and last hidden states [B, N, H] of slots `tokens` [B, N].

        mask [B or 1, 1, N, width] is additive, None: everything is seen; positions [B or 1, N].
        """
        cos, sin = self._turns(cache.capacity + tokens.shape[1])
        turn = cos[positions][:, :, None], sin[positions][:, :, None]
        folds = self.layers[0].num_heads // self.layers[0].num_groups
        folded = mask if mask is None or folds == 1 else mask.repeat(1, 1, folds, 1)
        x = self.body.embed_tokens(tokens)
        for layer, slots in zip(self.layers, cache.slot_layers, strict=False):
            x = layer(x, turn, folded, slots)
        x = self.norm(x)
        return self.head(x[:, -1:] if last else x), x

    def _turns(self, needed: int) -> tuple[Tensor, Tensor]:
        """cos, and sin with the sign of the half it is for, of every position; [positions, head_dim]. Made anew, twice as long, when too short."""
        if len(self.turns[0]) < needed:
            places = torch.arange(2 * needed, device=self.head.weight.device)[None]
            cos, sin = (half[0] for half in self.body.rotary_emb(self.head.weight[:1, None], places))
            sin[:, : sin.shape[1] // 2].neg_()
            self.turns = cos, sin
        return self.turns


def norm_of(own: Any) -> Norm:
    """An RMSNorm as one operator where that computes the same; transformers' own computes in float32, also in a model of float64."""
    if [name for name, _ in own.named_parameters()] != ["weight"]:
        raise NotLean(f"{type(own).__name__} has more than a weight")
    weight, eps = own.weight, getattr(own, "variance_epsilon", getattr(own, "eps", None))
    if weight.dtype == torch.float32 and eps is not None:
        probe = torch.linspace(-1, 2, weight.numel(), device=weight.device)[None, None]
        if torch.allclose(F.rms_norm(probe, weight.shape, weight, eps), own(probe), rtol=1e-5, atol=1e-6):
            return lambda x: F.rms_norm(x, own.weight.shape, own.weight, eps)
    return own


def _check_parts(module: Any, wanted: tuple[str, ...]) -> None:
    found = {name for name, part in module.named_children() if not isinstance(part, IDLE)} if isinstance(module, nn.Module) else set()
    if found | {name for name in wanted if name.startswith("act")} != set(wanted):
        raise NotLean(f"{type(module).__name__} is made of {', '.join(sorted(found)) or 'nothing'}")


def _hooked(model: Any) -> Iterator[str]:
    """Parts whose calls do more than their class says: hooks, and forwards that were replaced, as offloading does it."""
    for part in model.modules():
        if part._forward_hooks or part._forward_pre_hooks or "forward" in vars(part):
            yield type(part).__name__


def check_untouched(model: Any) -> None:
    name = next(_hooked(model), None)
    if name is not None:
        raise NotLean(f"{name} has a hook or a forward of its own")
    if inner(model) is not model:
        raise NotLean(f"{type(model).__name__} wraps a model")
