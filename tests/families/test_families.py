"""Greedy output is `model.generate`'s, token by token: every drafter, every verifier, every family, one row and a ragged batch."""

import copy
import importlib
import inspect
from functools import cache
from pathlib import Path

import pytest
import torch
import transformers as hf
from omegaconf import OmegaConf

from experiments.parts.door.comments import conf
from spec import CausalLM, Limits, Sampler, decode
from tests.tiny import COMMON, FAMILIES, GROUPED, build

ROOT = Path(__file__).resolve().parents[2]
PROMPTS = [[5, 9, 13, 5, 9, 13, 5, 9], [3], [17, 2, 30, 30, 30, 8, 17, 2, 30, 1, 33, 4]]
NUM_TOKENS = 64
MIXING = {"ensemble"}  # lossy verifiers that let the drafter's tokens through even where the target is certain; the other ones are greedy there
STORIES = ROOT.parent / "shared" / "models" / "stories260K"


def parts(kind):
    """Stems of conf/<kind>/*.yaml: a new part is tested as soon as it has its YAML."""
    return sorted(path.stem for path in (conf() / kind).glob("*.yaml"))


def make(kind, name, **runtime):
    """The part as its YAML describes it; `runtime` objects are handed over where its constructor takes them."""
    options = OmegaConf.to_container(OmegaConf.load(conf() / kind / f"{name}.yaml"))
    options.pop("defaults", None)  # the groups inside a group
    module, _, attribute = options.pop("_target_").rpartition(".")
    maker = getattr(importlib.import_module(module), attribute)
    taken = inspect.signature(maker).parameters
    return maker(**options, **{key: value for key, value in runtime.items() if key in taken})


@cache
def models(family):
    """The target and an assistant that is often but not always right: the target with noise on its weights."""
    target = build(family)
    assistant = copy.deepcopy(target)
    torch.manual_seed(1)
    with torch.no_grad():
        for weights in assistant.parameters():
            weights.add_(0.02 * torch.randn_like(weights))
    return target, assistant


@cache
def reference(family):
    """What `generate` adds to each prompt, alone."""
    return [greedy(models(family)[0], prompt) for prompt in PROMPTS]


def greedy(model, prompt, num_tokens=NUM_TOKENS):
    ids = torch.tensor([prompt], device=model.device)
    return model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=num_tokens, do_sample=False, pad_token_id=0)[
        0, len(prompt) :
    ].tolist()


def cases():
    """Every drafter in every family with the general rule; every other verifier with every drafter in the first family, which is enough for it."""
    general = [(family, drafter, "recursive") for family in FAMILIES for drafter in parts("drafter")]
    others = [verifier for verifier in parts("verifier") if verifier != "recursive"]
    return general + [(next(iter(FAMILIES)), drafter, verifier) for drafter in parts("drafter") for verifier in others]


@pytest.mark.parametrize("num_rows", [1, 3])
@pytest.mark.parametrize(("family", "drafter", "verifier"), cases())
def test_greedy_output_is_generates(family, drafter, verifier, num_rows):
    target, assistant = models(family)
    maker, rule = make("drafter", drafter, model=assistant), make("verifier", verifier)
    arguments = (CausalLM(target), maker, rule, PROMPTS[-num_rows:])
    options = {"sampler": Sampler(temperature=0), "limits": Limits(max_new_tokens=NUM_TOKENS)}
    if maker.traits.makes_trees and getattr(rule, "chains_only", False):  # the two do not go together, which must be said before any work
        with pytest.raises(ValueError, match="verifies chains only"):
            decode(*arguments, **options, allow_lossy=True)
        return
    if not rule.exact:
        with pytest.raises(ValueError, match="allow_lossy=True"):
            decode(*arguments, **options)
    result = decode(*arguments, **options, allow_lossy=not rule.exact)
    assert result.stats.num_tokens == num_rows * NUM_TOKENS
    if rule.exact or verifier not in MIXING:
        assert [result.new_tokens(row) for row in range(num_rows)] == reference(family)[-num_rows:]
    if drafter == "draft_model":
        assert 0 < result.stats.acceptance_rate < 1


def test_drafters_and_verifiers_are_found():
    assert {"none", "prompt_lookup", "draft_model", "lookahead", "jacobi"} <= set(parts("drafter"))
    verifiers = {"recursive", "greedy", "rejection", "block", "sample_match", "coupled", "typical", "lenient", "ensemble"}
    assert verifiers <= set(parts("verifier"))
    assert {verifier for verifier in verifiers if not make("verifier", verifier).exact} == {"typical", "lenient", "ensemble"}


@pytest.mark.slow
@pytest.mark.skipif(not (STORIES / "config.json").exists(), reason="no stories260K beside the repository")
@pytest.mark.parametrize("drafter", parts("drafter"))
def test_greedy_output_of_a_trained_pair_in_float32(drafter):
    target, assistant = (
        hf.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval() for folder in (STORIES, STORIES.with_name("stories260K-drafter"))
    )
    tokenizer = hf.AutoTokenizer.from_pretrained(STORIES)
    prompts = [tokenizer(text)["input_ids"] for text in ("Once upon a time, there was a little girl named", "The dog and the cat")]
    target.generation_config.eos_token_id = None
    result = decode(
        CausalLM(target),
        make("drafter", drafter, model=assistant),
        make("verifier", "recursive"),
        prompts,
        sampler=Sampler(temperature=0),
        limits=Limits(max_new_tokens=NUM_TOKENS),
    )
    assert [result.new_tokens(row) for row in range(2)] == [greedy(target, prompt) for prompt in prompts]


REFUSED = {
    "t5": (
        lambda: hf.T5ForConditionalGeneration(hf.T5Config(vocab_size=40, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)),
        "encoder-decoder",
    ),
    "bart": (
        lambda: hf.BartForConditionalGeneration(
            hf.BartConfig(
                vocab_size=40,
                d_model=16,
                encoder_layers=1,
                decoder_layers=1,
                encoder_attention_heads=2,
                decoder_attention_heads=2,
                encoder_ffn_dim=16,
                decoder_ffn_dim=16,
            )
        ),
        "encoder-decoder",
    ),
    "mamba": (lambda: hf.MambaForCausalLM(hf.MambaConfig(vocab_size=40, hidden_size=16, num_hidden_layers=1, state_size=4)), "recurrent"),
    "lfm2": (lambda: hf.Lfm2ForCausalLM(hf.Lfm2Config(**COMMON, **GROUPED, layer_types=["conv", "full_attention"])), "recurrent"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_served_is_refused_with_a_sentence(name):
    make_model, reason = REFUSED[name]
    with pytest.raises(ValueError, match=reason) as refusal:
        CausalLM(make_model())
    assert len(str(refusal.value).split()) >= 8
