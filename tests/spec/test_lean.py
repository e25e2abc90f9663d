"""The lean forward: the same tokens by half of the operators, for models of its shape and for no others."""

import copy
import gc
import pickle
import warnings
import weakref

import pytest
import torch
import transformers as hf

from drafters.draft_model import DraftModel
from drafters.draft_tree import DraftTree
from drafters.lookahead import Lookahead
from drafters.none import NoDraft
from drafters.prompt_lookup import PromptLookup
from experiments.lossless.families.tiny import build as tiny
from spec import CausalLM, Limits, Sampler, decode
from spec.lean import NotLean, lean_of
from tests.tiny import COMMON, GROUPED, build
from verifiers.recursive import Recursive

PROMPTS = [[1, 2, 3, 1, 2, 3, 1, 2], [5], [7, 8, 9, 7, 8], [4, 4, 4]]
SHAPED = ("llama", "qwen2", "qwen3", "mistral", "phi3", "gemma", "smollm3", "seed_oss", "ministral")
LLAMA = {**COMMON, **GROUPED}


def texts(target, drafter, temperature=0.0, batch_size=3):
    made = decode(target, drafter, Recursive(), PROMPTS, sampler=Sampler(temperature, seed=4), limits=Limits(14), batch_size=batch_size)
    return [sequence.tolist() for sequence in made.sequences]


@pytest.mark.parametrize("name", SHAPED)
def test_every_drafter_gives_the_same_tokens(name):
    """Chains, windows, fixed and grown trees, ragged rows, rows that leave."""
    model, context = tiny(name), 40
    lean, own = CausalLM(model, context, "lean"), CausalLM(copy.deepcopy(model), context)
    assert lean.runtime_kind == "lean"
    drafters = [
        lambda: NoDraft(),
        lambda: PromptLookup(),
        lambda: Lookahead(window=3, ngram=3, guesses=3),
        lambda: DraftModel(model=CausalLM(model, context, "lean"), num_tokens=4),
        lambda: DraftTree(model=CausalLM(model, context, "lean"), widths=(2, 2)),
        lambda: DraftTree(model=CausalLM(model, context, "lean"), widths=None, num_nodes=6, num_rounds=2),
    ]
    wanted = texts(own, NoDraft())
    for make in drafters:
        assert texts(lean, make()) == wanted
    assert texts(lean, PromptLookup(), temperature=0.8) == texts(own, PromptLookup(), temperature=0.8)


def almost(**settings):
    torch.manual_seed(0)
    return hf.LlamaForCausalLM(hf.LlamaConfig(**{**LLAMA, **settings})).double().eval()


def limited():
    return hf.Gemma2ForCausalLM(hf.Gemma2Config(**LLAMA, head_dim=8, sliding_window=160, attn_implementation="eager")).double().eval()


def hooked():
    model = almost()
    model.model.layers[1].register_forward_hook(lambda *_: None)
    return model


def replaced():
    model = almost()
    model.model.layers[0].mlp.forward = lambda x: x
    return model


def wider():
    """Another class in the place of a linear layer, as quantisation and LoRA put it there."""
    model = almost()

    class Other(torch.nn.Linear):
        pass

    other = Other(32, 32, bias=False).double()
    model.model.layers[1].self_attn.q_proj = other
    return model


ALMOST = {
    "LayerNorm, no gate": (lambda: tiny("starcoder2"), "is made of"),
    "sandwich norms": (lambda: tiny("olmo2"), "Olmo2DecoderLayer is made of"),
    "soft caps": (limited, "attn_logit_softcapping is 50"),
    "partial rotary": (lambda: hf.Phi3ForCausalLM(hf.Phi3Config(**LLAMA, partial_rotary_factor=0.5)).double().eval(), "RuntimeError: shape"),
    "rotary of neighbours": (lambda: tiny("ernie4_5"), "its logits differ by .* in float64"),
    "scaled residuals": (lambda: hf.GraniteForCausalLM(hf.GraniteConfig(**LLAMA, residual_multiplier=0.9)).double().eval(), "logits differ"),
    "scaled embeddings": (lambda: hf.GraniteForCausalLM(hf.GraniteConfig(**LLAMA, embedding_multiplier=2.0)).double().eval(), "logits differ"),
    "scaled logits": (lambda: hf.GraniteForCausalLM(hf.GraniteConfig(**LLAMA, logits_scaling=2.0)).double().eval(), "logits differ"),
    "experts": (lambda: tiny("mixtral"), "is made of"),
    "learned positions": (lambda: build("gpt2"), "GPT2Model is made of"),
    "a hook": (hooked, "LlamaDecoderLayer has a hook"),
    "a forward put in its place": (replaced, "LlamaMLP has a hook or a forward of its own"),
    "another kind of linear layer": (wider, "Other is no plain linear layer"),
}


@pytest.mark.parametrize(("make", "reason"), ALMOST.values(), ids=ALMOST)
def test_what_is_almost_of_the_shape_keeps_its_own_forward(make, reason):
    torch.manual_seed(1)
    model = make()
    with pytest.raises(NotLean, match=reason):
        lean_of(model)
    with pytest.warns(RuntimeWarning, match="^runtime=lean is not possible here, the model's own forward is run: ") as said:
        served = CausalLM(model, runtime="lean")
    assert len(said) == 1
    assert served.runtime_kind == "eager"
    assert texts(served, PromptLookup()) == texts(CausalLM(model), NoDraft())


@pytest.mark.parametrize(
    "settings", [{"attention_bias": True}, {"mlp_bias": True}, {"tie_word_embeddings": True}, {"hidden_act": "gelu"}, {"head_dim": 16}]
)
def test_what_is_of_the_shape(settings):
    model = almost(**settings)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    assert CausalLM(model, runtime="lean").runtime_kind == "lean"
    assert texts(CausalLM(model, runtime="lean"), PromptLookup()) == texts(CausalLM(model), NoDraft())


def test_weights_are_held_once_and_can_be_saved(tmp_path):
    model = build("llama")
    before, size = {name: weight.clone() for name, weight in model.state_dict().items()}, sum(weight.nbytes for weight in model.parameters())
    lean_of(model)
    storages = {weight.untyped_storage().data_ptr(): weight.untyped_storage().nbytes() for weight in model.parameters()}
    assert sum(storages.values()) == size
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    model.save_pretrained(tmp_path)
    again = hf.LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.float64)
    assert all(torch.equal(weight, before[name]) for name, weight in again.state_dict().items())


def test_weights_that_change_are_never_stale():
    """Written into, replaced, moved to another dtype, and layers put in the place of others; between decodes of one CausalLM."""
    model, other = build("llama"), build("llama", seed=1)
    target = CausalLM(model, runtime="lean")

    def same():
        return texts(target, NoDraft()) == texts(CausalLM(copy.deepcopy(model)), NoDraft())

    first = texts(target, NoDraft())
    model.load_state_dict(other.state_dict())
    assert texts(target, NoDraft()) != first
    assert same()
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight.data = model.model.layers[0].mlp.up_proj.weight * 3
    assert same()
    model.model.layers[1].self_attn.v_proj = torch.nn.Linear(32, 16, bias=False).double()
    assert same()
    model.model.layers[1] = build("llama", seed=2).model.layers[1]
    assert same()
    model.model.norm = copy.deepcopy(other.model.norm)
    model.model.norm.weight.data *= 2
    assert same()
    model.model.embed_tokens = copy.deepcopy(build("llama", seed=3).model.embed_tokens)
    assert same()
    handle = model.model.layers[0].mlp.register_forward_hook(lambda *call: call[2] * 0.5)
    with pytest.warns(RuntimeWarning, match="LlamaMLP has a hook"):
        assert texts(target, NoDraft()) == texts(CausalLM(model), NoDraft())
    handle.remove()
    assert target.runtime_kind == "eager"


def test_sixteen_bit_and_float32_are_near():
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        model = build("llama").to(dtype)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            target = CausalLM(model, runtime="lean")
        assert target.runtime_kind == "lean"


def test_the_trial_leaves_random_numbers_alone():
    model = build("mistral")
    state = torch.get_rng_state()
    lean_of(model)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda target: pickle.loads(pickle.dumps(target))], ids=["deepcopy", "pickle"])
def test_copies_have_weights_of_their_own(again):
    target = CausalLM(build("llama"), runtime="lean")
    wanted, twin = texts(target, NoDraft()), again(target)
    assert twin.runtime_kind == "lean"
    with torch.no_grad():
        twin.model.model.layers[0].mlp.down_proj.weight.mul_(3)
    assert texts(target, NoDraft()) == wanted
    assert texts(twin, NoDraft()) == texts(CausalLM(twin.model), NoDraft()) != wanted


def test_a_model_is_not_kept_alive():
    model = build("llama")
    texts(CausalLM(model, runtime="lean"), NoDraft())
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
