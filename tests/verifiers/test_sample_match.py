"""Sample-and-match on trees, enumerated: exact for whatever is drafted, with repeated siblings as one branch, and its mutants."""

from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import verifiers.sample_match as module
from experiments.lossless.enumeration.proposals import Partial, Row, distinct, independent, one_hot, propose, top, tree
from experiments.lossless.enumeration.step_distribution import assert_exact, examine, tv
from experiments.lossless.enumeration.tables import B4, GOLDEN, INSTANCES, A, Instance, random_instance
from spec.noise import Noise, Purpose
from spec.residual import rows_at
from spec.tree import longest_path
from spec.types import Verdict
from tests.verifiers.test_recursive import hesitant, lookup, name, other_model
from verifiers.recursive import Recursive
from verifiers.sample_match import SampleMatch


def twins(instance: Instance, growth: Partial, slot: int) -> Row:
    """Siblings that all hold the same token."""
    return Row(one_hot((slot + 1) % instance.vocabulary if growth.parents[slot] >= 0 else 1, instance.vocabulary))


@pytest.mark.parametrize(
    ("widths", "expected"), [([1, 1, 1], 1.4889705882), ([2, 1], 1.9139273356), ([2, 2], 2.2138408304), ([3, 2, 1], 2.3968568316)]
)
@pytest.mark.parametrize("declare", [True, False])
def test_deterministic_tree(widths, expected, declare):
    report = examine(GOLDEN, tree(GOLDEN, widths, top, declare=declare), SampleMatch())
    assert_exact(report)
    assert report.expected == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize(("instance", "rule", "expected"), [(A, independent, 1.483), (GOLDEN, top, 1.7352941176470589)], ids=name)
def test_two_siblings(instance, rule, expected):
    assert_exact(examine(instance, tree(instance, [2], rule), SampleMatch()), expected)


@pytest.mark.parametrize("instance", INSTANCES, ids=name)
@pytest.mark.parametrize("rule", [independent, distinct, top, twins])
def test_more_siblings_than_the_drafter_has_tokens(instance, rule):
    assert_exact(examine(instance, tree(instance, [min(instance.vocabulary + 1, 4)], rule), SampleMatch()))


@pytest.mark.parametrize("instance", [GOLDEN, A, B4], ids=name)
@pytest.mark.parametrize("rule", [distinct, top])
def test_same_distribution_as_the_recursive_verifier_for_certain_tokens(instance, rule):
    proposals = tree(instance, [2, 1], rule, declare=False)
    assert tv(examine(instance, proposals, SampleMatch()).distribution, examine(instance, proposals, Recursive()).distribution) < 1e-14


def always(token: int):
    """A rule that drafts this token."""
    return lambda instance, growth, slot: Row(one_hot(token, instance.vocabulary))


def test_repeated_siblings_are_one_branch_with_all_their_children():
    parted = propose(GOLDEN, [(0, always(1)), (0, always(1)), (1, always(2)), (2, always(3))])
    merged = propose(GOLDEN, [(0, always(1)), (1, always(2)), (1, always(3))])
    reports = [examine(GOLDEN, proposals, SampleMatch()) for proposals in (parted, merged)]
    assert tv(reports[0].distribution, reports[1].distribution) < 1e-15
    assert_exact(reports[0], 1 + float(GOLDEN.p(())[1]) * (1 + float(GOLDEN.p((1,))[2:].sum())))


@settings(max_examples=20)
@given(data=st.data(), seed=st.integers(0, 10**6), vocabulary=st.integers(2, 4), zeros=st.sampled_from([0.0, 0.3, 0.7]))
def test_any_tree_of_any_drafter_is_exact(data, seed, vocabulary, zeros):
    instance = random_instance(seed, vocabulary, zeros)
    rules = st.sampled_from([independent, distinct, top, lookup, other_model, hesitant, twins])
    plan = [(data.draw(st.integers(0, node)), data.draw(rules)) for node in range(data.draw(st.integers(0, 4)))]
    report = examine(instance, propose(instance, plan), SampleMatch())
    assert_exact(report)
    assert 1 - 1e-12 <= report.expected <= 1 + len(plan) + 1e-12


def test_q_is_not_looked_at():
    proposals = tree(GOLDEN, [2, 1], distinct)
    blind = replace(proposals, draft=replace(proposals.draft, q=torch.full_like(proposals.p, torch.nan)))
    assert tv(examine(GOLDEN, proposals, SampleMatch()).distribution, examine(GOLDEN, blind, SampleMatch()).distribution) == 0


def test_padding_slots_change_nothing():
    bare, padded = tree(GOLDEN, [2, 1], distinct), tree(GOLDEN, [2, 1], distinct, num_slots=8)
    padded.draft.tokens[:, 5:] = 3
    padded.p[:, 5:] = torch.nan
    assert tv(examine(GOLDEN, bare, SampleMatch(), 3).distribution, examine(GOLDEN, padded, SampleMatch(), 3).distribution) < 1e-15


def test_row_is_judged_alike_in_any_batch():
    proposals = tree(GOLDEN, [2, 1], distinct)
    ids = torch.arange(len(proposals.weights))
    whole = SampleMatch()(proposals.p, proposals.draft, Noise(3).at(ids, ids * 0 + 7)).emitted(proposals.draft)
    for index in ids[::17]:
        one = proposals.rows(index[None])
        alone = SampleMatch()(one.p, one.draft, Noise(3).at(index[None], torch.tensor([7])))
        assert alone.emitted(one.draft).tolist() == whole[index[None]].tolist()


@dataclass(frozen=True)
class LongestMatch(SampleMatch):
    """Wrong: every slot draws for itself, and of two slots with the same path the luckier one counts."""

    def __call__(self, p, draft, noise):
        drawn = noise.categorical(p, Purpose.ACCEPT, draft.slots)
        hit = (draft.tokens == drawn.gather(1, draft.parents.clamp(min=0))) & (draft.slots > 0)
        path, counts = longest_path(hit, draft.ancestors)
        return Verdict(path, drawn.gather(1, path.gather(1, counts[:, None] - 1)).squeeze(1), counts)


@pytest.mark.parametrize("wrong", ["the drafted tokens stay possible", "the luckier of two twins"])
def test_mutant_is_rejected(monkeypatch, wrong):
    proposals, verifier = propose(GOLDEN, [(0, twins), (0, twins), (1, lookup), (2, lookup)]), SampleMatch()
    if wrong == "the luckier of two twins":
        verifier = LongestMatch()
    else:
        monkeypatch.setattr(module, "others", lambda p, draft, last: rows_at(p, last.int().argmax(1, keepdim=True))[:, 0])
    report = examine(GOLDEN, proposals, verifier)
    assert report.error > 0.02
    with pytest.raises(AssertionError, match="off by TV"):
        assert_exact(report)
