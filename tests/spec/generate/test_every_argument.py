"""Every field of GenerationConfig and every argument of `generate`, one by one: honoured, without effect in `generate` too, or said by name."""

import inspect
import re
import warnings

import pytest
import torch
from transformers import CompileConfig, GenerationConfig, GenerationMixin, WatermarkingConfig

from spec import speculative
from spec.generate import config as tables
from spec.generate import handed
from spec.generate.config import FOR_ASSISTANTS, FOR_LOOKUP, HONOURED, IN_OUTPUTS, INERT, REFUSED, WITHOUT_EFFECT, unknown
from tests.spec.generate.material import MASK, PADDED, Collector, both, call, letters, words
from tests.tiny import build

FIELDS = sorted(name for name in vars(GenerationConfig()) if not name.startswith("_"))
REPEATED = torch.tensor([[5, 36, 36, 36, 27, 26]])
HEALED = torch.tensor([[5, 9, 13, 5, 9, 3]])
ADDED = {"top_h", "use_mtp", "speculation_type", "assistant_ensemble_weight", "cache_config"}  # by versions that are served

# field -> options that give it a value that matters
SHOWN = {  # honoured: other tokens or shapes than without it, and the same as `generate`'s
    "max_length": {"max_length": 11, "max_new_tokens": None},
    "max_new_tokens": {"max_new_tokens": 5},
    "min_length": {"min_length": 22, "eos_token_id": 27, "max_new_tokens": 20},
    "min_new_tokens": {"min_new_tokens": 18, "eos_token_id": 27, "max_new_tokens": 20},
    "stop_strings": {"stop_strings": letters().batch_decode([[36, 36], [31]]), "tokenizer": letters(), "eos_token_id": 39},
    "repetition_penalty": {"repetition_penalty": 1.7},
    "encoder_repetition_penalty": {"encoder_repetition_penalty": 3.0},
    "no_repeat_ngram_size": {"no_repeat_ngram_size": 2},
    "encoder_no_repeat_ngram_size": {"encoder_no_repeat_ngram_size": 1, "ids": REPEATED, "mask": torch.ones_like(REPEATED)},
    "bad_words_ids": {"bad_words_ids": [[36], [26, 27]]},
    "forced_bos_token_id": {"forced_bos_token_id": 3, "ids": PADDED[:, -1:], "mask": MASK[:, -1:]},
    "forced_eos_token_id": {"forced_eos_token_id": 4},
    "exponential_decay_length_penalty": {"exponential_decay_length_penalty": (2, 3.0), "eos_token_id": 27},
    "suppress_tokens": {"suppress_tokens": [36, 27]},
    "begin_suppress_tokens": {"begin_suppress_tokens": list(range(20))},
    "sequence_bias": {"sequence_bias": [[[7], 50.0]]},
    "watermarking_config": {"watermarking_config": WatermarkingConfig(bias=20.0)},
    "token_healing": {"token_healing": True, "tokenizer": words(), "ids": HEALED, "mask": torch.ones_like(HEALED)},
    "eos_token_id": {"eos_token_id": 27},
    "pad_token_id": {"pad_token_id": 3, "eos_token_id": 27},
}
SAMPLED = {  # honoured: the distribution of the first token is `generate`'s, and another than without it
    "do_sample": {},
    "temperature": {"temperature": 0.3},
    "top_k": {"top_k": 3},
    "top_p": {"top_p": 0.2},
    "min_p": {"min_p": 0.5},
    "top_h": {"top_h": 0.2},
    "typical_p": {"typical_p": 0.2},
    "epsilon_cutoff": {"epsilon_cutoff": 0.04},
    "eta_cutoff": {"eta_cutoff": 0.04},
    "renormalize_logits": {"renormalize_logits": True},
}
ELSEWHERE = {  # honoured, and shown by the test named
    "max_time": "test_a_row_stops_in_time",
    "num_return_sequences": "test_outputs.py",
    "output_scores": "test_outputs.py",
    "output_logits": "test_outputs.py",
    "return_dict_in_generate": "test_outputs.py",
    "prompt_lookup_num_tokens": "test_choice.py",
    "remove_invalid_values": "test_what_is_not_a_number_is_removed",
    "bos_token_id": "test_a_prompt_that_is_left_out",
}
SAID = {
    "cache_implementation": "static",
    "cache_config": {"backend": "quanto"},
    "max_cache_len": 64,
    "prefill_chunk_size": 4,
    "compile_config": CompileConfig(),
    "num_beams": 2,
    "num_beam_groups": 2,
    "diversity_penalty": 0.5,
    "constraints": [1],
    "force_words_ids": [[3]],
    "penalty_alpha": 0.6,
    "dola_layers": "high",
    "assistant_early_exit": 1,
    "use_mtp": True,
    "speculation_type": "dflash",
    "assistant_ensemble_weight": 0.5,
    "guidance_scale": 1.5,
    "output_attentions": True,
    "output_hidden_states": True,
    "num_assistant_tokens": 7,
    "num_assistant_tokens_schedule": "heuristic",
    "assistant_confidence_threshold": 0.1,
    "max_matching_ngram_size": 4,
    "is_assistant": True,
}
UNTOUCHED = {
    "use_cache": False,
    "early_stopping": True,
    "length_penalty": 2.0,
    "low_memory": True,
    "decoder_start_token_id": 5,
    "continuous_batching_config": None,
    "assistant_lookbehind": 3,
    "target_lookbehind": 3,
    "disable_compile": True,
    "transformers_version": "5.0.0",
}
ARGUMENTS = {  # of `generate` itself, and those that it takes out of its keywords
    "inputs": "every test",
    "input_ids": "the same by another name",
    "generation_config": "test_a_config_as_a_whole",
    "logits_processor": "test_door.py",
    "stopping_criteria": "test_door.py",
    "prefix_allowed_tokens_fn": "test_door.py",
    "synced_gpus": "said",
    "assistant_model": "test_choice.py",
    "streamer": "test_door.py",
    "negative_prompt_ids": "said",
    "negative_prompt_attention_mask": "said",
    "custom_generate": "every test",
    "tokenizer": "test_every_argument.py: stop_strings",
    "assistant_tokenizer": "said",
    "trust_remote_code": "of no use without a repository's code",
}


@pytest.fixture(scope="module")
def model():
    return build("llama")


def quietly(model, **options):
    """With and without the door; a warning of ours is an error, transformers' own are its affair."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*speculative decoding.*")
        return both(model, **options)


def test_every_field_of_the_installed_transformers_is_in_one_table_and_tried():
    assert unknown() == set()
    tried = [*SHOWN, *SAMPLED, *ELSEWHERE, *SAID, *UNTOUCHED]
    assert sorted(tried) == sorted(set(tried))
    assert set(FIELDS) <= set(tried) <= set(FIELDS) | ADDED
    assert {*SHOWN, *SAMPLED, *ELSEWHERE} == set(HONOURED.split())
    assert set(SAID) == {*REFUSED, *WITHOUT_EFFECT, *FOR_ASSISTANTS, *FOR_LOOKUP}
    assert set(UNTOUCHED) == set(INERT.split())


def test_a_field_that_is_newer_than_the_tables_is_said(model, monkeypatch):
    monkeypatch.setattr(tables, "INERT", INERT.replace("length_penalty", ""))
    with pytest.warns(UserWarning, match=r"^length_penalty=2.0 has no effect under speculative decoding: it is newer"):
        call(model, custom_generate=speculative(), length_penalty=2.0)


@pytest.mark.parametrize("field", SHOWN)
def test_honoured(model, field):
    assert field in FIELDS
    options = SHOWN[field]
    ours, theirs = quietly(model, **options)
    assert torch.equal(ours, theirs)
    rest = {name: value for name, value in options.items() if name != field} | ({"max_new_tokens": 16} if field == "max_length" else {})
    without = call(model, **rest)
    assert without.shape != theirs.shape or not torch.equal(without, theirs)


@pytest.mark.parametrize("field", [name for name in SAMPLED if name in FIELDS])
def test_honoured_in_sampling(model, field):
    asked = {"do_sample": True, "top_k": 0, "return_dict_in_generate": True, "output_scores": True, "max_new_tokens": 2}
    ours, theirs = quietly(model, **{**asked, **SAMPLED[field]})
    assert torch.allclose(ours.scores[0], theirs.scores[0], atol=1e-5)
    without = call(model, **{**asked, "do_sample": field != "do_sample", **({"temperature": 2.0} if field == "do_sample" else {})})
    if field == "do_sample":
        assert len({tuple(call(model, do_sample=True, custom_generate=speculative(seed=seed))[0].tolist()) for seed in range(3)}) > 1
    else:
        assert not torch.allclose(without.scores[0], theirs.scores[0], atol=1e-5)


@pytest.mark.parametrize("field", [name for name in SAID if name in FIELDS])
def test_said(model, field):
    """A warning or a refusal that begins with the name."""
    options = {field: SAID[field], **({"top_k": 4} if field == "penalty_alpha" else {})}
    if field in IN_OUTPUTS:
        options["return_dict_in_generate"] = True
    if field in REFUSED:
        with pytest.raises(ValueError, match=f"^{re.escape(field)}=.* is not served by speculative decoding: .*$") as refusal:
            call(model, **options, custom_generate=speculative())
        assert "\n" not in str(refusal.value)
        return
    with pytest.warns(UserWarning, match=f"^{re.escape(field)}=.* has no effect under speculative decoding: ") as found:
        ours = call(model, **options, custom_generate=speculative())
    assert torch.equal(ours, call(model))
    assert [warning.filename for warning in found if field in str(warning.message)] == [inspect.getfile(call)]


@pytest.mark.parametrize("field", [name for name in UNTOUCHED if name in FIELDS])
def test_without_effect_in_generate_too(model, field):
    ours, theirs = quietly(model, **{field: UNTOUCHED[field]})
    assert torch.equal(ours, theirs)
    assert torch.equal(theirs, call(model))


def test_every_argument_of_generate_is_known():
    given = {name for name, parameter in inspect.signature(GenerationMixin.generate).parameters.items() if parameter.kind != parameter.VAR_KEYWORD}
    assert given - {"self"} <= set(ARGUMENTS)
    taken = set(re.findall(r'kwargs\.pop\("(\w+)"', inspect.getsource(GenerationMixin.generate)))
    taken |= set(re.findall(r'kwargs\.pop\("(\w+)"', inspect.getsource(GenerationMixin._extract_generation_mode_kwargs)))
    assert taken <= set(ARGUMENTS)


def test_arguments_that_are_said(model):
    for options, line in (
        ({"synced_gpus": True}, "^synced_gpus=True is not served"),
        ({"assistant_tokenizer": words()}, "^assistant_tokenizer is not served"),
    ):
        with pytest.raises(ValueError, match=line):
            call(model, **options, custom_generate=speculative())
    for name, value in (("negative_prompt_ids", PADDED), ("negative_prompt_attention_mask", MASK)):
        with pytest.warns(UserWarning, match=f"^{name} has no effect under speculative decoding"):
            assert torch.equal(call(model, **{name: value}, custom_generate=speculative()), call(model))


def test_a_config_as_a_whole(model):
    whole = GenerationConfig(max_new_tokens=7, repetition_penalty=1.4, pad_token_id=0)
    ours, theirs = (model.generate(PADDED, whole, attention_mask=MASK, **door) for door in ({"custom_generate": speculative()}, {}))
    assert torch.equal(ours, theirs)
    assert ours.shape[1] == PADDED.shape[1] + 7


def test_a_row_stops_in_time(model):
    ours = call(model, max_time=1e-9, custom_generate=speculative("none"))
    assert ours.shape[1] == PADDED.shape[1] + 1


def test_a_prompt_that_is_left_out(model):
    """Then `generate` begins with BOS."""
    ours, theirs = (
        model.generate(bos_token_id=9, max_new_tokens=9, attention_mask=MASK[1:2, :1], **door) for door in ({"custom_generate": speculative()}, {})
    )
    assert torch.equal(ours, theirs)
    assert ours[0, 0] == 9


def test_what_is_not_a_number_is_removed():
    broken = build("llama")
    with torch.no_grad():
        broken.lm_head.weight[11], broken.lm_head.weight[36] = float("nan"), float("inf")
    ours, theirs = quietly(broken, remove_invalid_values=True)
    assert torch.equal(ours, theirs)
    with pytest.raises(ValueError, match="non-finite"):
        call(broken, custom_generate=speculative())


def test_a_transformers_that_collects_in_another_way_is_said(model, monkeypatch):
    monkeypatch.setattr(handed, "EXTRACT", "_another_way")
    with pytest.warns(UserWarning, match="^transformers .* does not hand on tokenizer, assistant_tokenizer, .*: give a drafter and the streamer to"):
        call(model, ids=PADDED[1:2], mask=MASK[1:2], custom_generate=speculative(), streamer=Collector())


def test_what_transformers_collects_is_put_back_once(model):
    """Reading our signature outside of `generate` changes nothing, and inside it does not disturb a second callable."""
    door, streamer = speculative(), Collector()
    assert "model_kwargs" in inspect.signature(door).parameters
    call(model, ids=PADDED[1:2], mask=MASK[1:2], custom_generate=door, streamer=streamer)
    assert streamer.ended
    assert call(model, custom_generate=lambda model, input_ids, **others: sorted(others)) == sorted(
        call(model, custom_generate=lambda model, input_ids, **others: sorted(others))
    )
