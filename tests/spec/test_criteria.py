"""Stopping criteria that depend on the place of a row in the batch: they see the shape of the batch, as in `generate`."""

import pytest
import torch
from transformers import MaxLengthCriteria, MaxTimeCriteria, StoppingCriteriaList

from drafters.draft_model import DraftModel
from drafters.none import NoDraft
from drafters.prompt_lookup import PromptLookup
from spec import CausalLM, Limits, Sampler, decode, speculative
from tests.tiny import build
from verifiers.recursive import Recursive

PROMPTS = [[5, 9, 13, 5, 9, 13], [3], [17, 2, 30, 30], [1, 2]]
BUDGETS = [7, 2, 11, 5]
DRAFTERS = pytest.mark.parametrize("make", [NoDraft, PromptLookup, lambda: DraftModel(build("llama"), num_tokens=4)], ids=["none", "lookup", "model"])


@pytest.fixture(scope="module")
def target():
    return CausalLM(build("llama"))


def by_place(ids, scores, **_):
    """A length of its own for every place of the batch."""
    return ids.shape[1] >= torch.tensor([len(prompt) for prompt in PROMPTS]) + torch.tensor(BUDGETS)


@DRAFTERS
@pytest.mark.parametrize("batch_size", [None, 2, 1])
def test_a_criterion_may_know_its_row(target, make, batch_size):
    limits = Limits(30, criteria=[by_place])
    made = decode(target, make(), Recursive(), PROMPTS, sampler=Sampler(0.8, seed=2), limits=limits, batch_size=batch_size)
    assert [len(made.new_tokens(row)) for row in range(4)] == BUDGETS


@DRAFTERS
@pytest.mark.parametrize("batch_size", [None, 2])
def test_the_door_stops_rows_where_generate_does(target, make, batch_size):
    longest = max(map(len, PROMPTS))
    ids = torch.tensor([[*[0] * (longest - len(prompt)), *prompt] for prompt in PROMPTS])
    mask = torch.tensor([[*[0] * (longest - len(prompt)), *[1] * len(prompt)] for prompt in PROMPTS])
    stop = StoppingCriteriaList([lambda ids, scores, **_: (ids.shape[1] >= longest + torch.tensor(BUDGETS)) | (ids[:, -1] == 8)])
    options = {"attention_mask": mask, "max_new_tokens": 12, "do_sample": False, "pad_token_id": 0, "eos_token_id": 39}
    theirs = target.model.generate(ids, **options, stopping_criteria=stop)
    door = speculative(make(), Recursive(), batch_size=batch_size)
    assert target.model.generate(ids, **options, stopping_criteria=stop, custom_generate=door).equal(theirs)
    assert len({row.index(0) if 0 in row else 12 for row in theirs[:, longest:].tolist()}) > 2


def test_every_row_that_a_criterion_sees_holds_the_rows_own_tokens(target):
    seen = []

    def note(ids, scores):
        seen.append(ids.tolist())
        return False

    made = decode(target, NoDraft(), Recursive(), PROMPTS[:2], sampler=Sampler(0), limits=Limits(2, criteria=[note]), batch_size=1)
    texts = [row.tolist() for row in made.sequences]
    assert seen == [[text[:-1]] * 2 for text in texts]  # after the last token the budget stops the row


def test_a_single_truth_value_counts_for_all(target):
    for answer in (True, torch.tensor(True), torch.tensor([True])):
        limits = Limits(9, criteria=[lambda ids, scores, answer=answer: answer])
        made = decode(target, NoDraft(), Recursive(), PROMPTS[:3], sampler=Sampler(0), limits=limits)
        assert [len(made.new_tokens(row)) for row in range(3)] == [1, 1, 1]


def test_criteria_of_transformers_that_judge_every_row_alike_see_one(target, monkeypatch):
    shapes, ask = [], MaxLengthCriteria.__call__
    monkeypatch.setattr(MaxLengthCriteria, "__call__", lambda self, ids, scores, **_: shapes.append(len(ids)) or ask(self, ids, scores))
    limits = Limits(20, criteria=[MaxLengthCriteria(9), MaxTimeCriteria(1e6)])
    made = decode(target, NoDraft(), Recursive(), PROMPTS, sampler=Sampler(0), limits=limits)
    assert [len(row) for row in made.sequences] == [9] * 4
    assert set(shapes) == {1}


def test_an_answer_of_another_shape_is_refused(target):
    limits = Limits(9, criteria=[lambda ids, scores: torch.zeros(len(ids), 2, dtype=torch.bool)])
    with pytest.raises(ValueError, match=r"in the shape \[4, 2\] for 4 rows"):
        decode(target, NoDraft(), Recursive(), PROMPTS, sampler=Sampler(0), limits=limits)
