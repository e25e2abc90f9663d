"""Models of real shapes and random weights: what a forward costs, without a download. Their output has no meaning.

Their greedy output does not depend on rounding. That of plain random weights does: with near-ties at every tenth token each precision and
each number of slots would give another text, and a recorded continuation would be useless. So the residual stream is kept close to the token's own
embedding, and the head's row for a token's successor, by a random cycle, points along that embedding. Shapes, and so costs, are untouched.
"""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from experiments.parts.target import Target, check_sizes, find_device
from spec.arguments import whole
from spec.loading import DTYPES
from spec.model import CausalLM
from spec.runtime import check_kind


def _shape(hidden: int, layers: int, heads: tuple[int, int], intermediate: int, vocabulary: int) -> dict[str, Any]:
    """`heads`: of queries, and of keys and values."""
    return {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads[0],
        "num_key_value_heads": heads[1],
        "intermediate_size": intermediate,
        "vocab_size": vocabulary,
    }


SIZES = {
    "tiny": _shape(64, 2, (4, 2), 128, 512),
    "5m": _shape(256, 4, (4, 2), 704, 4096),
    "20m": _shape(384, 8, (6, 3), 1024, 8192),
    "100m": _shape(768, 12, (12, 4), 1152, 32000),
    "500m": _shape(896, 24, (14, 2), 4864, 151936),  # Qwen2.5 0.5B, except for its biases and that its head is not tied
    "1b": _shape(2048, 16, (32, 8), 8192, 128256),  # Llama 3.2 1B, except that its head is not tied to the embedding
    "8b": _shape(4096, 32, (32, 8), 14336, 128256),  # Llama 3.1 8B
}


def random_model(
    size: str, dtype: str = "float32", device: str = "cpu", *, vocab_size: int | None = None, context: int | None = None, seed: int = 0
) -> Any:
    """A Llama of one of SIZES, made on the device in the dtype, with a head of its own; the seed decides every weight.

    Raises ValueError for a size or dtype that does not exist, and where the device has not the memory for it.
    """
    if not isinstance(size, str) or size not in SIZES:
        near = get_close_matches(str(size), SIZES, 1)
        raise ValueError(f"unknown size {size!r}{f'; did you mean {near[0]!r}?' if near else ';'} Known: {', '.join(SIZES)}")
    if dtype not in DTYPES:
        raise ValueError(f"dtype={dtype!r}: give float32, float64, bfloat16 or float16; random weights have no dtype of their own")
    if vocab_size is not None:
        whole("vocab_size", vocab_size, "a whole number of tokens, at least 2, or null", 2)
    whole("seed", seed, "a whole number")
    shape = SIZES[size] | ({} if vocab_size is None else {"vocab_size": vocab_size})
    ids: dict[str, Any] = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    config = LlamaConfig(**shape, **ids, max_position_embeddings=context or 4096, tie_word_embeddings=False)
    try:
        with torch.random.fork_rng([torch.device(device)] if device.startswith("cuda") else []), torch.device(device):
            torch.manual_seed(seed)
            model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype), attn_implementation="sdpa").eval()
            _make_decided(model)
    except torch.OutOfMemoryError as error:
        raise ValueError(f"size {size!r} in {dtype} does not fit into the memory of {device}; take a smaller size or bfloat16") from error
    return model


@torch.no_grad()
def _make_decided(model: Any) -> None:
    """Gives every token a successor that wins by far: see above. Weights are changed in place, so nothing is held twice."""
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    embedding.normal_()
    for layer in model.model.layers:
        for last in (layer.self_attn.o_proj, layer.mlp.down_proj):  # what a layer adds to the residual stream
            last.weight.div_(2 * len(model.model.layers))
    order = torch.randperm(len(embedding))
    successor = torch.empty_like(order)
    successor[order] = order.roll(-1)
    head[successor] = embedding * model.config.initializer_range


def load_random(
    name: str,
    dtype: str = "float32",
    device: str = "auto",
    vocab_size: int | None = None,
    seed: int = 0,
    context: int | None = None,
    runtime: str = "auto",
    capacity: int | None = None,
) -> Target:
    """A target of random weights, without a tokenizer: `name` is one of SIZES, `context` the positions it has."""
    check_kind(runtime)
    check_sizes(context, capacity)
    device = find_device(device)
    model = random_model(name, dtype, device, vocab_size=vocab_size, context=context, seed=seed)
    return Target(CausalLM(model, context, runtime, capacity), None)


def random_prompts(target: CausalLM, lengths: Sequence[int], count: int, seed: int) -> list[list[int]]:
    """`count` prompts of random ids of every length, in turn."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [length for _ in range(count) for length in lengths]
    return [torch.randint(target.vocab_size, (length,), generator=generator).tolist() for length in sizes]
