"""The lossy verifiers: not the target's distribution, but exactly the distribution that each one promises, and refused unless asked for."""

from itertools import pairwise

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from drafters.prompt_lookup import PromptLookup
from experiments.lossless.enumeration.proposals import chain, distinct, independent, top, tree
from experiments.lossless.enumeration.step_distribution import assert_exact, complete_with_p, examine, tv
from experiments.lossless.enumeration.tables import B4, GOLDEN, INSTANCES, A, Instance
from spec import CausalLM, Draft, Limits, Noise, Sampler, decode
from tests.verifiers.test_recursive import name
from verifiers.ensemble import Ensemble
from verifiers.lenient import Lenient
from verifiers.rejection import Rejection
from verifiers.typical import Typical

LOSSY = [Typical(), Lenient(), Ensemble()]


def mixture(instance: Instance, weight: float) -> Instance:
    """The instance whose target is weight p + (1 - weight) q."""
    return Instance("mixture", instance.vocabulary, lambda prefix: weight * instance.p(prefix) + (1 - weight) * instance.q(prefix), instance.q)


@pytest.mark.parametrize("instance", INSTANCES, ids=name)
@pytest.mark.parametrize("weight", [0.0, 0.3, 0.8, 1.0])
@pytest.mark.parametrize("gamma", [1, 2])
def test_ensemble_gives_drafted_places_the_mixture(instance, weight, gamma):
    mixed, report = mixture(instance, weight), examine(instance, chain(instance, gamma), Ensemble(weight))
    assert tv(complete_with_p(report.distribution, mixed, gamma), mixed.target_distribution(gamma)) < 1e-12
    distance = tv(instance.target_distribution(1), mixture(instance, 0.0).target_distribution(1))
    assert examine(instance, chain(instance, 1), Ensemble(weight), length=1).error == pytest.approx((1 - weight) * distance, abs=1e-12)
    assert report.lengths[0] == pytest.approx(weight * distance, abs=1e-12)


@pytest.mark.parametrize(("leniency", "accepted", "error"), [(0.5, 0.9755, 0.2347), (0.8, 0.8480, 0.1029)])
def test_lenience_at_the_golden_root(leniency, accepted, error):
    report = examine(GOLDEN, chain(GOLDEN, 1), Lenient(leniency), length=1)
    assert report.lengths[1] == pytest.approx(accepted, abs=5e-5)
    assert report.error == pytest.approx(error, abs=5e-5)


@pytest.mark.parametrize("instance", INSTANCES, ids=name)
@pytest.mark.parametrize("leniency", [0.3, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("declare", [True, False])
def test_lenient_distribution_is_the_promised_one_and_never_above_its_bound(instance, leniency, declare):
    report = examine(instance, chain(instance, 1, declare=declare), Lenient(leniency))
    p, drafted = instance.p(()), instance.q(())
    distributions = [drafted] if declare else torch.eye(instance.vocabulary, dtype=torch.float64)
    weights = [1.0] if declare else drafted.tolist()
    promised = torch.zeros_like(p)
    for weight, q in zip(weights, distributions, strict=True):
        kept, rest = torch.minimum(q, p / leniency), (p / leniency - q).clamp(min=0)
        promised += weight * (kept + (1 - kept.sum()) * rest / rest.sum())
    found = complete_with_p(report.distribution, instance, 1)
    assert [found.get((token,), 0.0) for token in range(instance.vocabulary)] == pytest.approx(promised.tolist(), abs=1e-12)
    assert bool((promised <= p / leniency + 1e-12).all())


@pytest.mark.parametrize("verifier", [Lenient(1.0), Ensemble(1.0)], ids=repr)
def test_lossless_end_of_the_scale_is_rejection(verifier):
    report = examine(GOLDEN, chain(GOLDEN, 3), verifier)
    assert_exact(report)
    assert tv(report.distribution, examine(GOLDEN, chain(GOLDEN, 3), Rejection()).distribution) < 1e-14


def test_more_leniency_accepts_more_and_errs_more():
    reports = [examine(GOLDEN, chain(GOLDEN, 2), Lenient(leniency)) for leniency in (1.0, 0.8, 0.5, 0.1)]
    assert all(left.expected < right.expected and left.error < right.error for left, right in pairwise(reports))


@pytest.mark.parametrize(("widths", "error"), [([1], 0.6176470588), ([1, 1], 0.9044117647), ([1, 1, 1], 0.9889705882)])
def test_typical_acceptance_of_an_argmax_chain_is_far_from_sampling(widths, error):
    report = examine(GOLDEN, tree(GOLDEN, widths, top, declare=False), Typical())
    assert report.expected == pytest.approx(1 + len(widths), abs=1e-12)
    assert report.error == pytest.approx(error, abs=1e-9)


@pytest.mark.parametrize("instance", [GOLDEN, A, B4], ids=name)
@pytest.mark.parametrize(("epsilon", "delta"), [(0.09, 0.3), (0.5, 0.9), (0.2, 5.0), (0.0, 0.0)])
@pytest.mark.parametrize(("widths", "rule"), [([2], distinct), ([2, 1], independent), ([1, 1], independent)])
def test_typical_keeps_the_longest_likely_path(instance, epsilon, delta, widths, rule):
    proposals = tree(instance, widths, rule)
    verdict = Typical(epsilon, delta)(proposals.p, proposals.draft, Noise(0).at(proposals.draft.sizes, proposals.draft.sizes))
    for row, size in enumerate(proposals.draft.sizes.tolist()):
        best = (0, 0.0, 0)
        for slot in range(size):
            path, likely, logs = proposals.draft.path(row, slot), True, 0.0
            for place, token in enumerate(path):
                distribution = instance.p(tuple(path[:place]))
                entropy = -float((distribution * distribution.clamp(min=1e-300).log()).sum())
                likely &= float(distribution[token]) > min(epsilon, delta * 2.718281828459045**-entropy)
                logs += float(distribution[token].log())
            if likely and (len(path), logs) > (best[0], best[1] + 1e-9):
                best = (len(path), logs, slot)
        kept = [slot for slot in verdict.path[row].tolist() if slot >= 0]
        assert len(kept) == verdict.counts[row] == 1 + best[0]
        assert proposals.draft.path(row, kept[-1]) == proposals.draft.path(row, best[2])


def test_typical_is_greedy_where_the_distribution_is_certain():
    p = torch.eye(4, dtype=torch.float64)[torch.tensor([[2, 3, 1, 0, 0]])]
    draft = Draft(torch.tensor([[0, 2, 1, 3, 3]]), torch.tensor([[-1, 0, 0, 1, 2]]), torch.tensor([5]))
    verdict = Typical()(p, draft, Noise(0).at(draft.sizes, draft.sizes))
    assert verdict.emitted(draft).tolist() == [[2, 3, 0, -1, -1]]


@pytest.mark.parametrize(
    ("make", "values"),
    [
        (lambda value: Typical(epsilon=value), (-0.1, 1.0, float("nan"))),
        (lambda value: Typical(delta=value), (-0.1, float("inf"), float("nan"))),
        (lambda value: Lenient(leniency=value), (0.0, -1.0, 1.1, float("nan"))),
        (lambda value: Ensemble(weight=value), (-0.1, 1.1, float("nan"))),
    ],
)
def test_wrong_parameters_are_refused(make, values):
    for value in values:
        with pytest.raises(ValueError, match="give "):
            make(value)


@pytest.mark.parametrize("verifier", LOSSY, ids=repr)
def test_lossy_verifier_runs_only_where_that_is_allowed(verifier):
    model = LlamaForCausalLM(LlamaConfig(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)).eval()
    arguments = (CausalLM(model), PromptLookup(), verifier, [[1, 2, 1, 2]])
    settings = {"sampler": Sampler(), "limits": Limits(max_new_tokens=5)}
    assert verifier.exact is False
    with pytest.raises(ValueError, match="allow_lossy=True"):
        decode(*arguments, **settings)
    assert len(decode(*arguments, **settings, allow_lossy=True).new_tokens()) == 5
