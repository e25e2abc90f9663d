"""Formulas for chains and clocks: against the anchors, against brute force, and as properties on drawn instances."""

import math
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from experiments.analysis import theory
from experiments.lossless.enumeration.tables import B4, GOLDEN, A, Instance, S, Z
from tests.experiments.drawn_laws import pairs, root

NINE = {"abs": 1e-9, "rel": 0}


@pytest.mark.parametrize(
    ("a", "c", "best", "gain"),
    [
        (0.6, 0.05, 4, 1.9213),
        (0.7, 0.05, 6, 2.3529),
        (0.8, 0.05, 8, 3.0921),
        (0.8, 0.1, 6, 2.4696),
        (0.8, 0.2, 4, 1.8676),
        (0.9, 0.1, 10, 3.4309),
        (0.9, 0.05, 13, 4.6741),
    ],
)
def test_walltime_gain_at_its_best(a: float, c: float, best: int, gain: float) -> None:
    assert theory.best_num_tokens(a, c) == best
    assert theory.walltime_gain(a, best, c) == pytest.approx(gain, abs=5e-5)


def test_expected_tokens_and_its_limit() -> None:
    assert theory.expected_tokens(0.8, 5) == pytest.approx(3.68928, **NINE)
    assert [theory.expected_tokens(0.7, g) for g in range(1, 5)] == pytest.approx([1.7, 2.19, 2.533, 2.7731], **NINE)
    assert theory.expected_tokens(1.0, 7) == 8
    assert theory.expected_tokens(1 - 1e-12, 7) == pytest.approx(8, **NINE)
    assert theory.expected_tokens(0.0, 7) == 1
    assert theory.operations_factor(0.8, 5, 0.1) == pytest.approx((1 - 0.8) * (5 * 0.1 + 6) / (1 - 0.8**6), **NINE)


@given(a=st.floats(0, 1), c=st.floats(0, 1), g=st.integers(0, 12))
@settings(max_examples=60)
def test_tokens_per_step_and_gain_have_their_bounds(a: float, c: float, g: int) -> None:
    tokens = theory.expected_tokens(a, g)
    assert 1 <= tokens <= g + 1 + 1e-12
    assert tokens <= theory.expected_tokens(a, g + 1) <= 1 / max(1 - a, 1e-300) + 1e-9
    assert theory.walltime_gain(a, g, c) <= tokens + 1e-12
    assert theory.expected_tokens(a, g) == pytest.approx(theory.lookahead_tokens(a, 1, g))
    if abs(a - c) > 1e-6:
        assert (theory.best_num_tokens(a, c) > 0) == (a > c)


def test_a_dear_verification_shortens_the_best_draft() -> None:
    dear = [theory.best_num_tokens(0.8, 0.05, lambda n, slope=slope: 1 + slope * (n - 1)) for slope in (0.0, 0.02, 0.1, 1.0)]
    assert dear == sorted(dear, reverse=True)
    assert dear[0] == 8
    assert dear[-1] == 0


GOLDEN_SURVIVAL = {  # length laws of three drafted tokens
    theory.token_weights: (0.2549019607843137, 0.26062091503267976, 0.13843647950771862, 0.34604064467528795),
    theory.block_weights: (0.2549019607843137, 0.1916199813258637, 0.08049571822256349, 0.4729823396672591),
}


@pytest.mark.parametrize("weights", GOLDEN_SURVIVAL)
def test_length_laws_of_the_golden_instance(weights: theory.Weights) -> None:
    alive = [1.0, *theory.survival(GOLDEN.p, GOLDEN.q, 3, weights).tolist(), 0.0]
    assert [alive[i] - alive[i + 1] for i in range(4)] == pytest.approx(GOLDEN_SURVIVAL[weights], **NINE)


@pytest.mark.parametrize(
    ("instance", "weights", "tokens"),
    [
        (GOLDEN, theory.token_weights, [89 / 51, 2729 / 1224, 9996485771971 / 3881202212160]),
        (GOLDEN, theory.block_weights, [89 / 51, 98471 / 42840, 5905792247179 / 2130856116480]),
        (A, theory.token_weights, [1.7, 2.19, 2.533, 2.7731]),
        (A, theory.block_weights, [1.7, 9 / 4, 539 / 200, 6127 / 2000]),
        (S, theory.token_weights, [5 / 3, 19 / 9]),
        (S, theory.block_weights, [5 / 3, 20 / 9]),
        (S, theory.prefix_weights, [5 / 3, 21 / 9]),
        (Z, theory.token_weights, [7 / 5, 39 / 25, 203 / 125]),
        (Z, theory.block_weights, [7 / 5, 39 / 25, 203 / 125]),
    ],
)
def test_tokens_per_step_of_chains(instance: Instance, weights: theory.Weights, tokens: list[float]) -> None:
    found = [1 + float(theory.survival(instance.p, instance.q, g, weights).sum()) for g in range(1, len(tokens) + 1)]
    assert found == pytest.approx(tokens, **NINE)


def test_survival_by_position() -> None:
    assert theory.survival(A.p, A.q, 3, theory.block_weights).tolist() == pytest.approx([0.7, 0.55, 0.445], **NINE)
    assert theory.survival(A.p, A.q, 3, theory.prefix_weights).tolist() == pytest.approx([0.7, 0.61, 0.523], **NINE)
    bound = theory.survival(GOLDEN.p, GOLDEN.q, 3, theory.prefix_weights).tolist()
    assert bound == pytest.approx([0.7450980392156863, 0.6124663590926567, 0.5320423689870151], **NINE)


@given(first=pairs(3), second=pairs(3))
@settings(max_examples=30)
def test_block_lies_between_token_and_the_bound(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> None:
    size = min(len(first[0]), len(second[0]))
    rows = [[row[:size] + 1e-3 for row in pair] for pair in (first, second)]
    p, q = (lambda prefix, which=which: rows[len(prefix) % 2][which] / rows[len(prefix) % 2][which].sum() for which in (0, 1))
    token, block, bound = (theory.survival(p, q, 3, weights) for weights in (theory.token_weights, theory.block_weights, theory.prefix_weights))
    assert bool((token <= block + 1e-12).all())
    assert bool((block <= bound + 1e-12).all())
    assert float(token[0]) == pytest.approx(float(bound[0]), **NINE)
    assert float(token[0]) == pytest.approx(float(theory.acceptance(p(()), q(()))), **NINE)


@pytest.mark.parametrize(("instance", "chance"), [(A, 41 / 65), (B4, 19 / 35), (GOLDEN, 0.7164651485)])
def test_gumbel_match(instance: Instance, chance: float) -> None:
    assert float(theory.gumbel_match(*root(instance))) == pytest.approx(chance, **NINE)


@given(pair=pairs())
@settings(max_examples=60)
def test_gumbel_match_is_the_double_sum_and_keeps_its_bounds(pair: tuple[Tensor, Tensor]) -> None:
    p, q = pair
    both = [j for j in range(len(p)) if p[j] > 0 and q[j] > 0]
    plain = sum(1 / sum(max(float(p[i] / p[j]), float(q[i] / q[j])) for i in range(len(p))) for j in both)
    found, overlap = float(theory.gumbel_match(p, q)), float(theory.acceptance(p, q))
    assert found == pytest.approx(plain, **NINE)
    assert overlap / (2 - overlap) - 1e-9 <= found <= overlap + 1e-9
    assert theory.gumbel_match(torch.stack([p, q]), torch.stack([q, p])).tolist() == pytest.approx([found, found])


def test_lookahead_law_is_the_expected_depth_of_the_best_guess() -> None:
    a, b, g = 0.6, 2, 3
    depth = [(1 - a) * a**i for i in range(g)] + [a**g]
    best = sum(x * y * max(i, j) for (i, x), (j, y) in product(enumerate(depth), repeat=2))
    assert theory.lookahead_tokens(a, b, g) == pytest.approx(1 + best, **NINE)
    assert theory.step_compression(4.0, 3.0) == 2.0
    more = [theory.lookahead_tokens(0.7, 2**b, 16) for b in range(6)]
    assert more == sorted(more)


def test_roofline_of_verification() -> None:
    peak = {"h100": (989e12, 3.35e12, 295), "h200": (989e12, 4.8e12, 206), "a100": (312e12, 2.039e12, 153)}
    for operations, speed, ridge in peak.values():
        assert theory.Roofline(operations_per_second=operations, bytes_per_second=speed).ridge_tokens == pytest.approx(ridge, abs=0.5)
    device = theory.Roofline()
    assert device.verify_cost(64, 1, 2048) == 1
    cases = {(256, 1): 1.42, (64, 8): 2.55, (16, 32): 1.88, (8, 128): 1.84}
    for (num_tokens, batch), cost in cases.items():
        assert device.verify_cost(num_tokens, batch, 2048) == pytest.approx(cost, abs=0.01)


def test_distinct_experts() -> None:
    assert theory.distinct_experts(8, 2, 1) == 2
    assert theory.distinct_experts(8, 8, 3) == 8
    drawn = [len({*x, *y}) for x, y in product([(0, 1), (0, 2), (1, 2)], repeat=2)]
    assert theory.distinct_experts(3, 2, 2) == pytest.approx(sum(drawn) / len(drawn), **NINE)
    assert theory.distinct_experts(64, 8, 1000) == pytest.approx(64)


@pytest.mark.parametrize(
    "call",
    [
        lambda: theory.expected_tokens(1.1, 3),
        lambda: theory.expected_tokens(math.nan, 3),
        lambda: theory.lookahead_tokens(0.5, 2, -1),
        lambda: theory.walltime_gain(0.5, 3, -0.1),
        lambda: theory.distinct_experts(8, 9, 1),
    ],
)
def test_wrong_input_is_refused(call: object) -> None:
    with pytest.raises(ValueError, match="give"):
        call()  # pyright: ignore[reportCallIssue]
