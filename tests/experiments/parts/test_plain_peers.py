"""The bare loop and the compiled static peer: `generate`'s own tokens, forwards counted, what they cannot honour refused."""

import pytest
import torch

from experiments.parts.peers.bare import BareLoop
from experiments.parts.peers.static_generate import StaticGenerate
from experiments.parts.peers.transformers_generate import Generate
from experiments.parts.random_target import random_model
from spec import Limits, Sampler

PROMPTS = [[1, 2, 3], [4, 5, 6, 7, 8], [9, 10, 11, 12]]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    made = random_model("tiny", context=128)
    with torch.no_grad():
        made.lm_head.weight.normal_(std=0.1)  # distributions worth sampling from
    return made


@pytest.mark.parametrize("sampler", [Sampler(0.0), Sampler(0.8, seed=3)], ids=["greedy", "sampled"])
def test_the_bare_loop_says_what_generate_says(model, sampler):
    wanted = [Generate(model).answer([prompt], sampler=sampler, limits=Limits(9))[0].tokens for prompt in PROMPTS]
    found = [BareLoop(model).answer([prompt], sampler=sampler, limits=Limits(9))[0] for prompt in PROMPTS]
    assert [answer.tokens for answer in found] == wanted
    assert [answer.forwards for answer in found] == [9] * 3
    assert all(answer.wall_seconds > 0 for answer in found)


def test_the_bare_loop_takes_batches_of_one_length(model):
    prompts = [[1, 2, 3], [7, 8, 9]]
    together = BareLoop(model, batch_size=2).answer(prompts, sampler=Sampler(0.0), limits=Limits(5))
    apart = BareLoop(model).answer(prompts, sampler=Sampler(0.0), limits=Limits(5))
    assert [answer.tokens for answer in together] == [answer.tokens for answer in apart]
    with pytest.raises(ValueError, match="prompts of one length"):
        BareLoop(model, batch_size=2).answer(PROMPTS[:2], sampler=Sampler(0.0), limits=Limits(5))


@pytest.mark.parametrize(
    ("sampler", "limits"),
    [(Sampler(1.0, top_k=3), Limits(4)), (Sampler(0.0, repetition_penalty=1.2), Limits(4)), (Sampler(0.0), Limits(4, eos_token_id=0))],
)
def test_the_bare_loop_refuses_what_it_does_not_know(model, sampler, limits):
    with pytest.raises(ValueError, match="the bare loop knows"):
        BareLoop(model).answer(PROMPTS, sampler=sampler, limits=limits)


def test_the_static_peer_says_what_generate_says_and_keeps_its_cache(model):
    peer = StaticGenerate(model, backend="eager", capacity=32)
    for sampler in (Sampler(0.0), Sampler(0.8, seed=3)):
        wanted = Generate(model).answer(PROMPTS, sampler=sampler, limits=Limits(6))
        found = peer.answer(PROMPTS, sampler=sampler, limits=Limits(6))
        assert [answer.tokens for answer in found] == [answer.tokens for answer in wanted]
        assert [answer.forwards for answer in found] == [answer.forwards for answer in wanted] == [6] * 3
    kept = peer.cache
    assert kept is not None
    assert kept.get_max_length() == 32
    peer.answer([[1] * 39], sampler=Sampler(0.0), limits=Limits(1))  # no forward behind the prompt, so nothing is compiled
    assert peer.cache is not kept
    assert peer.capacity == 40
    assert "get_compiled_call" not in vars(model)
