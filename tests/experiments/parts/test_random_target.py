"""Random targets: the shapes they claim, weights that the seed decides, and greedy text that no rounding can change."""

import pytest
import torch

from drafters.none import NoDraft
from drafters.prompt_lookup import PromptLookup
from experiments.parts.random_target import SIZES, load_random, random_model, random_prompts
from spec import CausalLM, Limits, Sampler, decode
from verifiers.recursive import Recursive


@pytest.mark.parametrize(("size", "millions"), [("5m", 5), ("20m", 19), ("100m", 100)])
def test_the_sizes_have_the_parameters_that_their_names_say(size, millions):
    shape = SIZES[size]
    kv = shape["hidden_size"] // shape["num_attention_heads"] * shape["num_key_value_heads"]
    layer = 2 * shape["hidden_size"] ** 2 + 2 * shape["hidden_size"] * kv + 3 * shape["hidden_size"] * shape["intermediate_size"]
    total = shape["num_hidden_layers"] * layer + 2 * shape["vocab_size"] * shape["hidden_size"]
    assert round(total / 1e6) == millions


def test_a_model_is_made_in_its_dtype_and_by_its_seed():
    one, again, other = random_model("tiny", "bfloat16"), random_model("tiny", "bfloat16"), random_model("tiny", "bfloat16", seed=1)
    assert {weights.dtype for weights in one.parameters()} == {torch.bfloat16}
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), again.parameters(), strict=True))
    assert not torch.equal(one.lm_head.weight, other.lm_head.weight)
    assert random_model("tiny", vocab_size=100, context=64).config.max_position_embeddings == 64


def test_making_a_model_leaves_the_random_numbers_of_others_alone():
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    random_model("tiny")
    assert torch.equal(torch.rand(2), wanted)


def test_greedy_text_is_the_same_in_every_precision_and_has_no_near_ties():
    texts = []
    for dtype in ("float32", "bfloat16"):
        target = load_random("tiny", dtype, "cpu", context=256).model
        prompts = random_prompts(target, [12, 5], 2, seed=0)
        made = decode(target, NoDraft(), Recursive(), prompts, sampler=Sampler(0.0), limits=Limits(24))
        texts.append([made.new_tokens(row) for row in range(len(prompts))])
    assert texts[0] == texts[1]
    assert all(len(set(text)) == 24 for text in texts[0])  # a walk along a cycle, not a loop
    top = target.model(torch.tensor([prompts[0]])).logits.float().topk(2).values
    assert (top[..., 0] - top[..., 1]).min() > 0.1


def test_prompts_are_of_the_lengths_asked_for():
    target = load_random("tiny", device="cpu", vocab_size=50, context=64).model
    prompts = random_prompts(target, [3, 7], 2, seed=4)
    assert [len(prompt) for prompt in prompts] == [3, 7, 3, 7]
    assert prompts == random_prompts(target, [3, 7], 2, seed=4) != random_prompts(target, [3, 7], 2, seed=5)
    assert decode(target, PromptLookup(), Recursive(), prompts, sampler=Sampler(0.0), limits=Limits(4)).stats.num_tokens == 16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": "8bb"}, "unknown size '8bb'; did you mean '8b'"),
        ({"size": "tiny", "dtype": "auto"}, "random weights have no dtype of their own"),
        ({"size": "tiny", "dtype": "float31"}, "float32, float64, bfloat16 or float16"),
    ],
)
def test_what_cannot_be_made_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        random_model(**arguments)


def test_a_random_target_is_wrapped_for_the_loop():
    target = load_random("tiny", device="cpu", context=64)
    assert isinstance(target.model, CausalLM)
    assert target.tokenizer is None
    assert target.model.context == 64
