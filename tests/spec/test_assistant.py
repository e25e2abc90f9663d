"""One draft model for several targets: it takes over each one's context, and is loaded once."""

import pytest
import torch

from drafters.draft_model import DraftModel
from spec import CausalLM, Limits, Sampler, decode
from spec import assistant as module
from spec.assistant import Assistant
from tests.spec.padded import random_llama
from verifiers.recursive import Recursive


def test_a_larger_target_after_a_smaller_one_is_served():
    whole = random_llama(16)
    drafter = DraftModel(model=random_llama(16), num_tokens=3)
    for context, new in ((8, 4), (64, 40), (8, 4)):
        target = CausalLM(whole, context)
        found = decode(target, drafter, Recursive(), [[1, 2, 3]], sampler=Sampler(0.0), limits=Limits(new))
        assert len(found.new_tokens()) == new
        assert drafter.traits.context == context
    with pytest.raises(ValueError, match="which does not fit the context of 8 that target and drafter have"):
        decode(CausalLM(whole, 8), drafter, Recursive(), [[1, 2, 3]], sampler=Sampler(0.0), limits=Limits(40))


def test_for_a_target_like_the_last_one_nothing_is_made_anew():
    drafter = Assistant(model=random_llama(16))
    drafter.attach(CausalLM(random_llama(16), 32))
    first = drafter.model
    drafter.attach(CausalLM(random_llama(16), 32))
    assert drafter.model is first
    drafter.attach(CausalLM(random_llama(16), 48))
    assert drafter.model is not first
    assert drafter.model.model is first.model
    assert drafter.model.context == 48


def test_the_runtime_follows_the_target_unless_it_was_asked_for():
    targets = [CausalLM(random_llama(16), 32, runtime=kind, capacity=capacity) for kind, capacity in (("hf", None), ("compile", 64), ("compile", 96))]
    auto, own = Assistant(model=random_llama(16)), Assistant(model=random_llama(16), runtime="hf")
    for target in targets:
        auto.attach(target)
        own.attach(target)
        assert (auto.model.runtime_kind, auto.model.capacity) == (target.runtime_kind, target.capacity)
        assert own.model.runtime_kind == "hf"


def test_a_wrapped_model_stays_as_it_was_given():
    given = CausalLM(random_llama(16), 16)
    drafter = Assistant(model=given)
    for context in (8, 64):
        drafter.attach(CausalLM(random_llama(16), context))
        assert drafter.model is given


def test_a_named_model_is_loaded_once_and_keeps_its_first_dtype(monkeypatch):
    loaded: list[torch.dtype] = []

    def load(name, dtype, device_map, attention):
        loaded.append(dtype)
        return random_llama(16, dtype)

    monkeypatch.setattr(module, "load_model", load)
    drafter = DraftModel("some/name", num_tokens=3)
    for context, dtype in ((8, torch.float32), (64, torch.float64)):
        target = CausalLM(random_llama(16, dtype), context)
        plain = decode(target, DraftModel(target), Recursive(), [[1, 2]], sampler=Sampler(0.0), limits=Limits(6))
        assert decode(target, drafter, Recursive(), [[1, 2]], sampler=Sampler(0.0), limits=Limits(6)).new_tokens() == plain.new_tokens()
        assert drafter.assistant.model.context == context
    assert loaded == [torch.float32]
    assert drafter.assistant.model.dtype == torch.float32
