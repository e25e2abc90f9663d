"""K-SEQ, enumerated: exact for independent siblings, as good as its closed form says, and closed to siblings that are not."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.lossless.enumeration.proposals import Proposals, chain, distinct, independent, one_hot, propose, top, tree
from experiments.lossless.enumeration.step_distribution import assert_exact, examine, tv
from experiments.lossless.enumeration.tables import B4, GOLDEN, INSTANCES, SMALL, A, Instance, Z, random_instance
from spec.noise import Noise
from tests.verifiers.siblings import kseq, transport_bound
from tests.verifiers.test_recursive import hesitant, lookup, name
from verifiers.kseq import KSeq, largest_safe
from verifiers.recursive import Recursive

ONE_LEVEL = [  # (instance, K, acceptance, rho)
    (A, 2, 0.7913552873, 1.456776),
    (A, 3, 0.8585186057, None),
    (B4, 2, 0.75, 1.5),
    (GOLDEN, 2, 0.8667679328491014, 1.365009680900245),
    (GOLDEN, 3, 0.9037351450798389, 1.6683511527227723),
    (Z, 2, 0.4, None),
    (Z, 3, 0.4, None),
]


@pytest.mark.parametrize(("instance", "num_siblings", "acceptance", "rho"), ONE_LEVEL, ids=name)
def test_one_level(instance, num_siblings, acceptance, rho):
    report = examine(instance, tree(instance, [num_siblings], independent), KSeq())
    assert_exact(report)
    assert report.expected - 1 == pytest.approx(acceptance, abs=1e-10)
    t = largest_safe(instance.p(())[None], instance.q(())[None], torch.tensor([num_siblings]))
    if rho is not None:
        assert 1 / float(t) == pytest.approx(rho, abs=1e-6)


@pytest.mark.parametrize(("instance", "gamma", "expected"), [(GOLDEN, 3, 9996485771971 / 3881202212160), (A, 3, 2.533), (Z, 2, 39 / 25)], ids=name)
@pytest.mark.parametrize("width", [1, None])
def test_chain_is_token_level_rejection(instance, gamma, expected, width):
    report = examine(instance, chain(instance, gamma, width=width), KSeq())
    assert_exact(report, expected)
    assert tv(report.distribution, examine(instance, chain(instance, gamma), Recursive()).distribution) < 1e-14


def of_depth_two(instance: Instance, width: int) -> float:
    """Tokens a step of a tree [width, 1]: the chance to pass the first level, then that of the kept child's only child, token by token."""
    p, q = instance.p(()), instance.q(())
    found = kseq(p, q, width)
    kept = torch.minimum(q, p / found.rho) * found.acceptance / found.beta
    overlaps = [float(torch.minimum(instance.p((token,)), instance.q((token,))).sum()) for token in range(instance.vocabulary)]
    return 1 + float(kept.sum()) + sum(float(mass) * overlap for mass, overlap in zip(kept, overlaps, strict=True))


@pytest.mark.parametrize(("instance", "width"), [(GOLDEN, 2), (A, 2)], ids=name)
def test_two_levels(instance, width):
    assert_exact(examine(instance, tree(instance, [width, 1], independent), KSeq()), of_depth_two(instance, width))


@pytest.mark.parametrize("instance", [SMALL, Z], ids=name)
@pytest.mark.parametrize("widths", [[2, 2], [4]])
def test_wide_and_deep(instance, widths):
    assert_exact(examine(instance, tree(instance, widths, independent), KSeq()))


def test_padding_and_width_change_nothing():
    distributions = [
        examine(SMALL, tree(SMALL, [2, 1], independent, **packing), KSeq()).distribution
        for packing in ({}, {"num_slots": 8}, {"width": 2}, {"width": 4})
    ]
    assert max(tv(distributions[0], distribution) for distribution in distributions) < 1e-14


@pytest.mark.parametrize("instance", [GOLDEN, A, B4], ids=name)
def test_unbalanced_tree_whose_shape_depends_on_kept_tokens(instance):
    proposals = propose(instance, [(0, independent), (0, independent), (1, hesitant), (1, hesitant), (2, hesitant)])
    assert len(proposals.draft.sizes.unique()) > 1
    assert_exact(examine(instance, proposals, KSeq()))


@pytest.mark.parametrize("instance", INSTANCES, ids=name)
@pytest.mark.parametrize("plan", [[(0, top), (0, lookup), (0, top), (1, lookup), (1, lookup)]])
def test_draft_without_q_is_walked(instance, plan):
    proposals = propose(instance, plan, declare=False)
    report = examine(instance, proposals, KSeq())
    assert_exact(report, examine(instance, proposals, Recursive()).expected)


def test_equal_certain_siblings_are_independent():
    proposals = propose(GOLDEN, [(0, lookup), (0, lookup), (0, lookup)])
    assert_exact(examine(GOLDEN, proposals, KSeq()), 1 + float(GOLDEN.p(())[1]))


@pytest.mark.parametrize(
    "plan",
    [[(0, distinct), (0, distinct)], [(0, top), (0, top)], [(0, independent), (0, lookup)], [(0, independent), (1, distinct), (1, distinct)]],
    ids=["without replacement", "certain and different", "two drafters", "below the root"],
)
def test_siblings_with_different_rows_are_refused(plan):
    with pytest.raises(ValueError, match=r"K-SEQ needs siblings drawn independently .* verifier=recursive"):
        examine(GOLDEN, propose(GOLDEN, plan), KSeq())


def hasty(instance: Instance, growth, slot: int):
    """A second sibling only if the first one was likely: the rows are honest and equal, but their number hangs on what was drawn."""
    siblings = growth.siblings(slot)
    return None if siblings and instance.q(())[siblings[0]] < 0.3 else independent(instance, growth, slot)


def test_number_of_siblings_that_depends_on_their_tokens_is_convicted():
    proposals = tree(GOLDEN, [2], hasty)
    assert_exact(examine(GOLDEN, proposals, Recursive()))
    assert examine(GOLDEN, proposals, KSeq()).error > 0.01


def test_draft_of_p_itself_is_accepted_whole():
    itself = Instance("itself", 3, SMALL.p, SMALL.p)
    assert_exact(examine(itself, tree(itself, [2, 1], independent), KSeq()), 3)


def test_one_hot_distributions():
    greedy = Instance("greedy", 4, lambda prefix: one_hot(int(GOLDEN.p(prefix).argmax()), 4), GOLDEN.q)
    assert_exact(examine(greedy, tree(greedy, [2], independent), KSeq()))
    certain = Instance("certain", 4, GOLDEN.p, lambda prefix: one_hot(3, 4))
    assert_exact(examine(certain, tree(certain, [2, 1], independent), KSeq()), 1 + 13 / 34 * (1 + float(GOLDEN.p((3,))[3])))


def test_empty_draft_samples_p():
    assert_exact(examine(GOLDEN, chain(GOLDEN, 0), KSeq()), 1.0)
    assert_exact(examine(GOLDEN, chain(GOLDEN, 0, num_slots=3, width=None), KSeq()), 1.0)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), vocabulary=st.integers(2, 4), zeros=st.sampled_from([0.0, 0.3, 0.7]), num_siblings=st.integers(1, 3))
def test_any_instance_is_exact_and_within_its_bounds(seed, vocabulary, zeros, num_siblings):
    instance = random_instance(seed, vocabulary, zeros)
    report = examine(instance, tree(instance, [num_siblings], independent), KSeq())
    bound = transport_bound(instance.p(()), instance.q(()), num_siblings)
    assert_exact(report, 1 + kseq(instance.p(()), instance.q(()), num_siblings).acceptance)
    assert (1 - (1 - 1 / num_siblings) ** num_siblings) * bound - 1e-12 <= report.expected - 1 <= bound + 1e-12


@pytest.mark.parametrize("column", [slice(None), 1], ids=["whole row", "one entry"])
@pytest.mark.parametrize("widths", [[2, 1], [1]])
def test_nan_in_q_is_refused(widths, column):
    proposals = tree(SMALL, widths, independent)
    assert proposals.draft.q is not None
    q = proposals.draft.q.clone()
    q[:, 1:3, column] = torch.nan
    with pytest.raises(ValueError, match=r"NaN|differ"):
        examine(SMALL, replace(proposals, draft=replace(proposals.draft, q=q)), KSeq())


def test_float32_is_exact_before_rho_is():
    """Few bisections leave rho a millionth too large, which costs a millionth of the acceptance and nothing of the distribution."""
    proposals = tree(SMALL, [3], independent)
    assert proposals.draft.q is not None
    low = Proposals(replace(proposals.draft, q=proposals.draft.q.float()), proposals.p.float(), proposals.weights)
    report = examine(SMALL, low, KSeq())
    assert report.error < 1e-6
    assert report.expected == pytest.approx(examine(SMALL, proposals, KSeq()).expected, abs=1e-5)


@pytest.mark.parametrize("num_siblings", [2, 8, 64])
def test_t_is_on_the_safe_side(num_siblings):
    instance = random_instance(num_siblings, 50)
    p, q = instance.p(()), instance.q(())
    t = float(largest_safe(p[None], q[None], torch.tensor([num_siblings])))
    beta = float(torch.minimum(q, t * p).sum())
    assert t * (1 - (1 - beta) ** num_siblings) / beta <= 1 + 1e-12
    assert 1 / t == pytest.approx(kseq(p, q, num_siblings).rho, rel=1e-9)


def test_row_is_judged_alike_in_any_batch():
    proposals = tree(GOLDEN, [2, 1], independent)
    ids = torch.arange(len(proposals.weights))
    whole = KSeq()(proposals.p, proposals.draft, Noise(3).at(ids, ids * 0 + 7))
    for index in ids[::37]:
        one = proposals.rows(index[None])
        alone = KSeq()(one.p, one.draft, Noise(3).at(index[None], torch.tensor([7])))
        assert alone.emitted(one.draft).tolist() == whole.emitted(proposals.draft)[index[None]].tolist()
