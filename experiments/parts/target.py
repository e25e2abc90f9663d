"""The target as `conf/target/` describes it: a model and its tokenizer."""

import sys
from dataclasses import dataclass
from typing import Any

import torch
from transformers.utils.logging import disable_progress_bar

from spec.arguments import shown, whole
from spec.loading import load_model, load_tokenizer
from spec.model import CausalLM
from spec.runtime import check_kind
from spec.store import check_store, stored


@dataclass(frozen=True)
class Target:
    """The model to speed up, and the tokenizer that belongs to it."""

    model: CausalLM
    tokenizer: Any


def find_device(device: str) -> str:
    """The device of a setting: "auto" is CUDA where there is any. Raises ValueError for one that this machine does not have."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.device(device) if isinstance(device, str) else None
    except RuntimeError:
        found = None
    if found is None or found.type == "meta":
        raise ValueError(f"device={shown(device)}: give auto, cpu, cuda or cuda:0")
    try:
        torch.empty(1, device=found)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, AssertionError, NotImplementedError, ImportError, AttributeError) as error:  # what torch raises for one that is not there
        there = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
        raise ValueError(f"device={device}: this machine has no such device for torch; it has {', '.join(there)}") from error
    return device


def check_sizes(context: int | None, capacity: int | None) -> None:
    """Raises ValueError, before a model is loaded, for settings that are no whole numbers; `CausalLM` knows the model's own limits."""
    for name, value, least in (("context", context, 2), ("capacity", capacity, 1)):
        if value is not None:
            whole(name, value, f"a whole number, at least {least}, or null", least)


def load_target(
    name: str,
    dtype: str = "auto",
    device: str = "auto",
    device_map: Any = None,
    attn_implementation: str = "sdpa",
    context: int | None = None,
    runtime: str = "auto",
    capacity: int | None = None,
    quantization: str | None = None,
    store: str = "auto",
) -> Target:
    """Model and tokenizer by hub name, local directory or embedded name. Raises ValueError where they cannot be loaded or served."""
    check_kind(runtime)
    check_store(store)
    check_sizes(context, capacity)
    device = find_device(device)
    if not sys.stderr.isatty():
        disable_progress_bar()
    model = load_model(name, dtype, device_map, attn_implementation, quantization)
    tokenizer = load_tokenizer(name)
    model = stored(model if device_map is not None else model.to(device), store)
    return Target(CausalLM(model, context, runtime, capacity), tokenizer)
