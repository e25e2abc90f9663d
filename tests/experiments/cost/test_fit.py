"""Curves fitted to times that are given as data: known coefficients come back, impossible ones do not."""

import numpy as np
import pytest
import torch

from experiments.cost.fit import fit_forward, fit_phase, interval, resampled_median
from experiments.cost.timing import CHAIN, DRAFTER, TARGET, Cell, Shape, make_draft, time_cells
from spec.model import CausalLM
from tests.tiny import build

KNOTS = np.array([1, 2, 4, 8, 16])
BASE = np.array([3.0, 5.0, 5.2, 6.0, 9.0]) * 1e-3


def grid(contexts):
    slots, context = (axis.ravel().astype(float) for axis in np.meshgrid(KNOTS, contexts))
    return slots, context, np.interp(slots, KNOTS, BASE) + (0.8e-3 + 0.05e-3 * slots) * context / 1000


def test_known_coefficients_come_back():
    curve = fit_forward(*grid([100, 500, 2000]))
    assert curve.knots.tolist() == KNOTS.tolist()
    np.testing.assert_allclose(curve.base, BASE, rtol=1e-9)
    assert curve.per_cached == pytest.approx(0.8e-3)
    assert curve.per_slot_cached == pytest.approx(0.05e-3)
    assert float(curve(6, 1000)) == pytest.approx(5.6e-3 + 0.8e-3 + 6 * 0.05e-3)


def test_coefficients_come_back_through_noise():
    slots, context, seconds = grid([100, 500, 2000])
    rng = np.random.default_rng(0)
    noisy = seconds[:, None] * (1 + rng.exponential(0.05, (len(seconds), 41)))
    curve = fit_forward(slots, context, np.median(noisy, 1))
    np.testing.assert_allclose(curve(slots, context), seconds * 1.035, rtol=0.03)


def test_beyond_the_last_knot_the_last_piece_goes_on():
    curve = fit_forward(*grid([100, 500]))
    assert float(curve(24, 0)) == pytest.approx(12e-3)


def test_what_cannot_be_told_apart_is_left_at_zero():
    curve = fit_forward([1, 2], [100, 100], [0.001, 0.002])
    assert (curve.per_cached, curve.per_slot_cached) == (0, 0)
    single = fit_forward([1, 1], [100, 1100], [0.001, 0.002])
    assert single.per_cached == pytest.approx(0.001)
    assert float(single(9, 100)) == pytest.approx(0.001)


def test_a_context_that_seems_to_save_time_is_not_believed():
    curve = fit_forward([1, 1, 2, 2], [0, 1000, 0, 1000], [0.003, 0.002, 0.003, 0.002])
    assert curve.per_cached >= 0
    assert curve.per_slot_cached >= 0


@pytest.mark.parametrize("seconds", [[], [0.0]])
def test_no_time_is_refused(seconds):
    with pytest.raises(ValueError, match="measure at least one number of slots"):
        fit_forward([1] * len(seconds), [1] * len(seconds), seconds)


def test_a_phase_is_a_line_in_what_was_drafted():
    drafted = np.array([1, 1, 1, 4, 4, 4, 8])
    seconds = 0.2e-3 + 1.5e-3 * drafted
    seconds[0] = 1.0  # an outlier, which the median does not see
    curve = fit_phase(drafted, seconds)
    assert curve.per_step == pytest.approx(0.2e-3)
    assert curve.per_token == pytest.approx(1.5e-3)
    assert fit_phase(np.array([3.0, 3.0]), np.array([2.0, 2.0])).per_step == 2.0


def test_resamples_differ_and_their_middle_is_the_interval():
    centre = resampled_median(np.random.default_rng(0))
    drawn = [centre(np.arange(30.0)) for _ in range(100)]
    low, high = interval(drawn) or [0, 0]
    assert low < 14.5 < high
    assert interval([1.0]) is None


def cells(model, shapes):
    return [Cell(model, shape, batch, context, slots) for shape in shapes for batch in (1, 3) for context in (5, 40) for slots in (4, 9)]


def test_cells_are_timed_behind_their_own_context_in_shuffled_rounds():
    models = {TARGET: CausalLM(build("llama")), DRAFTER: CausalLM(build("llama", 1))}
    wanted = [*cells(TARGET, (CHAIN, Shape(True, 0), Shape(True, 3), Shape(False, 2))), Cell(DRAFTER, CHAIN, 1, 5, 1)]
    seen = []

    def timer(work, device):
        scores = work()
        seen.append(scores.logits.shape)
        return float(len(seen))

    found = time_cells(models, wanted, 2, timer=timer)
    assert set(found) == set(wanted)
    assert all(len(times) == 2 for times in found.values())
    rounds = [seen[start : start + len(wanted)] for start in range(0, len(seen), len(wanted))]
    assert len(rounds) == 3
    assert rounds[0] != rounds[1]
    assert sorted(rounds[0]) == sorted(rounds[1])
    assert min(min(times) for times in found.values()) > len(wanted)  # the first round warms up
    assert all(scores[1] <= 9 for scores in seen)


def test_a_forward_is_that_of_the_loop():
    model = CausalLM(build("llama"))
    cell = Cell(TARGET, CHAIN, 1, 20, 4)
    logits = []

    def timer(work, device):
        logits.append(work().logits)
        return 1.0

    time_cells({TARGET: model}, [cell], 3, timer=timer)
    assert all(torch.equal(logits[0], again) for again in logits)  # nothing a forward leaves behind is seen by the next one


def test_the_shape_of_a_draft():
    model = CausalLM(build("llama"))
    tree = make_draft(Cell(TARGET, Shape(True, 5), 2, 10, 12), model)
    assert tree.num_slots == 7
    assert tree.parents[0].tolist() == [-1, 0, 0, 1, 1, 2, 2]
    assert tree.scratch is not None
    assert tree.scratch.tokens.shape == (2, 5)
    with pytest.raises(ValueError, match="give at least 6"):
        make_draft(Cell(TARGET, Shape(True, 5), 1, 10, 5), model)


@pytest.mark.parametrize(("context", "slots", "batch"), [(158, 3, 1), (0, 1, 1), (10, 1, 0)])
def test_a_cell_that_does_not_fit_is_refused(context, slots, batch):
    with pytest.raises(ValueError, match="the target has 160 positions; give fewer"):
        time_cells({TARGET: CausalLM(build("llama"))}, [Cell(TARGET, CHAIN, batch, context, slots)], 1)
