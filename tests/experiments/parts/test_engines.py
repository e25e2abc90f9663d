"""Which targets and settings the engines take, said before any work and without their packages."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config

from drafters.draft_model import DraftModel
from drafters.draft_tree import DraftTree
from drafters.prompt_lookup import PromptLookup
from experiments.parts.peers.engines import engine, wanted
from experiments.parts.peers.engines.engine import check_served, check_trial, trial_tokens
from experiments.parts.random_target import random_model
from spec import CausalLM, Sampler

GREEDY, SAMPLED = Sampler(0.0), Sampler(0.8)


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "installed", lambda package: "1.0")


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "installed", lambda package: None)


@pytest.mark.parametrize("name", wanted.ENGINES)
@pytest.mark.usefixtures("absent")
def test_a_package_that_is_not_there_is_named_with_the_command_that_installs_it(name: str) -> None:
    with pytest.raises(ValueError, match=r'^(openvino-genai|ctranslate2) is not installed: pip install "draftproof\[peers\]"$'):
        wanted.check(name, GREEDY)
    with pytest.raises(ValueError, match="is not installed"):
        wanted.make(name, CausalLM(random_model("tiny", context=64)))


@pytest.mark.parametrize("name", wanted.ENGINES)
@pytest.mark.usefixtures("there")
def test_greedy_decoding_is_taken_and_rules_that_would_be_others_are_not(name: str) -> None:
    wanted.check(name, GREEDY)
    with pytest.raises(ValueError, match=r"not asked for repetition_penalty: of sampling it takes temperature, top_k, top_p"):
        wanted.check(name, Sampler(0.0, repetition_penalty=1.2))
    with pytest.raises(ValueError, match="min_p"):
        wanted.check(name, Sampler(1.0, min_p=0.1))


@pytest.mark.usefixtures("there")
def test_sampling_is_taken_where_it_was_found_right() -> None:
    for name in ("openvino", "openvino_lookup", "ctranslate2"):
        wanted.check(name, Sampler(0.8, top_k=20, top_p=0.9))
    wanted.check("ctranslate2", SAMPLED, 4)
    with pytest.raises(ValueError, match=r"sampled drafts do not keep the target's distribution.*temperature 0 only"):
        wanted.check("openvino_draft", SAMPLED)
    with pytest.raises(ValueError, match="batch_size=2: it draws every row of a batch by the same random numbers"):
        wanted.check("openvino", SAMPLED, 2)


@pytest.mark.usefixtures("there")
def test_a_draft_model_is_the_drafters_or_named_and_a_chain() -> None:
    draft = wanted.WantedOpenVINODraft
    draft().check(DraftModel(num_tokens=3), GREEDY)
    draft(name="embedded/drafter").check(PromptLookup(), GREEDY)
    draft(num_tokens=4).check(DraftTree(), GREEDY)
    with pytest.raises(ValueError, match=r"peers\.openvino_draft drafts with the drafter's model, and PromptLookup has none"):
        draft().check(PromptLookup(), GREEDY)
    with pytest.raises(ValueError, match=r"DraftTree drafts trees; .*peers\.openvino_draft\.num_tokens=5"):
        draft().check(DraftTree(), GREEDY)
    for kind in (draft, wanted.WantedOpenVINOLookup):
        with pytest.raises(ValueError, match="one prompt at a time"):
            kind(batch_size=2)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_other_dtypes_are_refused_before_anything_is_converted(dtype: str) -> None:
    with pytest.raises(ValueError, match=rf"the target is {dtype} on cpu.*set target\.dtype=float32 target\.device=cpu"):
        check_served(random_model("tiny", dtype, context=64), "target")


def test_other_shapes_are_refused_with_the_reason() -> None:
    other = AutoModelForCausalLM.from_config(GPT2Config(vocab_size=32, n_embd=16, n_layer=1, n_head=2)).eval()
    with pytest.raises(ValueError, match=r"the drafter is not of Llama's shape, which is all that is converted: .*GPT2"):
        check_served(other, "drafter")


def test_a_model_that_came_out_as_another_is_refused() -> None:
    model: Any = random_model("tiny", context=64)
    with torch.no_grad():
        right = model(input_ids=trial_tokens(model)).logits.numpy()
    check_trial(model, right + 1e-6, "engine")
    for wrong in (right * 1.001, right[:, 1:], np.full_like(right, np.nan)):
        with pytest.raises(ValueError, match="engine makes other logits of this model"):
            check_trial(model, wrong, "engine")
