"""Attention without repeated keys: query heads that share a key head stand beside each other as more queries of that head.

transformers' sdpa copies keys and values for every query head (`repeat_kv`) where it is given a mask: 26.8 ms a layer for 8 slots at 32 query and 8
key heads, against 2.4 ms folded. `folded` is registered with `AttentionInterface` under `NAME`, and a model attends by it inside `folding(model)`
only: before and after that its configuration says "sdpa", as its owner wants it.
"""

import sys
import types
import weakref
from threading import local
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

NAME = "sdpa_folded"
LEFT_TO_SDPA = ("position_bias", "softcap", "cache", "output_attentions")  # arguments of a layer that sdpa obeys or refuses; it ignores all others
DEVICES = ("cpu", "cuda")
SETTING = "_attn_implementation_internal"  # where a configuration keeps the name of its attention
MADE: "weakref.WeakKeyDictionary[Any, Folding]" = weakref.WeakKeyDictionary()  # by model
MASKS = local()  # `last`: the mask that this thread folded last, and the result; all layers of a forward are given the same one


def folded(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **given: Any,
) -> tuple[Tensor, None]:
    """What transformers' sdpa gives for query [B, heads, N, size] and key, value [B, key heads, width, size]: [B, N, heads, size].

    The mask [B or 1, 1 or heads, N, width] is additive or boolean; None: every slot sees everything, or the slots are causal. Whatever cannot be
    folded is left to sdpa.
    """
    num_rows, num_heads, num_slots, size = query.shape
    num_groups, causal = key.shape[1], given.get("is_causal")
    causal = attention_mask is None and num_slots > 1 and (getattr(module, "is_causal", True) if causal is None else causal)
    odd_mask = attention_mask is not None and attention_mask.shape[1:3] not in ((1, num_slots), (num_heads, num_slots))
    asked = any(given.get(name) is not None and given[name] is not False for name in LEFT_TO_SDPA)
    if num_heads == num_groups or dropout or causal or odd_mask or asked or query.device.type not in DEVICES:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **given)
    mask = attention_mask if attention_mask is None else fold_mask(attention_mask, num_heads // num_groups)
    seen = F.scaled_dot_product_attention(query.reshape(num_rows, num_groups, -1, size), key, value, mask, scale=scaling)
    return seen.reshape(num_rows, num_heads, num_slots, -1).transpose(1, 2).contiguous(), None


def fold_mask(mask: Tensor, folds: int) -> Tensor:
    """The mask [B, 1, N, width] of all heads, or [B, heads, N, width], for `folds` query heads beside each other; [B, 1 or key heads, folds * N,
    width]."""
    num_rows, num_heads, num_slots, width = mask.shape
    if num_heads > 1:
        return mask.reshape(num_rows, num_heads // folds, folds * num_slots, width)
    if num_slots == 1:
        return mask  # one row for all queries
    if torch.compiler.is_compiling():
        return mask.repeat(1, 1, folds, 1)
    last = getattr(MASKS, "last", None)
    if last is None or last[0] is not mask or last[1] != folds:
        last = MASKS.last = (mask, folds, mask.repeat(1, 1, folds, 1))
    return last[2]


AttentionInterface.register(NAME, folded)
AttentionMaskInterface.register(NAME, sdpa_mask)  # for forwards that leave their mask to the model


class Folding:
    """Inside `with`, layers of one model that attend by sdpa and share keys among query heads attend by `folded`; a model without such layers is left
    alone.

    It may be entered while it is entered, in other threads too: both names give the same attention, and nothing is remembered from before.
    """

    def __init__(self, model: Any):
        self.settings = [vars(config) for config in foldable(model)]  # their own dicts: a look by name costs a configuration ten times as much

    def __enter__(self) -> None:
        for settings in self.settings if ALL_ATTENTION_FUNCTIONS["sdpa"] is sdpa_attention_forward else ():  # nobody has put another in its place
            if settings.get(SETTING) == "sdpa":
                settings[SETTING] = NAME

    def __exit__(self, *_: object) -> None:
        MASKS.last = None
        for settings in self.settings:
            if settings.get(SETTING) == NAME:
                settings[SETTING] = "sdpa"


def chosen(config: Any) -> str:
    """The attention that a model's owner wants, also in the middle of another thread's forward."""
    kind = getattr(config, "_attn_implementation", None) or "sdpa"
    return "sdpa" if kind == NAME else kind


def folding(model: Any) -> Folding:
    """The `Folding` of a model, made once."""
    found = MADE.get(model)
    if found is None:
        found = MADE[model] = Folding(model)
    return found


def foldable(model: Any) -> list[Any]:
    """The configurations that the attention layers of a model read; none where keys are not shared, or code of the model's own asks for "sdpa"."""
    parts = [part for part in model.modules() if getattr(part, "num_key_value_groups", 1) > 1 and hasattr(part, "config")]
    asked = any(names_sdpa(kind) for kind in {type(part) for part in model.modules()})
    shared = all(getattr(sys.modules[type(part).__module__], "ALL_ATTENTION_FUNCTIONS", None) is ALL_ATTENTION_FUNCTIONS for part in parts)
    return list({id(part.config): part.config for part in parts}.values()) if shared and not asked else []


def names_sdpa(kind: type) -> bool:
    """Whether a model's own code, what it inherits from transformers' base classes not included, asks for "sdpa" by name."""
    members = [member for member in vars(kind).values() if isinstance(member, types.FunctionType)]
    return kind.__module__.startswith("transformers.models.") and any("sdpa" in member.__code__.co_consts for member in members)
