"""Several chains: drawn as they declare, level by level in one forward, greedy text unchanged."""

import pytest
import torch

from drafters.multi_draft import MultiDraft
from spec.sampling import Sampler
from tests.drafters.bench import PROMPTS, check_greedy_identity
from tests.drafters.contract import assistant_model, check_distributions, check_shape, distribution_after, recorded


@pytest.mark.parametrize("siblings", ["independent", "distinct"])
@pytest.mark.parametrize("options", [{}, {"top_k": 2}, {"repetition_penalty": 1.5}], ids=str)
def test_declares_the_distributions_it_draws_from(siblings, options):
    sampler = Sampler(seed=2, **options)
    _, proposals = recorded(MultiDraft(model=assistant_model(), num_chains=3, num_tokens=3, siblings=siblings), sampler, new=8)
    assert sum(check_distributions(proposal, assistant_model(), sampler, siblings) for proposal in proposals) > 50
    for proposal in proposals:
        check_shape(proposal)


def test_greedy_siblings_are_the_most_probable_tokens_and_one_that_is_drawn():
    sampler = Sampler(seed=2)
    _, proposals = recorded(MultiDraft(model=assistant_model(), num_chains=3, num_tokens=2, siblings="greedy"), sampler, new=8)
    for proposal in proposals:
        draft = proposal.draft
        for row in (row for row, room in enumerate(proposal.room) if room > 1):
            distribution = distribution_after(assistant_model(), sampler, proposal.rows[row])
            best = distribution.topk(2).indices
            assert draft.tokens[row, 1:3].tolist() == best.tolist()
            assert torch.equal(draft.q[row, 1:3], torch.nn.functional.one_hot(best, len(distribution)).to(draft.q.dtype))
            rest = distribution.scatter(0, best, 0.0)
            assert torch.allclose(draft.q[row, 3], rest / rest.sum())


def test_first_tokens_that_do_not_exist_leave_no_hole():
    _, proposals = recorded(MultiDraft(model=assistant_model(), num_chains=3, num_tokens=3, siblings="distinct"), Sampler(seed=2, top_k=2), new=8)
    first = proposals[0].draft
    assert first.sizes.tolist() == [7, 7, 7]
    assert first.parents[0].tolist() == [-1, 0, 0, 1, 2, 3, 4, 0, 0, 0]


def test_chains_stand_side_by_side_and_width_one_is_a_chain():
    _, proposals = recorded(MultiDraft(model=assistant_model(), num_chains=2, num_tokens=3), Sampler(seed=2))
    assert proposals[0].draft.parents[0].tolist() == [-1, 0, 0, 1, 2, 3, 4]
    assert proposals[0].draft.width == 2
    drafter = MultiDraft(model=assistant_model(), num_chains=1)
    _, proposals = recorded(drafter, Sampler(seed=2))
    assert all(proposal.draft.is_chain for proposal in proposals)
    assert not drafter.traits.makes_trees


@pytest.mark.parametrize("siblings", ["independent", "distinct", "greedy"])
def test_temperature_zero_takes_the_most_probable_first_tokens(siblings):
    sampler = Sampler(temperature=0)
    _, proposals = recorded(MultiDraft(model=assistant_model(), num_chains=3, siblings=siblings), sampler, new=6)
    assert all(proposal.draft.q is None for proposal in proposals)
    distribution = distribution_after(assistant_model(), Sampler(), PROMPTS[0])
    assert proposals[0].draft.tokens[0, 1:4].tolist() == distribution.topk(3).indices.tolist()


@pytest.mark.parametrize("num_chains", [1, 3])
def test_greedy_text_is_unchanged(num_chains):
    check_greedy_identity(lambda: MultiDraft(model=assistant_model(), num_chains=num_chains), new=16)


def test_a_row_samples_the_same_alone_and_in_a_batch():
    together, _ = recorded(MultiDraft(model=assistant_model()), Sampler(seed=5), new=16)
    alone, _ = recorded(MultiDraft(model=assistant_model()), Sampler(seed=5), PROMPTS[:1], new=16)
    assert together.new_tokens(0) == alone.new_tokens(0)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"num_chains": 0}, "at least 1"), ({"num_tokens": 0}, "at least 1"), ({"siblings": "best"}, "choose one of distinct, independent, greedy")],
)
def test_refuses_what_makes_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        MultiDraft(**options)
