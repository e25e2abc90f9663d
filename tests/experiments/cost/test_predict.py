"""Predictions on runs and times that are made up: the arithmetic is that of the theory, and what is off is named."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.analysis.theory import best_num_tokens, expected_tokens, walltime_gain
from experiments.cost.calibrate import Calibration, StepTimes
from experiments.cost.findings import Model, best_of, gamma_rows, median_error, missing, run_rows, theory_rows
from experiments.cost.fit import ForwardModel, PhaseModel
from experiments.cost.forwards import PHASES, Forwarded, Forwards, Judged
from experiments.cost.predict import (
    Acceptance,
    Costs,
    PhaseCosts,
    acceptance_of,
    accepted_distribution,
    clipped,
    speedup_at_lengths,
    speedup_of_run,
    steps_needed,
    tokens_per_step,
)
from experiments.cost.report import sentences
from experiments.cost.timing import CHAIN, TARGET, Cell, Shape

GAMMA, LENGTH, UNITS = 6, 400, 5
DRAFTING, REST, PLAIN_REST = PhaseModel(1e-4, 8e-4), PhaseModel(3e-4, 2e-5), 2e-4
KNOTS = np.arange(1, GAMMA + 3)
CURVE = ForwardModel(KNOTS, 4e-3 + 3e-4 * (KNOTS - 1), 0.0, 0.0)


def fixed(gamma=GAMMA, chance=0.7, share_drafted=1.0) -> Acceptance:
    depths = np.zeros(gamma + 1)
    depths[0], depths[gamma] = 1 - share_drafted, share_drafted
    return Acceptance(np.full(gamma, chance), depths, depths)


def made_up(chance: float = 0.7, gamma: int = GAMMA, seed: int = 0, batch: int = 1) -> Forwarded:
    """A run whose drafts were accepted by a coin, and whose clocks obey the curves above."""
    rng = np.random.default_rng(seed)
    units, tested, kept, lengths = [], np.zeros((UNITS, gamma)), np.zeros((UNITS, gamma)), []
    for unit in range(UNITS):
        length = 0
        while length < LENGTH:
            hits = int((rng.random(gamma) < chance).cumprod().sum())
            tested[unit, : min(hits + 1, gamma)] += 1
            kept[unit, :hits] += 1
            length += hits + 1
            units.append(unit)
        lengths.append(np.array([length]))
    unit, plain_unit = np.array(units), np.repeat(np.arange(UNITS), LENGTH)
    ones = np.ones(len(unit))
    spent = np.stack([ones * DRAFTING(gamma), ones * CURVE(gamma + 1, 0), ones * REST(gamma)], 1)
    plain = np.stack([np.zeros(len(plain_unit)), CURVE(1, 0) * np.ones(len(plain_unit)), np.full(len(plain_unit), PLAIN_REST)], 1)
    tokens = sum(int(row.sum()) for row in lengths)
    drafter = {"_target_": "drafters.draft_model.DraftModel", "name": "d", "num_tokens": gamma}
    config: dict[str, Any] = {"drafter": drafter, "batch_size": batch, "target": {"name": "t"}, "threads": 1}
    speedup = (plain.sum() / len(plain)) / (spent.sum() / tokens)
    labels = {"drafter": "draft_model", "sampling": "greedy"}
    summary = {"config": config, "labels": labels, "speedup": float(speedup), "speedup_interval": None}
    return Forwarded(
        folder=Path(f"runs/{gamma}"),
        summary=summary,
        method=Forwards(unit, np.full(len(unit), gamma), np.full(len(unit), 50), np.full(len(unit), batch), spent),
        baseline=Forwards(plain_unit, np.zeros(len(plain_unit), int), np.full(len(plain_unit), 50), np.full(len(plain_unit), batch), plain),
        judged=Judged(tested, kept, unit, np.full(len(unit), gamma)),
        lengths=lengths,
        baseline_tokens=np.full(UNITS, LENGTH),
        prompts=[[1, 2]],
        shape=CHAIN,
    )


def costs(*runs: Forwarded) -> Costs:
    phases = {run.setup: PhaseCosts(DRAFTING, REST, 0.0, PLAIN_REST) for run in runs}
    return Costs({(CHAIN, 1): CURVE}, phases)


def model(*runs: Forwarded, resamples: int = 20) -> Model:
    """Measurements without noise that say what the curves say."""
    cells = {Cell(TARGET, CHAIN, 1, context, int(slots)): np.full(5, float(CURVE(slots, context))) for slots in KNOTS for context in (10, 100)}
    drafted = np.repeat([1.0, float(GAMMA)], 4)
    method = StepTimes(drafted, DRAFTING(drafted), CURVE(drafted + 1, 0), REST(drafted))
    none = np.zeros(4)
    calibration = Calibration(method, StepTimes(none, none, CURVE(none + 1, 0), none + PLAIN_REST))
    return Model(cells, {run.setup: calibration for run in runs}, resamples)


@pytest.mark.parametrize("chance", [0.0, 0.35, 0.8, 1.0])
def test_equal_rates_give_the_theory(chance):
    lengths = np.arange(1, GAMMA + 1)
    expected = [expected_tokens(chance, int(gamma)) for gamma in lengths]
    np.testing.assert_allclose(tokens_per_step(fixed(chance=chance), lengths), expected)


def test_steps_without_a_draft_emit_one_token():
    acceptance = fixed(chance=1.0, share_drafted=0.25)
    np.testing.assert_allclose(tokens_per_step(acceptance, np.array([2, 6])), [1 + 0.25 * 2, 1 + 0.25 * 6])
    np.testing.assert_allclose(clipped(acceptance.depths, np.array([2])), [[0.75, 0, 0.25, 0, 0, 0, 0]])


def test_the_distribution_of_accepted_tokens_is_one():
    distribution = accepted_distribution(Acceptance(np.array([0.5, 0.2, 0.9]), *[np.array([0.1, 0.2, 0.0, 0.7])] * 2), np.array([1, 2, 3]))
    np.testing.assert_allclose(distribution.sum(1), 1)
    assert distribution.min() >= 0
    np.testing.assert_allclose(distribution[2], [0.1 + 0.9 * 0.5, 0.2 * 0.5 + 0.7 * 0.5 * 0.8, 0.7 * 0.5 * 0.2 * 0.1, 0.7 * 0.5 * 0.2 * 0.9])


def test_steps_of_a_short_text_are_counted_to_its_end():
    gamma, chance, longest = 3, 0.6, 9
    acceptance, lengths = fixed(gamma, chance), np.array([gamma])
    seconds = np.arange(4.0)[:, None] * [1, 0, 0]  # a drafted token costs a second of drafting
    found = steps_needed(accepted_distribution(acceptance, lengths), clipped(acceptance.depths, lengths), seconds, longest)[0]

    def expected(left: int) -> tuple[float, float]:
        """(steps, drafted tokens), by following every outcome."""
        if left == 0:
            return 0.0, 0.0
        drafted = min(gamma, left - 1)
        steps, tokens = 1.0, float(drafted)
        for accepted in range(drafted + 1):
            weight = chance**accepted * (1 - chance if accepted < drafted else 1)
            more = expected(left - min(accepted + 1, left))
            steps, tokens = steps + weight * more[0], tokens + weight * more[1]
        return steps, tokens

    np.testing.assert_allclose(found[:, :2], [expected(left) for left in range(longest + 1)])


def test_a_run_that_obeys_the_curves_is_predicted_exactly():
    run = made_up()
    assert speedup_of_run(run, costs(run), np.arange(UNITS)) == pytest.approx(run.summary["speedup"])


def test_one_run_predicts_every_length_as_the_theory_does():
    run = made_up(chance=0.75)
    rate = acceptance_of(run, np.arange(UNITS)).conditional.mean()
    found = speedup_at_lengths(run, costs(run), np.arange(UNITS), range(1, GAMMA + 1))
    one, plain = float(CURVE(1, 0)), float(CURVE(1, 0)) + PLAIN_REST
    expected = []
    for gamma in range(1, GAMMA + 1):
        forward = (float(CURVE(gamma + 1, 0)) + float(REST(gamma)) + DRAFTING.per_step) / plain
        expected.append(walltime_gain(rate, gamma, DRAFTING.per_token / plain, forward))
    np.testing.assert_allclose(found, expected, rtol=0.02)
    assert one < plain


@pytest.mark.parametrize("chance", [0.1, 0.4, 0.6, 0.9])
def test_the_best_gamma_is_that_of_brute_force(chance):
    run = made_up(chance)
    found = speedup_at_lengths(run, costs(run), np.arange(UNITS), range(1, GAMMA + 1))
    measured = {gamma: made_up(chance, gamma, seed=gamma).summary["speedup"] for gamma in range(1, GAMMA + 1)}
    brute = max([0, *measured], key=lambda gamma: measured.get(gamma, 1.0))
    rate = acceptance_of(run, np.arange(UNITS)).conditional.mean()
    plain = float(CURVE(1, 0)) + PLAIN_REST
    verify = lambda slots: float(CURVE(slots, 0) + REST(slots - 1) + (DRAFTING.per_step if slots > 1 else 0)) / plain  # noqa: E731
    assert best_of(found) == best_num_tokens(rate, DRAFTING.per_token / plain, lambda slots: 1.0 if slots == 1 else verify(slots), GAMMA)
    best = measured.get(brute, 1.0)
    assert measured.get(best_of(found), 1.0) == pytest.approx(best, rel=0.03)  # coins fall differently in every run


def test_drafting_that_does_not_pay_is_said():
    assert best_of(np.array([0.9, 0.8])) == 0
    run = made_up(chance=0.05)
    _, best = gamma_rows(model(run), [run])
    assert best[0]["gamma"] == 0
    assert best[0]["predicted"] == 1.0


def test_curves_have_measured_points_where_there_is_a_run():
    runs = [made_up(gamma=2), made_up(gamma=GAMMA)]
    assert runs[0].setup == runs[1].setup
    curves, best = gamma_rows(model(*runs), runs)
    assert [row["gamma"] for row in curves] == list(range(1, GAMMA + 1))
    assert [row["gamma"] for row in curves if row["measured"] is not None] == [2, GAMMA]
    assert all(low <= high for low, high in (row["predicted_interval"] for row in curves))
    assert best[0]["measured_gamma"] in (2, GAMMA)
    assert best[0]["gamma_interval"][0] <= best[0]["gamma"] <= best[0]["gamma_interval"][1]


def test_measurements_without_noise_leave_only_the_spread_of_the_prompts():
    run = made_up()
    row = run_rows(model(run), [run])[0]
    assert row["predicted"] == pytest.approx(run.summary["speedup"])
    assert row["error"] == pytest.approx(0, abs=1e-9)
    low, high = row["predicted_interval"]
    assert low <= row["predicted"] <= high
    assert high - low < 0.2


@pytest.mark.parametrize(("phase", "factor"), [("draft", 3.0), ("target", 1.6), ("rest", 9.0)])
def test_a_phase_that_took_longer_than_predicted_is_named(phase, factor):
    run = slowed(made_up(), phase, factor)
    rows = run_rows(model(run), [run])
    assert rows[0]["error"] > 0.1
    text = missing(rows)[0]
    assert f"{phase} of the method took" in text
    assert "plain" not in text
    assert "interrupted" not in text
    guilty = next(row for row in rows[0]["phases"] if (row["role"], row["phase"]) == ("method", phase))
    assert guilty["moves"] == pytest.approx(rows[0]["error"], rel=1e-6)  # nothing else differs
    quiet = made_up()
    assert missing(run_rows(model(quiet), [quiet])) == []


def test_a_machine_that_was_slower_altogether_is_not_a_missing_phase():
    run = made_up()
    method, baseline = (replace(part, seconds=part.seconds * 1.7) for part in (run.method, run.baseline))
    row = run_rows(model(run), [replace(run, method=method, baseline=baseline)])[0]
    assert row["error"] == pytest.approx(0, abs=1e-9)
    assert all(phase["moves"] == pytest.approx(0, abs=1e-9) for phase in row["phases"])
    assert all(phase["at_pace"] == pytest.approx(phase["recorded"]) for phase in row["phases"])


def test_a_few_interrupted_steps_are_told_from_a_slow_phase():
    run = made_up()
    seconds = run.method.seconds.copy()
    seconds[::20, 0] += 0.2
    slow = with_seconds(run, seconds)
    assert "draft of the method took" in missing(run_rows(model(run), [slow]))[0]
    assert "most steps took what was predicted: a few were interrupted" in missing(run_rows(model(run), [slow]))[0]


def slowed(run: Forwarded, phase: str, factor: float) -> Forwarded:
    seconds = run.method.seconds.copy()
    seconds[:, PHASES.index(phase)] *= factor
    return with_seconds(run, seconds)


def with_seconds(run: Forwarded, seconds: np.ndarray) -> Forwarded:
    """The run with other clocks of the method, and the speedup that they mean."""
    changed = run.summary | {"speedup": run.summary["speedup"] * float(run.method.seconds.sum() / seconds.sum())}
    return replace(run, method=replace(run.method, seconds=seconds), summary=changed)


def test_a_run_of_the_same_length_is_one_setup_whatever_its_prompts_did():
    assert made_up(0.2).setup == made_up(0.9).setup
    other = made_up()
    changed = replace(other, summary=other.summary | {"config": other.config | {"batch_size": 4}})
    assert changed.setup != other.setup


def test_rows_that_share_a_forward_share_its_time():
    alone, shared = made_up(), made_up(batch=4)
    curves = costs(alone, shared)
    curves = Costs(curves.forward | {(CHAIN, 4): CURVE}, curves.phases)
    single = speedup_at_lengths(alone, curves, np.arange(UNITS), [GAMMA])
    np.testing.assert_allclose(speedup_at_lengths(shared, curves, np.arange(UNITS), [GAMMA]), 4 * single)


def test_trees_have_no_curve():
    run = made_up()
    tree = replace(run, shape=Shape(tree=True))
    with pytest.raises(ValueError, match="drafters of chains"):
        acceptance_of(tree, np.arange(UNITS))
    assert gamma_rows(model(run), [tree]) == ([], [])


def test_theory_for_the_reader():
    rows = theory_rows(CURVE, 0.0)
    found = {(row["acceptance"], row["draft_cost"], row["verification"]): row for row in rows}
    assert found[0.8, 0.1, "free"]["gamma"] == best_num_tokens(0.8, 0.1, limit=16)
    assert found[0.8, 0.1, "measured"]["gamma"] < found[0.8, 0.1, "free"]["gamma"]
    assert found[0.1, 0.5, "free"]["speedup"] == 1


def test_the_words_say_how_far_off_and_why():
    run = slowed(made_up(), "target", 1.6)
    rows = run_rows(model(run), [run])
    curves, best = gamma_rows(model(run), [run])
    result = {"runs": rows, "best": best, "missing": missing(rows), "warnings": ["w"], "median_error": median_error(rows)}
    text = "\n".join(sentences(result | {"median_error_from_one_run": median_error(curves)}))
    assert "draft_model, greedy: predicted best gamma" in text
    assert "that is more than 10%; what is missing:" in text
    assert text.endswith("warning: w")
