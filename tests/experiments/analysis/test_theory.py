"""Formulas of expected tokens and speedup: against the anchors, and as properties on drawn rates."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.analysis import theory

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


@given(a=st.floats(0, 1), c=st.floats(0, 1), g=st.integers(0, 12))
@settings(max_examples=60)
def test_tokens_per_step_and_gain_have_their_bounds(a: float, c: float, g: int) -> None:
    tokens = theory.expected_tokens(a, g)
    assert 1 <= tokens <= g + 1 + 1e-12
    assert tokens <= theory.expected_tokens(a, g + 1) <= 1 / max(1 - a, 1e-300) + 1e-9
    assert theory.walltime_gain(a, g, c) <= tokens + 1e-12
    if abs(a - c) > 1e-6:
        assert (theory.best_num_tokens(a, c) > 0) == (a > c)


def test_a_dear_verification_shortens_the_best_draft() -> None:
    dear = [theory.best_num_tokens(0.8, 0.05, lambda n, slope=slope: 1 + slope * (n - 1)) for slope in (0.0, 0.02, 0.1, 1.0)]
    assert dear == sorted(dear, reverse=True)
    assert dear[0] == 8
    assert dear[-1] == 0


def test_steps_without_a_guess_emit_one_token() -> None:
    assert theory.step_compression(4.0, 3.0) == 2.0


@pytest.mark.parametrize(
    "call",
    [
        lambda: theory.expected_tokens(1.1, 3),
        lambda: theory.expected_tokens(math.nan, 3),
        lambda: theory.expected_tokens(0.5, -1),
        lambda: theory.walltime_gain(0.5, 3, -0.1),
    ],
)
def test_wrong_input_is_refused(call: object) -> None:
    with pytest.raises(ValueError, match="give"):
        call()  # pyright: ignore[reportCallIssue]
