"""`auto` in the whole loop, enumerated: every length that it chooses is a function of the past; and drafters that look at the draft, convicted."""

from collections.abc import Callable
from typing import Any

import pytest

from drafters.draft_model import DraftModel
from drafters.jacobi import Jacobi
from drafters.lookahead import Lookahead
from drafters.multi_draft import MultiDraft
from drafters.prompt_lookup import PromptLookup
from drafters.stopping.cost import Cost
from experiments.lossless.enumeration.loop import PAIR, SHORT, TableLoop
from experiments.lossless.enumeration.tables import SMALL
from experiments.lossless.mutants.choosing import LearnsFromTheDraft, LooksAtTheDraft
from spec.interfaces import Drafter

EXACT = 1e-12
CHOSEN: set[tuple[str, int | None]] = set()

RIGHT: dict[str, Callable[[Any], Drafter]] = {
    "draft_model": lambda model: DraftModel(model=model, num_tokens="auto"),
    "multi_draft": lambda model: MultiDraft(model=model, num_tokens="auto"),
    "jacobi": lambda model: Jacobi("auto"),
    "prompt_lookup": lambda model: PromptLookup(2, num_tokens="auto"),
    "lookahead": lambda model: Lookahead("auto", 3, guesses=2),
    "draft_model, stopping by cost": lambda model: DraftModel(model=model, num_tokens="auto", stopping=Cost(None, prior=1.0)),
}


def made(name: str) -> Callable[[Any], Drafter]:
    """The drafter, with a note of every choice."""

    def make(model: Any) -> Drafter:
        drafter = RIGHT[name](model).by_nominal_costs(2)
        assert drafter.auto is not None
        choose = drafter.auto.choose

        def noted(num_rows: int, most: int) -> int:
            chosen = choose(num_rows, most)
            CHOSEN.add((name, chosen))
            return chosen

        drafter.auto.choose = noted  # pyright: ignore[reportAttributeAccessIssue]
        return drafter

    return make


@pytest.mark.parametrize("name", RIGHT)
def test_a_row_alone_follows_the_distribution_of_the_target(name: str) -> None:
    length = {"draft_model": 3, "draft_model, stopping by cost": 3, "multi_draft": 2}.get(name, 4)
    assert TableLoop(SMALL, length).error(made(name), batch=1) < EXACT


@pytest.mark.parametrize("name", [name for name in RIGHT if "cost" not in name])
def test_two_rows_are_independent_though_they_share_a_choice(name: str) -> None:
    assert PAIR.pair_error(made(name)) < EXACT


def test_the_choices_varied() -> None:
    assert {("draft_model", 0), ("draft_model", 1), ("draft_model", 2)} <= CHOSEN
    assert {name for name, chosen in CHOSEN if chosen} == set(RIGHT)


@pytest.mark.parametrize(("wrong", "batch"), [(LooksAtTheDraft, 4000), (LearnsFromTheDraft, 1)])
def test_a_choice_that_looks_at_the_draft_is_convicted(wrong: type[DraftModel], batch: int) -> None:
    assert SHORT.error(lambda model: wrong(model=model), batch) > 0.01
