"""Stopping rules: how long each makes a draft, that rows stop for themselves, and that greedy text is unchanged."""

import pytest
import torch

from drafters.draft_model import DraftModel
from drafters.stopping.bandit import Bandit
from drafters.stopping.confidence import Confidence
from drafters.stopping.constant import Constant
from drafters.stopping.cost import Cost
from drafters.stopping.entropy import Entropy
from drafters.stopping.heuristic import Heuristic
from spec.sampling import Sampler
from tests.drafters.bench import PROMPTS, check_greedy_identity
from tests.drafters.contract import assistant_model, check_distributions, check_shape, distribution_after, recorded

CPU = torch.device("cpu")
RULES = {
    "constant": lambda: Constant(2),
    "heuristic": Heuristic,
    "confidence": Confidence,
    "entropy": lambda: Entropy(0.1),
    "entropy that adapts": lambda: Entropy(0.1, target_acceptance=0.6, step=0.1),
    "cost": lambda: Cost(0.2),
    "cost by the clock": lambda: Cost(None),
    "bandit": lambda: Bandit((1, 4), [Confidence(), Heuristic()]),
}


def drafter(rule):
    return DraftModel(model=assistant_model(), num_tokens=6, stopping=rule)


@pytest.mark.parametrize("name", [name for name in RULES if "clock" not in name])
def test_greedy_text_is_unchanged(name):
    check_greedy_identity(lambda: drafter(RULES[name]()), new=16)


@pytest.mark.parametrize("name", RULES)
def test_shapes_and_distributions(name):
    sampler = Sampler(seed=2)
    _, proposals = recorded(drafter(RULES[name]()), sampler, new=10)
    assert sum(check_distributions(proposal, assistant_model(), sampler) for proposal in proposals) >= (1 if "clock" in name else 10)
    for proposal in proposals:
        check_shape(proposal)
        assert proposal.draft.is_chain


@pytest.mark.parametrize("name", [name for name in RULES if "clock" not in name])
def test_a_row_is_the_same_alone_and_in_a_batch(name):
    together, many = recorded(drafter(RULES[name]()), Sampler(seed=5), new=16)
    alone, few = recorded(drafter(RULES[name]()), Sampler(seed=5), PROMPTS[:1], new=16)
    assert together.new_tokens(0) == alone.new_tokens(0)
    sizes = [int(proposal.draft.sizes[0]) for proposal in many[: len(few)]]
    assert sizes == [int(proposal.draft.sizes[0]) for proposal in few]


def test_heuristic_follows_its_schedule():
    rule = Heuristic(3)
    rule.reset(2, CPU)
    assert rule.start([9, 9]) == [3, 3]
    rule.observe([3, 3], [3, 2], [False, False])
    assert rule.start([9, 9]) == [5, 2]
    rule.observe([5, 2], [0, 0], [False, False])
    assert rule.start([9, 9]) == [4, 1]
    rule.observe([4, 1], [4, 0], [False, False])
    assert rule.start([9, 0]) == [6, 0]


def test_confidence_keeps_the_token_that_made_it_stop():
    _, proposals = recorded(drafter(Confidence(0.4)), Sampler(seed=2), new=10)
    stopped = 0
    for draft, proposal in ((proposal.draft, proposal) for proposal in proposals if proposal.draft.q is not None):
        prob = draft.q.gather(2, draft.tokens[..., None]).squeeze(2)
        for row, size in enumerate(draft.sizes.tolist()):
            if proposal.done[row] or size == 1:
                continue
            assert bool((prob[row, 1 : size - 1] >= 0.4).all())
            if size - 1 < min(6, proposal.room[row] - 1):
                stopped += 1
                assert prob[row, size - 1] < 0.4
    assert stopped > 3


def test_entropy_stops_before_the_distribution_that_is_too_flat():
    _, proposals = recorded(drafter(Entropy(0.1, 0.5)), Sampler(seed=2), new=8)
    lengths = set()
    for proposal in proposals:
        for row, size in enumerate(proposal.draft.sizes.tolist()):
            if proposal.done[row] or size - 1 == min(6, proposal.room[row] - 1):
                continue
            lengths.add(size)
            entropies = [
                float(
                    torch.special.entr(distribution_after(assistant_model(), Sampler(), [*proposal.rows[row], *proposal.draft.path(row, slot)])).sum()
                )
                for slot in range(size)
            ]
            bounds = [1 - (0.1 * entropy) ** 0.5 >= 0.5 for entropy in entropies]
            assert bounds == [True] * (size - 1) + [False]
    assert len(lengths) > 1


def test_entropy_raises_its_threshold_while_too_little_is_accepted():
    rule = Entropy(threshold=0.3, target_acceptance=0.8, step=0.1)
    rule.reset(3, CPU)
    rule.observe([4, 4, 0], [0, 4, 0], [False] * 3)
    assert rule.thresholds.tolist() == pytest.approx([0.4, 0.2, 0.2])


def certain(prob, vocabulary=4):
    """A distribution whose largest probability is `prob`."""
    return torch.tensor([[prob, *[(1 - prob) / (vocabulary - 1)] * (vocabulary - 1)]], dtype=torch.float64)


def test_cost_goes_on_while_a_token_is_worth_its_forward():
    rule = Cost(0.3, prior=1e9)
    rule.reset(1, CPU)
    rule.start([8])
    worth = [bool(rule.before(certain(0.7), depth)) for depth in range(1, 6)]
    assert worth == [0.6875**depth > 0.3 for depth in range(1, 6)]


def test_cost_learns_what_the_drafters_certainty_is_worth():
    rule = Cost(0.3)
    rule.reset(2, CPU)
    for _ in range(50):
        rule.start([1, 1])
        rule.before(certain(0.95).expand(2, -1), 1)
        rule.observe([1, 1], [1, 0], [False, False])
    rule.start([1, 1])
    assert rule.before(certain(0.95).expand(2, -1), 1).tolist() == [True, False]


def test_bandit_settles_on_the_arm_that_pays():
    rule = Bandit((1, 8), relative_cost=0.1)
    rule.reset(2, CPU)
    chosen = []
    for _ in range(60):
        lengths = rule.start([8, 8])
        chosen.append(lengths)
        rule.observe(lengths, [lengths[0], 0], [False, False])  # the first row accepts everything, the second nothing
    assert sum(length == 8 for length, _ in chosen) > 50
    assert sum(length == 1 for _, length in chosen) > 35


def test_bandit_asks_the_rule_whose_turn_it_is():
    rule = Bandit((2,), [Confidence(0.5)])
    rule.reset(2, CPU)
    rule.start([4, 4])
    rule.observe([2, 2], [0, 0], [False, False])
    assert rule.start([4, 4]) == [4, 4]
    assert rule.after(torch.tensor([0.4, 0.6]), 1).tolist() == [False, True]
    assert rule.before(certain(0.5).expand(2, -1), 1) is None


@pytest.mark.parametrize(
    "make",
    [
        lambda: Constant(0),
        lambda: Heuristic(0),
        lambda: Confidence(1.5),
        lambda: Entropy(scale=0),
        lambda: Entropy(target_acceptance=1.0),
        lambda: Cost(-1.0),
        lambda: Cost(prior=0),
        lambda: Bandit(()),
        lambda: Bandit((0,)),
    ],
)
def test_refuses_what_makes_no_sense(make):
    with pytest.raises(ValueError, match="give"):
        make()
