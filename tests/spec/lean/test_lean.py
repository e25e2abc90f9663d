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
from experiments.lossless.families.variants import VARIANTS
from spec import CausalLM, Limits, Sampler, decode
from spec.lean import NotLean, lean_of
from tests.tiny import COMMON, GROUPED, build
from verifiers.recursive import Recursive

PROMPTS = [[1, 2, 3, 1, 2, 3, 1, 2], [5], [7, 8, 9, 7, 8], [4, 4, 4]]
SHAPED = ("llama", "qwen2", "qwen3", "mistral", "phi3", "gemma", "smollm3", "seed_oss", "ministral")
LLAMA = {**COMMON, **GROUPED}
LONGROPE = next(variant.settings for variant in VARIANTS if variant.model_type == "phi3")


def texts(target, drafter, temperature=0.0, batch_size=3):
    made = decode(target, drafter, Recursive(), PROMPTS, sampler=Sampler(temperature, seed=4), limits=Limits(14), batch_size=batch_size)
    return [sequence.tolist() for sequence in made.sequences]


@pytest.mark.parametrize("name", SHAPED)
def test_every_drafter_gives_the_same_tokens(name):
    """Chains, windows, fixed and grown trees, ragged rows, rows that leave."""
    model, context = tiny(name), 40
    lean, own = CausalLM(model, context, "lean"), CausalLM(copy.deepcopy(model), context, "hf")
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
    return hf.Gemma2ForCausalLM(hf.Gemma2Config(**LLAMA, head_dim=8, sliding_window=160)).double().eval()


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


class Masked(hf.LlamaForCausalLM):
    """Acts on one id only, which a trial need not hold."""

    def forward(self, input_ids, attention_mask=None, position_ids=None, past_key_values=None, **kwargs):
        output = super().forward(input_ids, attention_mask, position_ids, past_key_values, **kwargs)
        output.logits[..., 5] += 100 * (input_ids == 37)
        return output


def subclass():
    torch.manual_seed(0)
    return Masked(hf.LlamaConfig(**LLAMA)).double().eval()


ALMOST = {
    "LayerNorm, no gate": (lambda: tiny("starcoder2"), "is made of"),
    "sandwich norms": (lambda: tiny("olmo2"), "Olmo2DecoderLayer is made of"),
    "soft caps": (limited, "attn_logit_softcapping is 50"),
    "partial rotary": (lambda: hf.Phi3ForCausalLM(hf.Phi3Config(**LLAMA, partial_rotary_factor=0.5)).double().eval(), "RuntimeError: "),
    "rotary of neighbours": (lambda: tiny("ernie4_5"), "its logits differ by .* in float64"),
    "scaled residuals": (lambda: hf.GraniteForCausalLM(hf.GraniteConfig(**LLAMA, residual_multiplier=0.9)).double().eval(), "logits differ"),
    "scaled embeddings": (lambda: hf.GraniteForCausalLM(hf.GraniteConfig(**LLAMA, embedding_multiplier=2.0)).double().eval(), "logits differ"),
    "scaled logits": (lambda: hf.GraniteForCausalLM(hf.GraniteConfig(**LLAMA, logits_scaling=2.0)).double().eval(), "logits differ"),
    "experts": (lambda: tiny("mixtral"), "is made of"),
    "learned positions": (lambda: build("gpt2"), "GPT2Model is made of"),
    "a hook": (hooked, "LlamaDecoderLayer has a hook"),
    "a forward put in its place": (replaced, "LlamaMLP has a hook, a forward of its own"),
    "a class of somebody else": (subclass, "Masked has a hook, a forward of its own, or is no class of transformers or torch"),
    "another attention": (lambda: almost(attn_implementation="eager"), "attn_implementation=eager was chosen"),
    "in training": (lambda: almost(attention_dropout=0.0).train(), "it is in training mode"),
    "another kind of linear layer": (wider, "Other has a hook, .* or is no class of transformers"),
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
    assert served.runtime_kind == "hf"
    assert texts(served, PromptLookup()) == texts(CausalLM(model, runtime="hf"), NoDraft())


@pytest.mark.parametrize(
    "settings", [{"attention_bias": True}, {"mlp_bias": True}, {"tie_word_embeddings": True}, {"hidden_act": "gelu"}, {"head_dim": 16}]
)
def test_what_is_of_the_shape(settings):
    model = almost(**settings)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    assert CausalLM(model, runtime="lean").runtime_kind == "lean"
    assert texts(CausalLM(model, runtime="lean"), PromptLookup()) == texts(CausalLM(model, runtime="hf"), NoDraft())


def test_nothing_is_copied_and_nothing_changes():
    model = build("llama")
    before = [(weight.data_ptr(), weight.clone()) for weight in model.parameters()]
    texts(CausalLM(model, runtime="lean"), PromptLookup())
    assert all(place == weight.data_ptr() and torch.equal(old, weight) for (place, old), weight in zip(before, model.parameters(), strict=True))


ROPES = {
    "linear": {"rope_type": "linear", "factor": 2.0},
    "dynamic": {"rope_type": "dynamic", "factor": 2.0},
    "yarn": {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 64},
    "llama3": {"rope_type": "llama3", "factor": 2.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64},
}


@pytest.mark.parametrize("kind", ROPES)
def test_rotary_angles_of_every_kind(kind):
    """Those of dynamic scaling depend on the longest position of a forward: a table of them would be wrong as soon as it is longer than the text."""
    model = almost(max_position_embeddings=128, rope_parameters={"rope_theta": 1e4, **ROPES[kind]})
    lean, own = CausalLM(model, runtime="lean"), CausalLM(copy.deepcopy(model), runtime="hf")
    assert lean.runtime_kind == "lean"
    for drafter in (NoDraft(), Lookahead(window=3, ngram=3, guesses=3)):
        found, wanted = (decode(of, drafter, Recursive(), PROMPTS, sampler=Sampler(0), limits=Limits(100)).sequences for of in (lean, own))
        assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))


def test_longrope_below_its_switch():
    model = tiny("phi3", {**LONGROPE, "max_position_embeddings": 200, "original_max_position_embeddings": 100, "sliding_window": None})
    lean, own = CausalLM(model, 100, "lean"), CausalLM(copy.deepcopy(model), 100, "hf")
    found, wanted = (decode(of, PromptLookup(), Recursive(), PROMPTS, sampler=Sampler(0), limits=Limits(80)).sequences for of in (lean, own))
    assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))


def test_queries_that_are_scaled_far_out_are_seen():
    rope = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 16.0, "original_max_position_embeddings": 16, "llama_4_scaling_beta": 0.5}
    config = hf.Ministral3Config(**{**LLAMA, "head_dim": 8}, rope_parameters=rope, sliding_window=None)
    with pytest.raises(NotLean, match=r"its logits differ by .* in float64"):
        lean_of(hf.Ministral3ForCausalLM(config).double().eval())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_every_layer_is_tried(dtype):
    """SmolLM3 turns nothing in every fourth layer."""
    config = hf.SmolLM3Config(**{**LLAMA, "num_hidden_layers": 8, "pad_token_id": 0}, no_rope_layers=[1, 1, 1, 0] * 2, rope_theta=5e6)
    with pytest.raises(NotLean, match=r"its logits differ by .* in float64"):
        lean_of(hf.SmolLM3ForCausalLM(config).to(dtype).eval())


def test_weights_that_change_are_never_stale():
    """Written into, replaced, moved to another dtype, and layers put in the place of others; between decodes of one CausalLM."""
    model, other = build("llama"), build("llama", seed=1)
    target = CausalLM(model, runtime="lean")

    def same():
        return texts(target, NoDraft()) == texts(CausalLM(copy.deepcopy(model), runtime="hf"), NoDraft())

    first = texts(target, NoDraft())
    model.load_state_dict(other.state_dict())
    assert texts(target, NoDraft()) != first
    assert same()
    layers = model.model.layers
    with torch.no_grad():
        layers[0].mlp.up_proj.weight.data = layers[0].mlp.up_proj.weight * 3
        assert same()
        layers[0].self_attn.q_proj.weight.data = layers[0].self_attn.q_proj.weight.data.t()
        assert same()
        model.model.rotary_emb.inv_freq.mul_(0.5)
        assert same()
    layers[1].self_attn.v_proj = torch.nn.Linear(32, 16, bias=False).double()
    assert same()
    layers[1] = build("llama", seed=2).model.layers[1]
    assert same()
    layers[0].self_attn.scaling = 0.7
    assert same()
    model.model.norm = copy.deepcopy(other.model.norm)
    model.model.norm.weight.data *= 2
    model.model.norm.variance_epsilon = 0.3
    assert same()
    model.model.embed_tokens = copy.deepcopy(build("llama", seed=3).model.embed_tokens)
    assert same()
    for dtype in (torch.float32, torch.float64):
        model.to(dtype)
        assert same()
        assert target.runtime_kind == "lean"
    handle = model.model.layers[0].mlp.register_forward_hook(lambda *call: call[2] * 0.5)
    with pytest.warns(RuntimeWarning, match="LlamaMLP has a hook"):
        assert texts(target, NoDraft()) == texts(CausalLM(model, runtime="hf"), NoDraft())
    handle.remove()
    assert target.runtime_kind == "hf"


def test_auto_is_lean_where_that_fits_and_says_once_why_not(caplog):
    model = build("llama")
    assert CausalLM(model).runtime_kind == "lean"
    other = almost(attn_implementation="eager")
    for _ in range(3):
        assert CausalLM(other).runtime_kind == "hf"
    assert [record.getMessage() for record in caplog.records] == [
        "LlamaForCausalLM is run by its own forward, not the lean one: attn_implementation=eager was chosen (runtime=hf does not try)"
    ]
    assert CausalLM(model, runtime="hf").runtime_kind == "hf"


def test_under_auto_hooks_come_and_go():
    model = build("llama")
    target = CausalLM(model)
    for hook, kind in ((None, "lean"), (lambda *call: call[2] * 0.5, "hf"), (None, "lean")):
        handle = None if hook is None else model.model.layers[0].mlp.register_forward_hook(hook)
        assert texts(target, NoDraft()) == texts(CausalLM(model, runtime="hf"), NoDraft())
        assert target.runtime_kind == kind
        if handle is not None:
            handle.remove()


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
    assert texts(twin, NoDraft()) == texts(CausalLM(twin.model, runtime="hf"), NoDraft()) != wanted


def test_a_model_is_not_kept_alive():
    model = build("llama")
    texts(CausalLM(model, runtime="lean"), NoDraft())
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
