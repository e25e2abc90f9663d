"""Formulas for siblings at one node: against the anchors, against brute force and linear programming, and as properties on drawn distributions."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from torch import Tensor

from experiments.lossless.enumeration.tables import B4, GOLDEN, A, Instance, Z
from tests.verifiers import siblings
from tests.verifiers.drawn_distributions import pairs, root

NINE = {"abs": 1e-9, "rel": 0}


def tuple_distribution(q: Tensor, num_siblings: int, replacement: bool) -> dict[tuple[int, ...], float]:
    """The distribution of the drafted tokens in drawn order; shorter tuples where q runs out."""
    distribution: dict[tuple[int, ...], float] = {(): 1.0}
    support = [token for token in range(len(q)) if q[token] > 0]
    for _ in range(num_siblings if replacement else min(num_siblings, len(support))):
        distribution = {
            (*drafts, token): mass * float(q[token]) / (1 if replacement else sum(float(q[other]) for other in support if other not in drafts))
            for drafts, mass in distribution.items()
            for token in support
            if replacement or token not in drafts
        }
    return distribution


def bound_by_subsets(p: Tensor, q: Tensor, num_siblings: int, replacement: bool) -> float:
    """The dual over all 2^V sets."""
    distribution = tuple_distribution(q, num_siblings, replacement)
    chosen = [{token for token, inside in enumerate(mask) if inside} for mask in product((0, 1), repeat=len(p))]
    return min(
        sum(float(p[x]) for x in subset) + 1 - sum(mass for drafts, mass in distribution.items() if set(drafts) <= subset) for subset in chosen
    )


def bound_by_program(p: Tensor, q: Tensor, num_siblings: int, replacement: bool) -> float:
    """The primal: the coupling of drafts and output with the largest mass on outputs that were drafted."""
    distribution = tuple_distribution(q, num_siblings, replacement)
    cells = [(drafts, token) for drafts in distribution for token in range(len(p))]
    rows = [[float(cell[0] == drafts) for cell in cells] for drafts in distribution] + [
        [float(cell[1] == token) for cell in cells] for token in range(len(p))
    ]
    found = linprog(
        [-float(token in drafts) for drafts, token in cells], A_eq=np.array(rows), b_eq=[*distribution.values(), *p.tolist()], bounds=(0, None)
    )
    return -found.fun


@pytest.mark.parametrize(
    ("instance", "k", "expected"),
    [  # recursive iid, recursive without replacement, K-SEQ, its rho, greedy, bound iid, bound without replacement
        (A, 2, (0.76, 0.82, 0.7913552873, 1.456776, 0.90, 0.86, 69 / 70)),
        (A, 3, (101 / 125, 1.0, 0.8585186057, None, None, 247 / 250, None)),
        (B4, 2, (0.72, 107 / 140, 0.75, 1.5, 23 / 30, 0.79, 701 / 840)),
        (B4, 3, (96 / 125, 14117 / 16800, None, None, 14 / 15, 871 / 1000, None)),
        (Z, 2, (0.4, 0.4, 0.4, None, 0.4, 0.4, 0.4)),
        (GOLDEN, 2, (0.8300653594771242, 0.8860671191553544, 0.8667679328491014, 1.365009680900245, 0.9647058823529412, 0.9244281045751634, 1.0)),
        (GOLDEN, 3, (0.883442265795207, 0.9314762443438914, 0.9037351450798389, 1.6683511527227723, 1.0, 0.9944512527233116, 1.0)),
    ],
)
def test_rules_for_siblings_hit_their_anchors(instance: Instance, k: int, expected: tuple[float | None, ...]) -> None:
    p, q = root(instance)
    seq = siblings.kseq(p, q, k)
    found = (
        siblings.recursive_acceptance(p, q, k),
        siblings.recursive_acceptance(p, q, k, replacement=False),
        seq.acceptance,
        seq.rho,
        siblings.greedy_acceptance(p, q, k),
        siblings.transport_bound(p, q, k),
        siblings.transport_bound(p, q, k, replacement=False),
    )
    for place, (value, anchor) in enumerate(zip(found, expected, strict=True)):
        short = place == 3 and instance is A  # this anchor has six digits
        assert anchor is None or value == pytest.approx(anchor, abs=5e-7 if short else 1e-9, rel=0)


@pytest.mark.parametrize("replacement", [True, False])
@given(pair=pairs(), k=st.integers(1, 3))
@settings(max_examples=60)
def test_the_bound_is_the_minimum_over_all_sets(pair: tuple[Tensor, Tensor], k: int, replacement: bool) -> None:
    assert siblings.transport_bound(*pair, k, replacement) == pytest.approx(bound_by_subsets(*pair, k, replacement), **NINE)


@pytest.mark.parametrize("replacement", [True, False])
@given(pair=pairs(4), k=st.integers(1, 2))
@settings(max_examples=15)
def test_the_bound_is_the_value_of_the_transport_problem(pair: tuple[Tensor, Tensor], k: int, replacement: bool) -> None:
    assert siblings.transport_bound(*pair, k, replacement) == pytest.approx(bound_by_program(*pair, k, replacement), abs=1e-7)


@given(pair=pairs(), k=st.integers(1, 4), order=st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_rules_respect_bounds_order_of_tokens_and_one_sibling(pair: tuple[Tensor, Tensor], k: int, order: object) -> None:
    p, q = pair
    bounds = [siblings.transport_bound(p, q, k, replacement) for replacement in (True, False)]
    seq = siblings.kseq(p, q, k)
    recursive = [siblings.recursive_acceptance(p, q, k, replacement) for replacement in (True, False)]
    assert 1 <= seq.rho <= k
    assert 1 - (1 - seq.beta) ** k == pytest.approx(seq.rho * seq.beta, **NINE)
    assert seq.acceptance >= (1 - (1 - 1 / k) ** k) * bounds[0] - 1e-9
    assert max(recursive[0], seq.acceptance) <= bounds[0] + 1e-9
    assert recursive[1] <= bounds[1] + 1e-9
    single = siblings.acceptance(p, q)
    for value in (*bounds, *recursive, seq.acceptance):
        assert single - 1e-9 <= value <= 1 + 1e-12
    shuffle = torch.randperm(len(p), generator=torch.Generator().manual_seed(order.randint(0, 99)))  # pyright: ignore[reportAttributeAccessIssue]
    moved = p[shuffle], q[shuffle]
    assert siblings.kseq(*moved, k).acceptance == pytest.approx(seq.acceptance, **NINE)
    for index, replacement in enumerate((True, False)):
        assert siblings.transport_bound(*moved, k, replacement) == pytest.approx(bounds[index], **NINE)
        assert siblings.recursive_acceptance(*moved, k, replacement) == pytest.approx(recursive[index], **NINE)


@given(pair=pairs(), k=st.integers(1, 4))
@settings(max_examples=60)
def test_with_one_sibling_all_rules_are_the_same_and_more_do_no_harm(pair: tuple[Tensor, Tensor], k: int) -> None:
    p, q = pair
    single = pytest.approx(siblings.acceptance(p, q), **NINE)
    assert siblings.kseq(p, q, 1).acceptance == single
    assert siblings.greedy_acceptance(p, q, 1) == single
    for replacement in (True, False):
        assert siblings.recursive_acceptance(p, q, 1, replacement) == single
        assert siblings.transport_bound(p, q, 1, replacement) == single
        for rule in (siblings.recursive_acceptance, siblings.transport_bound):
            assert rule(p, q, k, replacement) <= rule(p, q, k + 1, replacement) + 1e-9


@given(pair=pairs(4), k=st.integers(1, 3))
@settings(max_examples=40)
def test_greedy_multi_draft_is_optimal_for_its_own_way_of_drafting(pair: tuple[Tensor, Tensor], k: int) -> None:
    p, q = pair
    top = q.sort(descending=True, stable=True).indices[: k - 1].tolist()
    top = [token for token in top if q[token] > 0]
    rest = q.clone()
    rest[top] = 0
    distribution = {(*top, token): float(rest[token] / rest.sum()) for token in range(len(q)) if rest[token] > 0} or {tuple(top): 1.0}
    chosen = [{token for token, inside in enumerate(mask) if inside} for mask in product((0, 1), repeat=len(p))]
    best = min(
        sum(float(p[x]) for x in subset) + 1 - sum(mass for drafts, mass in distribution.items() if set(drafts) <= subset) for subset in chosen
    )
    assert siblings.greedy_acceptance(p, q, k) == pytest.approx(best, **NINE)


@pytest.mark.parametrize(
    "call",
    [
        lambda: siblings.kseq(torch.ones(2) / 2, torch.ones(3) / 3, 2),
        lambda: siblings.transport_bound(torch.ones(2) / 2, torch.ones(2) / 2, 0),
        lambda: siblings.transport_bound(torch.ones(9999) / 9999, torch.ones(9999) / 9999, 3, replacement=False),
        lambda: siblings.recursive_acceptance(torch.ones(5000) / 5000, torch.arange(5000) / 12497500, 3, replacement=False),
    ],
)
def test_wrong_input_is_refused(call: object) -> None:
    with pytest.raises(ValueError, match="give"):
        call()  # pyright: ignore[reportCallIssue]
