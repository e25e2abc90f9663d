"""Leaf-to-root verification, enumerated: exact on any tree, block verification on chains, never behind top-down, and tellingly wrong when altered."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.lossless.enumeration.proposals import Proposals, chain, distinct, independent, one_hot, propose, top, tree
from experiments.lossless.enumeration.step_distribution import assert_exact, examine, tv
from experiments.lossless.enumeration.tables import B4, GOLDEN, INSTANCES, SMALL, A, Instance, Prefix, S, Z, iid, random_instance
from experiments.lossless.mutants.trees import deep_child
from spec.noise import Noise
from spec.types import Draft
from tests.verifiers.siblings import transport_bound
from tests.verifiers.test_recursive import hesitant, lookup, name, other_model
from verifiers.block import Block
from verifiers.recursive import Recursive
from verifiers.traversal import Traversal

DETERMINISTIC = [([1, 1, 1], 1.4889705882), ([2, 1], 1.9139273356), ([2, 2], 2.2138408304)]
CHAINS = [
    (GOLDEN, 1, 89 / 51),
    (GOLDEN, 2, 98471 / 42840),
    (GOLDEN, 3, 5905792247179 / 2130856116480),
    (A, 1, 17 / 10),
    (A, 2, 9 / 4),
    (A, 3, 539 / 200),
    (A, 4, 6127 / 2000),
    (S, 2, 20 / 9),
    (Z, 1, 7 / 5),
    (Z, 2, 39 / 25),
    (Z, 3, 203 / 125),
]
TREES = [
    (GOLDEN, [2], independent, 1.8300653594771243),
    (GOLDEN, [3], independent, 1.883442265795207),
    (GOLDEN, [2, 1], independent, 2.4376892587100194),
    pytest.param(GOLDEN, [2, 2], independent, 2.5098661986581137, marks=pytest.mark.slow),
    (GOLDEN, [2], distinct, 1.8860671191553546),
    (GOLDEN, [3], distinct, 1.9314762443438913),
    (GOLDEN, [2, 1], distinct, 2.540905230870628),
    (GOLDEN, [2, 2], distinct, 2.656748719049757),
    (A, [2], independent, 1.76),
    (A, [3], independent, 1 + 101 / 125),
    (A, [2, 1], independent, 2.352),
    (A, [2, 2], independent, 2.3856),
    (A, [2], distinct, 1.82),
    (A, [3], distinct, 2.0),
    (A, [2, 1], distinct, 2.454),
    (A, [2, 2], distinct, 2.5284),
    (A, [3, 1], distinct, 2.76),
    (B4, [2], distinct, 1 + 107 / 140),
    (B4, [3], distinct, 1 + 14117 / 16800),
    (Z, [2], independent, 1.4),
    (Z, [3], distinct, 1.4),
]


@pytest.mark.parametrize(("instance", "gamma", "expected"), CHAINS, ids=name)
def test_chain_is_block_verification(instance, gamma, expected):
    report = examine(instance, chain(instance, gamma), Traversal())
    assert_exact(report, expected)
    assert tv(report.distribution, examine(instance, chain(instance, gamma), Block()).distribution) < 1e-14


@pytest.mark.parametrize("instance", INSTANCES, ids=name)
def test_chain_that_is_not_known_to_be_one(instance):
    known, unknown = (examine(instance, chain(instance, 2, width=width), Traversal()) for width in (1, None))
    assert tv(known.distribution, unknown.distribution) < 1e-14


@pytest.mark.parametrize(("instance", "widths", "rule", "expected"), TREES, ids=name)
def test_tree(instance, widths, rule, expected):
    assert_exact(examine(instance, tree(instance, widths, rule), Traversal()), expected)


@pytest.mark.slow
@pytest.mark.parametrize(("verifier", "expected"), [(Traversal(), 3.0986952416), (Recursive(), 2.8696789749)], ids=["traversal", "top-down"])
def test_golden_tree_of_depth_three(verifier, expected):
    report = examine(GOLDEN, tree(GOLDEN, [2, 1, 1], distinct), verifier)
    assert_exact(report)
    assert report.expected == pytest.approx(expected, abs=1e-10)  # anchors printed to ten places


@pytest.mark.parametrize("deep", [1, 2])
def test_deep_subtree_gains_most_under_the_first_child(deep):
    assert_exact(examine(A, propose(A, deep_child(deep)), Traversal()), {1: 2.815, 2: 1.970}[deep])


@pytest.mark.parametrize(("widths", "expected"), DETERMINISTIC)
@pytest.mark.parametrize("declare", [True, False])
def test_deterministic_tree_is_walked(widths, expected, declare):
    report = examine(GOLDEN, tree(GOLDEN, widths, top, declare=declare), Traversal())
    assert_exact(report)
    assert report.expected == pytest.approx(expected, abs=1e-10)  # anchors printed to ten places


def test_deterministic_tree_has_the_distribution_of_top_down():
    distributions = [examine(GOLDEN, tree(GOLDEN, [2, 1], top, declare=False), verifier).distribution for verifier in (Traversal(), Recursive())]
    assert tv(*distributions) < 1e-14


@pytest.mark.parametrize("instance", INSTANCES, ids=name)
@pytest.mark.parametrize("rule", [independent, distinct, top])
def test_more_siblings_than_the_drafter_has_tokens(instance, rule):
    assert_exact(examine(instance, tree(instance, [min(instance.vocabulary + 1, 4)], rule), Traversal()))


@pytest.mark.parametrize("instance", INSTANCES, ids=name)
def test_children_of_three_drafters_in_one_tree(instance):
    plan = [(0, independent), (0, lookup), (0, other_model), (1, lookup), (1, independent), (2, distinct)]
    assert_exact(examine(instance, propose(instance, plan), Traversal()))


@pytest.mark.parametrize("instance", [GOLDEN, A, B4], ids=name)
def test_sizes_that_depend_on_kept_tokens(instance):
    plan = [(0, independent), (0, distinct), (1, hesitant), (2, hesitant), (3, hesitant)]
    proposals = propose(instance, plan)
    assert len(proposals.draft.sizes.unique()) > 1
    assert_exact(examine(instance, proposals, Traversal()))
    assert_exact(examine(instance, chain(instance, 3, hesitant), Traversal()))


@pytest.mark.parametrize(
    "plan", [[(0, independent)] * 2 + [(1, independent)] * 2, [(0, distinct)] * 2 + [(1, distinct)] * 2], ids=["iid", "distinct"]
)
def test_draft_of_p_itself(plan):
    itself = Instance("itself", 3, SMALL.p, SMALL.p)
    assert_exact(examine(itself, propose(itself, plan), Traversal()), 3)


def test_distribution_that_equals_p_but_for_rounding_is_accepted_whole():
    rounded = Instance("rounded", 4, GOLDEN.p, lambda prefix: (GOLDEN.p(prefix).log() - 0.7).softmax(0))
    assert_exact(examine(rounded, chain(rounded, 2, width=None), Traversal()), 3)


def test_one_hot_p_emits_its_own_path():
    greedy = Instance("greedy", 4, lambda prefix: one_hot(int(GOLDEN.p(prefix).argmax()), 4), GOLDEN.q)
    report = examine(greedy, tree(greedy, [2, 1], distinct), Traversal())
    assert_exact(report, examine(greedy, tree(greedy, [2, 1], distinct), Recursive()).expected)
    assert all(emitted == (3, 1, 2)[: len(emitted)] for emitted, weight in report.distribution.items() if weight > 0)


def test_empty_draft_samples_p():
    report = examine(GOLDEN, chain(GOLDEN, 0), Traversal())
    assert_exact(report, 1.0)
    assert_exact(examine(GOLDEN, chain(GOLDEN, 0, num_slots=3, width=None), Traversal()), 1.0)


@pytest.mark.parametrize(("widths", "rule"), [([1, 1], independent), ([2, 1], distinct), ([2, 1], top)], ids=["chain", "soft tree", "one-hot tree"])
def test_padding_slots_change_nothing(widths, rule):
    bare, padded = tree(GOLDEN, widths, rule), tree(GOLDEN, widths, rule, num_slots=8)
    padded.draft.tokens[:, bare.draft.num_slots :] = 3
    assert padded.draft.q is not None
    padded.draft.q[:, bare.draft.num_slots :] = torch.nan
    assert tv(examine(GOLDEN, padded, Traversal()).distribution, examine(GOLDEN, bare, Traversal()).distribution) < 1e-15


def permuted(instance: Instance, order: list[int]) -> Instance:
    """The same distributions with token x called order[x]."""
    names = torch.tensor(order)

    def renamed(prefix: Prefix) -> Prefix:
        return tuple(order.index(token) for token in prefix)

    def moved(row: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(row).index_copy_(0, names, row)

    return Instance("permuted", instance.vocabulary, lambda x: moved(instance.p(renamed(x))), lambda x: moved(instance.q(renamed(x))))


@pytest.mark.parametrize("rule", [independent, distinct])
def test_permuting_the_vocabulary_commutes(rule):
    order = [2, 0, 1]
    other = permuted(SMALL, order)
    distribution = examine(SMALL, tree(SMALL, [2, 1], rule), Traversal()).distribution
    renamed = {tuple(order[token] for token in emitted): weight for emitted, weight in distribution.items()}
    assert tv(examine(other, tree(other, [2, 1], rule), Traversal()).distribution, renamed) < 1e-14


@settings(max_examples=15, deadline=None, derandomize=True)
@given(data=st.data(), seed=st.integers(0, 10**6), vocabulary=st.integers(2, 4), zeros=st.sampled_from([0.0, 0.3, 0.7]))
def test_any_tree_of_any_drafter_is_exact_and_not_behind_top_down(data, seed, vocabulary, zeros):
    instance = random_instance(seed, vocabulary, zeros)
    rules = st.sampled_from([independent, distinct, top, lookup, other_model, hesitant])
    plan = [(data.draw(st.integers(0, node)), data.draw(rules)) for node in range(data.draw(st.integers(0, 4)))]
    proposals = propose(instance, plan)
    report = examine(instance, proposals, Traversal())
    assert_exact(report)
    assert report.expected >= examine(instance, proposals, Recursive()).expected - 1e-12


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), zeros=st.sampled_from([0.0, 0.4]), width=st.integers(1, 3), replacement=st.booleans())
def test_nothing_is_above_the_transport_bound(seed, zeros, width, replacement):
    instance = random_instance(seed, 4, zeros)
    report = examine(instance, tree(instance, [width], independent if replacement else distinct), Traversal())
    assert report.expected - 1 <= transport_bound(instance.p(()), instance.q(()), width, replacement) + 1e-12


def nan_row(proposals: Proposals, slot: int, column: int | slice) -> Proposals:
    """The same drafts with NaN in a row of q."""
    assert proposals.draft.q is not None
    q = proposals.draft.q.clone()
    q[:, slot, column] = torch.nan
    return replace(proposals, draft=replace(proposals.draft, q=q))


@pytest.mark.parametrize("proposals", [chain(SMALL, 2), tree(SMALL, [2, 1], distinct)], ids=["chain", "tree"])
@pytest.mark.parametrize("slot", [1, 2])
@pytest.mark.parametrize("column", [slice(None), 1], ids=["whole row", "one entry"])
def test_nan_in_q_is_refused(proposals, slot, column):
    with pytest.raises(ValueError, match="NaN"):
        examine(SMALL, nan_row(proposals, slot, column), Traversal())


@pytest.mark.parametrize(("mass", "kept"), [(0.5, 2), (0.0, 1)])
def test_token_whose_declared_probability_underflowed(mass, kept):
    class Likeliest:
        def categorical(self, distribution, purpose, slots):
            return distribution.argmax(-1)

    p = [[1 - mass, mass], [0.5, 0.5]]
    q = [[0, 0], [1.0, 0.0]]
    draft = Draft.chain(torch.tensor([[0, 1]]), q=torch.tensor([q], dtype=torch.float64))
    for width in (1, None):
        verdict = Traversal()(torch.tensor([p], dtype=torch.float64), replace(draft, width=width), Likeliest())  # type: ignore[arg-type]
        assert verdict.counts.tolist() == [kept]


def test_tiny_ratios_of_a_long_chain_neither_overflow_nor_stick():
    num_slots, vocabulary = 65, 3
    p = torch.full((1, num_slots, vocabulary), 1 / 3)
    q = torch.tensor([1e-30, 0.5, 0.5]).expand(1, num_slots, vocabulary).contiguous()
    tokens = torch.tensor([[0, *[0, 1] * 32]])
    for width in (1, None):
        verdict = Traversal()(p, replace(Draft.chain(tokens, q=q), width=width), Noise(0).at(torch.tensor([0]), torch.tensor([5])))
        assert 1 <= int(verdict.counts) <= num_slots
        assert 0 <= int(verdict.bonus) < vocabulary


def test_row_is_judged_alike_in_any_batch():
    proposals = tree(GOLDEN, [2, 1], distinct)
    ids = torch.arange(len(proposals.weights))
    whole = Traversal()(proposals.p, proposals.draft, Noise(3).at(ids, ids * 0 + 7))
    for index in ids[::17]:
        one = proposals.rows(index[None])
        alone = Traversal()(one.p, one.draft, Noise(3).at(index[None], torch.tensor([7])))
        assert alone.emitted(one.draft).tolist() == whole.emitted(proposals.draft)[index[None]].tolist()


def test_float32_distributions_stay_close():
    proposals = tree(SMALL, [2, 1], distinct)
    assert proposals.draft.q is not None
    low = Proposals(replace(proposals.draft, q=proposals.draft.q.float()), proposals.p.float(), proposals.weights)
    report = examine(SMALL, low, Traversal())
    assert report.error < 1e-6
    assert report.expected == pytest.approx(examine(SMALL, proposals, Traversal()).expected, abs=1e-5)


def test_inputs_are_left_as_they_were():
    proposals = tree(SMALL, [2, 1], distinct)
    assert proposals.draft.q is not None
    p, q = proposals.p.clone(), proposals.draft.q.clone()
    ids = torch.arange(len(p))
    Traversal()(proposals.p, proposals.draft, Noise(0).at(ids, ids * 0))
    assert torch.equal(p, proposals.p)
    assert torch.equal(q, proposals.draft.q)


def test_distributions_that_leave_no_residual():
    equal = iid("equal", (0.5, 0.5), (0.5, 0.5))
    assert_exact(examine(equal, tree(equal, [2, 2], independent), Traversal()), 3)
