"""Drafts that break the form of `Draft` are refused in one line that names the drafter and the place, before the target sees them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from drafters.none import NoDraft
from spec import CausalLM, Limits, Sampler, decode
from spec.checks import check_draft
from spec.state import DecodeState
from spec.types import Draft, Scratch
from tests.drafters.bench import PROMPTS, state_of
from tests.tiny import build
from verifiers.recursive import Recursive

VOCABULARY = 40
STATE = state_of(PROMPTS)  # three rows


class Users(NoDraft):
    """A user's drafter: a good draft of three tokens with `change` made to it."""

    def __init__(self, change: Callable[[Draft], Any]):
        self.change = change

    def propose(self, state: DecodeState, sampler: Sampler) -> Any:
        return self.change(good(state))


def good(state: DecodeState, width: int | None = 1) -> Draft:
    """Row b has a draft of 3, 2, 1, ... tokens, the others are padding."""
    tokens = torch.tensor([[root, 1, 2, 3] for root in state.roots])
    sizes = torch.tensor([max(4 - row, 1) for row in range(state.num_rows)])
    parents = torch.tensor([[-1, 0, 1, 2]]).repeat(state.num_rows, 1)
    return Draft(tokens, parents, sizes, width=width)


def put(row: int, slot: int, token: int) -> Callable[[Draft], Draft]:
    def change(draft: Draft) -> Draft:
        tokens = draft.tokens.clone()
        tokens[row, slot] = token
        return replace(draft, tokens=tokens)

    return change


def sized(*sizes: int) -> Callable[[Draft], Draft]:
    return lambda draft: replace(draft, sizes=torch.tensor(sizes))


def hung(row: int, slot: int, parent: int) -> Callable[[Draft], Draft]:
    def change(draft: Draft) -> Draft:
        parents = draft.parents.clone()
        parents[row, slot] = parent
        return replace(draft, parents=parents, width=None)

    return change


def with_q(*shape: int, dtype: torch.dtype = torch.float64) -> Callable[[Draft], Draft]:
    return lambda draft: replace(draft, q=torch.zeros(shape, dtype=dtype))


def chained(row: int, slot: int, parent: int) -> Callable[[Draft], Draft]:
    """As `hung`, in a draft that says of itself that it is a chain."""
    return lambda draft: replace(hung(row, slot, parent)(draft), width=1)


def star(width: Any) -> Callable[[Draft], Draft]:
    """The root has 3, 2 and no children."""
    return lambda draft: replace(draft, parents=torch.tensor([[-1, 0, 0, 0]] * 3), width=width)


def scratch(**parts: Any) -> Callable[[Draft], Draft]:
    """A good draft with two scratch slots a row, some parts of which are replaced."""
    tokens, visible = torch.zeros(3, 2, dtype=torch.int64), torch.ones(3, 2, 6, dtype=torch.bool)
    return lambda draft: replace(draft, scratch=Scratch(**({"tokens": tokens, "positions": tokens + 1, "visible": visible} | parts)))


def with_scratch(token: int) -> Callable[[Draft], Draft]:
    return scratch(tokens=torch.tensor([[0, 0], [0, token], [0, 0]]))


WRONG: dict[str, tuple[Callable[[Draft], Any], str]] = {
    "negative": (put(0, 2, -1), r"drafted token id -1 \(row 0, slot 2\); the vocabulary is 0 to 39$"),
    "beyond the vocabulary": (put(1, 1, 40), r"drafted token id 40 \(row 1, slot 1\); the vocabulary is 0 to 39$"),
    "used before padding": (lambda draft: put(1, 3, -7)(put(2, 0, 99)(draft)), r"drafted token id 99 \(row 2, slot 0\)"),
    "padding": (put(2, 3, -1), r"drafted token id -1 \(row 2, slot 3\); the vocabulary is 0 to 39; the slot is padding, .* fill it with the root$"),
    "scratch": (with_scratch(-1), r"put token id -1 into scratch \(row 1, scratch slot 1\); the vocabulary is 0 to 39$"),
    "another root": (put(1, 0, 7), r"put token id 7 into slot 0 of row 1; slot 0 is the row's last committed token, here 5$"),
    "too many slots": (sized(4, 5, 1), r"gave row 1 the size 5; sizes count the slots in use, the root included: 1 to 4$"),
    "no slots": (sized(4, 3, 0), r"gave row 2 the size 0;"),
    "own parent": (hung(0, 2, 2), r"gave slot 2 of row 0 the parent 2; a parent is an earlier slot, 0 to 1 \(0 for padding\)$"),
    "no parent": (hung(1, 1, -1), r"gave slot 1 of row 1 the parent -1; a parent is an earlier slot, 0 to 0"),
    "padding without a parent": (hung(2, 3, 3), r"gave slot 3 of row 2 the parent 3; a parent is an earlier slot, 0 to 2"),
    "root with a parent": (hung(1, 0, 0), r"gave the root \(slot 0\) of row 1 the parent 0; the root has none: -1$"),
    "root of a chain with a parent": (chained(0, 0, 3), r"gave the root \(slot 0\) of row 0 the parent 3; the root has none: -1$"),
    "no chain": (chained(0, 2, 0), r"gave slot 2 of row 0 the parent 0 and width=1; in a chain it is 1: leave width out for a tree$"),
    "chain behind itself": (chained(0, 3, 3), r"gave slot 3 of row 0 the parent 3; a parent is an earlier slot"),
    "more siblings than width": (star(2), r"gave slot 0 of row 0 3 children and width=2; width is the largest number of siblings, or None$"),
    "width of nothing": (star(0), r"gave width=0; give the largest number of siblings, a whole number of at least 1 \(1 for a chain\), or None$"),
    "width of a half": (star(2.5), r"gave width=2.5; give"),
    "width of truth": (star(True), r"gave width=True; give"),
    "too few rows": (lambda draft: Draft.chain(draft.tokens[:2]), r"drafted tokens of shape \[2, 4\]; give \[3, N\]"),
    "one dimension": (lambda draft: replace(draft, tokens=draft.tokens[0]), r"drafted tokens of shape \[4\]; give \[3, N\]"),
    "no root": (lambda draft: replace(draft, tokens=draft.tokens[:, :0]), r"drafted tokens of shape \[3, 0\]"),
    "int32": (
        lambda draft: replace(draft, tokens=draft.tokens.int()),
        r"drafted tokens of dtype torch.int32 and shape \[3, 4\]; give int64 and \[3, 4\]",
    ),
    "too few sizes": (sized(4, 1), r"drafted sizes of dtype torch.int64 and shape \[2\]; give int64 and \[3\]"),
    "too few parents": (lambda draft: replace(draft, parents=draft.parents[:, 1:]), r"drafted parents of dtype torch.int64 and shape \[3, 3\]"),
    "q of another vocabulary": (
        with_q(3, 4, 37),
        r"declared q of dtype torch.float64 and shape \[3, 4, 37\]; give \[3, 4, 40\] of floats: .* of the target$",
    ),
    "q without the root's row": (with_q(3, 3, 40), r"declared q of dtype torch.float64 and shape \[3, 3, 40\]; give \[3, 4, 40\]"),
    "q of whole numbers": (with_q(3, 4, 40, dtype=torch.int64), r"declared q of dtype torch.int64"),
    "no draft": (lambda draft: draft.tokens[0, :2].tolist(), r"proposed \[3, 1\]; give a Draft, for example Draft.chain\(tokens\)$"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_draft_is_one_line_that_names_the_drafter(kind):
    change, told = WRONG[kind]
    target = CausalLM(build("llama"))
    target.score = lambda *args, **options: pytest.fail("the target was asked")
    with pytest.raises(ValueError, match=f"^Users {told}") as caught:
        decode(target, Users(change), Recursive(), PROMPTS, sampler=Sampler(0.0), limits=Limits(8))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("width", [1, 3, None])
def test_a_right_draft_passes_as_it_is(width):
    draft = good(STATE, width)
    assert check_draft(draft, object(), STATE, VOCABULARY) is draft
    assert check_draft(put(0, 3, 39)(put(1, 1, 0)(draft)), object(), STATE, VOCABULARY).num_slots == 4


def test_what_padding_hangs_on_does_not_count():
    padded = chained(2, 3, 0)(chained(2, 2, 0)(good(STATE)))  # row 2 has no drafted token
    assert check_draft(padded, object(), STATE, VOCABULARY) is padded
    assert check_draft(star(3)(good(STATE)), object(), STATE, VOCABULARY).width == 3


def test_what_a_chain_made_itself_is_not_looked_at(monkeypatch):
    """Its parents and sizes are known by identity; a copy of them is looked at like any other."""
    looked: list[int] = []
    equal = torch.equal
    monkeypatch.setattr("spec.checks.torch.equal", lambda given, allowed: looked.append(given.ndim) or equal(given, allowed))
    made = Draft.chain(good(STATE).tokens)
    check_draft(made, object(), STATE, VOCABULARY)
    assert looked == [2]
    check_draft(replace(made, parents=made.parents.clone(), sizes=made.sizes.clone()), object(), STATE, VOCABULARY)
    assert looked == [2, 2, 1, 2, 2]


def test_finished_rows_may_get_any_id_of_the_vocabulary():
    state = state_of(PROMPTS)
    state.done[1] = True
    assert check_draft(put(1, 0, 39)(good(state)), object(), state, VOCABULARY)
    with pytest.raises(ValueError, match="token id 40"):
        check_draft(put(1, 1, 40)(good(state)), object(), state, VOCABULARY)


def test_on_an_accelerator_nothing_is_brought_to_the_host(monkeypatch):
    """The same comparison as on the CPU, as an assertion among the kernels."""

    def check(draft: Draft) -> list[bool]:
        asserted: list[bool] = []
        monkeypatch.setattr("spec.checks.on_cuda", lambda tensor: True)
        monkeypatch.setattr("spec.checks.refuse_where", lambda bad, reason: asserted.append(bool(bad.any()) and reason.startswith("Users ")))
        check_draft(draft, Users(good), STATE, VOCABULARY)  # pyright: ignore[reportArgumentType]
        return asserted

    assert check(Draft.chain(good(STATE).tokens)) == [False]
    assert check(good(STATE)) == [False] * 4
    for change in (put(0, 2, -1), put(2, 3, 40), sized(4, 5, 1), hung(0, 2, 2), hung(0, 0, 0), chained(0, 2, 0), star(2), with_scratch(40)):
        assert check(change(good(STATE))).count(True) == 1
