"""Prompts of different lengths: how they are grouped, and that groups change nothing but the time."""

import random
from collections.abc import Sequence

import pytest
import torch

from drafters.draft_model import DraftModel
from spec.decode import decode
from spec.model import CausalLM
from spec.prefill import groups
from spec.sampling import Sampler
from spec.state import Limits
from tests.drafters.contract import assistant_model
from tests.tiny import build
from verifiers.recursive import Recursive

EMBEDDED = (16, 18, 30, 34, 43, 50, 61, 63, 66, 67, 68, 69, 72, 73, 76, 83, 89, 89, 96, 99, 102, 102, 108, 108)
EMBEDDED += (108, 113, 117, 119, 121, 122, 123, 127, 128, 129, 133, 136, 140, 143, 147, 147, 154, 158, 161, 161, 165, 190, 198, 201)


def padded(lengths: Sequence[int], parts: Sequence[Sequence[int]]) -> float:
    """Slots that are run over tokens that there are."""
    return sum(len(part) * max(lengths[row] for row in part) for part in parts) / sum(lengths)


@pytest.mark.parametrize("batch_size", [2, 4, 8, 16, 32, 48])
def test_a_tenth_of_a_forward_is_padding_at_most(batch_size: int) -> None:
    lengths = list(EMBEDDED)
    random.Random(batch_size).shuffle(lengths)
    batches = [lengths[start : start + batch_size] for start in range(0, len(lengths), batch_size)]
    parts = [groups(batch) for batch in batches]
    for batch, part in zip(batches, parts, strict=True):
        assert sorted(row for rows in part for row in rows) == list(range(len(batch)))
    assert sum(padded(batch, part) * sum(batch) for batch, part in zip(batches, parts, strict=True)) <= 1.1 * sum(lengths)


@pytest.mark.parametrize(("lengths", "expected"), [([7], [[0]]), ([0, 0], [[0, 1]]), ([90, 100, 95], [[0, 1, 2]]), ([500, 10, 500], [[1], [0, 2]])])
def test_a_forward_is_worth_some_padding_and_not_any(lengths: list[int], expected: list[list[int]]) -> None:
    assert groups(lengths) == expected


def test_groups_change_no_token_and_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = [[(place * step) % 38 + 1 for place in range(length)] for step, length in ((3, 90), (7, 2), (11, 1), (5, 95), (13, 40))]
    target = CausalLM(build("llama").double())
    assert len(groups([len(prompt) - 1 for prompt in prompts])) > 2

    def run() -> tuple[list[list[int]], list[list[int]], list[torch.Tensor]]:
        state = target.prefill(prompts)
        keys = state.cache.slot_layers[0].keys
        assert keys is not None
        made = decode(target, DraftModel(model=assistant_model()), Recursive(), prompts, sampler=Sampler(seed=2), limits=Limits(12), batch_size=4)
        lengths = state.cache.lengths
        return [made.new_tokens(row) for row in range(5)], [lengths], [keys[row, :, :length] for row, length in enumerate(lengths)]

    grouped = run()
    monkeypatch.setattr("spec.prefill.groups", lambda lengths: [list(range(len(lengths)))])
    whole = run()
    assert grouped[:2] == whole[:2]
    for ours, theirs in zip(grouped[2], whole[2], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
