"""What a model takes, and what its configuration says of its reach: positions, and up to how many of them logits depend on a token's prefix alone."""

import inspect
from collections.abc import Iterator
from typing import Any

from transformers import PreTrainedModel

WINDOWED = ("sliding_attention", "chunked_attention")
POSITIONS = ("max_position_embeddings", "max_seq_len", "max_target_positions")  # the first that a configuration has counts
LAYERS = ("decoder_layers", "num_decoder_layers", "num_hidden_layers")


def inner(model: Any) -> Any:
    """The transformers model inside of what PEFT and others put around one; a model of transformers itself."""
    return next((part for part in model.modules() if isinstance(part, PreTrainedModel)), model)


def arguments_of(model: Any) -> set[str]:
    """Names of the arguments that a forward takes; those of the inner model where a wrapper hands on all that it is given."""
    found = inspect.signature(model.forward).parameters
    hands_on = any(one.kind is one.VAR_KEYWORD for one in found.values())
    return {*found, *(inspect.signature(inner(model).forward).parameters if hands_on else ())}


def num_positions(config: Any) -> int | None:
    """How many positions a model has; None where its configuration names no limit, and for ALiBi as Falcon has it, which goes on for any length."""
    if read(config, "alibi", False):
        return None
    return next((limit for limit in (read(config, name) for name in POSITIONS) if limit), None)


def num_layers(config: Any) -> int | None:
    """How many layers cache keys and values; decoders that were cut out of an encoder-decoder call the encoder's number `num_hidden_layers`."""
    return next((count for count in (read(config, name) for name in LAYERS) if count), None)


def longest_exact(config: Any) -> int | None:
    """The most positions up to which a token's logits depend on its own prefix alone; None where there is no such limit."""
    limits = (rotary_switch(config), query_scale(config), read(config, "keep_window_size"), sparse_blocks(config))
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
