"""Trees of a fixed shape and trees that grow: drawn as they declare, places chosen before their tokens, greedy text unchanged."""

import pytest
import torch

from drafters.draft_tree import DraftTree
from spec import CausalLM, Limits, decode
from spec.sampling import Sampler
from tests.drafters.bench import PROMPTS, check_greedy_identity
from tests.drafters.contract import assistant_model, check_distributions, check_shape, distribution_after, recorded
from tests.tiny import build
from verifiers.traversal import Traversal


def fixed(**options):
    return DraftTree(model=assistant_model(), **options)


def grown(num_nodes=7, num_rounds=3):
    return DraftTree(model=assistant_model(), widths=None, num_nodes=num_nodes, num_rounds=num_rounds)


@pytest.mark.parametrize("make", [lambda: fixed(widths=[2, 2, 1]), grown], ids=["fixed", "grown"])
@pytest.mark.parametrize("options", [{}, {"top_k": 2}, {"repetition_penalty": 1.5}], ids=str)
def test_declares_the_distributions_it_draws_from(make, options):
    sampler = Sampler(seed=2, **options)
    _, proposals = recorded(make(), sampler, new=8)
    assert sum(check_distributions(proposal, assistant_model(), sampler) for proposal in proposals) > 50
    for proposal in proposals:
        check_shape(proposal)


def test_fixed_shape_level_by_level():
    _, proposals = recorded(fixed(widths=[2, 2, 1]), Sampler(seed=2))
    assert proposals[0].draft.parents[0].tolist() == [-1, 0, 0, 1, 2, 1, 2, 3, 4, 5, 6]
    assert proposals[0].draft.width == 2


def test_growth_puts_every_token_where_it_promises_most():
    """Replays the growth slot by slot: each was put under the slot with the largest path probability times what was left to draw there."""
    _, proposals = recorded(grown(8, 4), Sampler(seed=2), PROMPTS[:1], new=6)
    sampler, (first, *_) = Sampler(), proposals
    draft, row = first.draft, first.rows[0]
    distributions: list[torch.Tensor] = []
    reach, left = [1.0], []
    for slot in range(1, draft.num_slots):
        if slot % 2:  # a round of two tokens begins: all slots so far have their distributions
            for node in range(len(distributions), slot):
                distributions.append(distribution_after(assistant_model(), sampler, [*row, *draft.path(0, node)]))
                left.append(distributions[node].clone())
        parent, token = int(draft.parents[0, slot]), int(draft.tokens[0, slot])
        chances = [reach[node] * float(left[node].sum()) for node in range(len(distributions))]
        assert chances[parent] == pytest.approx(max(chances), rel=1e-9)
        left[parent][token] = 0
        reach.append(reach[parent] * float(distributions[parent][token]))
    assert draft.num_slots == 9


def test_growth_at_temperature_zero_takes_the_most_probable_paths():
    _, proposals = recorded(grown(6, 2), Sampler(temperature=0), PROMPTS[:1], new=6)
    draft, row = proposals[0].draft, proposals[0].rows[0]
    distribution = distribution_after(assistant_model(), Sampler(), row)
    assert draft.q is None
    assert draft.tokens[0, 1:4].tolist() == distribution.topk(3).indices.tolist()
    taken = distribution.topk(3).values.tolist()
    further = distribution.sort(descending=True).values[3:6].tolist()
    for chance, token in zip(taken, draft.tokens[0, 1:4].tolist(), strict=True):
        further += (chance * distribution_after(assistant_model(), Sampler(), [*row, token])).tolist()
    depths, parents = draft.depths()[0], draft.parents[0]
    reached = []
    for slot in range(4, 7):
        above = distribution_after(assistant_model(), Sampler(), [*row, *draft.path(0, int(parents[slot]))])
        before = float(distribution[draft.tokens[0, parents[slot]]]) if depths[slot] == 2 else 1.0
        reached.append(before * float(above[draft.tokens[0, slot]]))
    assert reached == pytest.approx(sorted(further, reverse=True)[:3], rel=1e-9)


@pytest.mark.parametrize("make", [fixed, grown, lambda: fixed(widths=[1, 1])], ids=["fixed", "grown", "chain"])
def test_greedy_text_is_unchanged(make):
    check_greedy_identity(make, new=16)


@pytest.mark.parametrize("make", [fixed, grown], ids=["fixed", "grown"])
def test_a_row_samples_the_same_alone_and_in_a_batch(make):
    together, _ = recorded(make(), Sampler(seed=5), new=16)
    alone, _ = recorded(make(), Sampler(seed=5), PROMPTS[:1], new=16)
    assert together.new_tokens(0) == alone.new_tokens(0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widths": []}, "number of children at each depth"),
        ({"widths": [2, 0]}, "number of children at each depth"),
        ({"num_nodes": 2, "num_rounds": 3}, "every round adds a token"),
        ({"siblings": "best"}, "choose one of"),
    ],
)
def test_refuses_what_makes_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        DraftTree(**options)


@pytest.mark.parametrize("widths", [3, "3", [], [2, 0]])
def test_widths_that_make_no_tree_are_refused(widths):
    with pytest.raises(ValueError, match=r"widths=.*give the number of children at each depth"):
        fixed(widths=widths)


@pytest.mark.parametrize("temperature", [0, 1.0])
def test_a_row_that_is_short_of_room_grows_as_it_would_alone(temperature):
    """Budgets differ because a longer prompt leaves less context; the short row stops growing, and the long one beside it goes on."""
    target = CausalLM(build("llama"), context=24)
    prompts = [list(range(1, 21)), [1, 2, 3]]

    class Budgets(Limits):
        def check(self, rows, context):
            pass

        def start(self, state):
            state.max_lengths = [23] * len(state.rows)

    def run(rows, ids):
        drafts, drafter = [], grown(8, 4)
        propose = drafter.propose
        drafter.propose = lambda state, sampler: drafts.append(propose(state, sampler)) or drafts[-1]
        sampler = Sampler(temperature, seed=5)
        texts = decode(target, drafter, Traversal(), rows, sampler=sampler, limits=Budgets(), sequence_ids=ids).sequences
        return texts, drafts[0]

    together, first = run(prompts, [0, 1])
    for index, prompt in enumerate(prompts):
        (text,), alone = run([prompt], [index])
        size = int(alone.sizes[0])
        assert int(first.sizes[index]) == size
        assert first.tokens[index, :size].tolist() == alone.tokens[0, :size].tolist()
        assert together[index].tolist() == text.tolist()
