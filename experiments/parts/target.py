"""The target as `conf/target/` describes it: a model and its tokenizer."""

import sys
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from spec.model import CausalLM, load_model, resolve_name
from spec.runtime import check_kind


@dataclass(frozen=True)
class Target:
    """The model to speed up, and the tokenizer that belongs to it."""

    model: CausalLM
    tokenizer: Any


def load_target(
    name: str,
    dtype: str = "auto",
    device: str = "auto",
    device_map: Any = None,
    attn_implementation: str = "sdpa",
    context: int | None = None,
    runtime: str = "eager",
    capacity: int | None = None,
    quantization: str | None = None,
) -> Target:
    """Model and tokenizer by hub name, local directory or embedded name. Raises ValueError where they cannot be loaded or served."""
    check_kind(runtime)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if not sys.stderr.isatty():
        disable_progress_bar()
    try:
        model = load_model(name, dtype, device_map, attn_implementation, quantization)
        tokenizer = AutoTokenizer.from_pretrained(resolve_name(name))
    except (OSError, ImportError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"model {name!r} could not be loaded: {reason} Give a hub id, a local directory or embedded/target") from error
    return Target(CausalLM(model if device_map is not None else model.to(device), context, runtime, capacity), tokenizer)
