"""Useless and awkward drafts: they are what they say they are, and the text is the target's all the same."""

import pytest
import torch

from drafters.adversarial import KINDS, Adversarial
from spec.decode import decode
from spec.model import CausalLM
from spec.sampling import Sampler
from spec.state import Limits
from tests.drafters.bench import PROMPTS
from tests.drafters.contract import check_greedy_text, recorded
from tests.tiny import CONTEXT, build
from verifiers.recursive import Recursive


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_text_is_unchanged(kind):
    check_greedy_text(lambda: Adversarial(kind))


def test_every_kind_is_what_it_says():
    first = {kind: recorded(Adversarial(kind, token=7), Sampler(seed=1), new=6)[1][0].draft for kind in KINDS}
    assert first["empty"].num_slots == 1
    assert first["eos"].tokens[:, 1:].unique().tolist() == [7]
    assert first["eos"].q is None
    assert torch.equal(first["random"].q[:, 1:], torch.full((3, 4, 40), 1 / 40, dtype=torch.float64))
    assert first["tiny_mass"].q[0, 1].min() == 1e-30
    assert first["duplicates"].parents[0].tolist() == [-1, 0, 0, 0, *range(1, 10)]
    assert (first["duplicates"].tokens[:, 1:4] == 7).sum() >= 5
    assert first["ragged"].sizes.tolist() == [1 + (len(prompt) - 1) % 5 for prompt in PROMPTS]
    assert recorded(Adversarial("too_long"), Sampler(seed=1), new=2)[1][0].draft.sizes.tolist() == [5, 5, 5]


def test_drafts_beyond_the_end_of_the_context_are_cut_to_the_budget():
    target, prompt = CausalLM(build("llama")), [[3] * (CONTEXT - 3)]
    result = decode(target, Adversarial("too_long", 6), Recursive(), prompt, sampler=Sampler(seed=1), limits=Limits(max_new_tokens=3))
    assert len(result.new_tokens()) == 3


def test_an_end_token_that_is_drafted_and_true_ends_the_row():
    target = CausalLM(build("llama"))
    limits = Limits(max_new_tokens=30, eos_token_id=list(range(0, 40, 4)))
    plain = decode(target, Adversarial("empty"), Recursive(), PROMPTS, sampler=Sampler(temperature=0), limits=limits)
    for token in (0, 4, 8):
        drafted = decode(target, Adversarial("eos", token=token), Recursive(), PROMPTS, sampler=Sampler(temperature=0), limits=limits)
        assert [drafted.new_tokens(row) for row in range(3)] == [plain.new_tokens(row) for row in range(3)]


def test_refuses_what_makes_no_sense():
    with pytest.raises(ValueError, match="choose one of random, duplicates"):
        Adversarial("nasty")
    with pytest.raises(ValueError, match="kind='empty' drafts nothing"):
        Adversarial(num_tokens=0)
    with pytest.raises(ValueError, match="the vocabulary is 0 to 39"):
        Adversarial(token=40).attach(CausalLM(build("llama")))
