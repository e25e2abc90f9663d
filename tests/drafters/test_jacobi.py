"""Jacobi decoding is a fixed-point iteration: its fixed point is the greedy text, and what is right stays right."""

import pytest
import torch

from drafters.jacobi import Jacobi
from spec.types import Scores, Verdict
from tests.drafters.bench import PROMPTS, check_greedy_identity, plain_greedy, run, state_of, tiny_target


def test_greedy_text_is_unchanged():
    check_greedy_identity(Jacobi)


def test_the_greedy_text_is_a_fixed_point():
    target = tiny_target()
    expected = plain_greedy(target, PROMPTS[:1], new=13)[0]
    drafter = Jacobi(4)
    state = target.prefill(PROMPTS[:1])
    drafter.reset(state)
    drafter.guesses = [expected[:4]]
    draft = drafter.propose(state, None)
    assert draft.tokens[0, 1:].tolist() == expected[:4]
    with torch.inference_mode():
        best = target.score(draft, state.cache).logits.argmax(-1)[0].tolist()
    assert best == expected[:5]


def test_guesses_that_were_not_accepted_are_replaced_by_what_the_target_prefers():
    drafter = Jacobi(3)
    state = state_of([[1, 2], [4]])
    drafter.reset(state)
    draft = drafter.propose(state, None)
    assert draft.tokens.tolist() == [[2, 1, 2, 1], [4, 4, 4, 4]]
    best = torch.tensor([[1, 7, 8, 9], [5, 6, 7, 8]])
    state.fresh = [[1, 7], [5]]
    for row, fresh in zip(state.rows, state.fresh, strict=True):
        row += fresh
    verdict = Verdict(torch.tensor([[0, 1], [0, -1]]), torch.tensor([7, 5]), torch.tensor([2, 1]))
    drafter.observe(state, draft, verdict, Scores(torch.nn.functional.one_hot(best, 10).double()))
    again = drafter.propose(state, None)
    assert again.tokens.tolist() == [[7, 8, 9, 2], [5, 6, 7, 8]]  # the third guess of row 0 is new: its text again, oldest of the last three first


def test_a_draft_fits_the_room_and_finished_rows_get_none():
    state = state_of([[1, 2, 3], [1, 2, 3]], room=3)
    state.done[1] = True
    drafter = Jacobi(6)
    drafter.reset(state)
    draft = drafter.propose(state, None)
    assert draft.sizes.tolist() == [3, 1]
    assert draft.is_chain


def test_never_more_steps_than_tokens():
    for b, prompt in enumerate(PROMPTS):
        stats = run(tiny_target(seed=b), Jacobi(6), [prompt], new=40).stats
        assert stats.num_steps <= stats.num_tokens == 40


def test_parameters_are_checked():
    with pytest.raises(ValueError, match="num_tokens=0"):
        Jacobi(0)
