"""The sequential chi-square: it stays below its false-alarm rate, finds what it says it finds, and its transform is uniform for any distribution."""

import math

import pytest
import torch
from scipy.stats import binom, chi2
from torch import Tensor

from experiments.lossless.checks.frequencies import SequentialTest, equal_cells, holm, integral_transform, noncentrality, samples_needed, token_cells


def distribution_of(size: int, seed: int = 0) -> Tensor:
    distribution = torch.rand(size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) ** 4
    return distribution / distribution.sum()


def texts_of(distribution: Tensor, num_texts: int, length: int, generator: torch.Generator) -> Tensor:
    return torch.multinomial(distribution, num_texts * length, True, generator=generator).view(num_texts, length)


def run(distribution: Tensor, truth: Tensor, bins: int, length: int, **settings) -> SequentialTest:
    """Texts whose tokens follow `truth`, judged by `distribution`."""
    generator, test = torch.Generator().manual_seed(1), SequentialTest(bins**length, **settings)
    while test.state == "continue":
        tokens = texts_of(truth, test.wanted, length, generator)
        v = torch.rand(tokens.shape, dtype=torch.float64, generator=generator)
        test.add(equal_cells(integral_transform(distribution.expand(*tokens.shape, -1), tokens, v), bins))
    return test


@pytest.mark.parametrize(("df", "value"), [(3, 72), (15, 96), (26, 110), (63, 142), (255, 232)])
def test_noncentrality_at_which_a_millionth_is_met_with_power_999(df, value):
    assert noncentrality(df, 1e-6, 0.999) == pytest.approx(value, abs=0.5)


def test_samples_needed_grow_with_the_inverse_square():
    assert samples_needed(64, 0.05) == pytest.approx(noncentrality(63, 1e-6, 0.999) / 0.01, abs=1)
    assert samples_needed(64, 0.025) == pytest.approx(4 * samples_needed(64, 0.05), abs=4)


@pytest.mark.parametrize("scores", [None, 0, 1])
def test_transform_is_uniform_whatever_the_order(scores):
    distribution, generator = distribution_of(9), torch.Generator().manual_seed(2)
    tokens = texts_of(distribution, 20_000, 1, generator)
    order = None if scores is None else distribution_of(9, 5 + scores).expand(20_000, 1, -1)
    u = integral_transform(distribution.expand(20_000, 1, -1), tokens, torch.rand(20_000, 1, dtype=torch.float64, generator=generator), order)
    counts = torch.bincount(equal_cells(u, 20), minlength=20).double()
    assert chi2.sf(float(((counts - 1000) ** 2 / 1000).sum()), 19) > 1e-3


def test_transform_by_hand():
    distributions = torch.tensor([[[0.5, 0.2, 0.3, 0.0]]]).expand(4, 1, -1)
    tokens, v = torch.tensor([[0], [1], [2], [3]]), torch.full((4, 1), 0.5, dtype=torch.float64)
    assert integral_transform(distributions, tokens, v).squeeze(1).tolist() == pytest.approx([0.25, 0.9, 0.65, 1.0])
    by_id = integral_transform(distributions, tokens, v, torch.tensor([4.0, 3.0, 2.0, 1.0]).expand(4, 1, -1))
    assert by_id.squeeze(1).tolist() == pytest.approx([0.25, 0.6, 0.85, 1.0])


def test_cells_by_hand():
    assert equal_cells(torch.tensor([[0.0, 0.99], [0.5, 0.0], [1.0, 1.0]]), 2).tolist() == [2, 1, 3]
    assert token_cells(torch.tensor([[0, 0, 1], [2, 1, 0]]), 3).tolist() == [1, 21]


def test_texts_that_follow_the_distribution_pass_and_a_small_bias_does_not():
    distribution = distribution_of(50)
    truth = distribution**1.1 / (distribution**1.1).sum()
    passed, rejected = run(distribution, distribution, 4, 3), run(distribution, truth, 4, 3)
    assert passed.state == "pass"
    assert passed.taken == 20_000
    assert rejected.state == "reject"
    assert rejected.taken < 20_000  # and it stops early
    assert rejected.tv is not None
    assert passed.tv is not None
    assert 0 <= passed.tv < 0.01 < rejected.tv


def test_tokens_that_the_distribution_excludes_are_seen():
    distribution = torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64)
    assert run(distribution, torch.tensor([0.45, 0.45, 0.1]), 4, 1).state == "reject"


def test_false_alarms_are_no_more_than_stated():
    generator, rejected, repeats = torch.Generator().manual_seed(3), 0, 500
    for _ in range(repeats):
        test = SequentialTest(16, 1600, alpha=0.05)
        while test.state == "continue":
            test.add(torch.randint(16, (test.wanted,), generator=generator))
        rejected += test.state == "reject"
    assert rejected <= binom.isf(1e-4, repeats, 0.05)
    assert rejected > 0.2 * 0.05 * repeats  # and the test is not so careful that it finds nothing


def test_bias_of_the_detectable_size_is_found():
    """The hardest bias of a given TV moves equal mass between two halves of the cells."""
    generator = torch.Generator().manual_seed(4)
    test = SequentialTest(16, 4000, alpha=1e-3)
    shift = 2 * test.detectable_tv / 16
    distribution = torch.tensor([1 / 16 + shift, 1 / 16 - shift], dtype=torch.float64).repeat(8)
    found = 0
    for _ in range(100):
        test = SequentialTest(16, 4000, alpha=1e-3)
        while test.state == "continue":
            test.add(torch.multinomial(distribution, test.wanted, True, generator=generator))
        found += test.state == "reject"
    assert found >= 99


def test_cell_of_probability_zero_rejects_at_once():
    test = SequentialTest(torch.tensor([0.5, 0.5, 0.0]), 800)
    test.add(torch.tensor([0, 1] * 49 + [2, 2]))
    assert (test.state, test.p_value, test.statistic) == ("reject", 0.0, math.inf)


def test_small_cells_are_pooled():
    test = SequentialTest(torch.tensor([0.5, 0.35, 0.1498, 2e-4, 0.0]), 800)
    assert test.df == 2
    assert float(test.distribution.sum()) == pytest.approx(1)


def test_texts_may_come_in_any_portions():
    cells = torch.randint(16, (1600,), generator=torch.Generator().manual_seed(5))
    whole, parts = SequentialTest(16, 1600), SequentialTest(16, 1600)
    whole.add(cells)
    for part in cells.split(77):
        parts.add(part)
    assert whole.p_values == parts.p_values
    assert whole.state == parts.state == "pass"
    assert whole.wanted == 0


@pytest.mark.parametrize("wrong", [{"alpha": 0.0}, {"num_looks": 0}, {"num_samples": 0}, {"num_samples": 20}])
def test_a_design_that_cannot_work_is_refused(wrong):
    with pytest.raises(ValueError, match="give"):
        SequentialTest(16, **wrong)


def test_holm():
    assert holm([0.01, 0.04, 0.03], 0.05) == [True, False, False]
    assert holm([0.01, 0.02, 0.03], 0.05) == [True, True, True]
    assert holm([], 0.05) == []
