"""Attention implementations and precisions: flex blocks and flash chains give sdpa's logits, quantised models decode, and the rest is refused."""

import importlib.util
import warnings

import pytest
import torch
from torch.nn.attention.flex_attention import flex_attention
from transformers import AttentionInterface

from drafters.draft_model import DraftModel
from drafters.lookahead import Lookahead
from drafters.none import NoDraft
from drafters.prompt_lookup import PromptLookup
from spec import CausalLM, Limits, Sampler, decode
from spec.masks import block_mask
from spec.model import load_model
from tests.tiny import build
from verifiers.recursive import Recursive

PROMPTS = [[1, 2, 3, 1, 2, 3, 1, 2], [5], [7, 8, 9, 7, 8]]
EXACT = 1e-12


def texts(target, drafter, batch_size=None, **limits):
    made = decode(target, drafter, Recursive(), PROMPTS, sampler=Sampler(0), limits=Limits(**{"max_new_tokens": 12, **limits}), batch_size=batch_size)
    return [sequence.tolist() for sequence in made.sequences]


@torch.inference_mode()
def test_blocks_of_flex_attention_show_what_the_additive_mask_shows():
    torch.manual_seed(0)
    queries, keys, values = (torch.randn(2, 3, length, 8, dtype=torch.float64) for length in (5, 21, 21))
    mask = torch.zeros(2, 1, 5, 21, dtype=torch.float64).masked_fill(torch.rand(2, 1, 5, 21) < 0.5, torch.finfo(torch.float64).min)
    mask[..., 0] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is not compiled here
        found = flex_attention(queries, keys, values, block_mask=block_mask(mask))
    expected = torch.nn.functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
    assert (found - expected).abs().max() < EXACT


def test_flex_attention_on_a_cpu_is_refused():
    model = build("llama")
    model.config._attn_implementation = "flex_attention"
    with pytest.raises(ValueError, match="flex_attention on cpu: torch cannot compile it for shapes that change"):
        CausalLM(model)


def causal_from_the_end(module, query, key, value, attention_mask, scaling=None, **kwargs):
    """What flash attention does without a mask: slot i of the last N sees all keys but the N - 1 - i last."""
    assert attention_mask is None
    num_new, width = query.shape[2], key.shape[2]
    groups = query.shape[1] // key.shape[1]
    seen = torch.ones(num_new, width, dtype=torch.bool).tril(width - num_new)
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    found = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=seen, scale=scaling)
    return found.transpose(1, 2).contiguous(), None


@pytest.fixture
def flash():
    model = build("llama")
    AttentionInterface.register("flash_attention_2", causal_from_the_end)
    model.config._attn_implementation = "flash_attention_2"
    yield model
    AttentionInterface._global_mapping.pop("flash_attention_2", None)


def test_flash_attention_serves_chains_one_prompt_at_a_time(flash):
    plain = texts(CausalLM(build("llama")), NoDraft())
    assert texts(CausalLM(flash), PromptLookup(), 1) == plain
    assert texts(CausalLM(flash), DraftModel(model=build("llama", 1)), 1) == plain


@pytest.mark.parametrize(("drafter", "batch_size"), [(Lookahead(window=3, ngram=3), 1), (PromptLookup(), None)])
def test_flash_attention_refuses_windows_and_ragged_batches(flash, drafter, batch_size):
    with pytest.raises(ValueError, match="flash_attention_2 takes no mask of its own: it serves chains behind rows of one length"):
        texts(CausalLM(flash), drafter, batch_size)


def test_fixed_shapes_need_an_additive_mask(flash):
    with pytest.raises(ValueError, match="runtime=compile attends by an additive mask, which flash_attention_2 does not take"):
        CausalLM(flash, runtime="compile")


def test_another_attention_is_refused():
    model = build("llama")
    model.config._attn_implementation = "paged|sdpa"
    with pytest.raises(ValueError, match=r"'paged\|sdpa' is not served; give attn_implementation one of sdpa, eager, flex_attention"):
        CausalLM(model)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bits_decode_and_distributions_stay_in_float32(dtype):
    model = build("llama").to(dtype)
    made = decode(CausalLM(model), DraftModel(model=model), Recursive(), PROMPTS, sampler=Sampler(0.8), limits=Limits(8))
    assert all(len(sequence) == len(prompt) + 8 for sequence, prompt in zip(made.sequences, PROMPTS, strict=True))
    assert Sampler(0.8).distribution(torch.zeros(1, 1, 4, dtype=dtype)).dtype == torch.float32


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
@pytest.mark.parametrize("quantization", ["8bit", "4bit"])
def test_a_quantised_model_drafts_for_the_one_it_was_made_from(quantization):
    target = CausalLM(load_model("embedded/target", "float32"))
    prompts = [list(range(40, 60))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the library's own
        quantised = load_model("embedded/target", "float32", quantization=quantization)
        made = decode(target, DraftModel(model=quantised), Recursive(), prompts, sampler=Sampler(0), limits=Limits(16))
        alone = decode(CausalLM(quantised), PromptLookup(), Recursive(), prompts, sampler=Sampler(0), limits=Limits(16))
        plain = decode(CausalLM(quantised), NoDraft(), Recursive(), prompts, sampler=Sampler(0), limits=Limits(16))
    assert made.new_tokens() == decode(target, NoDraft(), Recursive(), prompts, sampler=Sampler(0), limits=Limits(16)).new_tokens()
    assert made.stats.tokens_per_step > 1.5
    assert alone.new_tokens() == plain.new_tokens()


def test_an_unknown_quantisation_is_refused_before_loading():
    with pytest.raises(ValueError, match="quantization='2bit': give 8bit, 4bit or null"):
        load_model("nowhere", quantization="2bit")
