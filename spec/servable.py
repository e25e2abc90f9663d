"""Which models can be served exactly, and one line for each reason why a model cannot. This is checked before any work is done.

Exact means that the logits after a token depend on that token's own prefix alone: not on other rows, on other slots of a draft, on padding, or on
what was rejected. A few models break that beyond a certain length only; they are served up to there, see `longest_served`.
"""

import inspect
import sys
from collections.abc import Callable
from functools import cache, partial
from typing import Any

from spec.attention import NAME as FOLDED
from spec.attention import chosen
from spec.reach import (
    WINDOWED,
    arguments_of,
    inner,
    longest_exact,
    num_layers,
    query_scale,
    read,
    rotary_switch,
    sparse_blocks,
)
from spec.windows import ALIKE, Windows, windows_of

ATTENTION = ("sdpa", "eager", "flex_attention")  # and flash attention, for chains of one row, and what `spec.attention` puts in place of sdpa
PLAIN_LAYERS = ("full_attention", *WINDOWED)  # kinds of layers whose whole state is one key and one value per token and head
MASK_MAKERS = {"create_sliding_window_causal_mask", "create_chunked_causal_mask"}  # of transformers; masks of windows here are theirs
RECURRENT = ("linear", "mamba", "recurrent", "conv", "hybrid")
OTHER_STATES = ("update_indexer", "update_conv_state", "update_recurrent_state", "set_linear_cache")  # what layers call to cache more than that
BY_ROW = ("adapter_names", "alora_offsets")  # arguments that PEFT binds to hooks
RANDOM = ("dropout", "pdrop", "layerdrop", "jitter")  # what may be random in training mode, as configurations call it


def refuse_unservable(model: Any, config: Any, context: int) -> None:
    """Raises ValueError with the first reason why `model` cannot be served up to `context` positions; `config` is that of its text part."""
    for reason in REASONS:
        line = reason(model, config, context)
        if line is not None:
            raise ValueError(f"{type(model).__name__} {line}")


def encoder_decoder(model: Any, config: Any, context: int) -> str | None:
    if read(model.config, "is_encoder_decoder", False):
        return "is an encoder-decoder; speculative decoding here needs a decoder-only causal LM"
    return None


def recurrent_state(model: Any, config: Any, context: int) -> str | None:
    """Refuses recurrent layers. Some models of recurrent families have none; their config names the kind of every layer."""
    kinds = set(read(config, "layer_types", ()))
    stateful = getattr(model, "_is_stateful", False) and not (kinds and kinds <= set(PLAIN_LAYERS))
    if stateful or any(word in kind for kind in kinds for word in RECURRENT):
        return "keeps a recurrent or linear-attention state, from which no rejected draft can be taken back; use full attention"
    return None


def other_state(model: Any, config: Any, context: int) -> str | None:
    kinds = [kind for kind in read(config, "layer_types", ()) if kind not in PLAIN_LAYERS]
    parts = [kind.__name__ for kind in dict.fromkeys(map(type, model.modules())) if "Indexer" in kind.__name__ or calls(kind, OTHER_STATES)]
    if not kinds and not parts:
        return None
    return f"caches more than keys and values (for {(kinds or parts)[0]}), which cannot be rolled back here; use a model with plain attention"


@cache
def calls(kind: type, names: tuple[str, ...]) -> bool:
    """Whether the code of a class, what it inherits included, reads an attribute with one of these names."""
    members = (inspect.unwrap(member) for _, member in inspect.getmembers_static(kind) if inspect.isfunction(member))
    return any(name in member.__code__.co_names for member in members if inspect.isfunction(member) for name in names)


def no_cache(model: Any, config: Any, context: int) -> str | None:
    if "past_key_values" not in arguments_of(model):
        return "takes no cache of keys and values (past_key_values), without which no draft can be scored; use a model that does"
    return None


def no_layers(model: Any, config: Any, context: int) -> str | None:
    if num_layers(config) is None:
        return "has a config without num_hidden_layers, so that no cache can be laid out for it; use a model with one stack of layers"
    return None


def sees_the_future(model: Any, config: Any, context: int) -> str | None:
    """Refuses models whose config is not causal, if their layers obey it: GPT-NeoX comes with is_decoder=False and is causal all the same."""
    both_ways = read(config, "use_bidirectional_attention", False) in (True, "all")
    if not both_ways and read(config, "is_decoder", True) and read(config, "is_causal", True):
        return None
    if all(getattr(part, name, True) for part in model.modules() for name in ("is_causal", "is_decoder")):
        return None
    return "attends to later tokens as well (is_decoder=False or bidirectional attention in its config); set is_decoder=True or use a causal LM"


def no_causal_mask(model: Any, config: Any, context: int) -> str | None:
    """RemBERT, Megatron-BERT and BigBird up to transformers 5.17: is_decoder=True, and a first forward sees all of its input."""
    written_in = sys.modules[type(inner(model)).__module__]
    if hasattr(written_in, "create_bidirectional_mask") and not hasattr(written_in, "create_causal_mask"):
        return "attends to later tokens as well: this version of transformers makes no causal mask for it; use a later one"
    return None


def window(model: Any, config: Any, context: int) -> str | None:
    windows = windows_of(config).beyond(context)
    reason = no_masks(model, config, windows)
    if reason is None:
        return None
    return (
        f"attends within a window of {windows.smallest} positions, which is shorter than the context of {context}, and {reason}; "
        f"use CausalLM(model, context={longest_served(model, config)}) to stay inside the window"
    )


def no_masks(model: Any, config: Any, windows: Windows) -> str | None:
    """Why masks made here would not do to these windows what the model's own masks do; None: they do the same."""
    if windows.smallest is None:
        return None
    named = (names_in(kind.forward) for kind in dict.fromkeys(map(type, model.modules())))
    masking = next((names for names in named if names & MASK_MAKERS), None)
    if masking is None:
        return "hides what is outside of it in a way of its own"
    if not windows.is_even:
        return "layers of one type, to which one mask goes, have windows of several sizes"
    if windows.names != (ALIKE,) and "dict" not in masking:
        return "takes one mask for layers of all types"
    if windows.names == (ALIKE,) and "dict" in masking:
        return "takes a mask for each type of layers, while its configuration names no types (layer_types)"
    if chosen(config).startswith("flash") and any(one is not None and one.is_chunked for one in windows.windows):
        return "flash attention knows no chunks (attn_implementation='sdpa' does)"
    return None


def names_in(function: Any) -> frozenset[str]:
    """All names that the code of a function reads, functions inside of it included."""
    waiting, found = [getattr(inspect.unwrap(function), "__code__", None)], set()
    while waiting:
        code = waiting.pop()
        if code is not None:
            found.update(code.co_names)
            waiting += [nested for nested in code.co_consts if inspect.iscode(nested)]
    return frozenset(found)


def longest_served(model: Any, config: Any) -> int | None:
    """The most positions up to which a model is exact here; None where there is no such limit."""
    windows = windows_of(config)
    limits = (longest_exact(config), None if no_masks(model, config, windows) is None else windows.smallest)
    return min((limit for limit in limits if limit is not None), default=None)


def longrope(model: Any, config: Any, context: int) -> str | None:
    switch = rotary_switch(config)
    if switch is None or switch >= context:
        return None
    return (
        f"turns all rotary angles by other factors once any row of a batch passes {switch} positions (longrope), and the context is {context}: a "
        f"token would depend on other rows and on drafts; use CausalLM(model, context={longest_exact(config)}) to stay below the switch"
    )


def scaled_by_slot(model: Any, config: Any, context: int) -> str | None:
    limit = query_scale(config)
    if limit is None or limit >= context:
        return None
    return (
        f"scales its queries by cache slot, not by position, beyond {2 * limit} slots, and the context is {context}: ragged rows and trees would "
        f"come out wrong; use CausalLM(model, context={longest_exact(config)})"
    )


def ranked_keys(model: Any, config: Any, context: int) -> str | None:
    """Doge keeps the keys that rank highest; equal tokens tie in its first layer, and the width of a forward decides which of them stay."""
    kept = read(config, "keep_window_size")
    if kept is None or kept >= context:
        return None
    return (
        f"keeps the {kept} keys that rank highest, and the context is {context}: where equal tokens tie, the width of the whole forward decides "
        f"which of them stay; use CausalLM(model, context={longest_exact(config)})"
    )


def mixed_tokens(model: Any, config: Any, context: int) -> str | None:
    """Doge again: its experts, and versions of it in which a first forward without padding has no causal mask."""
    if read(config, "keep_window_size") is None:
        return None
    if read(config, "is_moe", False):
        return "cuts its router's logits across tokens (is_moe=True), so that a token depends on its neighbours; use one without experts"
    if "create_masks_for_generate" not in vars(type(inner(model))):
        return "sees later tokens where transformers leaves its mask out, as this version does; use a later transformers"
    return None


def block_sparse(model: Any, config: Any, context: int) -> str | None:
    """BigBird attends in blocks as soon as an input is long enough for them, and never again once an input was too short."""
    longest = sparse_blocks(config)
    if longest is None or longest >= context:
        return None
    return (
        f"attends in sparse blocks to inputs of more than {longest} positions, and the context is {context}: a token would depend on the length of "
        f"the whole input; load it with attention_type='original_full' or use CausalLM(model, context={longest_exact(config)})"
    )


def outliers(model: Any, config: Any, context: int) -> str | None:
    quantised = read(model.config, "quantization_config")
    if read(quantised, "load_in_8bit", False) and read(quantised, "llm_int8_threshold", 0.0) > 0:
        return (
            "picks the columns that LLM.int8 leaves in 16 bits by looking at all rows and slots of a forward, so that a token depends on its "
            "neighbours; load it with llm_int8_threshold=0.0, as target.quantization=8bit does"
        )
    return None


def learned_prompt(model: Any, config: Any, context: int) -> str | None:
    """PEFT's prompt and prefix tuning put learned vectors before the text; they get there when `generate` prepares inputs, which a draft does not."""
    learned = any(getattr(adapter, "is_prompt_learning", False) for adapter in dict(read(model, "peft_config", {})).values())
    prepares = getattr(vars(model).get("prepare_inputs_for_generation", model.forward), "__self__", None)
    if not learned and prepares in (model, inner(model)):
        return None
    return "gets inputs by a prepare_inputs_for_generation of its own, as with PEFT's prompt and prefix tuning; take an adapter of weights (LoRA)"


def adapters_by_row(model: Any, config: Any, context: int) -> str | None:
    """PEFT's adapters that differ from row to row, or apply from a place in the text on: its hooks know the rows of one forward only."""
    hooks = (hook for part in model.modules() for hook in part._forward_pre_hooks.values() if isinstance(hook, partial))
    found = next((name for hook in hooks for name in BY_ROW if name in hook.keywords), None)
    return None if found is None else f"was given PEFT's {found}, adapters that depend on rows or places of a forward; give every call one adapter"


def random_in_training(model: Any, config: Any, context: int) -> str | None:
    if not getattr(model, "training", False):
        return None
    if any(getattr(part, "gradient_checkpointing", False) for part in model.modules()):
        return "is in training mode with gradient checkpointing, which runs without a cache; call model.eval() first"
    shares = [value for name, value in vars(config).items() if any(word in name for word in RANDOM) and "classifier" not in name]
    if any(isinstance(share, (int, float)) and share > 0 for share in shares):
        return "is in training mode, where dropout or noise in its layers changes every forward; call model.eval() first"
    return None


def attention_kind(model: Any, config: Any, context: int) -> str | None:
    kind = read(config, "_attn_implementation", "sdpa")
    if kind not in (*ATTENTION, FOLDED) and not kind.startswith("flash_attention"):
        return f"cannot attend as it was told to: {kind!r} is not served; give attn_implementation one of {', '.join(ATTENTION)}"
    return None


REASONS: tuple[Callable[[Any, Any, int], str | None], ...] = (
    encoder_decoder,
    recurrent_state,
    other_state,
    no_cache,
    no_layers,
    sees_the_future,
    no_causal_mask,
    window,
    longrope,
    scaled_by_slot,
    ranked_keys,
    mixed_tokens,
    block_sparse,
    outliers,
    learned_prompt,
    adapters_by_row,
    random_in_training,
    attention_kind,
)
