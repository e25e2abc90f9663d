"""Tiny random models whose layers, or some of them, attend within a window of 8 positions; built in the tests, never downloaded."""

from collections.abc import Callable
from typing import Any

import torch
import transformers as hf

from experiments.lossless.families.tiny import randomised
from tests.tiny import COMMON, GROUPED

WINDOW = 8
SLIDES = {"sliding_window": WINDOW}
MIXED = {**SLIDES, "layer_types": ["sliding_attention", "full_attention"]}
HEADS = {**COMMON, **GROUPED, "head_dim": 8}
EXPERTS = {"num_local_experts": 2, "num_experts_per_tok": 1}
ANGLES = {name: {"rope_type": "default", "rope_theta": theta} for name, theta in (("sliding_attention", 100.0), ("full_attention", 10000.0))}

WINDOWED: dict[str, Callable[[], Any]] = {
    "mistral": lambda: hf.MistralForCausalLM(hf.MistralConfig(**HEADS, **SLIDES)),
    "phi3": lambda: hf.Phi3ForCausalLM(hf.Phi3Config(**COMMON, **GROUPED, **SLIDES)),
    "starcoder2": lambda: hf.Starcoder2ForCausalLM(hf.Starcoder2Config(**COMMON, **GROUPED, **SLIDES)),
    "qwen2": lambda: hf.Qwen2ForCausalLM(hf.Qwen2Config(**COMMON, **GROUPED, **MIXED, use_sliding_window=True)),
    "qwen3": lambda: hf.Qwen3ForCausalLM(hf.Qwen3Config(**HEADS, **MIXED, use_sliding_window=True)),
    "gemma2": lambda: hf.Gemma2ForCausalLM(hf.Gemma2Config(**HEADS, **MIXED, attn_implementation="eager")),
    "gemma3": lambda: hf.Gemma3ForCausalLM(hf.Gemma3TextConfig(**HEADS, **MIXED, rope_parameters=ANGLES)),
    "cohere2": lambda: hf.Cohere2ForCausalLM(hf.Cohere2Config(**HEADS, **MIXED)),
    "gpt_oss": lambda: hf.GptOssForCausalLM(hf.GptOssConfig(**HEADS, **MIXED, **EXPERTS)),
    "llama4": lambda: hf.Llama4ForCausalLM(
        hf.Llama4TextConfig(
            **HEADS,
            intermediate_size_mlp=48,
            num_local_experts=1,
            attention_chunk_size=WINDOW,
            layer_types=["chunked_attention", "full_attention"],
            no_rope_layers=[1, 1],
        )
    ),
}


def windowed(family: str) -> Any:
    """A model of the family in float64 and eval mode; its weights depend on the family alone, and it never ends by itself."""
    model = WINDOWED[family]().double().eval()
    model.generation_config.eos_token_id = None
    model.set_experts_implementation("eager")  # grouped products know no float64
    randomised(model, list(WINDOWED).index(family))
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(0.1)  # or some would repeat one word, whatever their layers read
    return model
