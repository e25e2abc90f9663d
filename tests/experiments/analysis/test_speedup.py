"""Paired comparisons, against numbers that can be worked out by hand."""

import numpy as np
import pytest

from experiments.analysis.speedup import Timed, compare


def timed(seconds: list[float], tokens: list[float]) -> Timed:
    return Timed(np.array(seconds), np.array(tokens))


def test_totals_weigh_tokens_and_the_geometric_mean_weighs_units() -> None:
    found = compare(timed([4.0, 1.0], [4, 1]), timed([1.0, 1.0], [4, 1]))
    assert found.ratio == pytest.approx((5 / 5) / (2 / 5))
    assert found.macro == pytest.approx(2.0)
    assert (found.wins, found.losses, found.ties) == (1, 0, 1)


def test_roles_that_made_different_numbers_of_tokens_are_compared_by_token() -> None:
    assert compare(timed([2.0], [10]), timed([1.0], [5])).ratio == pytest.approx(1.0)


def test_the_sign_test_is_the_binomial_one_and_ties_do_not_count() -> None:
    reference, measured = [2.0] * 6 + [1.0, 0.5], [1.0] * 8
    found = compare(timed(reference, [1] * 8), timed(measured, [1] * 8))
    assert (found.wins, found.losses, found.ties) == (6, 1, 1)
    assert found.sign_p == pytest.approx(2 * (1 + 7) / 2**7)
    assert compare(timed([1.0], [1]), timed([1.0], [1])).sign_p is None


def test_the_interval_holds_the_ratio_is_the_same_every_time_and_shrinks_with_more_units() -> None:
    draws = np.random.default_rng(1)
    widths = []
    for size in (10, 160):
        reference, measured = (timed(list(draws.uniform(1, 2, size)), [8] * size) for _ in range(2))
        found = compare(reference, measured)
        assert found.interval is not None
        assert found.macro_interval is not None
        assert found.interval[0] < found.ratio < found.interval[1]
        assert found.macro_interval[0] < found.macro < found.macro_interval[1]
        assert found.interval == compare(reference, measured).interval
        widths.append(found.interval[1] - found.interval[0])
    assert widths[1] < widths[0] / 2


@pytest.mark.parametrize("units", [1, 5])
def test_few_units_have_no_interval(units: int) -> None:
    found = compare(timed([1.0, 2.0, 1.0, 2.0, 1.0][:units], [1] * units), timed([2.0] * units, [1] * units))
    assert (found.interval, found.macro_interval, found.units) == (None, None, units)


@pytest.mark.parametrize("columns", [([], [], [], []), ([1.0], [0], [1.0], [1]), ([1.0], [1], [-1.0], [1]), ([float("nan")], [1], [1.0], [1])])
def test_what_cannot_be_compared_is_refused(columns: tuple[list[float], ...]) -> None:
    with pytest.raises(ValueError, match="give positive numbers"):
        compare(timed(*columns[:2]), timed(*columns[2:]))
