"""Drafts whose parts are no tensors, or tensors of another kind, device, dtype or shape, are refused in one line that names drafter and part."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from spec import CausalLM, Limits, Sampler, decode
from spec.checks import check_draft
from spec.types import Draft
from tests.drafters.bench import PROMPTS
from tests.spec.test_bad_drafts import STATE, VOCABULARY, Users, good, scratch
from tests.tiny import build
from verifiers.recursive import Recursive

Q = torch.full((3, 4, VOCABULARY), 1 / VOCABULARY, dtype=torch.float64)


def part(name: str, make: Callable[[Any], Any]) -> Callable[[Draft], Draft]:
    """A good draft with `q`, one part of which is changed."""
    return lambda draft: (full := replace(draft, q=Q)) and replace(full, **{name: make(getattr(full, name))})


PARTS = {"tokens": "drafted tokens", "parents": "drafted parents", "sizes": "drafted sizes", "q": "declared q"}
KINDS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "list": (lambda given: given.tolist(), "of the type list; give a tensor on cpu$"),
    "numpy": (lambda given: given.numpy(), "of the type ndarray; give a tensor on cpu$"),
    "sparse": (lambda given: given.to_sparse(), r"as a sparse tensor; give a dense one, as by .to_dense\(\)$"),
    "meta": (lambda given: given.to("meta"), "on the device meta; give a tensor on cpu, where the target is$"),
}
CASES = {f"{name} {kind}": (part(name, make), f"{what} {told}") for name, what in PARTS.items() for kind, (make, told) in KINDS.items()}
CASES |= {f"{name} None": (part(name, lambda _: None), f"{PARTS[name]} of the type NoneType;") for name in ("tokens", "parents", "sizes")}
CASES |= {
    "no scratch": (lambda draft: replace(draft, scratch=torch.zeros(3, 2)), r"gave scratch=tensor\(.*; give a Scratch or None$"),
    "scratch list": (scratch(tokens=[[0, 0]] * 3), "drafted scratch.tokens of the type list; give a tensor on cpu$"),
    "scratch floats": (
        scratch(tokens=torch.zeros(3, 2)),
        r"drafted scratch.tokens of dtype torch.float32 and shape \[3, 2\]; give int64 and \[3, 2\]$",
    ),
    "scratch batch": (
        scratch(tokens=torch.zeros(2, 2, dtype=torch.int64)),
        r"drafted scratch.tokens of shape \[2, 2\]; give \[3, M\]: one row for each of the batch$",
    ),
    "scratch line": (scratch(tokens=torch.zeros(3, dtype=torch.int64)), r"drafted scratch.tokens of shape \[3\]; give \[3, M\]"),
    "scratch positions": (
        scratch(positions=torch.ones(3, 1, dtype=torch.int64)),
        r"drafted scratch.positions of dtype torch.int64 and shape \[3, 1\]; give int64 and \[3, 2\]$",
    ),
    "scratch before the root": (
        scratch(positions=torch.tensor([[1, 1], [1, -2], [1, 1]])),
        "gave scratch slot 1 of row 1 the position -2; positions count from the root's, which is 0$",
    ),
    "scratch on meta": (
        scratch(positions=torch.ones(3, 2, dtype=torch.int64, device="meta")),
        "drafted scratch.positions on the device meta; give a tensor on cpu",
    ),
    "scratch sees too little": (
        scratch(visible=torch.ones(3, 2, 4, dtype=torch.bool)),
        r"drafted scratch.visible of dtype torch.bool and shape \[3, 2, 4\]; give bool and \[3, 2, 6\]$",
    ),
    "scratch sees numbers": (
        scratch(visible=torch.ones(3, 2, 6)),
        r"drafted scratch.visible of dtype torch.float32 and shape \[3, 2, 6\]; give bool and",
    ),
    "scratch sees None": (scratch(visible=None), "drafted scratch.visible of the type NoneType; give a tensor on cpu$"),
}


@pytest.mark.parametrize("kind", CASES)
def test_a_part_of_another_form_is_one_line_that_names_drafter_and_part(kind):
    change, told = CASES[kind]
    target = CausalLM(build("llama"))
    target.score = lambda *args, **options: pytest.fail("the target was asked")
    with pytest.raises(ValueError, match=f"^Users {told}") as caught:
        decode(target, Users(change), Recursive(), PROMPTS, sampler=Sampler(), limits=Limits(8))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_q_of_any_floats_and_scratch_slots_pass(dtype):
    draft = replace(scratch()(good(STATE)), q=Q.to(dtype))
    assert check_draft(draft, object(), STATE, VOCABULARY) is draft


def test_a_wrong_sum_names_the_drafter():
    change = part("q", lambda q: q / 2)
    with pytest.raises(ValueError, match=r"^Users declared a distribution q that sums to 0\.5 \(row 0, slot 1\); q must be"):
        decode(CausalLM(build("llama")), Users(change), Recursive(), PROMPTS, sampler=Sampler(), limits=Limits(8))
