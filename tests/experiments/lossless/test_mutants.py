"""The exactness check convicts every known bug, by the amount computed for it independently, so that passing it means something."""

import pytest

from experiments.lossless.enumeration.proposals import chain, distinct, independent, tree
from experiments.lossless.enumeration.step_distribution import assert_exact, examine
from experiments.lossless.enumeration.tables import GOLDEN
from experiments.lossless.mutants.chains import MUTANTS, ChainRule, Mutant, SiblingRule
from verifiers.recursive import Recursive

CHAIN_3 = 2.5756158080739806  # tokens a step, golden, gamma = 3
DISTINCT_2 = 1.8860671191553546  # golden, two siblings without replacement


@pytest.mark.parametrize("verifier", [ChainRule(), Recursive()], ids=["base", "production"])
def test_rule_that_chain_mutants_vary_is_right(verifier):
    assert_exact(examine(GOLDEN, chain(GOLDEN, 3), verifier), CHAIN_3)


@pytest.mark.parametrize("verifier", [SiblingRule(), Recursive()], ids=["base", "production"])
@pytest.mark.parametrize(("rule", "expected"), [(distinct, 1.9314762443438913), (independent, 1.883442265795207)])
def test_rule_that_sibling_mutants_vary_is_right(verifier, rule, expected):
    assert_exact(examine(GOLDEN, tree(GOLDEN, [3], rule), verifier), expected)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_is_rejected(mutant: Mutant):
    report = examine(GOLDEN, mutant.proposals(), mutant.verifier)
    with pytest.raises(AssertionError, match="off by TV"):
        assert_exact(report)
    assert report.error == pytest.approx(mutant.error, abs=1e-6)


@pytest.mark.parametrize("mutant", [m for m in MUTANTS if m.verifier in (ChainRule(), SiblingRule())], ids=lambda mutant: mutant.name)
def test_production_verifier_cannot_save_a_draft_that_breaks_the_contract(mutant: Mutant):
    report = examine(GOLDEN, mutant.proposals(), Recursive())
    with pytest.raises(AssertionError, match="off by TV"):
        assert_exact(report)


@pytest.mark.parametrize(
    ("proposals", "verifier", "expected", "lost"),
    [
        (lambda: chain(GOLDEN, 3), ChainRule(emit_bonus=False), CHAIN_3, 0.34604064467528795),
        (lambda: tree(GOLDEN, [2], distinct), SiblingRule(num_tested=1), DISTINCT_2, DISTINCT_2 - 89 / 51),
    ],
    ids=["no bonus token", "first child only"],
)
def test_slow_but_exact_mutant_is_caught_by_expected_tokens(proposals, verifier, expected, lost):
    report = examine(GOLDEN, proposals(), verifier)
    assert_exact(report)
    with pytest.raises(AssertionError, match="tokens a step"):
        assert_exact(report, expected)
    assert report.expected == pytest.approx(expected - lost, abs=1e-9)
