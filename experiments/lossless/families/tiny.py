"""Tiny random models of any causal LM class of transformers: small numbers for what configurations have in common, and few exceptions."""

from typing import Any

import torch
from transformers import PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from experiments.lossless.families.special import FLOAT32, SPECIAL

VOCABULARY = 48
CONTEXT = 48  # positions
WINDOW = 8  # of every layer that attends within one, in positions: most of a text lies beyond it
MOST_PARAMETERS = 8_000_000
_GROUPS: tuple[tuple[Any, str], ...] = (
    (VOCABULARY, "vocab_size vocab_size_per_layer_input audio_vocab_size decoder_vocab_size"),
    (CONTEXT, "max_position_embeddings n_positions n_ctx max_seq_len max_target_positions context_length index_topk"),
    (WINDOW, "sliding_window sliding_window_size attention_chunk_size window_size attention_window_size"),
    (32, "hidden_size d_model n_embd emb_dim word_embed_proj_dim embedding_size input_embedding_size output_embedding_size embedding_dim"),
    (32, "backbone_hidden_size hidden_size_global out_hidden_size lru_width"),
    (48, "intermediate_size ffn_dim decoder_ffn_dim encoder_ffn_dim n_inner ffn_hidden_size d_inner dff dim_ff feed_forward_size"),
    (48, "intermediate_size_mlp dense_intermediate_size"),
    (2, "num_hidden_layers n_layer n_layers num_layers decoder_layers num_decoder_layers encoder_layers num_encoder_layers depth"),
    (2, "num_key_value_heads num_kv_heads num_experts_per_tok moe_topk moe_k top_k_experts swa_num_key_value_heads linear_num_key_heads"),
    (1, "n_group topk_group first_k_dense_replace num_dense_layers mamba_n_groups n_groups mamba_ngroups"),
    (4, "num_attention_heads n_head n_heads num_heads attention_heads decoder_attention_heads encoder_attention_heads swa_num_attention_heads"),
    (4, "num_decoder_attention_heads num_encoder_attention_heads linear_num_heads linear_num_value_heads index_n_heads indexer_n_heads"),
    (4, "num_experts n_routed_experts num_local_experts moe_num_experts mamba_n_heads mamba_num_heads n_mamba_heads patch_size qk_rope_head_dim"),
    (4, "mamba_d_state ssm_state_size state_size"),
    (8, "head_dim rotary_dim kv_lora_rank qk_nope_head_dim v_head_dim index_head_dim swa_head_dim d_rel linear_head_dim linear_key_head_dim"),
    (8, "linear_value_head_dim mamba_head_dim attention_head_size laurel_rank hidden_size_per_layer_input o_lora_rank rel_extent d_head dim_head"),
    (8, "router_hidden_size gated_norm_rank pronunciation_embed_dim shape_embed_dim kv_channels image_size"),
    (16, "q_lora_rank moe_intermediate_size shared_expert_intermediate_size shared_intermediate_size expert_ffn_hidden_size chunk_size"),
    (16, "shared_experts_intermediate_size moe_shared_expert_intermediate_size mamba_chunk_size"),
    (0, "num_mtp_layers num_nextn_predict_layers bos_token_id"),
    (2 * WINDOW, "local_attention"),  # both sides of a window
    (0.3, "initializer_range init_std"),
    (None, "eos_token_id"),
    (True, "is_decoder"),
    (False, "tie_word_embeddings is_encoder_decoder"),
)
SMALL: dict[str, Any] = {name: value for value, names in _GROUPS for name in names.split()}


class NotBuiltError(Exception):
    """Why no tiny model of a class could be made."""


def model_types() -> list[str]:
    """Every type of model that `AutoModelForCausalLM` knows, in alphabetical order."""
    return sorted(kind for kind, config in CONFIG_MAPPING.items() if config in MODEL_FOR_CAUSAL_LM_MAPPING)


def model_class(model_type: str) -> type:
    """The class that `AutoModelForCausalLM` makes of a type."""
    found: Any = MODEL_FOR_CAUSAL_LM_MAPPING[CONFIG_MAPPING[model_type]]
    return found[0] if isinstance(found, tuple) else found


def merged(settings: dict, more: dict) -> dict:
    """`settings` with those of `more` on top, inside nested ones too."""
    nested = {name: merged(settings[name], value) for name, value in more.items() if isinstance(value, dict) and isinstance(settings.get(name), dict)}
    return {**settings, **more, **nested}


def shrunk(default: PreTrainedConfig) -> dict[str, Any]:
    """Settings of a small configuration of the same class, parts included; one layer of each kind that the default has."""
    names = set(getattr(type(default), "__dataclass_fields__", ()))
    given: dict[str, Any] = {name: value for name, value in SMALL.items() if name in names}
    if "qk_rope_head_dim" in given and "head_dim" in given:
        given["head_dim"] = given["qk_rope_head_dim"]  # of the rotated part alone
    if "kv_lora_rank" in given and "num_key_value_heads" in given:
        given["num_key_value_heads"] = given["num_attention_heads"]  # latent attention groups no heads
    for name in names:
        value = getattr(default, name, None) if name.endswith("_token_id") and name not in given else None
        if isinstance(value, int) and value >= VOCABULARY:
            given[name] = VOCABULARY - 1
    for name, count in (("layer_types", None), ("mlp_layer_types", given.get("num_hidden_layers", 2))):
        kinds = list(dict.fromkeys(getattr(default, name, None) or ()))
        if name in names and kinds:
            count = count or max(2, len(kinds))
            given[name] = [kinds[layer % len(kinds)] for layer in range(count)]
            given["num_hidden_layers"] = count
    for name in getattr(type(default), "sub_configs", {}):
        part = getattr(default, name, None)
        if isinstance(part, PreTrainedConfig):
            given[name] = {"model_type": part.model_type, **shrunk(part)}
    return given


def configuration(model_type: str, settings: dict[str, Any] | None = None) -> PreTrainedConfig:
    """A small configuration; `settings` on top of the shared ones and of those that this type needs."""
    kind, special = CONFIG_MAPPING[model_type], SPECIAL.get(model_type, {})
    try:
        default = kind()
    except Exception:  # one class has a default that it refuses itself
        default = kind(**special)
    made = kind(**merged(merged(shrunk(default), special), settings or {}))
    text = made.get_text_config(decoder=True)
    return text if type(text) is model_class(model_type).config_class else made  # classes for the text part of several modalities


def build(model_type: str, settings: dict[str, Any] | None = None, seed: int = 0) -> Any:
    """A model of the type in eval mode and float64 where it can be, which never ends by itself. Raises NotBuiltError with the reason."""
    try:
        config, kind = configuration(model_type, settings), model_class(model_type)
        with torch.device("meta"):
            size = sum(weights.numel() for weights in kind(config).parameters())
        if size > MOST_PARAMETERS:
            raise NotBuiltError(f"{size:,} parameters: its size does not shrink with the shared settings")
        torch.manual_seed(seed)
        model = kind(config)
    except Exception as error:  # whatever a constructor raises is the reason
        raise error if isinstance(error, NotBuiltError) else NotBuiltError(one_line(error)) from error
    if "eager" not in str(getattr(model.config, "_experts_implementation", "eager")):
        model.set_experts_implementation("eager")  # grouped products know no float64
    model.to(torch.float32 if model_type in FLOAT32 else torch.float64).eval()
    model.generation_config.eos_token_id = model.generation_config.forced_eos_token_id = None
    return randomised(model, seed)


def one_line(error: Exception) -> str:
    """An error's name and the last of what it says."""
    said = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {said[-1] if said else 'no reason given'}"


@torch.no_grad()
def randomised(model: Any, seed: int) -> Any:
    """Weights that make every token matter: initial ones are so small in some classes that a text repeats one word."""
    generator = torch.Generator().manual_seed(seed + 1)
    for name, weights in model.named_parameters():
        noise = torch.randn(weights.shape, generator=generator, dtype=torch.float64)
        if not weights.is_floating_point():
            continue
        if weights.ndim < 2:
            weights.add_(0.1 * noise)
        else:
            weights.copy_(noise * (1.0 if any(word in name for word in ("embed", "wte", "wpe")) else 1.5 / weights.shape[-1] ** 0.5))
    return model
