"""Bytes that decoding must move, and how fast this machine moves bytes: how close a measured time is to the limit.

A forward reads every weight but the rows of the input embedding that it does not need, and the keys and values of every row's text so far. What is
written, activations, and a batch's padding are left out, so the limit cannot quite be reached. Models that fit into a cache may pass it.
"""

import time
from dataclasses import dataclass
from typing import Any

import torch

from experiments.recording.clock import synchronise


@dataclass(frozen=True)
class Footprint:
    """Bytes that one forward of a model reads."""

    weights: int  # all parameters and buffers, the input embedding left out unless it is the head too
    kv_per_position: int  # keys and values of one cached position of one row

    def forward(self, num_rows: int = 1, cached: float = 0.0) -> float:
        """Bytes of a forward over rows with `cached` positions each."""
        return self.weights + num_rows * cached * self.kv_per_position


def footprint(model: Any) -> Footprint:
    """The footprint of a transformers causal LM."""
    config = model.config.get_text_config()
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings()
    weights = {tensor.data_ptr(): tensor.nbytes for tensor in (*model.parameters(), *model.buffers())}
    if head is None or head.weight.data_ptr() != embedding.data_ptr():
        weights.pop(embedding.data_ptr(), None)
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return Footprint(sum(weights.values()), 2 * config.num_hidden_layers * heads * width * model.dtype.itemsize)


def bytes_per_token(print_: Footprint, forwards: int, prompt_tokens: int, new_tokens: int) -> float:
    """Bytes per new token of one answer: every forward reads the weights, and on average the prompt and half of the answer."""
    return forwards * print_.forward(1, prompt_tokens + new_tokens / 2) / new_tokens


@dataclass(frozen=True)
class Bandwidth:
    """Bytes per second, the best of some repeats."""

    read: float  # one tensor summed
    copy: float  # one tensor copied into another: read and written bytes

    @property
    def limit(self) -> float:
        return max(self.read, self.copy)


@torch.inference_mode()
def measure_bandwidth(device: torch.device, num_bytes: int = 2**28, repeats: int = 5) -> Bandwidth:
    """Reads and copies a tensor of `num_bytes`, which should be much larger than any cache."""
    source = torch.ones(num_bytes // 4, dtype=torch.float32, device=device)
    into = torch.empty_like(source)
    times: dict[str, list[float]] = {"read": [], "copy": []}
    for _ in range(repeats + 1):
        for name, work in (("read", source.sum), ("copy", lambda: into.copy_(source))):
            synchronise(device)
            start = time.perf_counter()
            work()
            synchronise(device)
            times[name].append(time.perf_counter() - start)
    return Bandwidth(source.nbytes / min(times["read"]), 2 * source.nbytes / min(times["copy"]))
