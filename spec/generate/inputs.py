"""What the loop is given of a call's inputs: prompts without padding. Whatever else would change the logits is refused, not dropped."""

from typing import Any

import torch
from torch import Tensor
from transformers import EosTokenCriteria, GenerationConfig, MaxLengthCriteria

from spec.servable import longest_exact

HARMLESS = ("attention_mask", "use_cache", "logits_to_keep", "cache_position", "output_attentions", "output_hidden_states")


def refuse_inputs(input_ids: Tensor, model_kwargs: dict[str, Any]) -> None:
    """Raises ValueError for any input but ids and their padding."""
    mask = model_kwargs.get("attention_mask")
    usual = torch.arange(input_ids.shape[1], device=input_ids.device) if mask is None else (mask.long().cumsum(-1) - 1).clamp(min=0)
    for name, value in model_kwargs.items():
        if value is None or name in HARMLESS or (name == "mm_encoder_outputs" and not value):  # models of several modalities get an empty one
            continue
        if name == "position_ids" and bool(((value == usual) | (mask == 0 if mask is not None else False)).all()):
            continue
        if name == "past_key_values" and value.get_seq_length() == 0:
            continue
        raise ValueError(f"{name} is not served by speculative decoding, which starts from input_ids and attention_mask; leave it out")


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
        eos = config.eos_token_id
        return sorted(rule.eos_token_id.flatten().tolist()) == sorted([eos] if isinstance(eos, int) else eos or [])
    return False


def needed_context(model: Any, prompts: list[list[int]], budget: int) -> int | None:
    """The positions this call needs, for models that are exact only up to a length (windows, longrope) if it suffices; else None: all positions."""
    config = model.config.get_text_config()
    limit = getattr(config, "max_position_embeddings", None)
    longest = longest_exact(config)
    needed = max(map(len, prompts)) + budget
    return needed if longest and limit and needed <= longest < limit and needed > 1 else None
