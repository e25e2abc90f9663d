"""The door for transformers users: `model.generate(**inputs, custom_generate=speculative(drafter, verifier))`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import EosTokenCriteria, GenerationConfig, MaxLengthCriteria
from transformers.utils.generic import ModelOutput

from spec.batches import rows_at_once
from spec.decode import Generation, decode
from spec.interfaces import Drafter, Verifier
from spec.model import CausalLM
from spec.noise import Noise
from spec.runtime import check_kind
from spec.sampling import Sampler
from spec.servable import longest_exact
from spec.state import Limits
from spec.stats import GenerationStats


@dataclass
class SpeculativeOutput(ModelOutput):
    """Returned where `return_dict_in_generate` is set."""

    sequences: Tensor | None = None  # [B, T] prompt included, padded on the right after EOS
    stats: GenerationStats | None = None


def speculative(
    drafter: Drafter,
    verifier: Verifier,
    *,
    seed: int | None = None,
    streamer: Any = None,
    allow_lossy: bool = False,
    batch_size: int | None = None,
    runtime: str = "eager",
) -> Callable:
    """A callable for `custom_generate`. GenerationConfig, logits processors, stopping criteria and left-padded batches work as in `generate`.

    seed: default drawn from torch's generator, so `torch.manual_seed` and `set_seed` govern it.
    batch_size: the most rows that are decoded at once; the others wait. Default: all of them.
    runtime: "compile" or "graphs", as in `CausalLM`; what is compiled for a model is reused by all calls of this callable, so keep it.
    streamer: give it HERE. transformers silently drops one that is given to `generate` itself, which would print the prompt alone.
    """

    check_kind(runtime)
    seed = None if seed is None else Noise(seed).seed
    rows_at_once(batch_size, 1)
    kept: list[CausalLM] = []  # the last model with what was compiled for it

    def wrapped(model: Any, context: int | None) -> CausalLM:
        if runtime == "eager":
            return CausalLM(model, context)
        if not kept or kept[0].model is not model or context not in (None, kept[0].context):
            kept[:] = [CausalLM(model, context, runtime)]
        return kept[0]

    def generate(
        model: Any, input_ids: Tensor, *, logits_processor: Any, stopping_criteria: Any, generation_config: Any, **model_kwargs: Any
    ) -> Tensor | SpeculativeOutput:
        _refuse_modes(generation_config)
        _refuse_inputs(input_ids, model_kwargs)  # they are not named parameters: transformers would then take them away from `generate`
        prompts = _unpad(input_ids, model_kwargs.get("attention_mask"))
        sampler = Sampler(
            temperature=1.0 if generation_config.do_sample else 0.0,
            processors=logits_processor,
            seed=int(torch.randint(2**62, ()).item()) if seed is None else seed,
        )
        budget = generation_config.max_length - input_ids.shape[1]
        padding = [ids[: len(ids) - len(prompt)] for ids, prompt in zip(input_ids.tolist(), prompts, strict=True)]
        criteria = [rule for rule in stopping_criteria if not _is_limit(rule, generation_config)]
        limits = Limits(budget, generation_config.eos_token_id, criteria, padding)
        result = decode(
            wrapped(model, _context(model, prompts, budget)),
            drafter,
            verifier,
            prompts,
            sampler=sampler,
            limits=limits,
            streamer=streamer,
            allow_lossy=allow_lossy,
            batch_size=batch_size,
        )
        sequences = _pad(input_ids, result, generation_config)
        return SpeculativeOutput(sequences, result.stats) if generation_config.return_dict_in_generate else sequences

    return generate


def _refuse_modes(config: GenerationConfig) -> None:
    for name, plain in (("num_beams", 1), ("num_return_sequences", 1)):
        value = getattr(config, name, None)
        if value not in (None, plain):
            raise ValueError(f"{name}={value}: each prompt is continued once here; leave it at {plain} (repeat a prompt for more samples)")
    for name in ("output_scores", "output_logits", "output_attentions", "output_hidden_states"):
        if getattr(config, name, False):
            raise ValueError(f"{name}=True is not served by speculative decoding; leave it out")


def _refuse_inputs(input_ids: Tensor, model_kwargs: dict[str, Any]) -> None:
    """Only ids and their padding reach the loop; anything else that would change the logits is refused, not dropped."""
    mask = model_kwargs.get("attention_mask")
    usual = torch.arange(input_ids.shape[1], device=input_ids.device) if mask is None else (mask.long().cumsum(-1) - 1).clamp(min=0)
    for name, value in model_kwargs.items():
        if value is None or name in ("attention_mask", "use_cache", "logits_to_keep", "cache_position"):
            continue
        if name == "position_ids" and bool(((value == usual) | (mask == 0 if mask is not None else False)).all()):
            continue
        if name == "past_key_values" and value.get_seq_length() == 0:
            continue
        raise ValueError(f"{name} is not served by speculative decoding, which starts from input_ids and attention_mask; leave it out")


def _is_limit(rule: Any, config: GenerationConfig) -> bool:
    """Whether a criterion is one of the two that `generate` makes from the config; `Limits` applies these itself."""
    if isinstance(rule, MaxLengthCriteria):
        return rule.max_length == config.max_length
    if isinstance(rule, EosTokenCriteria):
        eos = config.eos_token_id
        return sorted(rule.eos_token_id.flatten().tolist()) == sorted([eos] if isinstance(eos, int) else eos or [])
    return False


def _context(model: Any, prompts: list[list[int]], budget: int) -> int | None:
    """The positions this call needs, for models that are exact only up to a length (windows, longrope) if it suffices; else None: all positions."""
    config = model.config.get_text_config()
    limit = getattr(config, "max_position_embeddings", None)
    longest = longest_exact(config)
    needed = max(map(len, prompts)) + budget
    return needed if longest and limit and needed <= longest < limit and needed > 1 else None


def _unpad(input_ids: Tensor, attention_mask: Tensor | None) -> list[list[int]]:
    if attention_mask is None:
        return input_ids.tolist()
    if bool((attention_mask[:, 1:] < attention_mask[:, :-1]).any()):
        raise ValueError("the batch is padded on the right or in the middle; set tokenizer.padding_side='left'")
    return [row[mask.bool()].tolist() for row, mask in zip(input_ids, attention_mask, strict=True)]


def _pad(input_ids: Tensor, result: Generation, config: GenerationConfig) -> Tensor:
    """The prompt as it was given, then the new tokens, then padding; [B, T]."""
    new = [result.new_tokens(row) for row in range(len(result.sequences))]
    eos = config.eos_token_id
    pad = config.pad_token_id if config.pad_token_id is not None else eos[0] if isinstance(eos, list) else eos or 0
    longest = max(map(len, new))
    padded = torch.tensor([[*row, *[pad] * (longest - len(row))] for row in new], device=input_ids.device)
    return torch.cat([input_ids, padded], 1)
