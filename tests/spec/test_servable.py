"""What is refused at construction, and that it has to be: with the refusal switched off the same model goes wrong or crashes."""

import importlib.util
import sys
import warnings
from types import SimpleNamespace

import pytest
import torch
import transformers as hf

import spec.model
from drafters.draft_model import DraftModel
from drafters.prompt_lookup import PromptLookup
from experiments.lossless.families.judge import PROMPTS, alone, generated, texts
from experiments.lossless.families.tiny import CONTEXT, build
from experiments.lossless.families.variants import VARIANTS
from spec import CausalLM, Limits, Sampler, decode, speculative
from spec.model import load_model
from spec.servable import block_sparse, longest_exact
from verifiers.recursive import Recursive

NEEDED = (  # questions of the table whose answer is a refusal
    "longrope, a context that passes its switch",
    "longrope with factors of its own for queries and keys",
    "queries scaled by cache slot",
    "an encoder's attention in both directions",
    "keys kept by rank, fewer than there are",
    "a router that cuts its logits across tokens",
    "sparse blocks of keys chosen by an index",
)
LONGROPE = next(variant.settings for variant in VARIANTS if variant.model_type == "phi3")
SWITCH = 24


@pytest.mark.parametrize("question", NEEDED)
def test_what_is_refused_would_go_wrong(question, monkeypatch):
    variant = next(variant for variant in VARIANTS if variant.question == question)
    model = build(variant.model_type, variant.settings)
    with pytest.raises(ValueError, match=type(model).__name__) as refusal:
        CausalLM(model)
    assert "\n" not in str(refusal.value)
    monkeypatch.setattr(spec.model, "refuse_unservable", lambda *_: None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes that are tried in ways they were not made for
        assert not served(model)


def served(model):
    """Whether greedy texts are `generate`'s; a crash of any kind says no."""
    try:
        return texts(CausalLM(model), PromptLookup(), Recursive(), 0.0) == [generated(model, prompt, CONTEXT) for prompt in PROMPTS]
    except (ValueError, RuntimeError, AttributeError, TypeError):
        return False


def test_what_is_served_would_pass_that_test():
    assert served(build("llama"))


@torch.inference_mode()
def test_longrope_reads_a_row_by_its_neighbours():
    """The reason for the refusal, in transformers alone: a short row beside a long one, and a token before and after the crossing."""
    model, short, long = build("phi3", LONGROPE), [1, 2, 3, 4], list(range(1, SWITCH + 5))
    batch = torch.tensor([[*short, *[0] * (len(long) - len(short))], long])
    positions = torch.arange(len(long))[None].expand(2, -1)
    beside = model(input_ids=batch, position_ids=positions, use_cache=False).logits[0, : len(short)]
    assert (beside - alone(model, short)).abs().max() > 1e-2
    before, after = alone(model, long[:SWITCH]), alone(model, long[: SWITCH + 1])
    assert (before - after[:SWITCH]).abs().max() > 1e-2
    assert (alone(model, long[: SWITCH - 1]) - before[: SWITCH - 1]).abs().max() < 1e-12  # and not below it


def test_longrope_is_refused_beyond_its_switch_and_served_up_to_it():
    model = build("phi3", LONGROPE)
    with pytest.raises(ValueError, match=rf"any row of a batch passes {SWITCH} positions \(longrope\), and the context is 48: .*context={SWITCH}\)"):
        CausalLM(model)
    with pytest.raises(ValueError, match="context is 25"):
        CausalLM(model, SWITCH + 1)
    made = texts(CausalLM(model, SWITCH), PromptLookup(), Recursive(), 0.0)
    assert made == [generated(model, prompt, SWITCH) for prompt in PROMPTS]


def test_a_drafter_with_longrope_is_treated_alike():
    target, drafter = CausalLM(build("phi3")), build("phi3", LONGROPE, seed=1)
    options = {"sampler": Sampler(0), "limits": Limits(8)}
    with pytest.raises(ValueError, match="longrope"):
        decode(target, DraftModel(model=drafter), Recursive(), PROMPTS, **options)
    made = decode(target, DraftModel(model=CausalLM(drafter, SWITCH)), Recursive(), PROMPTS, **options)
    assert [made.new_tokens(row) for row in range(3)] == [generated(target.model, prompt, 20) for prompt in PROMPTS]
    with pytest.raises(ValueError, match="24"):
        decode(target, DraftModel(model=CausalLM(drafter, SWITCH)), Recursive(), PROMPTS, sampler=Sampler(0), limits=Limits(SWITCH))


def test_generate_serves_calls_that_stay_below_the_switch():
    model, ids = build("phi3", LONGROPE), torch.tensor([PROMPTS[0]])
    options = {"attention_mask": torch.ones_like(ids), "do_sample": False, "pad_token_id": 0}
    method = {"custom_generate": speculative(PromptLookup(), Recursive())}
    longest = SWITCH + 1 - ids.shape[1]  # the last token takes no position
    plain = model.generate(ids, max_new_tokens=longest, **options)
    assert model.generate(ids, max_new_tokens=longest, **options, **method).tolist() == plain.tolist()
    with pytest.raises(ValueError, match="longrope"):
        model.generate(ids, max_new_tokens=longest + 1, **options, **method)


@pytest.mark.parametrize(
    ("settings", "limit"),
    [
        ({}, None),
        ({"rope_parameters": {"rope_type": "default"}}, None),
        ({"rope_parameters": {"rope_type": "yarn", "original_max_position_embeddings": 8}}, None),
        ({"rope_parameters": {"rope_type": "longrope", "original_max_position_embeddings": 8}}, 8),
        ({"rope_parameters": {"rope_type": "longrope"}, "original_max_position_embeddings": 9, "max_position_embeddings": 90}, 9),
        ({"rope_parameters": {"rope_type": "longrope"}, "max_position_embeddings": 90}, 90),
        ({"rope_parameters": {"full_attention": {"rope_type": "longrope", "original_max_position_embeddings": 7}, "sliding_attention": None}}, 7),
        ({"rope_scaling": {"type": "su", "original_max_position_embeddings": 6}}, 6),
        ({"rope_parameters": {"long_factor": [1.0], "original_max_position_embeddings": 5}, "sliding_window": 4}, 5),
        ({"attn_temperature_tuning": True, "floor_scale": 20, "no_rope_layers": [1, 0]}, 10),
        ({"attn_temperature_tuning": True, "floor_scale": 20, "no_rope_layers": [1, 1]}, None),
        ({"attn_temperature_tuning": False, "floor_scale": 20, "no_rope_layers": [1, 0]}, None),
        ({"keep_window_size": 12}, 12),
        ({"attention_type": "block_sparse", "num_random_blocks": 3, "block_size": 64}, 704),
        ({"layer_types": ["full_attention"], "sliding_window": 3}, None),
    ],
)
def test_how_far_a_configuration_is_exact(settings, limit):
    assert longest_exact(SimpleNamespace(**settings)) == limit


def test_transformers_keeps_the_switch_where_it_is_looked_for():
    config = hf.Phi3Config(max_position_embeddings=90, original_max_position_embeddings=30, rope_scaling={"type": "longrope", **factors(48)})
    assert longest_exact(config) == 30


def factors(count):
    return {"short_factor": [1.0] * count, "long_factor": [2.0] * count}


@torch.inference_mode()
def test_big_bird_forgets_its_blocks_after_a_short_input():
    """Why blocks are refused beyond the inputs that are too short for them."""
    model, row = build("big_bird", {"block_size": 4, "num_random_blocks": 1}), list(range(1, 41))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fresh = alone(model, row)
        alone(model, row[:8])
        later = alone(model, row)
    assert (fresh - later).abs().max() > 1e-3


def test_blocks_are_served_as_far_as_inputs_are_too_short_for_them():
    model = build("big_bird", {"block_size": 4, "num_random_blocks": 1})
    assert "sparse blocks to inputs of more than 28 positions" in str(block_sparse(model, model.config, 29))
    assert block_sparse(model, model.config, 28) is None


NO_DOGE = "create_masks_for_generate" not in vars(hf.DogeForCausalLM)


def test_doge_without_a_mask_of_its_own_is_refused(monkeypatch):
    model = build("doge")
    if not NO_DOGE:
        CausalLM(model)
        monkeypatch.delattr(type(model), "create_masks_for_generate")
    with pytest.raises(ValueError, match="sees later tokens where transformers leaves its mask out"):
        CausalLM(model)


@pytest.mark.skipif(NO_DOGE, reason="this transformers leaves Doge's mask out")
@torch.inference_mode()
def test_doge_breaks_ties_by_the_length_of_the_input():
    """Equal tokens have equal ranks in the first layer, and which of them is kept changes with what follows."""
    model = build("doge", {"keep_window_size": SWITCH, "sliding_window": CONTEXT})
    for row, ties in (([1 + place % 5 for place in range(40)], True), (list(range(1, 41)), False)):
        whole = alone(model, row)
        moved = [float((alone(model, row[:length])[-1] - whole[length - 1]).abs().max()) for length in range(SWITCH - 4, 40)]
        assert max(moved[:5]) < 1e-12  # as long as it keeps them all
        assert (max(moved) > 1e-4) == ties


@pytest.mark.parametrize(
    ("model_type", "settings", "served"),
    [
        ("gpt_neox", {"is_decoder": False}, True),  # its default, and causal all the same
        ("gpt_neox_japanese", {"is_decoder": False}, True),
        ("bert", {"is_decoder": False}, False),
        ("rembert", {"is_decoder": False}, False),
        ("bert", {"is_decoder": True}, True),
        ("gemma", {"use_bidirectional_attention": True}, False),
        ("gemma4_text", {"use_bidirectional_attention": "all"}, False),
        ("gemma4_text", {"use_bidirectional_attention": "vision"}, True),
    ],
)
def test_who_sees_later_tokens_is_refused(model_type, settings, served):
    model = build(model_type, settings)
    if served:
        CausalLM(model)
    else:
        with pytest.raises(ValueError, match="attends to later tokens"):
            CausalLM(model)
    inputs = [[5, 6, 7, 8, 9, 10], [5, 6, 7, 1, 2, 3]]
    first, second = (alone(model, row)[:3] for row in inputs)
    assert torch.equal(first, second) == served


def test_a_family_without_a_causal_mask_is_refused(monkeypatch):
    """As RemBERT was up to transformers 5.17: there, the first logits of a row moved with the last token."""
    model = build("rembert")
    written_in = sys.modules[type(model).__module__]
    if hasattr(written_in, "create_causal_mask"):
        CausalLM(model)
        monkeypatch.delattr(written_in, "create_causal_mask")
    with pytest.raises(ValueError, match="makes no causal mask for it; use a later one"):
        CausalLM(model)


def test_a_model_in_training_mode():
    model = build("opt", {"dropout": 0.1}).train()
    with pytest.raises(ValueError, match=r"training mode, .*call model.eval\(\) first"):
        CausalLM(model)
    CausalLM(model.eval())
    CausalLM(build("llama").train())  # where nothing is random there


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
@torch.inference_mode()
def test_eight_bits_do_not_depend_on_the_neighbours():
    """With outliers looked for over the whole forward, logits of the first row move by .1 where they spread by 3."""
    row, other = torch.arange(40, 60)[None], torch.arange(1, 400, 20)[None]

    def moved(model):
        return float((model(row).logits - model(torch.cat([row, other])).logits[:1]).abs().max())

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the library's own
        ours = load_model("embedded/target", "float32", quantization="8bit")
        config = hf.BitsAndBytesConfig(load_in_8bit=True)
        theirs = hf.AutoModelForCausalLM.from_pretrained(spec.model.resolve_name("embedded/target"), dtype="float32", quantization_config=config)
        assert moved(ours) == 0
        assert moved(theirs) > 1e-3
    CausalLM(ours)
    with pytest.raises(ValueError, match=r"LLM.int8 .*llm_int8_threshold=0.0"):
        CausalLM(theirs)
