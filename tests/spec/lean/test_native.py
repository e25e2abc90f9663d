"""The compiled forward: the model's own numbers, to the last bit the same whatever stands beside a slot, never from weights that are gone."""

import copy
from functools import partial

import pytest
import torch

import spec.lean.native as native
import spec.masks as masks
from drafters.draft_model import DraftModel
from drafters.draft_tree import DraftTree
from drafters.lookahead import Lookahead
from drafters.none import NoDraft
from drafters.prompt_lookup import PromptLookup
from experiments.lossless.families.tiny import build as tiny
from spec import CausalLM, Limits, Sampler, decode
from spec.lean import NotLean, lean_of, trial
from spec.once import say_once
from spec.store import StoredLinear, stored
from spec.types import Draft
from tests.spec.lean.small import PROMPTS, chain, llama, logits, wrapped
from tests.spec.store.kernels import KINDS, kernel_of
from verifiers.recursive import Recursive

FAMILIES = ("llama", "qwen2", "qwen3", "mistral", "phi3", "gemma", "smollm3", "seed_oss", "ministral")
ODD = {"hidden_size": 36, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 10, "intermediate_size": 27}  # no multiple of a vector


@pytest.fixture(params=KINDS)
def kind(request, monkeypatch):
    """Forwards run by the code for these instructions."""
    found = kernel_of(request.param)
    if found is None:
        pytest.skip(f"no code of {request.param} here")
    monkeypatch.setattr(native, "kernel", lambda: found)
    return request.param


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_gives_its_own_numbers(name, kind):
    """Biases, norms of heads and with an offset, packed products, GELU, scaled embeddings; chains, trees and ragged rows."""
    exact = tiny(name)
    tree = Draft(
        torch.tensor([[3, 4, 5, 6, 7]]).repeat(4, 1), torch.tensor([[-1, 0, 0, 1, 2]]).repeat(4, 1), torch.full((4,), 5), shape=(-1, 0, 0, 1, 2)
    )
    own, fast = CausalLM(exact, 40, "hf"), wrapped(copy.deepcopy(exact).float())
    for draft, prompts in ((chain([3]), PROMPTS[:1]), (chain([3, 4, 5]), PROMPTS[:1]), (tree, PROMPTS), (chain([3, 4], [5, 6]), PROMPTS[:2])):
        wanted, found = logits(own, draft, prompts), logits(fast, draft, prompts)
        assert float((wanted - found).abs().max()) < 2e-5 * float(wanted.max() - wanted.min())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_in_16_bits(dtype, kind):
    model = llama().to(dtype).float()
    own = CausalLM(copy.deepcopy(model).double(), 40, "hf")
    fast = wrapped(stored(model, "checkpoint"))
    assert type(model.model.layers[0].mlp.down_proj) is StoredLinear
    draft = chain([3, 4, 5, 6])
    assert torch.allclose(logits(own, draft).float(), logits(fast, draft), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("settings", [ODD, {"num_key_value_heads": 4}, {"num_key_value_heads": 1}, {"num_hidden_layers": 1}], ids=str)
def test_other_sizes(settings, kind):
    model = llama(**settings)
    own, draft = CausalLM(copy.deepcopy(model).double(), 40, "hf"), chain([3, 4, 5, 6, 7, 8, 9])
    assert torch.allclose(logits(own, draft).float(), logits(wrapped(model), draft), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_slot_does_not_depend_on_what_stands_beside_it(threads, kind):
    """To the last bit: as a chain, token by token, in ragged rows, in longer caches, by threads."""
    target, text = wrapped(llama(hidden_size=64, intermediate_size=96)), [3, 4, 5, 6, 7, 8, 9]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        whole = logits(target, chain(text))
        with torch.inference_mode():
            state = target.prefill(PROMPTS[:1])
            alone = []
            for token in text:
                alone.append(target.score(chain([token]), state.cache).logits)
                state.cache.keep([1])
        assert torch.equal(torch.cat(alone, 1), whole)
        others = chain(text, text[::-1], text, text)
        ragged = logits(target, others, [PROMPTS[0], [5], list(range(1, 30)), [9, 9]])
        assert torch.equal(ragged[:1], whole)
        assert not torch.equal(ragged[2:3], whole)
    finally:
        torch.set_num_threads(before)


def test_every_drafter_decodes_as_plain_decoding_does():
    """In float32, too: chains are scored to the last bit as token by token, and trees are judged by numbers that are as near."""
    model = llama()
    target = wrapped(model)
    assistant = partial(CausalLM, llama(num_hidden_layers=1), 40, "lean")
    drafters = [PromptLookup(), Lookahead(window=3, ngram=3, guesses=3), DraftModel(model=assistant()), DraftTree(model=assistant(), widths=(2, 2))]

    def texts(drafter, batch_size):
        made = decode(target, drafter, Recursive(), PROMPTS, sampler=Sampler(0.0), limits=Limits(30), batch_size=batch_size)
        return [text.tolist() for text in made.sequences]

    wanted = texts(NoDraft(), 1)
    ids = [torch.tensor([prompt]) for prompt in PROMPTS]
    own = [model.generate(row, attention_mask=torch.ones_like(row), do_sample=False, max_new_tokens=30, pad_token_id=0)[0].tolist() for row in ids]
    assert wanted == own
    for drafter in drafters:
        assert texts(drafter, 1) == texts(drafter, 3) == wanted


@pytest.mark.parametrize("part", ["model.layers.1.mlp.up_proj", "model.layers.0.self_attn.k_proj", "model.embed_tokens", "lm_head"])
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_not_lost(part, number):
    model = llama()
    target = wrapped(model)
    model.get_submodule(part).weight.data[3, 0] = number
    assert not torch.isfinite(logits(target, chain([3, 4]))).all()


def test_large_scores_and_steep_gates():
    """Softmax and the gate at numbers whose powers overflow."""
    model = llama()
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.q_proj.weight.mul_(300)
            layer.mlp.gate_proj.weight.mul_(300)
    own, draft = CausalLM(copy.deepcopy(model).double(), 40, "hf"), chain([3, 4, 5])
    found = logits(wrapped(model), draft)
    assert torch.allclose(logits(own, draft).float(), found, rtol=1e-3, atol=1e-3)


def test_what_it_does_not_serve():
    """Many slots, autograd, a head beyond the vocabulary, other dtypes, other activations and norms."""
    target = wrapped(llama())
    few, many = torch.ones(1, native.MOST_SLOTS, dtype=torch.long), torch.ones(1, native.MOST_SLOTS + 1, dtype=torch.long)
    with torch.inference_mode():
        assert target.lean.is_compiled_for(few)
        assert not target.lean.is_compiled_for(many)
        cache = target.new_cache(1, 8)
        for token, place in ((64, 0), (-1, 0), (3, 999)):
            with pytest.raises(IndexError, match="outside"):
                target.lean.run(torch.tensor([[token]]), None, torch.tensor([[place]]), cache, False)
    assert not target.lean.is_compiled_for(few)
    for other in (llama().double(), llama().bfloat16(), llama(hidden_act="relu"), llama(hidden_act="gelu")):
        assert lean_of(other).native is None
    mixed = llama()
    mixed.model.layers[0].input_layernorm.forward = lambda x: x
    with pytest.raises(NotLean):
        lean_of(mixed)


def test_code_that_gets_other_numbers_is_given_up(monkeypatch, caplog):
    """A mutant of the forward: the trial sees it, and torch's operators run."""
    kept = native.Native.run

    def wrong(self, *arguments):
        found = kept(self, *arguments)
        return found if found is None else (found[0] * 1.01, found[1])

    monkeypatch.setattr(native.Native, "run", wrong)
    trial.TRIED.clear()
    say_once.cache_clear()
    model = llama()
    target = CausalLM(model, 40)
    assert target.runtime_kind == "lean"
    assert target.lean.native is None
    assert "by code compiled for this processor its logits differ by" in caplog.text
    assert torch.allclose(logits(target, chain([3, 4])), logits(CausalLM(copy.deepcopy(model), 40, "hf"), chain([3, 4])), rtol=1e-4, atol=1e-5)


def test_without_a_compiler_torch_serves(monkeypatch, caplog):
    def none():
        raise native.NoKernel("there is no compiler")

    monkeypatch.setattr(native, "kernel", none)
    say_once.cache_clear()
    targets = [CausalLM(llama(), 40, "lean") for _ in range(2)]
    assert [target.lean.native for target in targets] == [None, None]
    assert caplog.text.count("no code for this processor, forwards are made of torch's operators: there is no compiler") == 1


def test_prompts_are_cached_by_it(monkeypatch):
    """Short ones; the slots are those of the model's own forward, and so are hidden states."""
    model = llama()
    fast, own = wrapped(model), CausalLM(copy.deepcopy(model).double(), 40, "hf")
    calls = []
    monkeypatch.setattr(native.Native, "run", lambda self, *given, run=native.Native.run: calls.append(1) or run(self, *given))
    with torch.inference_mode():
        for prompts in (PROMPTS[:1], PROMPTS):
            found, wanted = fast.prefill(prompts, hidden=True), own.prefill(prompts, hidden=True)
            assert torch.allclose(found.hidden, wanted.hidden.float(), rtol=1e-4, atol=1e-5)
            for one, other in zip(found.cache.slot_layers, wanted.cache.slot_layers, strict=True):
                for row, length in enumerate(found.cache.lengths):
                    assert torch.allclose(one.keys[row, :, :length], other.keys[row, :, :length].float(), rtol=1e-4, atol=1e-5)
    assert len(calls) == 2


def test_one_row_of_a_cache(kind):
    """Where rows are run one by one, the others are not touched."""
    target = wrapped(llama())
    with torch.inference_mode():
        state = target.prefill(PROMPTS)
        cache, draft = state.cache, chain([3, 4])
        kept = [layer.keys.clone() for layer in cache.slot_layers]
        with cache.only(2):
            cache.columns = None
            places = torch.arange(cache.lengths[2], cache.lengths[2] + 2)[None]
            mask = masks.up_to(places, cache.lengths[2] + 2, torch.float32)
            found = target.lean.run(draft.tokens, mask, places, cache, False)[0]
        assert torch.equal(found, logits(target, draft, PROMPTS[2:3]))
        assert all(torch.equal(layer.keys[[0, 1, 3]], before[[0, 1, 3]]) for layer, before in zip(cache.slot_layers, kept, strict=True))


def test_sampled_texts_are_those_of_torch():
    """The same noise over logits that differ by rounding: a draw differs only at a tie."""
    model = llama()
    fast, own = wrapped(model), CausalLM(copy.deepcopy(model), 40, "hf")
    made = [
        decode(target, PromptLookup(), Recursive(), PROMPTS, sampler=Sampler(0.8, seed=3), limits=Limits(20), batch_size=2) for target in (fast, own)
    ]
    assert [text.tolist() for text in made[0].sequences] == [text.tolist() for text in made[1].sequences]
