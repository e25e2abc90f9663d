"""Windows and chunks of attention: what a configuration says of them, masks by positions, and what is refused."""

import copy
import warnings
from types import SimpleNamespace

import pytest
import torch
import transformers as hf
from torch import nn
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from transformers import AttentionInterface
from transformers.masking_utils import create_sliding_window_causal_mask

import spec.masks as masks
from drafters.draft_model import DraftModel
from drafters.draft_tree import DraftTree
from drafters.none import NoDraft
from drafters.prompt_lookup import PromptLookup
from experiments.lossless.families.judge import PROMPTS, alone
from experiments.lossless.families.tiny import build
from spec import CausalLM, Limits, Sampler, decode, speculative
from spec.cache import KVCache
from spec.servable import longest_served, no_masks
from spec.types import Draft, Scratch
from spec.windows import NONE, Window, Windows, windows_of
from tests.families.test_families import greedy
from tests.windowed import WINDOW, WINDOWED, windowed
from verifiers.recursive import Recursive

EXACT = 1e-6  # some classes compute norms in float32
SLIDING, CHUNKED, FULL = "sliding_attention", "chunked_attention", "full_attention"
TREE = [-1, 0, 0, 1, 2, 4, 4, 5]


def test_a_window_holds_the_last_positions_and_ones_own():
    hidden = Window(2).hides(torch.arange(4)[None], torch.arange(4)[None])[0].tril()
    assert hidden.int().tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0]]


def test_a_chunk_begins_at_every_multiple_of_its_size():
    hidden = Window(2, is_chunked=True).hides(torch.arange(5)[None], torch.arange(5)[None])[0].tril()
    assert hidden.int().tolist() == [[0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 1, 0]]


@pytest.mark.parametrize(
    ("settings", "windows"),
    [
        ({}, NONE),
        ({"sliding_window": None}, NONE),
        ({"sliding_window": 4}, Windows(("",), (Window(4),))),
        ({"sliding_window": 4, "use_sliding_window": False}, NONE),
        ({"attention_chunk_size": 6}, Windows(("",), (Window(6, True),))),
        ({"layer_types": [FULL], "sliding_window": 3}, NONE),
        ({"layer_types": [SLIDING, SLIDING], "sliding_window": 3}, Windows((SLIDING,), (Window(3),))),
        ({"layer_types": [SLIDING, FULL, SLIDING], "sliding_window": 3}, Windows((SLIDING, FULL), (Window(3), None))),
        ({"layer_types": [FULL, CHUNKED], "attention_chunk_size": 5}, Windows((FULL, CHUNKED), (None, Window(5, True)))),
    ],
)
def test_windows_of_a_configuration(settings, windows):
    assert windows_of(SimpleNamespace(**settings)) == windows


def test_windows_count_where_positions_go_beyond_them():
    windows = Windows((SLIDING, FULL, CHUNKED), (Window(5), None, Window(3, True)))
    assert windows.smallest == 3
    assert windows.beyond(3) is NONE
    assert windows.beyond(4) is windows
    assert NONE.beyond(10**9) is NONE
    assert CausalLM(windowed("mistral"), context=WINDOW).windows is NONE


def test_positions_of_siblings_of_scratch_and_of_slots_that_were_scored_before():
    cache = KVCache(1, 2, 16, torch.device("cpu"))
    cache.lengths = [3, 1]
    parents = torch.tensor([[-1, 0, 0, 2]] * 2)
    scratch = Scratch(torch.zeros(2, 1, dtype=torch.int64), torch.full((2, 1), 4), torch.ones(2, 1, 5, dtype=torch.bool))
    draft = Draft(torch.zeros(2, 4, dtype=torch.int64), parents, torch.tensor([4, 4]), scratch=scratch)
    assert masks.positions_of_columns(draft, cache, 0, 8).tolist() == [[0, 1, 2, 3, 4, 4, 5, 7], [0, 1, 2, 2, 3, 5, 5, 5]]
    cache.lengths = [5, 3]  # two of the slots are there already
    assert masks.positions_of_columns(draft, cache, 2, 8).tolist() == [[0, 1, 2, 3, 4, 4, 5, 7], [0, 1, 2, 2, 3, 5, 5, 5]]


@pytest.mark.parametrize("runtime", ["hf", "auto", "compile"])
@pytest.mark.parametrize("family", WINDOWED)
@torch.inference_mode()
def test_logits_of_a_tree_are_those_of_its_paths(family, runtime):
    """As a whole, and as it grows, behind rows of different lengths."""
    model = windowed(family)
    target = CausalLM(model, runtime=runtime)
    if target.runtime is not None:
        target.runtime.kind = "hf"  # its shapes, run by plain calls
    cache, tokens = target.prefill(PROMPTS).cache, torch.tensor([[prompt[-1], *range(4, 11)] for prompt in PROMPTS])
    draft = Draft(tokens, torch.tensor([TREE] * 3), torch.tensor([8] * 3))
    whole, grown = target.score(draft, cache).logits, []
    for start, stop in ((0, 1), (1, 4), (4, 8)):
        part = Draft(tokens[:, :stop], draft.parents[:, :stop], torch.tensor([stop] * 3))
        grown.append(target.score(part, cache, num_scored=start).logits)
        cache.keep([stop - start] * 3)
    for row, prompt in enumerate(PROMPTS):
        for slot in range(8):
            wanted = alone(model, [*prompt, *draft.path(row, slot)])[-1]
            assert (whole[row, slot] - wanted).abs().max() < EXACT
            assert (torch.cat(grown, 1)[row, slot] - wanted).abs().max() < EXACT


@pytest.mark.parametrize("family", ["qwen3", "llama4"])
@torch.inference_mode()
def test_logits_of_scratch_slots_are_those_of_its_paths(family):
    model = windowed(family)
    target, prompt = CausalLM(model), PROMPTS[2]
    cache = target.prefill([prompt]).cache
    visible = torch.tensor([[[True, False, True, False, False], [True, False, True, True, False], [True, False, False, False, True]]])
    scratch = Scratch(torch.tensor([[7, 8, 9]]), torch.tensor([[1, 2, 1]]), visible)
    found = target.score(Draft.chain(torch.tensor([[prompt[-1], 5]]), scratch=scratch), cache).scratch
    for slot, path in enumerate(([7], [7, 8], [9])):
        assert (found[0, slot] - alone(model, [*prompt, *path])[-1]).abs().max() < EXACT


def test_the_lean_forward_is_left_where_types_of_layers_see_different_things(monkeypatch):
    for family, stays in (("mistral", True), ("qwen3", False)):
        target, widths = CausalLM(windowed(family)), []
        assert target.lean is not None
        run = target.lean.run
        monkeypatch.setattr(target.lean, "run", lambda *given, run=run, widths=widths: widths.append(given[3].longest) or run(*given))
        decode(target, NoDraft(), Recursive(), PROMPTS[:1], sampler=Sampler(0), limits=Limits(6))
        assert max(widths) == (12 if stays else WINDOW - 1)


@torch.inference_mode()
def test_the_compiled_forward_over_few_slots_is_given_the_window():
    """Where it can be built: `spec.native`, which is for float32."""
    model = windowed("mistral").float()
    draft, found = Draft.chain(torch.tensor([[4, 5, 6], [7, 8, 9]])), []
    for target in (CausalLM(model, runtime="lean"), CausalLM(model, runtime="hf")):
        found.append(target.score(draft, target.prefill([PROMPTS[0], PROMPTS[2]]).cache).logits)
    assert (found[0] - found[1]).abs().max() < 1e-4


def test_generate_goes_beyond_the_window():
    model, prompt = windowed("gemma3"), PROMPTS[2]
    ids = torch.tensor([prompt])
    options = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 30, "do_sample": False, "pad_token_id": 0}
    made = model.generate(ids, **options, custom_generate=speculative(PromptLookup(), Recursive()))
    assert made[0, len(prompt) :].tolist() == greedy(model, prompt, 30)


def test_what_hides_in_a_way_of_its_own_is_refused():
    model = build("moshi", {"sliding_window": WINDOW})
    with pytest.raises(ValueError, match=r"window of 8 positions, .* context of 48, and hides .* way of its own; use CausalLM\(model, context=8\)"):
        CausalLM(model)
    assert longest_served(model, model.config) == WINDOW
    assert longest_served(windowed("mistral"), windowed("mistral").config) is None


class OneMask(nn.Module):
    def forward(self, attention_mask):
        return create_sliding_window_causal_mask(self, attention_mask, None, None)


class MaskByType(nn.Module):
    """The mask is made in a function inside of the forward."""

    def forward(self, attention_mask):
        made = {SLIDING: lambda: create_sliding_window_causal_mask(self, attention_mask, None, None)}
        return attention_mask if isinstance(attention_mask, dict) else made


def test_a_model_that_takes_one_mask_is_refused_where_types_of_layers_need_more():
    config, alike, mixed = SimpleNamespace(), Windows(("",), (Window(4),)), Windows((SLIDING, FULL), (Window(4), None))
    assert no_masks(OneMask(), config, mixed) == "takes one mask for layers of all types"
    assert no_masks(OneMask(), config, alike) is None
    assert no_masks(MaskByType(), config, mixed) is None
    assert "names no types" in str(no_masks(MaskByType(), config, alike))
    assert "way of its own" in str(no_masks(nn.Linear(1, 1), config, alike))


def test_windows_that_differ_among_layers_of_one_type_are_refused():
    config = hf.MistralConfig(num_hidden_layers=2, sliding_window=90, per_layer_config={1: {"sliding_window": 30}})
    with pytest.raises(RuntimeError):
        print(config.sliding_window)  # so transformers answers where layers differ
    windows = windows_of(config)
    assert (windows.smallest, windows.is_even) == (30, False)
    assert "windows of several sizes" in str(no_masks(windowed("mistral"), config, windows))


def flash(module, query, key, value, attention_mask, scaling=None, sliding_window=None, **kwargs):
    """What flash attention does without a mask: the last N slots are causal from the last one back, as far as the window goes."""
    assert attention_mask is None
    num_new, width = query.shape[2], key.shape[2]
    groups = query.shape[1] // key.shape[1]
    seen = torch.ones(num_new, width, dtype=torch.bool).tril(width - num_new)
    seen = seen if sliding_window is None else seen.triu(width - num_new - sliding_window + 1)
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    found = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=seen, scale=scaling)
    return found.transpose(1, 2).contiguous(), None


@pytest.fixture
def with_flash():
    AttentionInterface.register("flash_attention_3", flash)
    yield
    AttentionInterface._global_mapping.pop("flash_attention_3", None)


@pytest.mark.parametrize("family", ["mistral", "qwen3"])
def test_flash_attention_has_the_window_from_the_model(family, with_flash):
    model = windowed(family)
    flashing = copy.deepcopy(model)
    flashing.config._attn_implementation = "flash_attention_3"
    made = decode(CausalLM(flashing), PromptLookup(), Recursive(), PROMPTS[:1], sampler=Sampler(0), limits=Limits(30))
    assert made.new_tokens(0) == greedy(model, PROMPTS[0], 30)
    with pytest.raises(ValueError, match="flash_attention_3 takes no mask of its own"):
        decode(CausalLM(flashing), DraftTree(model=CausalLM(model)), Recursive(), PROMPTS[:1], sampler=Sampler(0), limits=Limits(30))


def test_flash_attention_is_refused_for_chunks(with_flash):
    model = windowed("llama4")
    model.config._attn_implementation = "flash_attention_3"
    with pytest.raises(ValueError, match=r"flash attention knows no chunks .*; use CausalLM\(model, context=8\)"):
        CausalLM(model)
    CausalLM(model, context=WINDOW)


def blocks(module, query, key, value, attention_mask, scaling=None, **kwargs):
    """Flex attention without its compiler."""
    assert isinstance(attention_mask, BlockMask)
    found = flex_attention(query, key, value, block_mask=attention_mask, scale=scaling, enable_gqa=True)
    return found.transpose(1, 2).contiguous(), None


@pytest.mark.parametrize("family", ["mistral", "qwen3", "llama4"])
def test_flex_attention_gets_blocks_for_each_type_of_layers(family, monkeypatch):
    monkeypatch.setattr("spec.model.FLEX_DEVICES", ("cpu", "cuda"))
    monkeypatch.setitem(AttentionInterface._global_mapping, "flex_attention", blocks)
    monkeypatch.setattr("transformers.masking_utils.create_block_mask", lambda **given: create_block_mask(**{**given, "_compile": False}))
    model = windowed(family)
    flexing = copy.deepcopy(model)
    flexing.config._attn_implementation = "flex_attention"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is not compiled here
        drafter = DraftTree(model=CausalLM(model), widths=(2, 1))
        made = decode(CausalLM(flexing), drafter, Recursive(), PROMPTS, sampler=Sampler(0), limits=Limits(16))
    assert [made.new_tokens(row) for row in range(3)] == [greedy(model, prompt, 16) for prompt in PROMPTS]


def test_a_drafter_is_refused_as_a_target_is():
    drafter = DraftModel(model=build("moshi", {"sliding_window": 8}))
    with pytest.raises(ValueError, match="in a way of its own"):
        decode(CausalLM(build("llama")), drafter, Recursive(), PROMPTS, sampler=Sampler(0), limits=Limits(4))
