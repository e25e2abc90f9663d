"""A tree that is scored while it grows has the same scores, and leaves the same cache, as one that is scored at once."""

import pytest
import torch

from spec.assistant import Assistant
from spec.model import CausalLM
from spec.state import DecodeState
from spec.types import Draft
from tests.tiny import build

PARENTS = torch.tensor([-1, 0, 0, 1, 2, 2, 4])


def tree(roots: list[int], num_slots: int = len(PARENTS)) -> Draft:
    tokens = torch.randint(0, 40, (len(roots), len(PARENTS)), generator=torch.Generator().manual_seed(0))
    tokens[:, 0] = torch.tensor(roots)
    return Draft(tokens[:, :num_slots], PARENTS[:num_slots].expand(len(roots), -1), torch.full((len(roots),), num_slots))


@pytest.mark.parametrize("rows", [[[1, 2, 3], [4, 5, 6]], [[1, 2, 3], [4, 5], [7]]], ids=["even", "ragged"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
@torch.inference_mode()
def test_levels_one_after_another(family: str, rows: list[list[int]]) -> None:
    model = CausalLM(build(family))
    assistant, state = Assistant(model=model), model.prefill(rows)
    assistant.attach(model)
    assistant.reset(state)
    found = [assistant.follow(state)] + [assistant.score(tree(state.roots, num_slots)) for num_slots in (3, 6, 7)]
    at_once = model.score(tree(state.roots), state.cache).logits
    assert torch.allclose(torch.cat(found, 1), at_once, atol=1e-12)


@torch.inference_mode()
def test_what_the_verifier_kept_stays_and_the_rest_is_fed_again() -> None:
    model = CausalLM(build("llama"))
    assistant, state = Assistant(model=model), model.prefill([[1, 2, 3], [4, 5]])
    assistant.attach(model)
    assistant.reset(state)
    assistant.follow(state)
    draft = tree(state.roots)
    assistant.score(tree(state.roots, 6))  # the last slot, a leaf, is never fed
    assistant.keep(torch.tensor([[0, 2, 4, 6], [0, -1, -1, -1]]))
    assert assistant.cache.lengths == [5, 2]
    state.rows[0] += [*draft.tokens[0, [2, 4, 6]].tolist(), 9]
    state.rows[1] += [8]
    expected = [model.model(input_ids=torch.tensor([row]), use_cache=False).logits[0, -1] for row in state.rows]
    assert torch.allclose(assistant.follow(state)[:, 0], torch.stack(expected), atol=1e-12)


@torch.inference_mode()
def test_a_draft_that_nobody_judged_is_forgotten() -> None:
    model = CausalLM(build("llama"))
    assistant, state = Assistant(model=model), model.prefill([[1, 2, 3]])
    assistant.attach(model)
    assistant.reset(state)
    first = assistant.follow(state)
    assistant.score(tree(state.roots, 3))
    state.rows[0] += [7, 8]
    assistant.follow(state)
    again = DecodeState([[1, 2, 3]], state.cache, state.sequence_ids, state.context)
    assert torch.allclose(assistant.follow(again), first, atol=1e-12)
