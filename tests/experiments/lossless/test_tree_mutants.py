"""The exactness check convicts wrong verifiers and drafts of trees by the amount measured for each, and the slow ones by their expected tokens."""

import pytest

from experiments.lossless.enumeration.proposals import chain, distinct, independent, top_then_one, tree
from experiments.lossless.enumeration.step_distribution import assert_exact, examine
from experiments.lossless.enumeration.tables import GOLDEN, SMALL, A
from experiments.lossless.mutants.chains import Mutant
from experiments.lossless.mutants.trees import (
    SLOW_TREE_MUTANTS,
    TREE_MUTANTS,
    GreedyRule,
    KSeqRule,
    SlowMutant,
    TraversalRule,
    deepest_first,
    soft_top,
    unrestricted,
)
from tests.verifiers.test_recursive import name
from verifiers.greedy_multi import GreedyMulti
from verifiers.recursive import Recursive

RIGHT = [
    (GOLDEN, [2, 1], independent, 2.4376892587100194),
    (GOLDEN, [2, 1], distinct, 2.540905230870628),
    (A, [2, 1], distinct, 2.454),
    (A, [3, 1], distinct, 2.76),
]


@pytest.mark.parametrize(("instance", "widths", "rule", "expected"), RIGHT, ids=name)
def test_traversal_rule_that_mutants_vary_is_right(instance, widths, rule, expected):
    assert_exact(examine(instance, tree(instance, widths, rule), TraversalRule()), expected)


@pytest.mark.parametrize("mutant", TREE_MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_is_rejected(mutant: Mutant):
    report = examine(GOLDEN, mutant.proposals(), mutant.verifier)
    with pytest.raises(AssertionError, match="off by TV"):
        assert_exact(report)
    assert report.error == pytest.approx(mutant.error, abs=1e-6)


@pytest.mark.parametrize(("widths", "rule", "error"), [([2, 1], distinct, 0.0975), ([2, 1], independent, 0.162)])
def test_deepest_leaf_first_is_rejected_on_independent_tokens_too(widths, rule, error):
    assert examine(A, tree(A, widths, rule), TraversalRule(deepest_first)).error == pytest.approx(error, abs=1e-9)


def test_longest_of_independent_chains_is_rejected_on_independent_tokens_too():
    longest = next(mutant for mutant in TREE_MUTANTS if mutant.name.startswith("T2"))
    assert examine(A, tree(A, [2, 1], independent), longest.verifier).error == pytest.approx(0.15, abs=1e-9)


@pytest.mark.parametrize("order", ["chains", "one level"])
def test_order_of_leaves_cannot_be_seen_where_it_makes_no_difference(order):
    proposals = chain(SMALL, 3) if order == "chains" else tree(SMALL, [3], distinct)
    assert_exact(examine(SMALL, proposals, TraversalRule(deepest_first)))


@pytest.mark.parametrize("mutant", SLOW_TREE_MUTANTS, ids=lambda mutant: mutant.name)
def test_slow_but_exact_mutant_is_caught_by_expected_tokens(mutant: SlowMutant):
    report = examine(mutant.instance, mutant.proposals(), mutant.verifier)
    assert_exact(report, mutant.slow)
    with pytest.raises(AssertionError, match="tokens a step"):
        assert_exact(report, mutant.right)


@pytest.mark.parametrize(("instance", "expected"), [(GOLDEN, 1.9037351450798389), (A, 1.8585186056537499)], ids=name)
def test_kseq_rule_that_mutants_vary_is_right(instance, expected):
    assert_exact(examine(instance, tree(instance, [3], independent), KSeqRule()), expected)


@pytest.mark.parametrize(("instance", "expected"), [(GOLDEN, 167 / 85), (A, 1.9)], ids=name)
def test_greedy_rule_that_mutants_vary_is_right(instance, expected):
    assert_exact(examine(instance, tree(instance, [2], top_then_one(2)), GreedyRule()), expected)


@pytest.mark.parametrize(("num_children", "error"), [(2, 0.3), (3, 0.5)])
def test_last_child_declared_with_q_itself_is_rejected_on_independent_tokens_too(num_children, error):
    report = examine(A, tree(A, [num_children], unrestricted(num_children)), GreedyMulti())
    assert report.error == pytest.approx(error, abs=1e-9)


def test_soft_rows_of_certain_children_hurt_where_one_of_them_is_the_last():
    soft = tree(GOLDEN, [3], soft_top(3))
    assert_exact(examine(GOLDEN, soft, GreedyMulti()), 2.0)  # it looks at the last child's row alone
    assert examine(GOLDEN, soft, Recursive()).error > 0.1
    assert examine(A, tree(A, [5], soft_top(5)), GreedyMulti()).error == pytest.approx(0.5, abs=1e-9)
    assert_exact(examine(A, tree(A, [5], top_then_one(5)), GreedyMulti()), 2.0)
