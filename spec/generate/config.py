"""What becomes of every field of GenerationConfig here. Nothing is ignored in silence: a field is honoured, or without effect anyway, or it is said.

The tables name every field of transformers 5.17 to 5.23; a test walks over those of the installed version.
"""

from typing import Any

from transformers import GenerationConfig

from spec.generate.said import warn

# by transformers' processors and stopping criteria, which we call, or by the door
HONOURED = """
    max_length max_new_tokens min_length min_new_tokens max_time stop_strings do_sample temperature top_k top_p min_p top_h typical_p
    epsilon_cutoff eta_cutoff repetition_penalty encoder_repetition_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids
    renormalize_logits forced_bos_token_id forced_eos_token_id remove_invalid_values exponential_decay_length_penalty suppress_tokens
    begin_suppress_tokens sequence_bias token_healing watermarking_config num_return_sequences output_scores output_logits
    return_dict_in_generate pad_token_id bos_token_id eos_token_id prompt_lookup_num_tokens
"""
# `generate` itself makes nothing of them where a decoder-only model samples or takes the best token. use_cache=False costs it time, and no token;
# a draft is scored over a cache in any case
INERT = """
    early_stopping length_penalty low_memory decoder_start_token_id continuous_batching_config assistant_lookbehind
    target_lookbehind disable_compile transformers_version use_cache
"""
OWN_CACHE = "drafts are scored in slots of a cache of their own, which has no such setting"
WITHOUT_EFFECT = {  # they would change memory or time, never a token
    "cache_implementation": OWN_CACHE,
    "cache_config": OWN_CACHE,
    "max_cache_len": OWN_CACHE,
    "prefill_chunk_size": "a prompt is read in one forward",
    "compile_config": "runtime='compile' or 'graphs' compiles forwards here",
}
BY_BEAMS = "it needs beam search, which no draft can speed up here; leave it out, or call generate without custom_generate"
OTHER_MODE = "it asks `generate` for another way to decode; leave it out, or call generate without custom_generate"
REFUSED = {
    "num_beams": "leave it at 1; for several answers to a prompt take do_sample=True with num_return_sequences",
    "num_beam_groups": BY_BEAMS,
    "diversity_penalty": BY_BEAMS,
    "constraints": BY_BEAMS,
    "force_words_ids": BY_BEAMS,
    "penalty_alpha": OTHER_MODE,
    "dola_layers": OTHER_MODE,
    "assistant_early_exit": "drafts from the target's own early layers are not served; give another drafter",
    "is_assistant": "it ends a text where the model is not sure of itself, by scores that drafts change; leave it out",
    "use_mtp": "transformers' drafts from the model's own extra layers are not served; give another drafter",
    "speculation_type": "transformers' own drafters are not served; give another drafter",
    "assistant_ensemble_weight": "it changes the output's distribution; verifier='ensemble' with allow_lossy=True does so too",
    "guidance_scale": "its processor keeps a cache from call to call, which rejected drafts would corrupt; leave it out",
    "output_attentions": "a draft is scored as a whole, and attentions of single tokens are not kept; run model(output.sequences) for them",
    "output_hidden_states": "a draft is scored as a whole, and states of single tokens are not kept; run model(output.sequences) for them",
}
IN_OUTPUTS = ("output_attentions", "output_hidden_states")  # without effect where only the sequences are returned
NOT_ITS_DRAFTER = "it is a setting of a drafter that was not chosen; give the drafter its own settings"
NOT_KNOWN = "it is newer than this version"
DEFAULTS = GenerationConfig._get_default_generation_params()
FOR_ASSISTANTS = ("num_assistant_tokens", "num_assistant_tokens_schedule", "assistant_confidence_threshold")  # honoured with `assistant_model`
FOR_LOOKUP = ("max_matching_ngram_size",)  # honoured with `prompt_lookup_num_tokens`
PLAIN: dict[str, tuple[Any, ...]] = {  # values besides None and transformers' default with which a field does nothing
    "penalty_alpha": (0, 0.0),
    "guidance_scale": (1, 1.0),
    "use_mtp": (False,),
    "is_assistant": (False,),
    "output_attentions": (False,),
    "output_hidden_states": (False,),
}


def is_set(config: GenerationConfig, name: str) -> bool:
    """Whether a field has a value that would do something."""
    value = getattr(config, name, None)
    plain = (None, DEFAULTS.get(name), *PLAIN.get(name, ()))
    return not any(value is known or (type(value) is type(known) and value == known) for known in plain)


def check(config: GenerationConfig, used: frozenset[str]) -> None:
    """Raises ValueError for a field that cannot be served, and warns of each that has no effect.

    `used`: those of `FOR_ASSISTANTS` and `FOR_LOOKUP` that have made the drafter.
    """
    for name, remedy in REFUSED.items():
        if is_set(config, name) and (config.return_dict_in_generate or name not in IN_OUTPUTS):
            raise ValueError(f"{name}={getattr(config, name)!r} is not served by speculative decoding: {remedy}")
    reasons = WITHOUT_EFFECT | dict.fromkeys((*FOR_ASSISTANTS, *FOR_LOOKUP), NOT_ITS_DRAFTER) | dict.fromkeys(sorted(unknown()), NOT_KNOWN)
    for name, reason in reasons.items():
        if name not in used and is_set(config, name):
            warn(f"{name}={getattr(config, name)!r} has no effect under speculative decoding: {reason}")


def unknown() -> set[str]:
    """Fields of the installed transformers that no table names."""
    known = {*HONOURED.split(), *INERT.split(), *WITHOUT_EFFECT, *REFUSED, *FOR_ASSISTANTS, *FOR_LOOKUP}
    return {name for name in vars(GenerationConfig()) if not name.startswith("_")} - known
