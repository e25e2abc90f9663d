"""What the tests of drafters with an assistant share: a decode whose drafts are recorded, and the distributions that each slot should declare."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from spec.decode import Generation, decode
from spec.interfaces import Drafter, Verifier
from spec.model import CausalLM
from spec.sampling import Sampler
from spec.state import DecodeState, Limits
from spec.types import Draft
from tests.drafters.bench import PROMPTS, new_tokens, run, tiny_greedy, tiny_target
from tests.tiny import build
from verifiers.recursive import Recursive


@cache
def assistant_model() -> Any:
    """The tiny Llama with noise on its weights: often but not always of the target's opinion."""
    model = copy.deepcopy(build("llama"))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(0.02 * torch.randn(weights.shape, dtype=weights.dtype, generator=generator))
    return model


@dataclass(frozen=True)
class Proposal:
    """A draft and the committed rows that it continues."""

    rows: list[list[int]]
    room: list[int]
    done: list[bool]
    draft: Draft


def recorded(
    drafter: Drafter, sampler: Sampler, prompts: list[list[int]] = PROMPTS, new: int = 12, verifier: Verifier | None = None
) -> tuple[Generation, list[Proposal]]:
    """Decodes with the tiny Llama and keeps every draft."""
    found: list[Proposal] = []
    propose = drafter.propose

    def keep(state: DecodeState, sampler: Sampler) -> Draft:
        draft = propose(state, sampler)
        found.append(Proposal([list(row) for row in state.rows], state.room, list(state.done), draft))
        return draft

    drafter.propose = keep  # type: ignore[method-assign]
    target = CausalLM(build("llama"))
    generation = decode(target, drafter, verifier or Recursive(), prompts, sampler=sampler, limits=Limits(max_new_tokens=new))
    return generation, found


def distribution_after(model: Any, sampler: Sampler, tokens: list[int]) -> Tensor:
    """The distribution of the next token, everything computed anew; [V]."""
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([tokens]), use_cache=False).logits[:, -1:]
    return sampler.distribution(logits, lambda row, slot: tokens)[0, 0]


def check_shape(proposal: Proposal) -> None:
    """Root first, parents before children, no deeper than the row has room, padding under the root."""
    draft = proposal.draft
    for row, tokens in enumerate(proposal.rows):
        size, parents = int(draft.sizes[row]), draft.parents[row].tolist()
        assert draft.tokens[row, 0] == tokens[-1]
        assert parents[0] == -1
        assert all(0 <= parent < slot for slot, parent in enumerate(parents) if slot)
        if not proposal.done[row]:
            assert int(draft.depths()[row, :size].max()) <= max(proposal.room[row] - 1, 0)


def check_distributions(proposal: Proposal, model: Any, sampler: Sampler, siblings: str = "distinct") -> int:
    """Every used slot declares the assistant's distribution after its parent, less what its siblings' rule takes out; returns how many were looked
    at."""
    draft, checked = proposal.draft, 0
    if draft.num_slots == 1:
        return 0
    assert draft.q is not None
    for row, tokens in enumerate(proposal.rows):
        older: dict[int, list[int]] = {}
        for slot in range(1, int(draft.sizes[row]) if not proposal.done[row] else 1):
            parent, token = int(draft.parents[row, slot]), int(draft.tokens[row, slot])
            distribution = distribution_after(model, sampler, [*tokens, *draft.path(row, parent)])
            if siblings == "distinct":
                distribution[older.get(parent, [])] = 0
            assert torch.allclose(draft.q[row, slot], distribution / distribution.sum(), atol=1e-9, rtol=1e-9)
            assert draft.q[row, slot, token] > 0
            assert siblings == "independent" or token not in older.get(parent, [])
            older.setdefault(parent, []).append(token)
            checked += 1
    return checked


def check_greedy_text(make: Callable[[], Drafter], new: int = 16) -> None:
    """Drafts that are drawn even at temperature 0 change nothing about greedy text, alone or in a ragged batch."""
    assert new_tokens(run(tiny_target(), make(), new=new)) == tiny_greedy(new)
    assert new_tokens(run(tiny_target(), make(), PROMPTS[:1], new=new)) == tiny_greedy(new)[:1]
