"""Folded attention: the logits of sdpa in every family, without a copy of the keys, and nothing of it left behind in the user's model."""

import threading
import warnings

import pytest
import torch
import transformers as hf
from transformers.integrations import sdpa_attention
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

import spec.masks as masks
from drafters.draft_tree import DraftTree
from drafters.lookahead import Lookahead
from drafters.none import NoDraft
from spec import CausalLM, Limits, Sampler, decode
from spec.attention import NAME, foldable, folded, folding
from spec.types import Draft
from tests.tiny import COMMON, CONTEXT, FAMILIES, GROUPED, build
from verifiers.recursive import Recursive

EXACT = 1e-10
PROMPTS = [[1, 2, 3, 1, 2, 3, 1, 2], [5], [7, 8, 9, 7, 8]]
PLAIN = {**COMMON, **GROUPED}
SHARED = {  # families whose query heads share keys
    "llama": FAMILIES["llama"],
    "qwen3": FAMILIES["qwen3"],
    "mistral": FAMILIES["mistral"],
    "qwen2": lambda: hf.Qwen2ForCausalLM(hf.Qwen2Config(**PLAIN)),
    "gemma": lambda: hf.GemmaForCausalLM(hf.GemmaConfig(**{**PLAIN, "num_key_value_heads": 1}, head_dim=8)),
    "starcoder2": lambda: hf.Starcoder2ForCausalLM(hf.Starcoder2Config(**PLAIN, sliding_window=None)),
    "phi3": lambda: hf.Phi3ForCausalLM(hf.Phi3Config(**PLAIN)),
    "cohere": lambda: hf.CohereForCausalLM(hf.CohereConfig(**PLAIN)),
    "granite": lambda: hf.GraniteForCausalLM(hf.GraniteConfig(**PLAIN, attention_multiplier=0.3)),
    "gpt_bigcode": lambda: hf.GPTBigCodeForCausalLM(
        hf.GPTBigCodeConfig(**COMMON, n_embd=32, n_layer=2, n_head=4, n_positions=CONTEXT, multi_query=True)
    ),
}
OWN = {  # families that keep the attention that they have: no shared keys, an sdpa of their own, or eager
    "gpt_neox": FAMILIES["gpt_neox"],
    "phi": FAMILIES["phi"],
    "gemma2": FAMILIES["gemma2"],
    "falcon": lambda: hf.FalconForCausalLM(
        hf.FalconConfig(
            **COMMON, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_kv_heads=2, new_decoder_architecture=True, alibi=False
        )
    ),
    "doge": lambda: hf.DogeForCausalLM(hf.DogeConfig(**PLAIN, keep_window_size=CONTEXT)),
}


def made(family):
    torch.manual_seed(3)
    model = {**SHARED, **OWN}[family]().double().eval()
    model.generation_config.eos_token_id = None
    return model


@pytest.fixture
def copies(monkeypatch):
    """Numbers of query heads per key head that sdpa has copied keys for."""
    found, own = [], sdpa_attention.repeat_kv
    monkeypatch.setattr(sdpa_attention, "repeat_kv", lambda states, times: [found.append(times), own(states, times)][1])
    return found


def drafts():
    tokens = torch.arange(1, 16).view(3, 5) * 7 % 40
    parents = torch.tensor([[-1, 0, 0, 1, 2]]).repeat(3, 1)
    return {"chain": Draft.chain(tokens), "one": Draft.chain(tokens[:, :1]), "tree": Draft(tokens, parents, torch.tensor([5, 4, 5]))}


@torch.no_grad()
def logits_of(model, prompts):
    """Of every draft of `drafts`, behind the prompts."""
    found, target = {}, CausalLM(model, runtime="hf")
    for name, draft in drafts().items():
        state = target.prefill(prompts)
        found[name] = target.score(draft, state.cache).logits
    return found


@pytest.mark.parametrize("prompts", [PROMPTS, [PROMPTS[2]] * 3], ids=["ragged", "even"])
@pytest.mark.parametrize("family", SHARED)
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # GPTBigCode in transformers 5.17
def test_logits_are_those_of_sdpa(family, prompts, copies, monkeypatch):
    model = made(family)
    found = logits_of(model, prompts)
    assert copies == []
    monkeypatch.setattr("spec.attention.Folding.__enter__", lambda self: None)
    for name, wanted in logits_of(model, prompts).items():
        assert (found[name] - wanted).abs().max() < EXACT, name
    assert copies != []


@pytest.mark.parametrize("family", OWN)
def test_the_other_families_keep_their_own_attention(family):
    model, kind = made(family), made(family).config._attn_implementation
    with folding(model):
        assert model.config._attn_implementation == kind
    assert foldable(model) == [] or kind == "eager"


@pytest.mark.parametrize("drafter", [NoDraft(), DraftTree(model=build("llama", 1)), Lookahead(window=3, ngram=3)], ids=lambda one: type(one).__name__)
def test_text_is_that_of_generate_which_runs_by_sdpa_before_and_after(drafter, copies):
    model = build("llama")
    rows = [torch.tensor([row]) for row in PROMPTS]
    options = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0}
    before = [model.generate(row, attention_mask=torch.ones_like(row), **options)[0].tolist() for row in rows]
    copies.clear()
    result = decode(CausalLM(model, runtime="hf"), drafter, Recursive(), PROMPTS, sampler=Sampler(0), limits=Limits(12))
    assert [row.tolist() for row in result.sequences] == before
    assert model.config._attn_implementation == "sdpa"
    assert [model.generate(row, attention_mask=torch.ones_like(row), **options)[0].tolist() for row in rows] == before


def test_a_forward_that_fails_leaves_sdpa_behind(monkeypatch):
    model = build("llama")
    target = CausalLM(model, runtime="hf")
    state = target.prefill(PROMPTS)
    monkeypatch.setattr(model.model.norm, "forward", lambda states: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        target.score(drafts()["tree"], state.cache)
    assert model.config._attn_implementation == "sdpa"


def test_one_inside_the_other_and_a_change_by_the_owner():
    model = build("llama")
    with folding(model):
        with folding(model):
            assert CausalLM(model, runtime="hf").attention == "sdpa"  # as another thread would find it
            assert model.config._attn_implementation == NAME
        assert model.config._attn_implementation == "sdpa"  # the outer forward goes on by sdpa, which is as good
        model.set_attn_implementation("eager")
    assert model.config._attn_implementation == "eager"
    with folding(model):
        assert model.config._attn_implementation == "eager"


def test_threads_that_share_a_model():
    model = build("llama")
    target = CausalLM(model, runtime="hf")
    wanted = decode(target, NoDraft(), Recursive(), PROMPTS, sampler=Sampler(0), limits=Limits(12)).sequences
    found = {}

    def run(number):
        found[number] = decode(CausalLM(model, runtime="hf"), NoDraft(), Recursive(), PROMPTS, sampler=Sampler(0), limits=Limits(12)).sequences

    threads = [threading.Thread(target=run, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(one, other) for rows in found.values() for one, other in zip(rows, wanted, strict=True))
    assert len(found) == 3
    assert model.config._attn_implementation == "sdpa"


class Layer:
    num_key_value_groups, is_causal = 2, True


def states(num_slots, dtype=torch.float64):
    torch.manual_seed(0)
    return [torch.randn(2, heads, length, 8, dtype=dtype) for heads, length in ((4, num_slots), (2, 9), (2, 9))]


@pytest.mark.parametrize("num_slots", [1, 3])
@pytest.mark.parametrize("kind", ["none", "one", "rows", "heads", "bool"])
@pytest.mark.parametrize("given", [{}, {"is_causal": False}, {"scaling": 0.2}, {"position_bias": True}])
def test_the_function_gives_what_sdpa_gives(num_slots, kind, given):
    query, key, value = states(num_slots)
    hidden = torch.rand(2, 4, num_slots, 9) < 0.4
    hidden[..., 0] = False
    shown = {"none": None, "one": hidden[:1, :1], "rows": hidden[:, :1], "heads": hidden, "bool": hidden[:, :1]}[kind]
    mask = (
        ~shown if kind == "bool" else None if shown is None else torch.zeros(shown.shape).double().masked_fill(shown, torch.finfo(torch.float64).min)
    )
    if given.get("position_bias"):
        given = {"position_bias": torch.randn(1, 4, num_slots, 9, dtype=torch.float64)}
    found = folded(Layer(), query, key, value, mask, **given)[0]
    wanted = sdpa_attention.sdpa_attention_forward(Layer(), query, key, value, mask, **given)[0]
    assert found.shape == wanted.shape == (2, num_slots, 4, 8)
    assert (found - wanted).abs().max() < EXACT


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bits_differ_by_rounding_alone(dtype):
    query, key, value = states(3, dtype)
    mask = masks.chain_bias(9, dtype, torch.device("cpu"))[:, :, -3:]
    found, wanted = (run(Layer(), query, key, value, mask)[0].float() for run in (folded, sdpa_attention.sdpa_attention_forward))
    assert (found - wanted).abs().max() < 8 * torch.finfo(dtype).eps * value.float().abs().max()


def test_an_sdpa_of_somebody_else_is_left_in_its_place(monkeypatch):
    """As the function is replaced, with transformers' own means, after a model was folded."""
    model = build("llama")
    wanted = texts_of(model)
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, "sdpa", doubled)
    ids = torch.tensor([PROMPTS[0]])
    own = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12, eos_token_id=None, pad_token_id=0)[0]
    found = texts_of(model)
    assert torch.equal(found[0], own)
    assert not torch.equal(found[0], wanted[0])
    for kind in ("auto", "lean"):
        assert torch.equal(texts_of(model, kind)[0], own)


def doubled(module, query, key, value, attention_mask, scaling=None, **given):
    return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=3 * (scaling or query.shape[-1] ** -0.5), **given)


def texts_of(model, runtime="hf"):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lean is not possible
        target = CausalLM(model, runtime=runtime)
    return decode(target, NoDraft(), Recursive(), PROMPTS[:1], sampler=Sampler(0), limits=Limits(12)).sequences
