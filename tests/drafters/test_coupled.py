"""Drafts that share the target's noise: with the coupled verifier they change nothing, and the two agree as often as the closed form says."""

import pytest
import torch

from drafters.coupled import CoupledDraft
from drafters.none import NoDraft
from spec.noise import Noise
from spec.sampling import Sampler
from tests.drafters.bench import check_greedy_identity
from tests.drafters.contract import assistant_model, check_shape, distribution_after, recorded
from verifiers.coupled import Coupled


@pytest.mark.parametrize("num_children", [1, 3])
def test_tokens_are_the_best_sums_of_log_probability_and_the_positions_noise(num_children):
    sampler = Sampler(seed=4, top_k=7)
    _, proposals = recorded(CoupledDraft(model=assistant_model(), num_tokens=3, num_children=num_children), sampler, new=8, verifier=Coupled())
    for proposal in proposals:
        check_shape(proposal)
        draft = proposal.draft
        assert draft.q is None
        for row in (row for row, done in enumerate(proposal.done) if not done):
            for depth in range(1, min(3, proposal.room[row] - 1) + 1):
                slot = 1 + (depth - 1) * num_children
                text = [*proposal.rows[row], *draft.path(row, slot)][:-1]
                noise = Noise(4).at(torch.tensor([row]), torch.tensor([0])).gumbel(torch.tensor([len(text)]), 40)[0]
                best = (distribution_after(assistant_model(), sampler, text).log() + noise).topk(num_children).indices
                assert draft.tokens[row, slot : slot + num_children].tolist() == best.tolist()


@pytest.mark.parametrize("num_children", [1, 3])
def test_the_output_for_a_seed_is_that_of_plain_coupled_sampling(num_children):
    sampler = Sampler(temperature=0.9, seed=4)
    plain, _ = recorded(NoDraft(), sampler, new=24, verifier=Coupled())
    drafted, _ = recorded(CoupledDraft(model=assistant_model(), num_children=num_children), sampler, new=24, verifier=Coupled())
    assert [drafted.new_tokens(row) for row in range(3)] == [plain.new_tokens(row) for row in range(3)]
    assert drafted.stats.tokens_per_step > plain.stats.tokens_per_step


def test_noise_that_is_not_shared_is_followed_less():
    sampler = Sampler(temperature=0.9, seed=4)
    shared, _ = recorded(CoupledDraft(model=assistant_model()), sampler, new=30, verifier=Coupled())

    class Elsewhere(CoupledDraft):
        def propose(self, state, sampler):
            return super().propose(state, Sampler(temperature=0.9, seed=5))

    apart, _ = recorded(Elsewhere(model=assistant_model()), sampler, new=30, verifier=Coupled())
    assert shared.new_tokens(0) == apart.new_tokens(0)
    assert shared.stats.acceptance_rate > apart.stats.acceptance_rate + 0.05


@pytest.mark.parametrize("num_children", [1, 2])
def test_greedy_text_is_unchanged(num_children):
    check_greedy_identity(lambda: CoupledDraft(model=assistant_model(), num_children=num_children), new=16)


def test_refuses_what_makes_no_sense():
    for options in ({"num_tokens": 0}, {"num_children": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            CoupledDraft(**options)
    assert CoupledDraft(num_children=2).traits.makes_trees
