"""What the loop is given of a call's inputs: prompts without padding. Whatever else would change the logits is refused, not dropped."""

from typing import Any

import torch
from torch import Tensor
from transformers import EosTokenCriteria, GenerationConfig, MaxLengthCriteria

from spec.arguments import one_or_more, shown
from spec.reach import num_positions
from spec.servable import longest_served

HARMLESS = ("attention_mask", "use_cache", "logits_to_keep", "cache_position", "output_attentions", "output_hidden_states")


def refuse_inputs(input_ids: Tensor, model_kwargs: dict[str, Any]) -> None:
    """Raises ValueError for any input but ids and their padding, and for a mask that does not say for each id whether it is padding."""
    mask = model_kwargs.get("attention_mask")
    _check_shapes(input_ids, mask)
    usual = (
        torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids) if mask is None else (mask.long().cumsum(-1) - 1).clamp(min=0)
    )
    for name, value in model_kwargs.items():
        if value is None or name in HARMLESS or (name == "mm_encoder_outputs" and not value):  # models of several modalities get an empty one
            continue
        if name == "position_ids" and _same_places(value, usual, mask):
            continue
        if name == "past_key_values" and value.get_seq_length() == 0:
            continue
        raise ValueError(f"{name} is not served by speculative decoding, which starts from input_ids and attention_mask; leave it out")


def _check_shapes(input_ids: Any, mask: Any) -> None:
    if not isinstance(input_ids, Tensor) or input_ids.ndim != 2 or not len(input_ids):
        raise ValueError(f"input_ids={shown(getattr(input_ids, 'shape', input_ids))}: give a tensor of ids [B, T] with at least one row")
    if mask is None:
        return
    if not isinstance(mask, Tensor) or mask.shape != input_ids.shape:
        raise ValueError(f"attention_mask={shown(getattr(mask, 'shape', mask))}: give a tensor {list(input_ids.shape)}, as input_ids is")
    if not bool(((mask == 0) | (mask == 1)).all()):
        raise ValueError("attention_mask holds numbers other than 0 and 1; give 1 for a token and 0 for padding")


def _same_places(given: Any, usual: Tensor, mask: Tensor | None) -> bool:
    """Whether positions are those that every token has anyway; what padding has does not matter."""
    if not isinstance(given, Tensor) or given.ndim != 2 or given.shape not in (usual.shape, usual[:1].shape):
        return False
    return bool(((given == usual) | (mask == 0 if mask is not None else False)).all())


def unpadded(input_ids: Tensor, attention_mask: Tensor | None) -> list[list[int]]:
    """The ids of every row without its padding. Raises ValueError for padding on the right."""
    if attention_mask is None:
        return input_ids.tolist()
    if bool((attention_mask[:, 1:] < attention_mask[:, :-1]).any()):
        raise ValueError("the batch is padded on the right or in the middle; set tokenizer.padding_side='left'")
    return [row[mask.bool()].tolist() for row, mask in zip(input_ids, attention_mask, strict=True)]


def is_limit(rule: Any, config: GenerationConfig) -> bool:
    """Whether a criterion is one of the two that `generate` makes from the config; `Limits` applies these itself."""
    if isinstance(rule, MaxLengthCriteria):
        return rule.max_length == config.max_length
    if isinstance(rule, EosTokenCriteria):
        return sorted(rule.eos_token_id.flatten().tolist()) == sorted(one_or_more("eos_token_id", config.eos_token_id, "token ids"))
    return False


def needed_context(model: Any, prompts: list[list[int]], budget: int) -> int | None:
    """The positions this call needs, for models that are exact only up to a length (longrope) if it suffices; else None: all positions."""
    config = model.config.get_text_config()
    limit, longest = num_positions(config), longest_served(model, config)
    needed = max(max(map(len, prompts)) + budget - 1, 2)  # the last token takes none
    return needed if longest and needed <= longest < (limit or longest + 1) else None
