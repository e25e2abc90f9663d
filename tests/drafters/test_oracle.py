"""The oracle is accepted at the rate that was asked for: in closed form, by counting on a real model, and from a recording."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from drafters.none import NoDraft
from drafters.oracle import Oracle, blurred
from experiments.lossless.enumeration.proposals import Partial, Row, chain
from experiments.lossless.enumeration.step_distribution import expected_emitted, step_distribution
from experiments.lossless.enumeration.tables import GOLDEN, Instance
from spec.sampling import Sampler
from tests.drafters.contract import assistant_model, check_greedy_text, check_shape, recorded
from verifiers.coupled import Coupled
from verifiers.greedy import Greedy
from verifiers.recursive import Recursive


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6).filter(lambda row: sum(row) > 0.01), st.floats(0, 1))
def test_the_overlap_is_the_acceptance_or_the_least_that_is_possible(weights, acceptance):
    p = torch.tensor(weights, dtype=torch.float64)
    p /= p.sum()
    q = blurred(p, acceptance)
    assert float(q.sum()) == pytest.approx(1)
    assert float(q.min()) >= 0
    assert float(torch.minimum(p, q).sum()) == pytest.approx(max(acceptance, float(p.min())))


def oracle_row(instance: Instance, growth: Partial, slot: int) -> Row:
    return Row(blurred(instance.p(growth.path(slot)), 0.7))


def test_a_step_emits_what_constant_acceptance_predicts():
    expected = (1 - 0.7**4) / (1 - 0.7)  # Leviathan et al., equation 1
    assert expected_emitted(step_distribution(chain(GOLDEN, 3, oracle_row), Recursive())) == pytest.approx(expected, abs=1e-12)


def judged(generation):
    """(accepted, judged) draft tokens: those behind a rejection were not judged."""
    tested, kept = generation.stats.judged_by_position
    return sum(kept), sum(tested)


def binomial_p_value(generation, acceptance):
    return binomtest(*judged(generation), acceptance).pvalue


@pytest.mark.parametrize(("temperature", "verifier"), [(1.0, Recursive()), (0.0, Greedy())], ids=["sampling", "greedy"])
def test_a_real_model_accepts_at_the_rate(temperature, verifier):
    generation, proposals = recorded(Oracle(0.7, num_tokens=4), Sampler(temperature, seed=1), new=60, verifier=verifier)
    assert judged(generation)[1] > 100
    assert binomial_p_value(generation, 0.7) > 1e-3
    assert binomial_p_value(generation, 0.4) < 1e-3
    for proposal in proposals:
        check_shape(proposal)


@pytest.mark.parametrize(("temperature", "verifier"), [(1.0, Coupled()), (0.0, Greedy())], ids=["coupled", "greedy"])
def test_a_recording_is_accepted_at_the_rate_and_runs_nothing(temperature, verifier):
    sampler = Sampler(temperature, seed=1)
    plain, _ = recorded(NoDraft(), sampler, new=60, verifier=verifier)
    drafter = Oracle(0.7, num_tokens=4, continuations={row: plain.new_tokens(row) for row in range(3)})
    generation, proposals = recorded(drafter, sampler, new=60, verifier=verifier)
    assert [generation.new_tokens(row) for row in range(3)] == [plain.new_tokens(row) for row in range(3)]
    assert binomial_p_value(generation, 0.7) > 1e-3
    assert binomial_p_value(generation, 0.4) < 1e-3
    assert drafter.assistant is None
    for proposal in proposals:
        check_shape(proposal)


def test_certain_and_impossible_acceptance():
    always, _ = recorded(Oracle(1.0, num_tokens=3), Sampler(seed=1), new=20)
    assert always.stats.acceptance_rate == pytest.approx(sum(min(3, room) for room in (20, 16, 12, 8, 4)) * 3 / always.stats.num_drafted)
    never, _ = recorded(Oracle(0.0), Sampler(temperature=0), new=20)
    assert never.stats.num_accepted == 0


def test_greedy_text_is_unchanged():
    check_greedy_text(lambda: Oracle(0.6))


def test_a_recording_that_ends_early_or_is_missing():
    generation, _ = recorded(Oracle(1.0, continuations={row: [] for row in range(3)}), Sampler(temperature=0), new=5)
    assert generation.stats.num_drafted == 0
    with pytest.raises(ValueError, match=r"no continuation for the sequence ids \[1, 2\]"):
        recorded(Oracle(continuations={0: [1]}), Sampler(temperature=0))


WRONG = [{"acceptance": 1.1}, {"acceptance": -0.1}, {"acceptance": assistant_model()}, {"num_tokens": 0}, {"num_tokens": 1.5}]


@pytest.mark.parametrize("options", WRONG, ids=range(len(WRONG)))
def test_refuses_what_makes_no_sense(options):
    with pytest.raises(ValueError, match=r"give a probability|give at least 1 token"):
        Oracle(**options)
