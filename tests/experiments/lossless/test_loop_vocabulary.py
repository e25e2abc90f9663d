"""The whole loop, enumerated, with draft models whose vocabulary has another size than the target's; and the same with one thing wrong, convicted."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from drafters.coupled import CoupledDraft
from drafters.draft_model import DraftModel
from drafters.draft_tree import DraftTree
from drafters.multi_draft import MultiDraft
from drafters.stopping.confidence import Confidence
from experiments.lossless.enumeration.loop import PROMPT, TableLoop
from experiments.lossless.enumeration.table_model import TableLM
from experiments.lossless.enumeration.tables import GOLDEN_Q, SMALL, Z, golden_weights
from spec.interfaces import Drafter, Verifier
from spec.sampling import Sampler
from spec.state import DecodeState
from spec.types import Draft
from spec.vocabulary import SharedIds
from tests.spec.padded import beside, letters, tokenizer_file
from verifiers.block import Block
from verifiers.greedy_multi import GreedyMulti
from verifiers.kseq import KSeq
from verifiers.recursive import Recursive
from verifiers.rejection import Rejection
from verifiers.sample_match import SampleMatch
from verifiers.traversal import Traversal

EXACT = 1e-12
Maker = Callable[[TableLM], Drafter]


class Embedded(TableLM):
    """A table that cannot read an id that it has no row for, as an embedding cannot."""

    def forward(self, input_ids: Tensor, position_ids=None, past_key_values=None, attention_mask=None, **kwargs):
        if not 0 <= int(input_ids.min()) <= int(input_ids.max()) < self.config.vocab_size:
            raise IndexError("index out of range in self")
        return super().forward(input_ids, position_ids, past_key_values, attention_mask, **kwargs)


def assistant(rows: int) -> TableLM:
    return Embedded(partial(golden_weights, GOLDEN_Q, vocabulary=rows), rows, len(PROMPT))


DRAFTERS: dict[str, tuple[Maker, Verifier]] = {
    "chain": (lambda model: DraftModel(model=model, num_tokens=2), Rejection()),
    "chain, block": (lambda model: DraftModel(model=model, num_tokens=2), Block()),
    "chain, sample match": (lambda model: DraftModel(model=model, num_tokens=2), SampleMatch()),
    "chain that stops": (lambda model: DraftModel(model=model, num_tokens=2, stopping=Confidence(0.4)), Recursive()),
    "independent chains": (lambda model: MultiDraft(model=model, num_tokens=2), KSeq()),
    "distinct chains": (lambda model: MultiDraft(model=model, num_chains=3, num_tokens=2, siblings="distinct"), Recursive()),
    "greedy chains": (lambda model: MultiDraft(model=model, num_chains=3, num_tokens=1, siblings="greedy"), GreedyMulti()),
    "tree": (lambda model: DraftTree(model=model, widths=[2, 1]), Traversal()),
    "more children than ids": (lambda model: DraftTree(model=model, widths=[4]), Recursive()),
    "grown tree": (lambda model: DraftTree(model=model, widths=None, num_nodes=3, num_rounds=2), Traversal()),
}
SAMPLERS = {"plain": Sampler(), "cold, top 2": Sampler(0.7, top_k=2), "penalty": Sampler(repetition_penalty=1.3), "greedy": Sampler(0.0)}
PAIRS = {"fewer rows": (2, None), "more rows": (5, None), "more rows, a tokenizer of two": (5, [0, 2]), "equal rows, a tokenizer of two": (3, [0, 2])}


@pytest.fixture
def pair(tmp_path: Path) -> Callable[..., tuple[TableLoop, TableLM]]:
    """A loop with a target of three tokens, and a draft model of `rows` tokens; the tokenizer knows the ids `known` (default: all that both have)."""

    def make(rows: int, known: list[int] | None = None, loop: TableLoop | None = None) -> tuple[TableLoop, TableLM]:
        words = {token: number for token, number in letters(max(rows, 3)).items() if known is None or number in known}
        tokenizer_file(tmp_path, words)
        loop, own = loop or TableLoop(SMALL, 3), beside(assistant(rows), tmp_path)
        return TableLoop(loop.instance, loop.length, loop.eos, loop.verifier, loop.sampler, lambda table: loop.wrap(beside(table, tmp_path))), own

    return make


@pytest.mark.parametrize("sampling", SAMPLERS)
@pytest.mark.parametrize("sizes", PAIRS)
@pytest.mark.parametrize("name", DRAFTERS)
def test_the_output_has_the_distribution_of_the_target(pair, name: str, sizes: str, sampling: str) -> None:
    make, verifier = DRAFTERS[name]
    loop, own = pair(*PAIRS[sizes], TableLoop(SMALL, 3, verifier=verifier, sampler=SAMPLERS[sampling]))
    assert loop.error(lambda _: make(own)) < EXACT


@pytest.mark.parametrize("name", ["chain", "distinct chains", "grown tree"])
@pytest.mark.parametrize("rows", [2, 5])
def test_where_distributions_have_zeros_and_texts_end(pair, name: str, rows: int) -> None:
    make, verifier = DRAFTERS[name]
    for loop in (TableLoop(Z, 3, verifier=verifier), TableLoop(SMALL, 3, eos=2, verifier=verifier)):
        loop, own = pair(rows, None, loop)
        assert loop.error(lambda _: make(own)) < EXACT  # noqa: B023


@pytest.mark.parametrize("rows", [2, 5])
def test_coupled_drafts_at_temperature_zero(pair, rows: int) -> None:
    """Above it their noise is not followed; tests of `spec.vocabulary` hold the tokens of a seed."""
    loop, own = pair(rows, None, TableLoop(SMALL, 3, sampler=Sampler(0.0)))
    assert loop.error(lambda _: CoupledDraft(model=own, num_tokens=2, num_children=3)) < EXACT


class DrawsFromAllRows(DraftModel):
    """Wrong in the way of `declare`: draws from the draft model's own distribution and hands over what `declare` makes of it."""

    def __init__(self, model: TableLM, declare: Callable[[Tensor], Tensor], fold: bool = True):
        super().__init__(model=model, num_tokens=2)
        self.declare, self.fold = declare, fold

    def propose(self, state: DecodeState, sampler: Sampler) -> Draft:
        self.assistant._shared, own = None, []
        narrow = self._next_distribution

        def note(*arguments) -> Tensor:
            own.append(narrow(*arguments))
            return own[-1]

        self._next_distribution = note  # type: ignore[method-assign]
        try:
            draft = super().propose(state, sampler)
        finally:
            self._next_distribution = narrow  # type: ignore[method-assign]
        if not own:
            return draft
        q = torch.stack([torch.zeros_like(self.declare(own[0])), *map(self.declare, own)], 1)
        tokens = torch.where(draft.tokens < 3, draft.tokens, 0) if self.fold else draft.tokens
        return Draft.chain(tokens, draft.sizes, q)


def cut(own: Tensor) -> Tensor:
    return own[:, :3]


def cut_and_filled(own: Tensor) -> Tensor:
    """A row that sums to 1, where the probability of the extra rows went to the last id."""
    return torch.cat([own[:, :2], own[:, 2:].sum(1, keepdim=True)], 1)


def normalised(own: Tensor) -> Tensor:
    return cut(own) / cut(own).sum(1, keepdim=True)


@pytest.mark.parametrize(("declare", "least"), [(cut_and_filled, 0.01), (normalised, 0.01)], ids=["filled up", "normalised"])
def test_extra_rows_that_are_drawn_from_are_convicted(pair, declare: Callable[[Tensor], Tensor], least: float) -> None:
    loop, own = pair(5)
    assert loop.error(lambda _: DrawsFromAllRows(own, declare)) > least


def test_a_row_that_is_cut_and_not_normalised_is_refused(pair) -> None:
    loop, own = pair(5)
    with pytest.raises(ValueError, match=r"declared a distribution q that sums to 0\."):
        loop.error(lambda _: DrawsFromAllRows(own, cut))


def test_a_drafted_extra_row_is_refused(pair) -> None:
    loop, own = pair(5)
    with pytest.raises(ValueError, match=r"DrawsFromAllRows drafted token id [34] \(row \d+, slot 1\); the vocabulary is 0 to 2"):
        loop.error(lambda _: DrawsFromAllRows(own, normalised, fold=False))


class DeclaresTheMissing(DraftModel):
    """Wrong: declares a tiny probability for ids that it never draws."""

    tiny = 1e-6

    def propose(self, state: DecodeState, sampler: Sampler) -> Draft:
        draft = super().propose(state, sampler)
        if draft.q is None:
            return draft
        q = draft.q + self.tiny * (draft.q == 0)
        return Draft.chain(draft.tokens, draft.sizes, q / q.sum(-1, keepdim=True))


def test_a_tiny_number_in_place_of_zero_is_convicted(pair) -> None:
    loop, own = pair(2)
    assert 1e-8 < loop.error(lambda _: DeclaresTheMissing(model=own, num_tokens=2)) < 1e-5


def test_without_a_replacement_the_draft_model_cannot_read_the_text(pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SharedIds, "fed", lambda self, tokens: tokens)
    monkeypatch.setattr(SharedIds, "fed_rows", lambda self, rows: rows)
    loop, own = pair(2)
    with pytest.raises(IndexError):
        loop.error(lambda _: DraftModel(model=own, num_tokens=2))
