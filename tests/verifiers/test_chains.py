"""The verifiers of chains, enumerated: token-level rejection, block verification and sample-and-match, against closed forms and at the edges."""

from dataclasses import replace
from itertools import product
from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from drafters.draft_model import DraftModel
from drafters.lookahead import Lookahead
from experiments.lossless.enumeration.loop import TableLoop
from experiments.lossless.enumeration.proposals import Partial, Row, chain, distinct, independent, one_hot, pack, tree
from experiments.lossless.enumeration.step_distribution import assert_exact, examine, tv
from experiments.lossless.enumeration.tables import B4, GOLDEN, INSTANCES, SMALL, A, Instance, S, Z, random_instance
from spec.noise import Noise
from spec.types import Draft
from tests.verifiers.test_recursive import Refusing, dropping, hesitant, name
from verifiers.block import Block
from verifiers.ensemble import Ensemble
from verifiers.lenient import Lenient
from verifiers.recursive import Recursive
from verifiers.rejection import Rejection
from verifiers.sample_match import SampleMatch

EXACT = [Rejection(), Block(), SampleMatch()]
ANCHORS = [
    (Rejection(), GOLDEN, [1, 89 / 51, 2729 / 1224, 9996485771971 / 3881202212160]),
    (Rejection(), A, [1, 17 / 10, 219 / 100, 2533 / 1000, 27731 / 10000]),
    (Rejection(), B4, [1, 1.6, 1.96, 2.176]),
    (Rejection(), S, [1, 5 / 3, 19 / 9]),
    (Rejection(), Z, [1, 7 / 5, 39 / 25, 203 / 125]),
    (Block(), GOLDEN, [1, 89 / 51, 98471 / 42840, 5905792247179 / 2130856116480]),
    (Block(), A, [1, 17 / 10, 9 / 4, 539 / 200, 6127 / 2000]),
    (Block(), S, [1, 5 / 3, 20 / 9]),
    (Block(), Z, [1, 7 / 5, 39 / 25, 203 / 125]),
    (SampleMatch(), A, [1, 1.29, 1.3741, 1.398489]),  # 0.29 = sum p q, at every place
    (SampleMatch(), Z, [1, 1.2, 1.24, 1.248]),
]


@pytest.mark.parametrize(
    ("verifier", "instance", "gamma", "expected"),
    [(verifier, instance, gamma, value) for verifier, instance, values in ANCHORS for gamma, value in enumerate(values)],
    ids=name,
)
def test_expected_tokens(verifier, instance, gamma, expected):
    assert_exact(examine(instance, chain(instance, gamma), verifier), expected)


@pytest.mark.parametrize("verifier", EXACT, ids=repr)
@pytest.mark.parametrize("instance", INSTANCES, ids=name)
@pytest.mark.parametrize("gamma", [0, 1, 2, 3])
def test_every_instance_is_exact(verifier, instance, gamma):
    assert_exact(examine(instance, chain(instance, gamma), verifier))


@pytest.mark.parametrize(
    ("verifier", "lengths"),
    [
        (Rejection(), [0.2549019607843137, 0.26062091503267976, 0.13843647950771862, 0.34604064467528795]),
        (Block(), [0.2549019607843137, 0.1916199813258637, 0.08049571822256349, 0.4729823396672591]),
    ],
    ids=repr,
)
def test_lengths_of_golden_chain(verifier, lengths):
    assert examine(GOLDEN, chain(GOLDEN, 3), verifier).lengths == pytest.approx(lengths, abs=1e-12)


def test_places_that_survive_block_verification():
    lengths = examine(A, chain(A, 3), Block()).lengths
    assert [sum(lengths[place:]) for place in (1, 2, 3)] == pytest.approx([0.7, 0.55, 0.445], abs=1e-12)


@pytest.mark.parametrize("instance", INSTANCES, ids=name)
def test_block_of_one_token_and_of_certain_tokens_is_token_level(instance):
    distributions = [examine(instance, chain(instance, 1), verifier).distribution for verifier in (Rejection(), Block(), Recursive())]
    assert max(tv(distributions[0], distribution) for distribution in distributions) < 1e-15
    for declare in (True, False):
        certain = chain(instance, 3, lambda instance, growth, slot: Row(one_hot(slot % instance.vocabulary, instance.vocabulary)), declare=declare)
        reports = [examine(instance, certain, verifier) for verifier in (Rejection(), Block(), SampleMatch())]
        for report in reports:
            assert_exact(report, reports[0].expected)
            assert report.lengths == pytest.approx(reports[0].lengths, abs=1e-15)


def chance_to_keep(instance: Instance, gamma: int, *, block: bool) -> list[float]:
    """P(at least i tokens are kept) for i = 1 ... gamma: the mean over chains x that q draws of r_i, which is

    r_(i-1) min(1, p_i / q_i) for token-level rejection (arXiv 2211.17192) and min(1, r_(i-1) p_i / q_i) for block verification (2403.10444); r_0 = 1.
    """
    found = [0.0] * gamma
    for x in product(range(instance.vocabulary), repeat=gamma):
        p, q = ([float(distribution(x[:i])[x[i]]) for i in range(gamma)] for distribution in (instance.p, instance.q))
        drawn, weight = prod(q), 1.0
        for i in range(gamma if drawn else 0):
            weight = min(1.0, weight * p[i] / q[i]) if block else weight * min(1.0, p[i] / q[i])
            found[i] += drawn * weight
    return found


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), vocabulary=st.integers(2, 5), zeros=st.sampled_from([0.0, 0.3, 0.7]), gamma=st.integers(0, 3))
def test_block_is_never_worse_than_token_level_nor_better_than_the_prefix_bound(seed, vocabulary, zeros, gamma):
    instance = random_instance(seed, vocabulary, zeros)
    proposals = chain(instance, min(gamma, 2 if vocabulary == 5 else 3))
    token, block = (examine(instance, proposals, verifier) for verifier in (Rejection(), Block()))
    assert_exact(token)
    assert_exact(block)
    assert token.expected <= block.expected + 1e-12
    drafted = replace(instance, p=instance.q)
    depth = proposals.draft.num_slots - 1
    for report in (token, block):
        kept = [sum(report.lengths[place:]) for place in range(1, depth + 1)]
        assert kept == pytest.approx(chance_to_keep(instance, depth, block=report is block), abs=1e-12)
    bound = 1 + sum(1 - tv(instance.target_distribution(length), drafted.target_distribution(length)) for length in range(1, depth + 1))
    assert block.expected <= bound + 1e-12


@pytest.mark.parametrize("verifier", EXACT, ids=repr)
@pytest.mark.parametrize("instance", [GOLDEN, A, B4], ids=name)
def test_stopping_after_an_unlikely_token_is_exact_if_it_is_kept(verifier, instance):
    proposals = chain(instance, 3, hesitant)
    assert len(proposals.draft.sizes.unique()) > 1
    assert_exact(examine(instance, proposals, verifier))


@pytest.mark.parametrize("verifier", [Rejection(), Block()], ids=repr)
def test_dropping_an_unlikely_token_is_convicted(verifier):
    assert examine(GOLDEN, pack(GOLDEN, dropping(GOLDEN), width=1), verifier).error > 0.05


@pytest.mark.parametrize("verifier", [Rejection(), Block()], ids=repr)
@pytest.mark.parametrize("gamma", [1, 3])
def test_draft_of_p_itself_is_accepted_whole(verifier, gamma):
    itself = Instance("itself", 4, GOLDEN.p, GOLDEN.p)
    assert_exact(examine(itself, chain(itself, gamma), verifier), gamma + 1)


@pytest.mark.parametrize("verifier", [Rejection(), Block()], ids=repr)
def test_distribution_that_equals_p_but_for_rounding_is_accepted_whole(verifier):
    rounded = Instance("rounded", 4, GOLDEN.p, lambda prefix: (GOLDEN.p(prefix).log() - 0.7).softmax(0))
    assert_exact(examine(rounded, chain(rounded, 2), verifier), 3)


@pytest.mark.parametrize("verifier", EXACT, ids=repr)
@pytest.mark.parametrize("gamma", [0, 2])
def test_one_hot_p_emits_its_own_path(verifier, gamma):
    greedy = Instance("greedy", 4, lambda prefix: one_hot(int(GOLDEN.p(prefix).argmax()), 4), GOLDEN.q)
    report = examine(greedy, chain(greedy, gamma), verifier)
    assert_exact(report)
    assert all(emitted == (3, 1, 2, 1)[: len(emitted)] for emitted, weight in report.distribution.items() if weight > 0)


@pytest.mark.parametrize("verifier", EXACT, ids=repr)
@pytest.mark.parametrize("declare", [True, False])
def test_padding_slots_change_nothing(verifier, declare):
    bare, padded = chain(GOLDEN, 2, declare=declare), chain(GOLDEN, 2, declare=declare, num_slots=5)
    padded.draft.tokens[:, 3:] = 3
    padded.p[:, 3:] = torch.nan
    if padded.draft.q is not None:
        padded.draft.q[:, 3:] = torch.nan
    assert tv(examine(GOLDEN, padded, verifier, 3).distribution, examine(GOLDEN, bare, verifier).distribution) < 1e-15


@pytest.mark.parametrize("verifier", [*EXACT, Lenient(), Ensemble()], ids=repr)
def test_row_is_judged_alike_in_any_batch(verifier):
    proposals = chain(GOLDEN, 3, hesitant)
    ids = torch.arange(len(proposals.weights))
    whole = verifier(proposals.p, proposals.draft, Noise(3).at(ids, ids * 0 + 7))
    for index in ids[::9]:
        size = int(proposals.draft.sizes[index])
        assert proposals.draft.q is not None
        alone = Draft.chain(proposals.draft.tokens[index, None, :size], q=proposals.draft.q[index, None, :size])
        verdict = verifier(proposals.p[index, None, :size], alone, Noise(3).at(index[None], torch.tensor([7])))
        assert verdict.emitted(alone)[0].tolist() == whole.emitted(proposals.draft)[index, :size].tolist()


def test_rejection_makes_the_very_choices_of_the_recursive_verifier():
    proposals = chain(GOLDEN, 3)
    noise = Noise(1).at(torch.arange(len(proposals.weights)), proposals.draft.sizes)
    verdicts = [verifier(proposals.p, proposals.draft, noise) for verifier in (Rejection(), Recursive())]
    assert torch.equal(verdicts[0].emitted(proposals.draft), verdicts[1].emitted(proposals.draft))


def judged(verifier: object, p: list[list[float]], tokens: list[int], q: list[list[float]]):
    """The verdict when all is rejected that may be, and the distribution that the last token was drawn from."""
    noise = Refusing()
    draft = Draft.chain(torch.tensor([tokens]), q=torch.tensor([q], dtype=torch.float64))
    verdict = verifier(torch.tensor([p], dtype=torch.float64), draft, noise)  # type: ignore[operator]
    return verdict.counts.tolist(), noise.distribution.tolist()[0]


@pytest.mark.parametrize("verifier", [Rejection(), Block()], ids=repr)
@pytest.mark.parametrize(("mass", "kept"), [(0.5, 2), (0.0, 1)])
def test_token_whose_declared_probability_underflowed(verifier, mass, kept):
    assert judged(verifier, [[1 - mass, mass], [0.5, 0.5]], [0, 1], [[0, 0], [1.0, 0.0]])[0] == [kept]


def test_ratio_that_overflows_makes_the_block_certain_again():
    p, q = [[0.9, 0.1], [0.5, 0.5], [0.5, 0.5]], [[0, 0], [0.1, 0.9], [1.0, 1e-320]]
    assert judged(Block(), p, [0, 1, 1], q)[0] == [3]


@pytest.mark.parametrize("verifier", [Rejection(), Block()], ids=repr)
@pytest.mark.parametrize("q", [[torch.nan, torch.nan], [torch.nan, 0.4]], ids=["all", "some"])
def test_token_with_a_distribution_that_is_not_finite_is_rejected_for_one_of_the_targets(verifier, q):
    p = [[0.25, 0.75], [0.5, 0.5]]
    counts, distribution = judged(verifier, p, [0, 0], [[0, 0], q])
    assert counts == [1]
    assert distribution == p[0]


def test_rejection_without_a_residual_falls_back_to_p():
    distribution = [0.25, 0.75]
    noise = Refusing()
    noise.bernoulli = lambda prob, purpose, slots: torch.zeros_like(prob, dtype=torch.bool)  # type: ignore[method-assign]
    draft = Draft.chain(torch.tensor([[0, 1, 1]]), q=torch.tensor([[[0, 0], distribution, distribution]], dtype=torch.float64))
    for verifier in (Rejection(), Block()):
        assert verifier(torch.tensor([[distribution] * 3], dtype=torch.float64), draft, noise).counts.tolist() == [1]  # type: ignore[arg-type]
        assert noise.distribution.tolist() == [distribution]


@pytest.mark.parametrize("verifier", [Rejection(), Block(), Lenient(), Ensemble()], ids=repr)
def test_draft_that_may_branch_is_refused(verifier):
    message = f"{type(verifier).__name__} verifies chains .* recursive, traversal, sample_match or coupled"
    for proposals in (tree(A, [2], distinct), chain(A, 2, width=None)):
        noise = Noise(0).at(proposals.draft.sizes, proposals.draft.sizes)
        with pytest.raises(ValueError, match=message):
            verifier(proposals.p, proposals.draft, noise)
    alone = Draft(torch.tensor([[0]]), torch.tensor([[-1]]), torch.tensor([1]))
    verdict = verifier(torch.tensor([[[0.0, 1.0]]]), alone, Noise(0).at(alone.sizes, alone.sizes))
    assert verdict.bonus.tolist() == [1]


@pytest.mark.parametrize("verifier", EXACT, ids=repr)
def test_float32_distributions_stay_close(verifier):
    proposals = chain(GOLDEN, 2)
    assert proposals.draft.q is not None
    low = type(proposals)(Draft.chain(proposals.draft.tokens, q=proposals.draft.q.float()), proposals.p.float(), proposals.weights)
    assert examine(GOLDEN, low, verifier).error < 1e-6


def unlucky(instance: Instance, growth: Partial, slot: int) -> Row | None:
    """Every second place is never drafted by q."""
    row = independent(instance, growth, slot)
    distribution = row.distribution * (torch.arange(instance.vocabulary) % 2 == 0)
    return Row(distribution / distribution.sum()) if distribution.sum() > 0 else None


@pytest.mark.parametrize("verifier", EXACT, ids=repr)
@pytest.mark.parametrize("instance", INSTANCES, ids=name)
def test_tokens_that_q_never_drafts(verifier, instance):
    assert_exact(examine(instance, chain(instance, 2, unlucky), verifier))


@pytest.mark.parametrize("verifier", EXACT, ids=repr)
@pytest.mark.parametrize("loop", [TableLoop(), TableLoop(SMALL, 3, eos=2), TableLoop(Z, 3)], ids=["golden", "eos", "zeros"])
def test_loop_emits_the_distribution_of_the_target(verifier, loop):
    loop = replace(loop, verifier=verifier)
    assert loop.error(lambda assistant: DraftModel(model=assistant, num_tokens=2)) < 1e-12


def test_sample_and_match_follows_trees_in_the_loop():
    loop = TableLoop(SMALL, 3, verifier=SampleMatch())
    assert loop.error(lambda assistant: Lookahead(window=2, ngram=3, guesses=2)) < 1e-12
