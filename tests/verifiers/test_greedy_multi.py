"""Greedy multi-draft, enumerated: its own draft at the acceptance of its closed form, and exactness for any other draft."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.lossless.enumeration.proposals import (
    Partial,
    Proposals,
    Row,
    chain,
    distinct,
    independent,
    one_hot,
    propose,
    top,
    top_then_one,
    tree,
)
from experiments.lossless.enumeration.step_distribution import assert_exact, examine, tv
from experiments.lossless.enumeration.tables import B4, GOLDEN, INSTANCES, SMALL, A, Instance, Z, iid, random_instance
from spec.noise import Noise
from tests.verifiers.siblings import greedy_acceptance
from tests.verifiers.test_recursive import hesitant, lookup, name, other_model
from verifiers.greedy_multi import GreedyMulti
from verifiers.recursive import Recursive
from verifiers.traversal import Traversal

ONE_LEVEL = [  # (instance, K, acceptance)
    (A, 2, 0.90),
    (B4, 2, 23 / 30),
    (B4, 3, 14 / 15),
    (GOLDEN, 2, 0.9647058823529412),
    (GOLDEN, 3, 1.0),
    (Z, 2, 0.4),
    (Z, 3, 0.4),
]


@pytest.mark.parametrize(("instance", "num_children", "acceptance"), ONE_LEVEL, ids=name)
def test_one_level(instance, num_children, acceptance):
    assert_exact(examine(instance, tree(instance, [num_children], top_then_one(num_children)), GreedyMulti()), 1 + acceptance)


@pytest.mark.parametrize(("instance", "gamma", "expected"), [(GOLDEN, 3, 9996485771971 / 3881202212160), (A, 3, 2.533), (Z, 2, 39 / 25)], ids=name)
@pytest.mark.parametrize("width", [1, None])
def test_chain_is_token_level_rejection(instance, gamma, expected, width):
    report = examine(instance, chain(instance, gamma, width=width), GreedyMulti())
    assert_exact(report, expected)
    assert tv(report.distribution, examine(instance, chain(instance, gamma), Recursive()).distribution) < 1e-14


def of_two_levels(instance: Instance) -> float:
    """Tokens a step of the tree [2, 2]: the chance of every first token to be a kept child, times what its own two children accept."""
    p, q = instance.p(()), instance.q(())
    certain = int(q.argmax())
    rest = q.scatter(0, torch.tensor(certain), 0.0)
    kept = torch.minimum(p, rest / rest.sum())
    kept[certain] = p[certain]
    below = [greedy_acceptance(instance.p((token,)), instance.q((token,)), 2) for token in range(instance.vocabulary)]
    return 1 + float(kept.sum()) + sum(float(mass) * chance for mass, chance in zip(kept, below, strict=True))


@pytest.mark.parametrize("instance", [GOLDEN, SMALL, A, B4], ids=name)
def test_two_levels(instance):
    assert_exact(examine(instance, tree(instance, [2, 2], top_then_one(2)), GreedyMulti()), of_two_levels(instance))


@pytest.mark.parametrize("instance", INSTANCES, ids=name)
@pytest.mark.parametrize("num_children", [3, 5])
def test_drafter_with_fewer_tokens_than_children(instance, num_children):
    """Then no child is drawn, all are certain, and the target's own draw is followed."""
    narrow = replace(instance, q=lambda prefix: one_hot(1, instance.vocabulary))
    proposals = tree(narrow, [num_children, 1], top_then_one(num_children))
    assert_exact(examine(narrow, proposals, GreedyMulti()), examine(narrow, proposals, Recursive()).expected)
    assert_exact(examine(instance, tree(instance, [num_children], top_then_one(num_children)), GreedyMulti()))


@pytest.mark.parametrize("instance", [SMALL, A, Z], ids=name)
@pytest.mark.parametrize("rule", [independent, distinct, top])
@pytest.mark.parametrize("widths", [[2, 1], [2, 2], [3]])
def test_drafts_of_other_kinds_are_exact_too(instance, rule, widths):
    assert_exact(examine(instance, tree(instance, widths, rule), GreedyMulti()))


@pytest.mark.parametrize("widths", [[1, 1, 1], [2, 1], [2, 2]])
def test_certain_tree_is_walked(widths):
    for declare in (True, False):
        report = examine(GOLDEN, tree(GOLDEN, widths, top, declare=declare), GreedyMulti())
        assert_exact(report, examine(GOLDEN, tree(GOLDEN, widths, top, declare=False), Recursive()).expected)


@pytest.mark.parametrize("instance", INSTANCES, ids=name)
def test_children_of_three_drafters_in_one_unbalanced_tree(instance):
    plan = [(0, independent), (0, lookup), (0, other_model), (1, lookup), (1, independent), (3, hesitant)]
    assert_exact(examine(instance, propose(instance, plan), GreedyMulti()))


def wary(instance: Instance, growth: Partial, slot: int) -> Row:
    """A last child whose row hangs on what was drawn below its sibling, slot 1, and which may repeat that sibling's token."""
    below = growth.tokens[2]
    return Row(one_hot(growth.tokens[1], instance.vocabulary)) if below == 0 else independent(instance, growth, slot)


def wary_but_different(instance: Instance, growth: Partial, slot: int) -> Row:
    """The same, but without its sibling's token."""
    distribution = instance.q(()) ** (1 + growth.tokens[2])
    distribution = distribution.index_fill(0, torch.tensor(growth.tokens[1]), 0.0)
    return Row(distribution / distribution.sum())


def test_last_row_may_not_hang_on_what_was_drawn_below_a_sibling_that_it_may_repeat():
    plan = [(0, independent), (1, independent)]
    proposals = propose(GOLDEN, [*plan, (0, wary)])
    for verifier in (Recursive(), Traversal()):
        assert_exact(examine(GOLDEN, proposals, verifier))
    assert examine(GOLDEN, proposals, GreedyMulti()).error == pytest.approx(0.0027461965, abs=1e-9)
    assert_exact(examine(GOLDEN, propose(GOLDEN, [*plan, (0, wary_but_different)]), GreedyMulti()))


def test_draft_of_p_itself():
    itself = Instance("itself", 4, GOLDEN.p, GOLDEN.p)
    assert_exact(examine(itself, tree(itself, [2], top_then_one(2)), GreedyMulti()), 1 + greedy_acceptance(GOLDEN.p(()), GOLDEN.p(()), 2))
    equal = iid("equal", (0.5, 0.5), (0.5, 0.5))
    assert_exact(examine(equal, tree(equal, [2, 2], top_then_one(2)), GreedyMulti()), 3)


def test_one_hot_p_emits_its_own_path():
    greedy = Instance("greedy", 4, lambda prefix: one_hot(int(GOLDEN.p(prefix).argmax()), 4), GOLDEN.q)
    report = examine(greedy, tree(greedy, [2, 2], top_then_one(2)), GreedyMulti())
    assert_exact(report)
    assert all(emitted == (3, 1, 2)[: len(emitted)] for emitted, weight in report.distribution.items() if weight > 0)


def test_empty_draft_samples_p():
    assert_exact(examine(GOLDEN, chain(GOLDEN, 0), GreedyMulti()), 1.0)
    assert_exact(examine(GOLDEN, chain(GOLDEN, 0, num_slots=3, width=None), GreedyMulti()), 1.0)


def test_padding_and_width_change_nothing():
    distributions = [
        examine(SMALL, tree(SMALL, [2, 2], top_then_one(2), **packing), GreedyMulti()).distribution
        for packing in ({}, {"num_slots": 9}, {"width": 2}, {"width": 4})
    ]
    assert max(tv(distributions[0], distribution) for distribution in distributions) < 1e-15


@settings(max_examples=15, deadline=None, derandomize=True)
@given(data=st.data(), seed=st.integers(0, 10**6), vocabulary=st.integers(2, 4), zeros=st.sampled_from([0.0, 0.3, 0.7]))
def test_any_tree_of_any_drafter_is_exact(data, seed, vocabulary, zeros):
    instance = random_instance(seed, vocabulary, zeros)
    rules = st.sampled_from([independent, distinct, top, lookup, other_model, hesitant, top_then_one(2), top_then_one(3)])
    plan = [(data.draw(st.integers(0, node)), data.draw(rules)) for node in range(data.draw(st.integers(0, 4)))]
    assert_exact(examine(instance, propose(instance, plan), GreedyMulti()))


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), vocabulary=st.integers(2, 4), zeros=st.sampled_from([0.0, 0.4]), num_children=st.integers(1, 4))
def test_own_draft_reaches_its_closed_form_which_top_down_cannot_pass(seed, vocabulary, zeros, num_children):
    instance = random_instance(seed, vocabulary, zeros)
    proposals = tree(instance, [num_children], top_then_one(num_children))
    report = examine(instance, proposals, GreedyMulti())
    assert_exact(report, 1 + greedy_acceptance(instance.p(()), instance.q(()), num_children))
    assert report.expected >= examine(instance, proposals, Recursive()).expected - 1e-12


@pytest.mark.parametrize("column", [slice(None), 1], ids=["whole row", "one entry"])
def test_nan_in_q_is_refused(column):
    proposals = tree(SMALL, [2, 1], top_then_one(2))
    assert proposals.draft.q is not None
    q = proposals.draft.q.clone()
    q[:, 2, column] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        examine(SMALL, replace(proposals, draft=replace(proposals.draft, q=q)), GreedyMulti())


def test_row_is_judged_alike_in_any_batch():
    proposals = tree(GOLDEN, [2, 2], top_then_one(2))
    ids = torch.arange(len(proposals.weights))
    whole = GreedyMulti()(proposals.p, proposals.draft, Noise(3).at(ids, ids * 0 + 7))
    for index in ids[::3]:
        one = proposals.rows(index[None])
        alone = GreedyMulti()(one.p, one.draft, Noise(3).at(index[None], torch.tensor([7])))
        assert alone.emitted(one.draft).tolist() == whole.emitted(proposals.draft)[index[None]].tolist()


def test_float32_distributions_stay_close():
    proposals = tree(SMALL, [2, 1], top_then_one(2))
    assert proposals.draft.q is not None
    low = Proposals(replace(proposals.draft, q=proposals.draft.q.float()), proposals.p.float(), proposals.weights)
    assert examine(SMALL, low, GreedyMulti()).error < 1e-6
