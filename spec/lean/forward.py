"""The forward of Llama-shaped models by half of the operators: the same modules and weights, straight over the slot cache.

A decoder layer of that shape is RMSNorm, rotary attention of grouped heads, RMSNorm and a gated MLP. Here a norm is one operator, q and k are turned
together, by a table of angles, and the query heads that share a key stand beside each other in one attention, so that no key is repeated.

Weights and scalars are read from the model's own modules at each forward: nothing is copied, so nothing can be stale. Products of one input are not
packed into one: that would bring 1 to 3 % on a CPU, and the model's parameters would have to become views of the packed ones.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spec.attention import chosen
from spec.cache import KVCache
from spec.lean.native import native_of
from spec.lean.parts import NotLean, Parts, check_untouched
from spec.reach import read, rotary_distributions
from spec.store import StoredLinear, widened_linear, widened_linears

BODY = ("embed_tokens", "layers", "norm", "rotary_emb")
LAYER = ("self_attn", "mlp", "input_layernorm", "post_attention_layernorm")
IDLE = (nn.Dropout, nn.Identity)  # what does nothing outside of training
BY_POSITION = ("default", "linear", "llama3", "yarn")  # kinds of rotary angles that depend on a token's position alone: a table holds them
# Settings that act beyond some size of the numbers only, which a trial need not reach.
LIMITING = ("clip_qkv", "attn_logit_softcapping", "final_logit_softcapping", "logit_softcapping")

Norm = Callable[[Tensor], Tensor]


@dataclass
class Layer:
    """One decoder layer: its linear layers, norms, activation and numbers of heads."""

    own: Any
    attention: Any
    mlp: Any
    qkv: Sequence[nn.Linear]  # one or three
    gate_up: Sequence[nn.Linear]  # one or two
    norms: tuple[Norm, Norm]
    head_norms: tuple[Norm, Norm] | None
    act: Callable[[Tensor], Tensor]
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
        for part in (*(getattr(attention, name) for name in (*qkv, "o_proj")), *(getattr(mlp, name) for name in (*gate_up, "down_proj"))):
            check_linear(part)
        num_heads = attention.o_proj.in_features // head_dim
        num_groups = (sum(getattr(attention, name).out_features for name in qkv) // head_dim - num_heads) // 2
        return Layer(
            own,
            attention,
            mlp,
            [getattr(attention, name) for name in qkv],
            [getattr(mlp, name) for name in gate_up],
            (norm_of(own.input_layernorm), norm_of(own.post_attention_layernorm)),
            (norm_of(attention.q_norm), norm_of(attention.k_norm)) if normed else None,
            getattr(mlp, act),
            num_heads,
            num_groups,
        )

    def __call__(self, x: Tensor, turn: tuple[Tensor, Tensor], mask: Tensor | None, slots: Any) -> Tensor:
        """x [B, N, H] -> [B, N, H]; mask [B or 1, 1, query heads of a key head * N, width], or None where everything is seen."""
        num_rows, num_slots, _ = x.shape
        heads, groups, size = self.num_heads, self.num_groups, turn[0].shape[-1]
        packed = products(self.qkv, self.norms[0](x)).view(num_rows, num_slots, heads + 2 * groups, size)
        qk, v = packed[:, :, : heads + groups], packed[:, :, heads + groups :]
        if self.head_norms is not None:
            qk = torch.cat([self.head_norms[0](qk[:, :, :heads]), self.head_norms[1](qk[:, :, heads:])], 2)
        qk = torch.addcmul(qk * turn[0], qk.roll(size // 2, -1), turn[1])
        keys, values = slots.update(qk[:, :, heads:].transpose(1, 2), v.transpose(1, 2))
        q = qk[:, :, :heads].reshape(num_rows, num_slots, groups, -1, size).permute(0, 2, 3, 1, 4).reshape(num_rows, groups, -1, size)
        seen = F.scaled_dot_product_attention(q, keys, values, mask, scale=self.attention.scaling)
        seen = seen.view(num_rows, groups, -1, num_slots, size).permute(0, 3, 1, 2, 4).reshape(num_rows, num_slots, -1)
        x = x + product(self.attention.o_proj, seen)
        gate, up = products(self.gate_up, self.norms[1](x)).chunk(2, -1)
        return x + product(self.mlp.down_proj, self.act(gate) * up)


class Lean:
    """Runs the forwards of one model, and does not keep it alive. Raises NotLean where it is not of the shape."""

    trial_seconds = 0.0  # what it took to try it

    def __init__(self, model: Any):
        check_untouched(model)
        self.parts, self.body, self.head = Parts(model), model.get_decoder(), model.get_output_embeddings()
        self.device, config = model.device, model.config.get_text_config()
        _check_parts(self.body, BODY)
        check_linear(self.head)
        for name in LIMITING:
            if read(config, name) is not None:
                raise NotLean(f"{name} is {read(config, name)}")
        if chosen(config) != "sdpa":
            raise NotLean(f"attn_implementation={chosen(config)} was chosen")
        if len({(part.device, part.dtype) for part in model.parameters()}) > 1:
            raise NotLean("its layers are of several devices or dtypes")
        self.head_size: int = read(config, "head_dim") or config.hidden_size // config.num_attention_heads
        self.layers = [Layer.of(layer, self.head_size) for layer in self.body.layers]
        self.norm = norm_of(self.body.norm)
        kinds = {found.get("rope_type", found.get("type", "default")) for found in rotary_distributions(config)}
        self.has_table = kinds <= set(BY_POSITION)
        self.table, self.angles = (torch.empty(0), torch.empty(0)), self._angles()
        self.native = native_of(self)

    def has_changed(self, model: Any) -> bool:
        """Whether parts, hooks, dtype, device or rotary angles are others by now; it is asked once per decode."""
        return not self.parts.are_those_of(model) or any(not torch.equal(one, other) for one, other in zip(self.angles, self._angles(), strict=True))

    def _angles(self) -> list[Tensor]:
        """What the table is made from."""
        own = self.body.rotary_emb
        return [torch.tensor(float(getattr(own, "attention_scaling", 1.0))), *(buffer.clone() for buffer in own.buffers())]

    def is_compiled_for(self, tokens: Tensor) -> bool:
        """Whether a forward over these tokens [B, N] is one call of compiled code."""
        return self.native is not None and self.native.serves(tokens)

    def run(self, tokens: Tensor, mask: Tensor | None, positions: Tensor, cache: KVCache, last: bool) -> tuple[Tensor, Tensor]:
        """Logits [B, N, V], of the last slot alone if `last`, and last hidden states [B, N, H] of slots `tokens` [B, N].

        mask [B or 1, 1, N, width] is additive, None: everything is seen; positions [B or 1, N].
        """
        (cos, sin), places = self._turns(positions, cache.capacity + tokens.shape[1])
        if self.native is not None and self.native.serves(tokens):
            found = self.native.run(tokens, places, (cos, sin), mask, cache, last)
            if found is not None:
                return found
        cos, sin = cos[places], sin[places]
        folds = self.layers[0].num_heads // self.layers[0].num_groups
        folded = mask if mask is None or folds == 1 else mask.repeat(1, 1, folds, 1)
        x = self.body.embed_tokens(tokens)
        for layer, slots in zip(self.layers, cache.slot_layers, strict=False):
            x = layer(x, (cos[:, :, None], sin[:, :, None]), folded, slots)
        x = self.norm(x)
        return product(self.head, x[:, -1:] if last else x), x

    def _turns(self, positions: Tensor, capacity: int) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """cos, and sin with the sign of the half it is for, [P, head_dim]; and the rows of both that are for `positions`.

        The table is made anew, twice as long, when it is too short.
        """
        if not self.has_table:
            cos, sin = (angles.flatten(0, 1) for angles in self._signed(positions))
            return (cos, sin), torch.arange(positions.numel(), device=self.device).view_as(positions)
        table = self.table  # another thread may put a shorter one in its place
        if len(table[0]) < capacity:
            cos, sin = self._signed(torch.arange(2 * capacity, device=self.device)[None])
            table = self.table = cos[0], sin[0]
        return table, positions

    def _signed(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        cos, sin = self.body.rotary_emb(next(self.body.norm.parameters())[None, None], positions)
        return cos, torch.cat([-sin[..., : sin.shape[-1] // 2], sin[..., sin.shape[-1] // 2 :]], -1)


def product(part: nn.Linear | StoredLinear, x: Tensor) -> Tensor:
    return F.linear(x, part.weight, part.bias) if type(part) is nn.Linear else widened_linear(x, part.weight, part.bias)


def products(parts: Sequence[nn.Linear], x: Tensor) -> Tensor:
    """The outputs of linear layers beside each other."""
    if len(parts) == 1:
        return product(parts[0], x)
    if all(type(part) is StoredLinear for part in parts):
        return widened_linears(x, [part.weight for part in parts], [part.bias for part in parts])
    return torch.cat([product(part, x) for part in parts], -1)


def norm_of(own: Any) -> Norm:
    """An RMSNorm as one operator where that computes the same; transformers' own computes in float32, also in a model of float64."""
    if [name for name, _ in own.named_parameters()] != ["weight"]:
        raise NotLean(f"{type(own).__name__} has more than a weight")
    eps = next((name for name in ("variance_epsilon", "eps") if isinstance(getattr(own, name, None), float)), None)
    if own.weight.dtype != torch.float32 or eps is None:
        return own

    def norm(x: Tensor) -> Tensor:
        return F.rms_norm(x, own.weight.shape, own.weight, getattr(own, eps))

    probe = torch.linspace(-1, 2, own.weight.numel(), dtype=torch.float32, device=own.weight.device)[None, None]
    return norm if torch.allclose(norm(probe), own(probe), rtol=1e-5, atol=1e-6) else own


def check_linear(part: Any) -> None:
    if type(part) not in (nn.Linear, StoredLinear):
        raise NotLean(f"{type(part).__name__} is no plain linear layer")


def _check_parts(module: Any, wanted: tuple[str, ...]) -> None:
    found = {name for name, part in module.named_children() if not isinstance(part, IDLE)} if isinstance(module, nn.Module) else set()
    if found | {name for name in wanted if name.startswith("act")} != set(wanted):
        raise NotLean(f"{type(module).__name__} is made of {', '.join(sorted(found)) or 'nothing'}")
