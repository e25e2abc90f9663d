"""Tiny random models of every family that is served, and of those that are refused; built in the tests, never downloaded."""

from collections.abc import Callable
from typing import Any

import torch
import transformers as hf

VOCABULARY = 40
CONTEXT = 160
COMMON = {
    "vocab_size": VOCABULARY,
    "bos_token_id": 0,
    "eos_token_id": None,
    "pad_token_id": None,
    "initializer_range": 0.3,
    "tie_word_embeddings": False,
}
ROTARY = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": CONTEXT}
GROUPED = {**ROTARY, "num_key_value_heads": 2}

FAMILIES: dict[str, Callable[[], Any]] = {
    "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**COMMON, **GROUPED)),
    "qwen3": lambda: hf.Qwen3ForCausalLM(hf.Qwen3Config(**COMMON, **GROUPED, head_dim=8)),
    "mistral": lambda: hf.MistralForCausalLM(hf.MistralConfig(**COMMON, **GROUPED, sliding_window=None)),
    "gpt_neox": lambda: hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(**COMMON, **ROTARY)),
    "opt": lambda: hf.OPTForCausalLM(
        hf.OPTConfig(
            **COMMON, hidden_size=32, word_embed_proj_dim=32, ffn_dim=48, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=CONTEXT
        )
    ),
    "phi": lambda: hf.PhiForCausalLM(hf.PhiConfig(**COMMON, **ROTARY)),
    "gpt2": lambda: hf.GPT2LMHeadModel(hf.GPT2Config(**COMMON, n_embd=32, n_layer=2, n_head=4, n_positions=CONTEXT)),
    "gemma2": lambda: hf.Gemma2ForCausalLM(hf.Gemma2Config(**COMMON, **GROUPED, head_dim=8, sliding_window=CONTEXT, attn_implementation="eager")),
}


def build(family: str, seed: int = 0) -> Any:
    """A model of the family in float64 and eval mode; its weights depend on family and seed alone, and it never ends by itself."""
    torch.manual_seed(list(FAMILIES).index(family) + 100 * seed)
    model = FAMILIES[family]().double().eval()
    model.generation_config.eos_token_id = None
    return model
