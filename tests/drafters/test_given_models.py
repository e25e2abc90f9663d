"""A drafter with an assistant takes the model itself where a name could stand, as `CausalLM(model)` does."""

from pathlib import Path

import pytest
import torch

from drafters.coupled import CoupledDraft
from drafters.draft_model import DraftModel
from drafters.draft_tree import DraftTree
from drafters.multi_draft import MultiDraft
from spec import CausalLM, Limits, Sampler, decode
from tests.drafters.bench import PROMPTS, tiny_target
from tests.drafters.contract import assistant_model
from verifiers.recursive import Recursive

MAKERS = pytest.mark.parametrize("make", [DraftModel, MultiDraft, DraftTree, CoupledDraft])


def tokens(drafter):
    made = decode(tiny_target(), drafter, Recursive(), PROMPTS, sampler=Sampler(0.8, seed=4), limits=Limits(12))
    return [row.tolist() for row in made.sequences], made.stats.num_accepted


@MAKERS
def test_the_model_itself_may_stand_first(make):
    by_keyword = tokens(make(model=assistant_model()))
    assert tokens(make(assistant_model())) == by_keyword
    assert tokens(make(CausalLM(assistant_model()))) == by_keyword


@MAKERS
def test_a_wrapped_model_is_taken_as_it_is(make):
    wrapped = CausalLM(assistant_model())
    drafter = make(wrapped)
    drafter.attach(tiny_target())
    assert drafter.assistant.model is wrapped


@MAKERS
@pytest.mark.parametrize("wrong", [4, 0.5, None, [1], type(assistant_model()), torch.nn.Linear(2, 2)], ids=lambda wrong: type(wrong).__name__)
def test_another_type_gets_one_line(make, wrong):
    with pytest.raises(ValueError, match="is no draft model; give a name") as caught:
        make(wrong)
    assert "\n" not in str(caught.value)


@MAKERS
def test_two_models_are_one_too_many(make):
    with pytest.raises(ValueError, match="two draft models were given"):
        make(assistant_model(), model=assistant_model())


def test_a_path_is_a_name():
    assert DraftModel(Path("some") / "folder").assistant.name == str(Path("some") / "folder")
