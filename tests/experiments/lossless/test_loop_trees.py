"""Drafters of trees and of odd drafts in the whole loop, enumerated on a small instance; and the same with one thing wrong, convicted."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from drafters.adversarial import Adversarial
from drafters.draft_tree import DraftTree, draw
from drafters.multi_draft import MultiDraft
from drafters.oracle import Oracle
from experiments.lossless.enumeration.loop import TableLoop
from experiments.lossless.enumeration.table_model import TableLM
from experiments.lossless.enumeration.tables import GOLDEN, SMALL, Z
from spec.growth import Growth
from spec.interfaces import Drafter, Traits, Verifier, check_pair
from spec.sampling import Sampler
from spec.state import DecodeState
from spec.types import Draft
from verifiers.block import Block
from verifiers.greedy_multi import GreedyMulti
from verifiers.kseq import KSeq
from verifiers.traversal import Traversal

Maker = Callable[[TableLM], Drafter]

TREES: dict[str, Maker] = {
    "two independent chains": lambda model: MultiDraft(model=model, num_tokens=2),
    "two distinct chains": lambda model: MultiDraft(model=model, num_tokens=2, siblings="distinct"),
    "greedy first tokens": lambda model: MultiDraft(model=model, num_tokens=2, siblings="greedy"),
    "one chain": lambda model: MultiDraft(model=model, num_chains=1, num_tokens=2),
    "fixed tree": lambda model: DraftTree(model=model, widths=[2, 1]),
    "more children than tokens": lambda model: DraftTree(model=model, widths=[4]),
    "grown tree": lambda model: DraftTree(model=model, widths=None, num_nodes=3, num_rounds=2),
}
ODD: dict[str, Maker] = {
    "oracle": lambda model: Oracle(0.6, num_tokens=2),
    "oracle that replays": lambda model: Oracle(0.6, num_tokens=2, continuations=Recording()),
    "random": lambda model: Adversarial("random", 2),
    "duplicates": lambda model: Adversarial("duplicates", 1),
    "tiny mass": lambda model: Adversarial("tiny_mass", 2),
    "eos": lambda model: Adversarial("eos", 2, token=2),
    "empty": lambda model: Adversarial("empty"),
    "ragged": lambda model: Adversarial("ragged", 2),
    "too long": lambda model: Adversarial("too_long", 3),
}


class Recording(dict):
    """The same continuation for every sequence id."""

    def __contains__(self, key: object) -> bool:
        return True

    def __getitem__(self, key: int) -> list[int]:
        return [1, 2, 0, 1]


@pytest.mark.parametrize("name", TREES)
def test_trees_emit_the_distribution_of_the_target(name: str) -> None:
    assert TableLoop(SMALL, 3).error(TREES[name]) < 1e-12


@pytest.mark.parametrize("name", TREES)
def test_trees_where_distributions_have_zeros_and_run_out_of_tokens(name: str) -> None:
    assert TableLoop(Z, 3).error(TREES[name]) < 1e-12


@pytest.mark.parametrize("name", ["two distinct chains", "grown tree"])
def test_trees_cut_at_eos_emit_the_distribution_of_the_target(name: str) -> None:
    assert TableLoop(SMALL, 3, eos=2).error(TREES[name]) < 1e-12


PAIRS: dict[str, tuple[str, Verifier]] = {
    "kseq": ("two independent chains", KSeq()),
    "greedy_multi": ("greedy first tokens", GreedyMulti()),
    "traversal": ("grown tree", Traversal()),
    "traversal of a fixed tree": ("fixed tree", Traversal()),
    "block": ("one chain", Block()),
}


@pytest.mark.parametrize("name", PAIRS)
def test_verifiers_with_the_drafts_that_they_are_made_for(name: str) -> None:
    tree, verifier = PAIRS[name]
    assert TableLoop(SMALL, 3, verifier=verifier).error(TREES[tree]) < 1e-12
    assert TableLoop(Z, 3, verifier=verifier).error(TREES[tree]) < 1e-12


@pytest.mark.parametrize("name", ODD)
def test_odd_drafts_emit_the_distribution_of_the_target(name: str) -> None:
    assert TableLoop(SMALL, 3, eos=2).error(ODD[name]) < 1e-12


class SortedSiblings(DraftTree):
    """Wrong: sorts sampled siblings by their probability."""

    def propose(self, state: DecodeState, sampler: Sampler) -> Draft:
        draft = super().propose(state, sampler)
        if draft.q is None or draft.num_slots < 3:
            return draft
        chance = draft.q[:, 1].gather(1, draft.tokens[:, 1:])
        order = torch.cat([torch.zeros_like(draft.tokens[:, :1]), 1 + chance.argsort(1, descending=True)], 1)
        rows = torch.stack([draft.q[:, 1], draft.q[:, 1].scatter(1, draft.tokens.gather(1, order)[:, 1:2], 0.0)], 1)
        q = torch.cat([draft.q[:, :1], rows / rows.sum(-1, keepdim=True)], 1)
        return Draft(draft.tokens.gather(1, order), draft.parents, draft.sizes, q, width=2)


class UnmaskedRows(DraftTree):
    """Wrong: draws siblings without replacement and declares the rows of independent ones."""

    def propose(self, state: DecodeState, sampler: Sampler) -> Draft:
        draft = super().propose(state, sampler)
        if draft.q is None or draft.num_slots < 3:
            return draft
        return Draft(draft.tokens, draft.parents, draft.sizes, draft.q[:, [0, *[1] * (draft.num_slots - 1)]], width=3)


class DropsUnlikely(DraftTree):
    """Wrong: leaves out grown tokens that came out unlikely."""

    def _grow(self, growth: Growth) -> None:
        distribution: Tensor = growth.next_distributions()
        draw(growth, distribution, torch.ones_like(growth.tokens, dtype=torch.float64), 2)
        growth.exists[:, 1:] &= distribution[:, 0].gather(1, growth.tokens[:, 1:]) > 0.3


MUTANTS: dict[str, tuple[Maker, float]] = {
    "siblings sorted by probability": (lambda model: SortedSiblings(model=model, widths=[2]), 0.1),
    "rows not masked": (lambda model: UnmaskedRows(model=model, widths=[3]), 0.05),
    "unlikely tokens dropped": (lambda model: DropsUnlikely(model=model, widths=None, num_nodes=2, num_rounds=1), 0.1),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_wrong_trees_are_convicted(name: str) -> None:
    make, least = MUTANTS[name]
    assert TableLoop(GOLDEN, 2).error(make) > least


def test_siblings_that_hang_on_tokens_convict_greedy_multi_which_refuses_them():
    """A tree that grows by what was drawn keeps the q contract, yet its last sibling is last because of its token."""

    class Unsaid(DraftTree):
        def __init__(self, model: TableLM):
            super().__init__(model=model, widths=None, num_nodes=3, num_rounds=2)
            self.traits = Traits(makes_trees=True)

    loop = TableLoop(SMALL, length=3, verifier=GreedyMulti(), sampler=Sampler(1.0))
    assert loop.error(lambda model: Unsaid(model)) == pytest.approx(0.057142857, abs=1e-6)
    for verifier in (GreedyMulti(), KSeq()):
        with pytest.raises(ValueError, match="needs the number of siblings settled before they are drawn, and DraftTree"):
            check_pair(TREES["grown tree"](None), verifier)  # type: ignore[arg-type]
        check_pair(TREES["fixed tree"](None), verifier)  # type: ignore[arg-type]
