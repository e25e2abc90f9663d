"""Models whose weights are kept in 16 bits: the same numbers, dtype and tokens; what cannot be kept so stays as it was."""

import copy
import logging
import pickle
import sys
import types

import pytest
import torch
import transformers as hf

from drafters.draft_model import DraftModel
from drafters.none import NoDraft
from drafters.prompt_lookup import PromptLookup
from experiments.lossless.families.tiny import build
from experiments.parts.data.sources import embedded
from experiments.parts.target import load_target
from spec import CausalLM, Limits, Sampler, decode
from spec.lean import NotLean, lean_of
from spec.loading import load_model, load_tokenizer
from spec.once import say_once
from spec.store import StoredEmbedding, StoredLinear, as_float32, keep, store_of, stored
from tests.spec.store.kernels import KINDS, kernel_of
from verifiers.recursive import Recursive

IDS = torch.arange(1, 13)[None]


def rounded(model_type: str = "llama", dtype: torch.dtype = torch.bfloat16, settings: dict | None = None):
    """A tiny model of float32 whose numbers are of 16 bits."""
    return build(model_type, settings).to(dtype).float().eval()


def logits(model, ids=IDS):
    with torch.no_grad():
        return model(input_ids=ids).logits


def same(one, other) -> bool:
    return float((one - other).abs().max()) < 1e-5 * float(other.abs().max())


@pytest.fixture
def no_kernel(monkeypatch):
    def none():
        raise keep.NoKernel("there is no compiler")

    monkeypatch.setattr(keep, "kernel", none)
    say_once.cache_clear()


@pytest.fixture(scope="module")
def pair():
    """The embedded target and drafter as they are loaded, and with their weights as the checkpoint has them."""
    own = [load_model(f"embedded/{name}", "float32") for name in ("target", "drafter")]
    return own, [stored(copy.deepcopy(model), "checkpoint") for model in own]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("settings", [{"tie_word_embeddings": True}, {"attention_bias": True, "mlp_bias": True}])
def test_the_numbers_are_the_same_in_half_of_the_memory(dtype, settings):
    own = rounded(dtype=dtype, settings=settings)
    model = stored(copy.deepcopy(own), "checkpoint")
    assert same(logits(model), logits(own))
    assert (model.dtype, store_of(model), store_of(own)) == (torch.float32, str(dtype).removeprefix("torch."), "float32")
    assert isinstance(model.model.embed_tokens, StoredEmbedding)
    assert isinstance(model.lm_head, StoredLinear)
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == settings.get("tie_word_embeddings", False)
    assert {part.weight.dtype for part in model.modules() if isinstance(part, StoredLinear)} == {dtype}
    assert all(torch.equal(number.float(), own.state_dict()[name]) for name, number in model.state_dict().items())


def test_the_embedded_pair_says_the_same(pair):
    """Greedy, by the model's own forward and by the lean one, with every drafter. Sums in another order may part ways; on these prompts none does."""
    tokenizer = load_tokenizer("embedded/target")
    prompts = [tokenizer(prompt.text)["input_ids"] for prompt in embedded()[::6]]
    (own, own_drafter), (target, drafter) = pair
    for runtime in ("hf", "lean"):
        wanted = tokens(CausalLM(own, runtime=runtime), NoDraft(), prompts)
        for method in (NoDraft(), PromptLookup(), DraftModel(model=drafter), DraftModel(model=own_drafter)):
            assert tokens(CausalLM(target, runtime=runtime), method, prompts) == wanted


def tokens(target, drafter, prompts):
    return decode(target, drafter, Recursive(), prompts, sampler=Sampler(0.0), limits=Limits(24), batch_size=3).new_tokens()


def test_a_lean_forward_takes_them(pair):
    target = pair[1][0]
    assert CausalLM(target, runtime="lean").runtime_kind == "lean"
    target = copy.deepcopy(target)
    lean = lean_of(target)
    stored_away = target.model.layers[1].mlp.up_proj
    target.model.layers[1].mlp.up_proj = as_float32(target).model.layers[1].mlp.up_proj
    assert lean.has_changed(target)
    stored_away.forward = lambda x: x
    target.model.layers[1].mlp.up_proj = stored_away
    with pytest.raises(NotLean):
        lean_of(target)


def test_casting_the_model_gives_ordinary_products(pair):
    (own, _), (target, _) = pair
    wide = copy.deepcopy(target).double()
    assert wide.dtype == store_dtype(wide) == torch.float64
    assert torch.equal(logits(wide), logits(copy.deepcopy(own).double()))
    assert torch.equal(logits(copy.deepcopy(target).float()), logits(own))
    assert torch.equal(logits(copy.deepcopy(target).half()), logits(copy.deepcopy(own).half()))


def store_dtype(model) -> torch.dtype:
    return getattr(torch, store_of(model))


def test_the_way_back(pair):
    (own, _), (target, _) = pair
    plain = as_float32(target)
    assert as_float32(own) is own
    assert as_float32(target) is plain
    assert [type(part) for part in plain.modules()] == [type(part) for part in own.modules()]
    assert plain.lm_head.weight is plain.model.embed_tokens.weight
    assert torch.equal(logits(plain), logits(own))
    assert isinstance(target.lm_head, StoredLinear)


def test_copies_pickles_and_saved_models_hold_the_same_numbers(pair, tmp_path):
    (own, _), (target, _) = pair
    wanted = logits(target)
    assert torch.equal(logits(pickle.loads(pickle.dumps(target))), wanted)
    assert torch.equal(logits(copy.deepcopy(target)), wanted)
    target.save_pretrained(tmp_path)
    assert torch.equal(logits(load_model(tmp_path, "float32")), logits(own))
    assert (tmp_path / "model.safetensors").stat().st_size < 2.1 * own.num_parameters()


def test_other_weights_are_taken_where_they_fit_and_refused_where_they_would_be_rounded():
    own, model = rounded(), stored(rounded(), "checkpoint")
    changed = {name: 2 * number for name, number in own.state_dict().items()}
    model.load_state_dict(changed)
    assert not same(logits(model), logits(own))
    own.load_state_dict(changed)
    assert same(logits(model), logits(own))
    with pytest.raises(RuntimeError, match=r"lm_head.weight is kept in torch.bfloat16, which does not hold these numbers; load "):
        model.load_state_dict({name: number / 3 for name, number in changed.items()})


def test_what_is_not_of_16_bits_stays_as_it_is():
    for model in (build("llama").float(), rounded().double(), rounded().bfloat16()):
        assert not any(isinstance(part, StoredLinear) for part in stored(model).modules())
    mixed = rounded()
    with torch.no_grad():
        mixed.model.layers[1].mlp.up_proj.weight[3, 3] = 1 / 3
    assert isinstance(stored(mixed, "checkpoint").model.layers[1].mlp.up_proj, torch.nn.Linear)
    assert isinstance(mixed.model.layers[1].mlp.down_proj, StoredLinear)
    assert same(logits(rounded("olmo").float()), logits(stored(rounded("olmo"))))  # it has no other parameters


def test_layers_that_more_hangs_on_stay_as_they_are():
    model = rounded()
    model.model.layers[0].mlp.up_proj.register_forward_hook(lambda *_: None)
    model.model.layers[1].mlp.up_proj = type("Own", (torch.nn.Linear,), {})(32, 48)
    stored(model, "checkpoint")
    assert [type(layer.mlp.up_proj).__name__ for layer in model.model.layers] == ["Linear", "Own"]
    scaled = stored(rounded("gemma3_text", settings={"tie_word_embeddings": True}), "checkpoint")
    assert scaled.lm_head.weight is scaled.model.embed_tokens.weight  # whose class is not torch's, so that its head stays too
    assert "lm_head" in keep._asked(keep._source(rounded("falcon_mamba")))  # its code would cast what it gives to the head


def test_wrong_input_is_said_in_one_line():
    with pytest.raises(ValueError, match=r"^store='disk': give one of auto, checkpoint, float32$"):
        stored(rounded(), "disk")
    with pytest.raises(ValueError, match=r"^store='disk': give one of auto, checkpoint, float32$"):
        load_target("no/such/model", store="disk")
    with pytest.raises(ValueError, match=r"^store='disk': give one of"):
        DraftModel(store="disk")
    with pytest.raises(ValueError, match=r"the model is of float64; use dtype=float32 or store=auto$"):
        stored(rounded().double(), "checkpoint")
    with pytest.raises(ValueError, match=r"no linear layers or embeddings whose numbers fit into 16 bits; use store=float32$"):
        stored(build("llama").float(), "checkpoint")
    quantised = rounded()
    quantised.config.quantization_config = {"quant_method": "x"}
    assert store_of(stored(quantised)) == "float32"
    with pytest.raises(ValueError, match=r"the model is quantised"):
        stored(quantised, "checkpoint")


def test_without_a_kernel_weights_stay_wide_and_it_is_said_once(no_kernel, caplog):
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert store_of(stored(rounded())) == "float32"
        assert store_of(stored(rounded(), "checkpoint")) == "bfloat16"
    assert [record.getMessage() for record in caplog.records] == [
        "no kernel for 16-bit weights, weights are kept in float32: there is no compiler",
        "no kernel for 16-bit weights, weights are widened anew for every product, which is slow: there is no compiler",
    ]
    caplog.clear()
    assert store_of(stored(build("llama").float())) == "float32"
    assert not caplog.records


def test_targets_and_draft_models_are_loaded_so():
    if not any(map(kernel_of, KINDS)):
        pytest.skip("no kernel here")
    sizes = {store: store_of(load_target("embedded/target", "float32", "cpu", store=store).model.model) for store in keep.STORES}
    assert sizes == {"auto": "float16", "checkpoint": "float16", "float32": "float32"}
    assert store_of(load_target("embedded/target", "float64", "cpu").model.model) == "float64"
    given = load_model("embedded/target", "float32")
    for store, wanted in (("auto", "float16"), ("float32", "float32")):
        drafter = DraftModel(store=store)
        drafter.attach(CausalLM(given))
        assert store_of(drafter.assistant.model.model) == wanted
    assert store_of(given) == "float32"  # what a caller passes is never changed


def test_generate_uses_them_too(pair):
    (own, _), (target, _) = pair
    options = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0}
    found, wanted = (model.generate(IDS, attention_mask=torch.ones_like(IDS), **options) for model in (target, own))
    assert isinstance(target, hf.PreTrainedModel)
    assert torch.equal(found, wanted)


def test_the_copy_in_float32_follows_the_weights():
    model, other = stored(rounded(), "checkpoint"), build("llama", seed=1).to(torch.bfloat16).float().eval()
    first = as_float32(model)
    assert as_float32(model) is first
    model.load_state_dict(other.state_dict())
    assert same(logits(as_float32(model)), logits(other))
    assert not same(logits(first), logits(other))


def test_the_way_back_is_float32():
    model = stored(stored(rounded(), "checkpoint"), "float32")
    assert store_of(model) == "float32"
    assert torch.equal(logits(model), logits(rounded()))


def test_a_class_whose_source_is_not_at_hand_stays_as_it_is(monkeypatch):
    """As one that was made in a console: its code might use the weights itself."""
    module = types.ModuleType("made_here")
    monkeypatch.setitem(sys.modules, "made_here", module)
    model = rounded()
    model.__class__ = type("Own", (type(model),), {"__module__": "made_here"})
    assert store_of(stored(model)) == "float32"
    with pytest.raises(ValueError, match=r"^store=checkpoint: the source of this model's class is not at hand"):
        stored(model, "checkpoint")


def test_a_model_without_other_parameters_says_so():
    with pytest.raises(ValueError, match=r"^store=checkpoint: this model has no other parameters"):
        stored(rounded("olmo"), "checkpoint")


@pytest.mark.parametrize("name", ["mamba", "falcon_mamba"])
def test_layers_whose_weights_the_model_uses_itself_stay_in_float32(name):
    model = rounded(name)
    assert same(logits(stored(copy.deepcopy(model), "checkpoint")), logits(model))
