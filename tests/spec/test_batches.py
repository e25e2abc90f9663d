"""Rows that leave the batch and prompts that take their places: no row's text, drafts or counts depend on it, and no forward sees a finished row."""

import copy
import gc
import weakref
from functools import cache

import pytest
import torch
from transformers import PrefixConstrainedLogitsProcessor, StoppingCriteriaList

from drafters.coupled import CoupledDraft
from drafters.draft_model import DraftModel
from drafters.draft_tree import DraftTree
from drafters.lookahead import Lookahead
from drafters.multi_draft import MultiDraft
from drafters.none import NoDraft
from drafters.oracle import Oracle
from drafters.prompt_lookup import PromptLookup
from drafters.stopping.bandit import Bandit
from drafters.stopping.confidence import Confidence
from drafters.stopping.cost import Cost
from drafters.stopping.entropy import Entropy
from drafters.stopping.heuristic import Heuristic
from experiments.parts.roles import row_seconds, step_lines
from spec import CausalLM, Draft, Drafter, Limits, Sampler, decode, speculative
from spec.assistant import Assistant
from spec.batches import succession
from spec.cache import KVCache, SlotLayer
from spec.interfaces import Traits
from spec.state import DecodeState
from tests.families.test_families import make, parts
from tests.tiny import build
from verifiers.recursive import Recursive

PROMPTS = [[5, 9, 13, 5, 9, 13, 5, 9], [3], [17, 2, 30, 30, 30, 8, 17, 2, 30, 1, 33, 4], [1, 2], [7] * 9, [38, 0, 12]]
IDS = [40, 11, 32, 7, 25, 16]
LIMITS = Limits(11, eos_token_id=[3, 26, 30])


@cache
def models():
    """The tiny Llama, and itself with noise on its weights."""
    target = build("llama")
    assistant = copy.deepcopy(target)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weights in assistant.parameters():
            weights.add_(0.02 * torch.randn(weights.shape, dtype=weights.dtype, generator=generator))
    return CausalLM(target), assistant


def run(drafter, temperature=1.0, chosen=range(6), **options):
    sampler = Sampler(temperature, seed=3)
    prompts, ids = [PROMPTS[index] for index in chosen], [IDS[index] for index in chosen]
    return decode(models()[0], drafter, Recursive(), prompts, sampler=sampler, limits=LIMITS, sequence_ids=ids, **options)


def steps_of(stats, index):
    """What was drafted and accepted for one prompt, step by step."""
    return [(step.proposed, step.accepted, step.cut) for step in stats.row(index).steps]


def check(make_drafter, temperature=1.0, sizes=(2,)):
    """Every text, and every draft of every step, is the same alone and in batches in which prompts follow one another."""
    alone = [run(make_drafter(), temperature, [index]) for index in range(6)]
    for size in sizes:
        together = run(make_drafter(), temperature, batch_size=size)
        for index, one in enumerate(alone):
            assert together.new_tokens(index) == one.new_tokens()
            assert steps_of(together.stats, index) == steps_of(one.stats, 0)
    return [len(one.new_tokens()) for one in alone]


@pytest.mark.parametrize("temperature", [0, 1.0])
@pytest.mark.parametrize("drafter", parts("drafter"))
def test_a_row_is_the_same_whoever_leaves_and_joins(drafter, temperature):
    lengths = check(lambda: make("drafter", drafter, model=models()[1]), temperature, (3,) if temperature else (1,))
    assert len(set(lengths)) >= 3  # rows end at different times


def with_rule(rule):
    return DraftModel(model=models()[1], num_tokens=4, stopping=rule)


class Feature(Drafter):
    """Drafts by the target's hidden state alone."""

    traits = Traits(needs=frozenset({"hidden"}))

    def propose(self, state, sampler):
        chains = [[row % 40] if room > 1 else [] for row, room in zip(state.hidden.argmax(-1).tolist(), state.room, strict=True)]
        return Draft.of_chains(state.roots, chains)


OTHERS = {
    "a tree that grows": lambda: DraftTree(model=models()[1], widths=None, num_nodes=6, num_rounds=3),
    "chains with distinct first tokens": lambda: MultiDraft(model=models()[1], siblings="distinct"),
    "coupled siblings": lambda: CoupledDraft(model=models()[1], num_children=2),
    "a recording": lambda: Oracle(0.5, continuations={number: list(range(1, 12)) for number in IDS}),
    "confidence": lambda: with_rule(Confidence()),
    "heuristic": lambda: with_rule(Heuristic(2)),
    "entropy": lambda: with_rule(Entropy(0.1, target_acceptance=0.6, step=0.1)),
    "cost": lambda: with_rule(Cost(0.2)),
    "bandit": lambda: with_rule(Bandit((1, 3), [Heuristic()])),
    "hidden states": Feature,
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_ways_of_drafting(name):
    check(OTHERS[name])


def test_finished_rows_leave_where_nobody_waits():
    check(lambda: DraftModel(model=models()[1], num_tokens=3), sizes=(None,))


def keeps_the_noise_keys(self, origin, newcomers=None, rearrange=DecodeState.rearrange):
    before = self.sequence_ids
    rearrange(self, origin, newcomers)
    self.sequence_ids = before[: len(origin)]


def moves_no_slots(self, origin, newcomers):
    self.keys, self.values = self.keys[: len(origin)], self.values[: len(origin)]


def takes_no_slots_in(self, origin, newcomers, rearrange=SlotLayer.rearrange):
    rearrange(self, origin, None)


def keeps_the_lengths(self, origin, newcomers=None, rearrange=KVCache.rearrange):
    before = self.lengths
    rearrange(self, origin, newcomers)
    self.lengths = before[: len(origin)]


def keeps_the_assistants_rows(self, state, origin, change=Assistant.rows_changed):
    change(self, state, [None if old is None else row for row, old in enumerate(origin)])


def begins_anew(self, state, origin, change=Lookahead.rows_changed):
    change(self, state, [None] * len(origin))


def forgets(self, origin, device):
    self.reset(len(origin), device)


MUTANTS = {
    "noise keys stay": (DecodeState, "rearrange", keeps_the_noise_keys, NoDraft),
    "slots stay": (SlotLayer, "rearrange", moves_no_slots, NoDraft),
    "newcomers without slots": (SlotLayer, "rearrange", takes_no_slots_in, NoDraft),
    "lengths stay": (KVCache, "rearrange", keeps_the_lengths, NoDraft),
    "the assistant's cache stays": (Assistant, "rows_changed", keeps_the_assistants_rows, lambda: DraftModel(model=models()[1])),
    "lookahead begins anew": (Lookahead, "rows_changed", begins_anew, Lookahead),
    "a stopping rule begins anew": (Heuristic, "rows_changed", forgets, OTHERS["heuristic"]),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutants_are_caught(mutant, monkeypatch):
    owner, name, wrong, drafter = MUTANTS[mutant]
    monkeypatch.setattr(owner, name, wrong)
    with pytest.raises(AssertionError):
        check(drafter, sizes=(3,))


class Seen(CausalLM):
    """Notes of every forward over drafts its rows, the columns that attention sees, and the cache's capacity."""

    forwards: list

    def score(self, draft, cache, **options):
        scores = super().score(draft, cache, **options)
        self.forwards.append((len(draft.tokens), cache.longest, cache.capacity))
        return scores


@pytest.mark.parametrize("batch_size", [None, 2])
def test_forwards_see_no_finished_rows(batch_size):
    target, live = Seen(models()[0].model), []
    target.forwards = []

    class Looking(PromptLookup):
        def propose(self, state, sampler):
            assert not any(state.done)
            live.append((state.num_rows, max(map(len, state.rows)) - 1))
            return super().propose(state, sampler)

    options = {"sampler": Sampler(seed=3), "limits": LIMITS, "sequence_ids": IDS, "batch_size": batch_size}
    result = decode(target, Looking(), Recursive(), PROMPTS, **options)
    assert [(rows, longest) for rows, longest, _ in target.forwards] == live
    assert [len(step.emitted) for step in result.stats.steps] == [rows for rows, _ in live]
    counts = [rows for rows, _ in live]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == (batch_size or 6) > counts[-1]


def test_a_long_queue_costs_no_more_memory_than_its_longest_prompt():
    target, prompts = Seen(models()[0].model), [PROMPTS[number % 6] for number in range(100)]
    target.forwards = []
    decode(target, NoDraft(), Recursive(), [[1], *prompts], sampler=Sampler(seed=3), limits=Limits(3), batch_size=5)
    assert len({capacity for _, _, capacity in target.forwards}) == 1
    assert all(rows == 5 for rows, _, _ in target.forwards[:-3])


def test_a_newcomer_may_be_longer_than_everything_before_it():
    long = [(7 * place) % 40 for place in range(120)]
    options = {"sampler": Sampler(0), "limits": Limits(6)}
    for drafter in (NoDraft(), DraftModel(model=models()[1], num_tokens=3)):
        alone = decode(models()[0], drafter, Recursive(), [long], **options).new_tokens()
        together = decode(models()[0], drafter, Recursive(), [[1], long, [2]], batch_size=1, **options)
        assert together.new_tokens(1) == alone


def test_accounting_is_by_prompt():
    result = run(DraftModel(model=models()[1], num_tokens=3), batch_size=2)
    stats = result.stats
    assert result.prompt_lengths == [len(prompt) for prompt in PROMPTS]
    assert [stats.row(index).num_tokens for index in range(6)] == [len(result.new_tokens(index)) for index in range(6)]
    assert stats.num_steps == sum(stats.row(index).num_steps for index in range(6))
    assert [sum(step["emitted"] for step in step_lines(stats, index)) for index in range(6)] == [len(result.new_tokens(index)) for index in range(6)]
    assert sum(sum(row_seconds(stats, index).values()) for index in range(6)) == pytest.approx(stats.decode_seconds)
    assert stats.prefill_seconds > 0


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_without_rows_is_refused(batch_size):
    with pytest.raises(ValueError, match=f"batch_size={batch_size}: give at least 1"):
        run(NoDraft(), batch_size=batch_size)


def test_succession_moves_few_rows():
    assert succession([False, True, False, True], 2) == [0, None, 2, None]
    assert succession([False, True, False, True], 1) == [0, None, 2]
    assert succession([True, False, False, False], 0) == [3, 1, 2]
    assert succession([True, True, False, False], 0) == [3, 2]
    assert succession([True, True, False, True], 1) == [2, None]
    assert succession([True, True], 5) == [None, None]
    assert succession([True, True], 0) == []


def by_place(place, ids):
    """What a processor that looks at the place of a row allows: another part of the vocabulary in every place."""
    return list(range(10 * place, 10 * place + 10))


@pytest.mark.parametrize("batch_size", [None, 2])
@pytest.mark.parametrize("drafter", [PromptLookup, lambda: DraftModel(model=models()[1], num_tokens=3)], ids=["prompt_lookup", "draft_model"])
def test_a_processor_that_looks_at_the_place_of_a_row_is_shown_that_of_its_prompt(drafter, batch_size):
    sampler = Sampler(seed=3, processors=[PrefixConstrainedLogitsProcessor(by_place, num_beams=1)])
    options = {"sampler": sampler, "limits": Limits(12, eos_token_id=[*range(3), *range(20, 23)])}
    result = decode(models()[0], drafter(), Recursive(), PROMPTS[:4], batch_size=batch_size, **options)
    assert len({len(result.new_tokens(index)) for index in range(4)}) > 1
    for index in range(4):
        assert {token // 10 for token in result.new_tokens(index)} == {index}


@pytest.mark.parametrize("batch_size", [None, 2])
def test_the_door_takes_a_batch_size(batch_size):
    """Left padding, criteria and prefix-reading processors belong to the prompt, wherever its row stands."""
    model, longest = models()[0].model, max(map(len, PROMPTS))
    ids = torch.tensor([[*[0] * (longest - len(prompt)), *prompt] for prompt in PROMPTS])
    mask = torch.tensor([[*[0] * (longest - len(prompt)), *[1] * len(prompt)] for prompt in PROMPTS])
    stop = [lambda ids, scores, **_: (ids[:, -1] % 7 == 1) | ((ids[:, :longest] == 0).sum(1) + ids.shape[1] > longest + 14)]
    options = {"attention_mask": mask, "max_new_tokens": 12, "do_sample": False, "pad_token_id": 0, "eos_token_id": 39, "repetition_penalty": 1.2}
    theirs = model.generate(ids, **options, stopping_criteria=StoppingCriteriaList(stop))
    custom = speculative(PromptLookup(), Recursive(), batch_size=batch_size)
    assert model.generate(ids, **options, stopping_criteria=StoppingCriteriaList(stop), custom_generate=custom).equal(theirs)
    assert len({row.index(0) if 0 in row else 12 for row in theirs[:, longest:].tolist()}) > 2


def test_the_caches_of_newcomers_are_free_at_once(monkeypatch):
    """Nothing waits for the garbage collector, which does not know how large a cache is."""
    made, begin = [], KVCache.__init__

    def noted(self, *arguments):
        begin(self, *arguments)
        made.append(weakref.ref(self))

    monkeypatch.setattr(KVCache, "__init__", noted)
    drafter = DraftModel(model=models()[1], num_tokens=3)
    gc.disable()
    try:
        run(drafter, batch_size=2)
        alive = [cache for cache in (reference() for reference in made) if cache is not None]
    finally:
        gc.enable()
    assert len(made) >= 6
    assert alive == [drafter.assistant.cache]
