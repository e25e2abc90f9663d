"""Lookahead decoding: what the window sees, where it stands, what it learns, and that its n-grams pay."""

from types import SimpleNamespace

import pytest
import torch

from drafters.lookahead import JacobiWindow, Lookahead, NgramPool, window_visibility
from spec.decode import decode
from spec.sampling import Sampler
from spec.state import Limits
from tests.drafters.bench import PROMPTS, check_greedy_identity, looping_target, new_tokens, plain_greedy, run, state_of, tiny_greedy, tiny_target
from verifiers.recursive import Recursive

SHAPES = [(2, 2), (5, 2), (2, 3), (4, 3), (3, 5), (6, 4)]


def entries(window, ngram):
    """(level, column) of every window entry, the root first."""
    return [(level, column) for level in range(ngram - 1) for column in range(window)]


def sees(viewer, seen):
    """The rule of the paper's figure 2: level 0 up to the own column, then the own column up to the own level."""
    (level, column), (seen_level, seen_column) = viewer, seen
    if seen_level == 0:
        return seen_column <= column
    return seen_column == column and seen_level <= level


class Recording(Lookahead):
    """Keeps every draft with the windows that it was made from."""

    def reset(self, state):
        super().reset(state)
        self.drafts = []

    def propose(self, state, sampler):
        draft = super().propose(state, sampler)
        self.drafts.append(([list(row) for row in state.rows], [window.levels for window in self.windows], draft))
        return draft


@pytest.mark.parametrize(("window", "ngram"), SHAPES)
def test_visibility_is_the_rule(window, ngram):
    slots = entries(window, ngram)
    assert window_visibility(window, ngram).tolist() == [[sees(viewer, seen) for seen in slots] for viewer in slots]


def test_visibility_by_hand():
    #           level 0    level 1   level 2     columns 0 1 of each; the root is the first
    assert window_visibility(2, 4).int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 0, 1, 0, 0, 0],
        [1, 1, 0, 1, 0, 0],
        [1, 0, 1, 0, 1, 0],
        [1, 1, 0, 1, 0, 1],
    ]


@pytest.mark.parametrize(("window", "ngram"), SHAPES)
def test_the_scratch_has_the_slots_positions_and_sights_of_the_paper(window, ngram):
    state = state_of([[1, 2, 3, 1, 2, 4, 1], [2, 2], [9]])
    drafter = Lookahead(window, ngram, guesses=3)
    drafter.reset(state)
    draft = drafter.propose(state, None)
    num_slots, slots = draft.num_slots, entries(window, ngram)[1:]
    assert 1 + len(slots) == 1 + (window - 1) + (ngram - 2) * window
    assert num_slots <= 1 + 3 * (ngram - 1)
    assert draft.scratch.tokens.shape == draft.scratch.positions.shape == (3, len(slots))
    assert draft.scratch.positions.tolist() == [[level + column for level, column in slots]] * 3
    expected = [[sees(viewer, (0, 0)), *[False] * (num_slots - 1), *[sees(viewer, seen) for seen in slots]] for viewer in slots]
    assert draft.scratch.visible.tolist() == [expected] * 3


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_every_window_entry_is_scored_as_if_its_branch_were_alone(family):
    target = tiny_target(family)
    drafter = Recording(3, 4)
    state = target.prefill(PROMPTS)
    drafter.reset(state)
    with torch.inference_mode():
        scores = target.score(drafter.propose(state, None), state.cache)
        for b, levels in enumerate(drafter.drafts[0][1]):
            for slot, (level, column) in enumerate(entries(3, 4)[1:]):
                branch = [*levels[0][1 : column + 1], *[levels[upper][column] for upper in range(1, level + 1)]]
                alone = target.model(input_ids=torch.tensor([[*PROMPTS[b], *branch]]), use_cache=False).logits[0, -1]
                assert (scores.scratch[b, slot] - alone).abs().max() < 1e-5


def test_the_window_starts_as_text_of_the_prompt_and_drops_a_level_per_step():
    window = JacobiWindow([1, 2, 3, 4], window=3, ngram=4)
    assert window.levels == [[4, 1, 2], [1, 2, 3], [2, 3, 4]]
    assert window.entries() == [1, 2, 1, 2, 3, 2, 3, 4]
    assert window.ngrams([7, 8, 9]) == [(2, 3, 4, 9), (1, 2, 3, 8), (4, 1, 2, 7)]
    window.advance([7, 8, 9], root=5)
    assert window.levels == [[5, 2, 3], [2, 3, 4], [7, 8, 9]]


def test_no_guess_is_an_end_of_text():
    window = JacobiWindow([9, 1, 2, 9], window=3, ngram=3, eos=frozenset({9}))
    assert window.levels == [[9, 1, 2], [1, 2, 1]]
    window.advance([9, 4, 9], root=5)
    assert window.levels == [[5, 2, 1], [1, 4, 1]]
    assert JacobiWindow([9], window=2, ngram=2, eos=frozenset({9})).levels == [[9, 9]]


@pytest.mark.parametrize(("given", "known"), [(None, set()), (3, {3}), ([3, 4], {3, 4})])
def test_the_ends_of_text_are_the_targets(given, known):
    drafter = Lookahead()
    drafter.attach(SimpleNamespace(model=SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=given))))
    assert drafter.eos == known


def test_the_pool_keeps_the_newest_of_each_token():
    pool = NgramPool(guesses=2)
    for ngram in ([1, 5, 5], [1, 6, 6], [2, 7, 7], [1, 5, 5], [1, 8, 8]):
        pool.add(ngram)
    assert pool.candidates(1, 2) == [[8, 8], [5, 5]]  # 6 6 was the oldest: 5 5 had come again
    assert pool.candidates(2, 1) == [[7]]
    assert pool.candidates(3, 2) == []


def test_the_pool_of_the_prompt_becomes_one_tree():
    state = state_of([[1, 2, 3, 9, 1, 2, 4, 9, 1], [3, 3, 3, 3], [5]])
    drafter = Lookahead(2, 3)
    drafter.reset(state)
    draft = drafter.propose(state, None)
    assert draft.tokens.tolist() == [[1, 2, 4, 3], [3, 3, 3, 3], [5, 5, 5, 5]]
    assert draft.parents.tolist() == [[-1, 0, 1, 1], [-1, 0, 1, 0], [-1, 0, 0, 0]]
    assert draft.sizes.tolist() == [4, 3, 1]
    assert draft.width == 2
    unseeded = Lookahead(2, 3, seed_pool=False)
    unseeded.reset(state)
    assert unseeded.propose(state, None).sizes.tolist() == [1, 1, 1]


def test_candidates_fit_the_room_and_finished_rows_get_none():
    state = state_of([[1, 2, 3, 4, 5, 1], [1, 2, 3, 4, 5, 1]], room=3)
    state.done[1] = True
    drafter = Lookahead(2, 5)
    drafter.reset(state)
    draft = drafter.propose(state, None)
    assert draft.sizes.tolist() == [3, 1]
    assert draft.is_chain


@pytest.mark.parametrize("learn", [True, False])
def test_the_output_enters_the_pool_as_it_is_emitted(learn):
    drafter = Lookahead(2, 3, guesses=1000, seed_pool=False, learn_output=learn)
    text = run(tiny_target(), drafter, PROMPTS[:1], new=30).sequences[0].tolist()[len(PROMPTS[0]) - 2 :]
    held = {(first, *tail) for first, tails in drafter.pools[0].tails.items() for tail in tails}
    assert (set(zip(text, text[1:], text[2:], strict=False)) <= held) == learn


class NeverDrafts(Lookahead):
    """A window without a pool: every step emits one token."""

    def propose(self, state, sampler):
        self.pools = [NgramPool(1) for _ in state.rows]
        return super().propose(state, sampler)


@pytest.mark.parametrize(("window", "ngram"), SHAPES)
def test_the_window_becomes_the_greedy_text_where_that_depends_on_positions_alone(window, ngram):
    target = tiny_target("gpt2")
    torch.nn.init.zeros_(target.model.transformer.wte.weight)
    expected = plain_greedy(target, new=40)
    assert all(len(set(text)) > 5 for text in expected)
    drafter = NeverDrafts(window, ngram)
    run(target, drafter, new=20)
    for guesses, text in zip(drafter.windows, expected, strict=True):
        assert guesses.levels == [[text[19 + level + column] for column in range(window)] for level in range(ngram - 1)]


def test_greedy_text_is_unchanged():
    check_greedy_identity(Lookahead)


@pytest.mark.parametrize(("window", "ngram"), SHAPES)
def test_greedy_text_is_unchanged_for_other_shapes(window, ngram):
    generation = run(tiny_target(), Lookahead(window, ngram, guesses=2), new=40)
    assert new_tokens(generation) == tiny_greedy(40)


def test_greedy_text_is_unchanged_up_to_the_last_position_of_the_context():
    target = tiny_target("gpt2")
    new = target.context - len(PROMPTS[1])
    generation = run(target, Lookahead(), PROMPTS[1:2], new=new)
    assert new_tokens(generation) == plain_greedy(target, PROMPTS[1:2], new=new)


def test_drafts_depend_on_history_alone():
    target = tiny_target()
    first, second = Recording(), Recording()
    for drafter in (first, second):
        run(target, drafter, new=30, temperature=1.0)
    for (rows, levels, draft), (other_rows, other_levels, other) in zip(first.drafts, second.drafts, strict=True):
        assert (rows, levels) == (other_rows, other_levels)
        assert torch.equal(draft.tokens, other.tokens)
        assert draft.q is None


def test_a_loop_pays_and_the_window_alone_finds_it():
    target = looping_target()
    drafter = Lookahead(seed_pool=False, learn_output=False)
    generation = run(target, drafter, new=100)
    assert new_tokens(generation) == plain_greedy(target, new=100)
    assert generation.stats.tokens_per_step > 2


def test_an_end_of_text_in_a_candidate_ends_the_row():
    target = looping_target()
    text = plain_greedy(target, PROMPTS[:1], new=60)[0]
    eos, prompt, rest = text[20], [*PROMPTS[0], *text[:22]], text[22:]  # the loop brought the end into the prompt, so it is in the pool
    target.model.generation_config.eos_token_id = eos
    generation = decode(target, Lookahead(), Recursive(), [prompt], sampler=Sampler(temperature=0.0), limits=Limits(38, eos_token_id=eos))
    assert generation.new_tokens(0) == rest[: rest.index(eos) + 1]


@pytest.mark.parametrize("wrong", [{"window": 1}, {"ngram": 1}, {"guesses": 0}])
def test_parameters_are_checked(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}="):
        Lookahead(**wrong)
