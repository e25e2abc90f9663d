"""The compiled forward never computes from weights that are gone, and keeps none longer than it must."""

import copy
import gc
import weakref

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from spec import CausalLM
from tests.spec.lean.small import PROMPTS, chain, llama, logits, wrapped


def changed_in_place(model):
    model.model.layers[1].mlp.down_proj.weight.data.mul_(-1)


def given_other_data(model):
    part = model.model.layers[0].self_attn.q_proj
    part.weight.data = -part.weight.data.clone()


def given_another_parameter(model):
    part = model.model.norm
    part.weight = torch.nn.Parameter(part.weight.detach() * 2)


def loaded(model):
    model.load_state_dict({name: tensor.flip(0) for name, tensor in model.state_dict().items()})


def given_a_bias(model):
    model.model.layers[0].self_attn.v_proj.bias = torch.nn.Parameter(torch.linspace(4, -3, 16))


def given_columns(model):
    part = model.model.layers[0].mlp.gate_proj
    part.weight = torch.nn.Parameter(part.weight.detach().t().contiguous().t() * 2)  # not contiguous: torch's operators serve


@pytest.mark.parametrize("change", [changed_in_place, given_other_data, given_another_parameter, loaded, given_a_bias, given_columns])
def test_weights_are_never_stale(change):
    """Changed within a decode: not even then is memory read that is gone."""
    model = llama()
    target, draft = wrapped(model), chain([3, 4])
    with torch.inference_mode():
        state = target.prefill(PROMPTS[:1])
        before = target.score(draft, state.cache).logits
        with torch.inference_mode(False):
            change(model)
        cache = copy.copy(state.cache)
        found = target.score(draft, cache).logits
        own = CausalLM(copy.deepcopy(model).double(), 40, "hf")
        mine = own.new_cache(1, 32)
        mine.reserve(7)
        for kept, slots in zip(mine.slot_layers, state.cache.slot_layers, strict=True):  # the prompt as the old weights read it
            kept.update(slots.keys[:, :, :7].double(), slots.values[:, :, :7].double())
        mine.keep([7])
        wanted = own.score(draft, mine).logits.float()
    assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found, before, rtol=1e-2, atol=1e-3)


def turned(model):
    part = model.model.layers[0].self_attn.q_proj
    part.weight.data = part.weight.data.t()


def without_a_bias(model):
    model.model.layers[0].self_attn.v_proj.bias = None


def with_a_plain_weight(model):
    part = model.model.layers[0].self_attn.v_proj
    weight = part.weight.detach() * 2
    del part.weight
    part.weight = weight


@pytest.mark.parametrize("change", [turned, without_a_bias, with_a_plain_weight, given_a_bias])
def test_other_forms_of_weights_are_noticed_by_the_next_decode(change):
    """The same memory in other steps, a bias that is gone, a weight that is no parameter."""
    model = llama(attention_bias=True)
    with torch.no_grad():
        model.model.layers[0].self_attn.v_proj.bias.copy_(torch.linspace(-3, 3, 16))
    target = wrapped(model)
    before = logits(target, chain([3, 4]))
    change(model)
    found = logits(target, chain([3, 4]))
    assert torch.allclose(found, logits(CausalLM(copy.deepcopy(model), 40, "hf"), chain([3, 4])), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found, before, rtol=1e-2, atol=1e-3)


def test_memory_is_kept_as_long_as_it_is_read_and_no_longer():
    """A model gets other memory just before the compiled code runs, as another thread may do it; and a model that is dropped is gone at once."""
    model = llama(hidden_size=64, intermediate_size=512, num_hidden_layers=4)
    target = wrapped(model)
    draft, native, taken = chain([3, 4, 5]), target.lean.native, []
    wanted, call = logits(target, draft), native.call

    parameters = list(model.parameters())

    def swapped(*arguments):
        for part in parameters:
            part.data = torch.zeros_like(part)
        taken.extend(torch.full((64, 512), 1e9) for _ in range(64))  # what was freed is used again
        return call(*arguments)

    with torch.inference_mode():
        cache = target.prefill(PROMPTS[:1]).cache
        native.call = swapped
        assert torch.equal(target.score(draft, cache).logits, wanted)
    native.call = call
    assert torch.count_nonzero(logits(target, draft)) == 0
    gone = weakref.ref(model.model.layers[0])
    parameters.clear()
    gc.collect()
    gc.disable()
    try:
        del model, target, native
        assert gone() is None
    finally:
        gc.enable()


def test_settings_of_torch():
    """Another default dtype changes nothing; autocast and a dispatch mode see what they would see."""
    model, draft = llama(), chain([3, 4])
    wanted = logits(wrapped(model), draft)
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(logits(wrapped(copy.deepcopy(model)), draft), wanted)
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert not wrapped(model).lean.is_compiled_for(draft.tokens)
    target = wrapped(model)
    with torch.inference_mode(), FakeTensorMode():
        assert not target.lean.native.serves(draft.tokens)
