"""Models of other vocabulary sizes than their tokenizers', with or without a tokenizer.json beside them."""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tests.tiny import build


def tokenizer_file(folder: Path, words: Mapping[str, int] | list, added: Mapping[str, int] | None = None) -> Path:
    """A folder with a tokenizer.json of these tokens; a list is the vocabulary of a Unigram model."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = [{"id": number, "content": token, "special": True} for token, number in (added or {}).items()]
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": words}, "added_tokens": entries}))
    return folder


def letters(count: int, renamed: Mapping[int, str] | None = None) -> dict[str, int]:
    """`count` tokens; some of them renamed."""
    return {(renamed or {}).get(number, f"t{number}"): number for number in range(count)}


def beside(model: Any, folder: Path | str) -> Any:
    """The model as if it had been loaded from `folder`."""
    model.config._name_or_path = str(folder)
    return model


def random_llama(rows: int, dtype: torch.dtype = torch.float64) -> Any:
    """As small as may be."""
    torch.manual_seed(rows)
    shape: dict[str, Any] = {
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 64,
    }
    config = LlamaConfig(vocab_size=rows, **shape, bos_token_id=0, eos_token_id=None, pad_token_id=None, initializer_range=0.5)
    model: Any = LlamaForCausalLM(config)
    model = model.to(dtype).eval()
    model.generation_config.eos_token_id = None
    return model


def resized(rows: int, noise: float = 0.0) -> Any:
    """The tiny Llama with fewer or more rows, and noise on its weights; new rows are as large as the others, so that a model likes their ids too."""
    model, generator = copy.deepcopy(build("llama")), torch.Generator().manual_seed(7)
    old = model.config.vocab_size
    for layer in (model.model.embed_tokens, model.lm_head):
        more = 0.3 * torch.randn(max(rows - old, 0), layer.weight.shape[1], dtype=layer.weight.dtype, generator=generator)
        layer.weight = torch.nn.Parameter(torch.cat([layer.weight.data[:rows], more]))
    model.model.embed_tokens.num_embeddings = model.lm_head.out_features = model.config.vocab_size = rows
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(noise * torch.randn(weights.shape, dtype=weights.dtype, generator=generator))
    return model
