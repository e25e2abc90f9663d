"""Settings by which a token's logits could come to depend on more than the token's own prefix, each on a model of a class that has it."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Variant:
    """A model type with settings of its own, and the question that it answers."""

    question: str
    model_type: str
    settings: dict[str, Any] = field(default_factory=dict)
    context: int | None = None  # as in `CausalLM`

    @property
    def name(self) -> str:
        return f"{self.model_type}, context={self.context}" if self.context else self.model_type


def _rope(rope_type: str, **more: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": rope_type, "rope_theta": 10000.0, **more}}


_FACTORS = {"short_factor": [1.0] * 4, "long_factor": [1.0, 1.5, 2.0, 4.0], "original_max_position_embeddings": 24}
_PHI3 = {**_rope("longrope", partial_rotary_factor=1.0, **_FACTORS), "original_max_position_embeddings": 24}
_PHIMOE = _rope("longrope", short_mscale=1.1, long_mscale=1.3, **_FACTORS)
_ORIGINAL = {"original_max_position_embeddings": 24}
_LLAMA3 = {"factor": 2.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, **_ORIGINAL}
_FOUR = ["sliding_attention", "full_attention"] * 2
_SHARED = {"num_hidden_layers": 4, "layer_types": _FOUR, "num_kv_shared_layers": 2}
_ALL = {"sliding_window": 48}  # positions: all that there are
_CHUNKS = {"layer_types": ["chunked_attention", "full_attention"], "attention_chunk_size": 24}
_PLAIN = {"no_rope_layers": [1, 0], "attention_chunk_size": 48}

VARIANTS: tuple[Variant, ...] = (
    Variant("longrope, a context that passes its switch", "phi3", _PHI3),
    Variant("longrope, a context below its switch", "phi3", _PHI3, 24),
    Variant("longrope with factors of its own for queries and keys", "phimoe", _PHIMOE),
    Variant("the same below its switch", "phimoe", _PHIMOE, 24),
    Variant("dynamic NTK: angles move beyond max_position_embeddings alone", "llama", _rope("dynamic", factor=2.0)),
    Variant("YaRN, whose factors are fixed", "llama", _rope("yarn", factor=2.0, **_ORIGINAL)),
    Variant("Llama 3 rope, whose factors are fixed", "llama", _rope("llama3", **_LLAMA3)),
    Variant("linear rope scaling", "llama", _rope("linear", factor=2.0)),
    Variant("a window shorter than the context", "mistral", {"sliding_window": 24}),
    Variant("a window, the context inside it", "mistral", {"sliding_window": 24}, 24),
    Variant("windows in some layers alone", "qwen2", {"use_sliding_window": True, "sliding_window": 24, "layer_types": _FOUR[:2]}),
    Variant("chunks shorter than the context", "llama4_text", _CHUNKS),
    Variant("a window by no mask of transformers' own", "moshi", {"sliding_window": 24}),
    Variant("the same, the context inside it", "moshi", {"sliding_window": 24}, 24),
    Variant("queries scaled by cache slot", "llama4_text", {"floor_scale": 16, **_PLAIN}),
    Variant("the same, a context below the scale", "llama4_text", {"floor_scale": 48, **_PLAIN}, 24),
    Variant("queries scaled by position", "ministral3", _rope("yarn", factor=2.0, llama_4_scaling_beta=0.5, original_max_position_embeddings=8)),
    Variant("local attention by cache slot", "gpt_neo", {"window_size": 8}),
    Variant("the same family without local layers", "gpt_neo", {"attention_types": [[["global"], 2]]}),
    Variant("ALiBi from a mask of columns", "falcon", {"alibi": True}),
    Variant("the same family with rotary positions and grouped heads", "falcon", {"new_decoder_architecture": True}),
    Variant("positions that skip padding tokens", "trocr", {"use_learned_position_embeddings": False}),
    Variant("an encoder's attention in both directions", "bert", {"is_decoder": False}),
    Variant("a decoder turned into an encoder", "gemma3_text", {"use_bidirectional_attention": True}),
    Variant("sparse blocks by the length of the input", "big_bird", {"block_size": 4, "num_random_blocks": 1}),
    Variant("the same, inputs too short for blocks", "big_bird", {"block_size": 4, "num_random_blocks": 1}, 28),
    Variant("the same family with full attention", "big_bird", {"attention_type": "original_full"}),
    Variant("noise in a router, in eval mode", "mixtral", {"router_jitter_noise": 0.5}),
    Variant("noise before and in a router, in eval mode", "phimoe", {"router_jitter_noise": 0.5, "input_jitter_noise": 0.5}),
    Variant("experts chosen in groups", "deepseek_v3", {"n_group": 2, "topk_group": 1, "first_k_dense_replace": 0}),
    Variant("layers for the tokens after next", "deepseek_v3", {"num_mtp_layers": 1}),
    Variant("keys kept by rank, fewer than there are", "doge", {"keep_window_size": 24, **_ALL}),
    Variant("the same, a context that keeps them all", "doge", {"keep_window_size": 24, **_ALL}, 24),
    Variant("a router that cuts its logits across tokens", "doge", {"is_moe": True, "num_experts": 16}),
    Variant("sparse blocks of keys chosen by an index", "minimax_m3_vl_text", {"layer_types": ["full_attention", "minimax_m3_sparse"]}),
    Variant(
        "keys and values shared between layers",
        "gemma3n_text",
        {**_SHARED, "intermediate_size": 48, "activation_sparsity_pattern": [0.9, 0.0, 0.0, 0.0]},
    ),
    Variant("the same with experts beside the MLP", "gemma4_text", {**_SHARED, "enable_moe_block": True}),
    Variant("blocks of a prefix that see each other", "hrm_text", {"prefix_lm": True}),
    Variant("layers dropped in training, in eval mode", "opt", {"layerdrop": 0.5}),
    Variant("a hybrid family, attention layers alone", "lfm2", {"layer_types": ["full_attention", "full_attention"]}),
    Variant("a recurrent family, attention layers alone", "granitemoehybrid", {"layer_types": ["full_attention", "full_attention"]}),
)
