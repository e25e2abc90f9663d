"""What single classes need beyond the numbers that all share."""

from typing import Any

_DOTS3 = {
    "swa_num_attention_heads": 4,
    "swa_num_key_value_heads": 4,
    "swa_q_lora_rank": 16,
    "swa_kv_lora_rank": 8,
    "swa_head_dim": 12,
    "swa_qk_nope_head_dim": 8,
    "swa_v_head_dim": 8,
}

SPECIAL: dict[str, dict[str, Any]] = {
    "blt": {
        "encoder_hash_byte_group_vocab": 64,
        "global_config": {"hidden_size": 32},
        "encoder_config": {"hidden_size_global": 32},
        "decoder_config": {"hidden_size_global": 32},
    },
    "cohere_compass_text": {
        "layer_types": ["full_attention", "full_attention"],
        "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 10000.0}},
    },
    "dbrx": {"attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 10000.0}, "ffn_config": {"hidden_size": 32, "moe_top_k": 2}},
    "dots1": {"n_shared_experts": 1},
    "dots3_note_text": _DOTS3,
    "dots3_note": {
        "text_config": _DOTS3,
        "vision_config": {"adapter_in_dim": 32, "adapter_out_dim": 32},
        "audio_config": {"adapter_out_dim": 32, "adapter_input_size": 32},
    },
    "gemma3n_text": {"num_kv_shared_layers": 0},
    "gemma4_assistant": {"text_config": {"model_type": "gemma4_text", "hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 0}},
    "gpt_neox": {"is_decoder": False},  # its own default; the model is causal all the same
    "gpt_neox_japanese": {"is_decoder": False},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "moshi": {"sliding_window": 48},  # which no mask of transformers knows; the second table has it
    "mamba2": {"num_heads": 8},
    "qwen4_exp_text": {"indexer_kv_heads": 1, "indexer_head_dim": 8, "indexer_budget": 8, "indexer_compress_ratio": 2},
    "qwen4_exp": {"text_config": {"indexer_kv_heads": 1, "indexer_head_dim": 8, "indexer_budget": 8, "indexer_compress_ratio": 2}},
    "reformer": {"attn_layers": ["local", "lsh"], "axial_pos_embds_dim": (8, 24), "axial_pos_shape": (6, 8), "num_buckets": 4},
    "xmod": {"languages": ("en_XX",), "default_language": "en_XX"},
    "zamba": {"layers_block_type": ["linear_attention", "hybrid"]},
    "zamba2": {"layers_block_type": ["linear_attention", "hybrid"]},
    "zaya": {"num_experts_per_tok": 1},
}
FLOAT32 = ("xglm",)  # a mask of its own, made in float32, cannot hold the least float64
