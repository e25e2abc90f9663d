"""The recursive verifier, enumerated: the distribution of what a step emits, and how many tokens that is, against closed forms."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.lossless.enumeration.proposals import Partial, Row, chain, distinct, independent, one_hot, pack, propose, top, tree
from experiments.lossless.enumeration.step_distribution import assert_exact, examine, tv
from experiments.lossless.enumeration.tables import B4, GOLDEN, INSTANCES, A, Instance, S, Z, constant, iid, random_instance
from spec.noise import Noise
from spec.types import Draft
from verifiers.recursive import Recursive

CHAINS = [
    (GOLDEN, 1, 89 / 51),
    (GOLDEN, 2, 2729 / 1224),
    (GOLDEN, 3, 9996485771971 / 3881202212160),
    (A, 1, 17 / 10),
    (A, 2, 219 / 100),
    (A, 3, 2533 / 1000),
    (A, 4, 27731 / 10000),
    (S, 2, 19 / 9),
    (Z, 1, 7 / 5),
    (Z, 2, 39 / 25),
    (Z, 3, 203 / 125),
]
TREES = [
    (GOLDEN, [2], independent, 1.8300653594771243),
    (GOLDEN, [3], independent, 1.883442265795207),
    (GOLDEN, [2, 1], independent, 2.368688325003204),
    (GOLDEN, [2, 2], independent, 2.468762951803818),
    (GOLDEN, [2], distinct, 1.8860671191553546),
    (GOLDEN, [3], distinct, 1.9314762443438913),
    (GOLDEN, [2, 1], distinct, 2.4588866919316748),
    (GOLDEN, [2, 2], distinct, 2.604741207946225),
    (A, [2], independent, 1.76),
    (A, [3], independent, 1 + 101 / 125),
    (A, [2, 1], independent, 2.292),
    (A, [2, 2], independent, 2.3376),
    (A, [2], distinct, 1.82),
    (A, [3], distinct, 2.0),
    (A, [2, 1], distinct, 2.394),
    (A, [2, 2], distinct, 2.4924),
    (A, [3, 1], distinct, 2.70),
    (B4, [2], independent, 1.72),
    (B4, [3], independent, 1 + 96 / 125),
    (B4, [2], distinct, 1 + 107 / 140),
    (B4, [3], distinct, 1 + 14117 / 16800),
    (Z, [2], independent, 1.4),
    (Z, [2], distinct, 1.4),
    (Z, [3], independent, 1.4),
]
DETERMINISTIC = [  # anchors printed to ten places
    ([1, 1, 1], 1.4889705882),
    ([2, 1], 1.9139273356),
    ([2, 2], 2.2138408304),
]


def name(value: object) -> str | None:
    return value.name if isinstance(value, Instance) else getattr(value, "__name__", None)


@pytest.mark.parametrize(("instance", "gamma", "expected"), CHAINS, ids=name)
def test_chain(instance, gamma, expected):
    assert_exact(examine(instance, chain(instance, gamma), Recursive()), expected)


def test_lengths_of_golden_chain():
    lengths = [0.2549019607843137, 0.26062091503267976, 0.13843647950771862, 0.34604064467528795]
    assert examine(GOLDEN, chain(GOLDEN, 3), Recursive()).lengths == pytest.approx(lengths, abs=1e-12)


@pytest.mark.parametrize(("instance", "widths", "rule", "expected"), TREES, ids=name)
def test_tree(instance, widths, rule, expected):
    assert_exact(examine(instance, tree(instance, widths, rule), Recursive()), expected)


@pytest.mark.parametrize(
    ("widths", "expected", "declare"),
    [(widths, expected, declare) for widths, expected in DETERMINISTIC for declare in (True, False)] + [([3, 2, 1], 2.3968568316, False)],
)
def test_deterministic_tree(widths, expected, declare):
    report = examine(GOLDEN, tree(GOLDEN, widths, top, declare=declare), Recursive())
    assert_exact(report)
    assert report.expected == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("instance", INSTANCES, ids=name)
@pytest.mark.parametrize("rule", [independent, distinct, top])
def test_more_siblings_than_the_drafter_has_tokens(instance, rule):
    assert_exact(examine(instance, tree(instance, [min(instance.vocabulary + 1, 4)], rule), Recursive()))


@pytest.mark.parametrize("gamma", [1, 3])
def test_draft_of_p_itself_is_accepted_whole(gamma):
    itself = Instance("itself", 4, GOLDEN.p, GOLDEN.p)
    assert_exact(examine(itself, chain(itself, gamma), Recursive()), gamma + 1)


def test_distribution_that_equals_p_but_for_rounding_is_accepted_whole():
    rounded = Instance("rounded", 4, GOLDEN.p, lambda prefix: (GOLDEN.p(prefix).log() - 0.7).softmax(0))
    assert_exact(examine(rounded, chain(rounded, 2), Recursive()), 3)


@pytest.mark.parametrize("gamma", [0, 2])
def test_one_hot_p_emits_its_own_path(gamma):
    greedy = Instance("greedy", 4, lambda prefix: one_hot(int(GOLDEN.p(prefix).argmax()), 4), GOLDEN.q)
    report = examine(greedy, chain(greedy, gamma), Recursive())
    assert_exact(report)
    assert all(emitted == (3, 1, 2, 1)[: len(emitted)] for emitted, weight in report.distribution.items() if weight > 0)


def test_empty_draft_samples_p():
    report = examine(GOLDEN, chain(GOLDEN, 0), Recursive())
    assert_exact(report, 1.0)
    assert report.distribution == pytest.approx({(token,): float(mass) for token, mass in enumerate(GOLDEN.p(()))}, abs=1e-15)


@pytest.mark.parametrize(("widths", "rule"), [([1, 1], independent), ([2, 1], distinct), ([2, 1], top)], ids=["chain", "soft tree", "one-hot tree"])
def test_padding_slots_change_nothing(widths, rule):
    bare, padded = tree(GOLDEN, widths, rule), tree(GOLDEN, widths, rule, num_slots=8)
    padded.draft.tokens[:, bare.draft.num_slots :] = 3
    report = examine(GOLDEN, padded, Recursive())
    assert_exact(report)
    assert tv(report.distribution, examine(GOLDEN, bare, Recursive()).distribution) < 1e-15


def test_width_is_only_a_hint():
    distributions = [examine(GOLDEN, tree(GOLDEN, [2, 1], distinct, width=width), Recursive()).distribution for width in (None, 2, 3)]
    distributions_of_chains = [examine(GOLDEN, chain(GOLDEN, 2, width=width), Recursive()).distribution for width in (None, 1, 2)]
    assert max(tv(distributions[0], distribution) for distribution in distributions) < 1e-15
    assert max(tv(distributions_of_chains[0], distribution) for distribution in distributions_of_chains) < 1e-15


def hesitant(instance: Instance, growth: Partial, slot: int) -> Row | None:
    """Goes on unless the last token was an unlikely one: lengths depend on tokens that are kept."""
    if slot and instance.q(growth.path(growth.parents[slot]))[growth.tokens[slot]] < 0.3:
        return None
    return independent(instance, growth, slot)


def dropping(instance: Instance) -> list[Partial]:
    """The same, but the unlikely token is dropped, which breaks the contract."""
    distribution = instance.q(())
    kept = [Partial((0, token), (-1, 0), (distribution,), {0: 0, 1: 1}, float(mass)) for token, mass in enumerate(distribution) if mass >= 0.3]
    return [*kept, Partial(weight=1 - sum(growth.weight for growth in kept))]


@pytest.mark.parametrize("instance", [GOLDEN, A, B4], ids=name)
def test_stopping_after_an_unlikely_token_is_exact_if_it_is_kept(instance):
    proposals = chain(instance, 3, hesitant)
    assert len(proposals.draft.sizes.unique()) > 1
    assert_exact(examine(instance, proposals, Recursive()))


def test_dropping_an_unlikely_token_is_convicted():
    assert examine(GOLDEN, pack(GOLDEN, dropping(GOLDEN)), Recursive()).error > 0.05


def lookup(instance: Instance, growth: Partial, slot: int) -> Row:
    """A fixed token, as a table of n-grams would give it; it may repeat a sibling."""
    return Row(one_hot((len(growth.path(slot)) + 1) % instance.vocabulary, instance.vocabulary))


def other_model(instance: Instance, growth: Partial, slot: int) -> Row | None:
    """A second drafter, without the tokens that its siblings have."""
    distribution = constant([1 / instance.vocabulary] * instance.vocabulary)(()).clone()
    distribution[growth.siblings(slot)] = 0
    return Row(distribution / distribution.sum()) if distribution.sum() > 0 else None


@pytest.mark.parametrize("instance", INSTANCES, ids=name)
def test_children_of_three_drafters_in_one_tree(instance):
    plan = [(0, independent), (0, lookup), (0, other_model), (1, lookup), (1, independent)]
    assert_exact(examine(instance, propose(instance, plan), Recursive()))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(data=st.data(), seed=st.integers(0, 10**6), vocabulary=st.integers(2, 5), zeros=st.sampled_from([0.0, 0.3, 0.7]))
def test_any_tree_of_any_drafter_is_exact(data, seed, vocabulary, zeros):
    instance = random_instance(seed, vocabulary, zeros)
    rules = st.sampled_from([independent, distinct, top, lookup, other_model, hesitant])
    plan = [(data.draw(st.integers(0, node)), data.draw(rules)) for node in range(data.draw(st.integers(0, 4)))]
    report = examine(instance, propose(instance, plan), Recursive())
    assert_exact(report)
    assert 1 - 1e-12 <= report.expected <= 1 + len(plan) + 1e-12


class Refusing:
    """A noise that rejects all it may and keeps the distribution of the last token."""

    def bernoulli(self, prob, purpose, slots):
        return prob >= 1

    def categorical(self, distribution, purpose, slots):
        self.distribution = distribution
        return distribution.argmax(-1)


def one_step(p: list[list[float]], tokens: list[int], q: list[list[float]], noise: object):
    rows = torch.tensor([p], dtype=torch.float64)
    draft = Draft.chain(torch.tensor([tokens]), q=torch.tensor([q], dtype=torch.float64))
    return Recursive()(rows, draft, noise)  # type: ignore[arg-type]


@pytest.mark.parametrize(("mass", "kept"), [(0.5, 2), (0.0, 1)])
def test_token_whose_declared_probability_underflowed(mass, kept):
    p = [[1 - mass, mass], [0.5, 0.5]]
    assert one_step(p, [0, 1], [[0, 0], [1.0, 0.0]], Refusing()).counts.tolist() == [kept]


def test_rejection_without_a_residual_falls_back_to_p():
    noise, distribution = Refusing(), [0.25, 0.75]
    noise.bernoulli = lambda prob, purpose, slots: torch.zeros_like(prob, dtype=torch.bool)  # type: ignore[method-assign]
    verdict = one_step([distribution, distribution], [0, 1], [[0, 0], distribution], noise)
    assert verdict.counts.tolist() == [1]
    assert noise.distribution.tolist() == [distribution]


def test_row_is_judged_alike_in_any_batch():
    proposals = tree(GOLDEN, [2, 1], distinct)
    ids = torch.arange(len(proposals.weights))
    whole = Recursive()(proposals.p, proposals.draft, Noise(3).at(ids, ids * 0 + 7))
    for index in ids[::17]:
        one = proposals.rows(index[None])
        alone = Recursive()(one.p, one.draft, Noise(3).at(index[None], torch.tensor([7])))
        assert alone.emitted(one.draft).tolist() == whole.emitted(proposals.draft)[index[None]].tolist()


def test_float32_distributions_stay_close():
    instance = iid("close", (0.6, 0.4), (0.5, 0.5))
    proposals = chain(instance, 2)
    low = type(proposals)(Draft.chain(proposals.draft.tokens, q=proposals.draft.q.float()), proposals.p.float(), proposals.weights)
    assert examine(instance, low, Recursive()).error < 1e-6
