"""Which models can be served exactly, and one line for each reason why a model cannot. This is checked before any work is done.

Exact means that the logits after a token depend on that token's own prefix alone: not on other rows, on other slots of a draft, on padding, or on
what was rejected. A few models break that beyond a certain length only; they are served up to there, see `longest_exact`.
"""

import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any

ATTENTION = ("sdpa", "eager", "flex_attention")  # and flash attention, for chains of one row
WINDOWED = ("sliding_attention", "chunked_attention")
PLAIN_LAYERS = ("full_attention", *WINDOWED)  # kinds of layers whose whole state is one key and one value per token and head
RECURRENT = ("linear", "mamba", "recurrent", "conv", "hybrid")
WINDOW_SIZES = ("sliding_window", "sliding_window_size", "attention_chunk_size")
RANDOM = ("dropout", "pdrop", "layerdrop", "jitter")  # what may be random in training mode, as configurations call it


def refuse_unservable(model: Any, config: Any, context: int) -> None:
    """Raises ValueError with the first reason why `model` cannot be served up to `context` positions; `config` is that of its text part."""
    for reason in REASONS:
        line = reason(model, config, context)
        if line is not None:
            raise ValueError(f"{type(model).__name__} {line}")


def longest_exact(config: Any) -> int | None:
    """The most positions up to which a token's logits depend on its own prefix alone and nothing is evicted; None where there is no such limit."""
    limits = (attention_window(config), rotary_switch(config), query_scale(config), read(config, "keep_window_size"), sparse_blocks(config))
    return min((limit for limit in limits if limit is not None), default=None)


def read(config: Any, name: str, default: Any = None) -> Any:
    """An attribute of a configuration, an object or a dict; `default` where it is missing, None, or not the same in every layer."""
    if isinstance(config, dict):
        return config.get(name, default)
    try:
        value = getattr(config, name, default)
    except RuntimeError:  # transformers' answer where layers differ
        return default
    return default if value is None else value


def in_layers(config: Any, name: str) -> list[Any]:
    """The values of an attribute over the layers; a single one if all layers share it."""
    try:
        return [getattr(config, name, None)]
    except RuntimeError:
        return [getattr(layer, name, None) for layer in config.per_layer_config]


def attention_window(config: Any) -> int | None:
    """The shortest window or chunk that any layer attends within, in positions; None where all layers see everything."""
    kinds = set(read(config, "layer_types", ()))
    if kinds and not kinds & set(WINDOWED):
        return None
    slides = bool(kinds) or read(config, "use_sliding_window", True)
    sizes = [size for name in WINDOW_SIZES if slides or name == "attention_chunk_size" for size in in_layers(config, name)]
    return min((size for size in sizes if size), default=None)


def rotary_distributions(config: Any) -> Iterator[dict]:
    """The rotary parameters, of every kind of layer if they differ; older configurations call them `rope_scaling`."""
    for name in ("rope_parameters", "rope_scaling"):
        found = read(config, name)
        if isinstance(found, dict):
            yield found
            yield from (inner for inner in found.values() if isinstance(inner, dict))


def rotary_switch(config: Any) -> int | None:
    """The length beyond which longrope changes the angles of all positions of a forward; None if an angle depends on its own position alone."""
    switches = [
        distribution.get("original_max_position_embeddings")
        or read(config, "original_max_position_embeddings")
        or read(config, "max_position_embeddings")
        for distribution in rotary_distributions(config)
        if distribution.get("rope_type", distribution.get("type")) in ("longrope", "su")
        or "long_factor" in distribution
        or "long_mscale" in distribution
    ]
    return min((switch for switch in switches if switch), default=None)


def query_scale(config: Any) -> int | None:
    """Llama 4 scales queries by their slot in the cache, from `floor_scale` slots on. Half of that: the rest is room for a draft's slots."""
    has_plain_layers = not all(read(config, "no_rope_layers", ()) or (1,))  # a 0 is a layer without rotary positions
    return read(config, "floor_scale", 0) // 2 or None if read(config, "attn_temperature_tuning") and has_plain_layers else None


def sparse_blocks(config: Any) -> int | None:
    """The longest input to which BigBird still attends as a whole; None for models that always do."""
    if read(config, "attention_type") != "block_sparse":
        return None
    return (5 + 2 * read(config, "num_random_blocks", 0)) * read(config, "block_size", 1)


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
    parts = [type(part).__name__ for part in model.modules() if "Indexer" in type(part).__name__]
    if not kinds and not parts:
        return None
    return f"caches more than keys and values (for {(kinds or parts)[0]}), which cannot be rolled back here; use a model with plain attention"


def no_cache(model: Any, config: Any, context: int) -> str | None:
    if "past_key_values" not in inspect.signature(model.forward).parameters:
        return "takes no cache of keys and values (past_key_values), without which no draft can be scored; use a model that does"
    return None


def no_layers(model: Any, config: Any, context: int) -> str | None:
    if read(config, "num_hidden_layers") is None:
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
    written_in = sys.modules[type(model).__module__]
    if hasattr(written_in, "create_bidirectional_mask") and not hasattr(written_in, "create_causal_mask"):
        return "attends to later tokens as well: this version of transformers makes no causal mask for it; use a later one"
    return None


def window(model: Any, config: Any, context: int) -> str | None:
    size = attention_window(config)
    if size is None or size >= context:
        return None
    return (
        f"attends within a window of {size} positions, which is shorter than the context of {context}: keys could be evicted that a "
        f"rejected draft needs back; use CausalLM(model, context={longest_exact(config)}) to stay inside the window"
    )


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
    if "create_masks_for_generate" not in vars(type(model)):
        return "sees later tokens where transformers leaves its mask out, as this version does; use a later transformers"
    return None


def masked_by_slot(model: Any, config: Any, context: int) -> str | None:
    """GPT-Neo: local layers cut the wrong keys off, and the table of the mask ends where the positions end, with no room for a draft."""
    if read(config, "attention_layers"):
        return "masks its attention by cache slot, not by position: ragged rows and trees would come out wrong; use another family"
    return None


def no_positions(model: Any, config: Any, context: int) -> str | None:
    if "position_ids" not in inspect.signature(model.forward).parameters:
        return "has a forward without position_ids, so the slots of a tree cannot be placed; use a model that takes them"
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


def alibi(model: Any, config: Any, context: int) -> str | None:
    if read(config, "alibi", False):
        return "biases its attention by ALiBi, made from a mask of columns, where a tree's slots have no place; use a model with rotary positions"
    return None


def outliers(model: Any, config: Any, context: int) -> str | None:
    quantised = read(model.config, "quantization_config")
    if read(quantised, "load_in_8bit", False) and read(quantised, "llm_int8_threshold", 0.0) > 0:
        return (
            "picks the columns that LLM.int8 leaves in 16 bits by looking at all rows and slots of a forward, so that a token depends on its "
            "neighbours; load it with llm_int8_threshold=0.0, as target.quantization=8bit does"
        )
    return None


def random_in_training(model: Any, config: Any, context: int) -> str | None:
    if not getattr(model, "training", False):
        return None
    shares = [value for name, value in vars(config).items() if any(word in name for word in RANDOM) and "classifier" not in name]
    if any(isinstance(share, (int, float)) and share > 0 for share in shares):
        return "is in training mode, where dropout or noise in its layers changes every forward; call model.eval() first"
    return None


def attention_kind(model: Any, config: Any, context: int) -> str | None:
    kind = read(config, "_attn_implementation", "sdpa")
    if kind not in ATTENTION and not kind.startswith("flash_attention"):
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
    masked_by_slot,
    no_positions,
    block_sparse,
    alibi,
    outliers,
    random_in_training,
    attention_kind,
)
