"""What a step does around the forwards, in operators: a budget for every drafter and verifier that a change must not exceed unseen.

Each operator costs a few microseconds of the host wherever it runs, so on small models and on GPUs their number is the time. Views start no kernel
and do not count; what the models do in their forwards does not count either.
"""

from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from drafters.coupled import CoupledDraft
from drafters.draft_model import DraftModel
from drafters.draft_tree import DraftTree
from drafters.jacobi import Jacobi
from drafters.lookahead import Lookahead
from drafters.multi_draft import MultiDraft
from drafters.none import NoDraft
from drafters.prompt_lookup import PromptLookup
from spec import CausalLM, Limits, Sampler, decode
from spec.cache import KVCache
from spec.decode import _Loop
from tests.tiny import build
from verifiers.block import Block
from verifiers.coupled import Coupled
from verifiers.greedy import Greedy
from verifiers.greedy_multi import GreedyMulti
from verifiers.kseq import KSeq
from verifiers.recursive import Recursive
from verifiers.rejection import Rejection
from verifiers.sample_match import SampleMatch
from verifiers.traversal import Traversal
from verifiers.typical import Typical

PROMPT = [1, 2, 3, 4, 5, 1, 2, 3, 4, 6, 1, 2, 3]
ROWS = [PROMPT, PROMPT[:7], PROMPT[3:]]  # ragged
VERIFIERS = {
    **{"greedy": Greedy(), "rejection": Rejection(), "block": Block(), "recursive": Recursive(), "traversal": Traversal()},
    **{"sample_match": SampleMatch(), "coupled": Coupled(), "kseq": KSeq(), "greedy_multi": GreedyMulti(), "typical": Typical()},
}
DRAFTERS = {
    "none": lambda model: NoDraft(),
    "prompt_lookup": lambda model: PromptLookup(),
    "jacobi": lambda model: Jacobi(),
    "lookahead": lambda model: Lookahead(window=4, ngram=3, guesses=3),
    "draft_model": lambda model: DraftModel(model=model),
    "coupled": lambda model: CoupledDraft(model=model),
    "independent": lambda model: MultiDraft(model=model),
    "greedy_chains": lambda model: MultiDraft(model=model, siblings="greedy"),
    "draft_tree": lambda model: DraftTree(model=model),
    "grown_tree": lambda model: DraftTree(model=model, widths=None),
}
# Most operators per step at temperature 0, where all but the lossy verifiers are one, and at 0.8: on one row / on three ragged rows.
BUDGETS = """
none          greedy        7/15      -
none          recursive     7/13      19/25
none          coupled       -         63
prompt_lookup greedy        14/23     -
prompt_lookup rejection     -         31
prompt_lookup block         -         37
prompt_lookup recursive     13/22     30/40
prompt_lookup traversal     -         43
prompt_lookup sample_match  -         30
prompt_lookup coupled       -         73
prompt_lookup typical       72        73
jacobi        greedy        23/27     -
jacobi        rejection     -         44
jacobi        block         -         65
jacobi        recursive     22/27     44/49
jacobi        traversal     -         94
jacobi        sample_match  -         44
jacobi        coupled       -         80
jacobi        typical       70        71
lookahead     greedy        49/75     -
lookahead     recursive     49/74     82/114
lookahead     traversal     -         130
lookahead     sample_match  -         95
lookahead     coupled       -         111
lookahead     typical       95        99
draft_model   greedy        28/54     -
draft_model   rejection     -         97
draft_model   block         -         151
draft_model   recursive     28/54     97/151
draft_model   traversal     -         177
draft_model   sample_match  -         106
draft_model   coupled       -         143
draft_model   typical       72        126
coupled       greedy        76/99     -
coupled       rejection     -         223
coupled       block         -         245
coupled       recursive     76/99     223/261
coupled       traversal     -         293
coupled       sample_match  -         223
coupled       coupled       -         248
coupled       typical       120       255
independent   greedy        112/153   -
independent   recursive     112/153   202/285
independent   traversal     -         367
independent   sample_match  -         266
independent   coupled       -         198
independent   kseq          -         690
independent   typical       141       165
greedy_chains greedy        112/153   -
greedy_chains recursive     112/153   231/269
greedy_chains traversal     -         401
greedy_chains sample_match  -         293
greedy_chains coupled       -         214
greedy_chains greedy_multi  -         428
greedy_chains typical       141       195
draft_tree    greedy        113/172   -
draft_tree    recursive     113/171   221/418
draft_tree    traversal     -         481
draft_tree    sample_match  -         308
draft_tree    coupled       -         251
draft_tree    typical       142       242
grown_tree    greedy        234/285   -
grown_tree    recursive     234/285   644/901
grown_tree    traversal     -         1121
grown_tree    sample_match  -         634
grown_tree    coupled       -         553
grown_tree    typical       266       532
"""


class Counted(TorchDispatchMode):
    """Counts operators that are no views, outside of forwards."""

    def __init__(self):
        super().__init__()
        self.found: Counter[str] = Counter()
        self.depth = 0  # of forwards that run

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if not self.depth and not func.is_view and func.name() not in ("aten::detach", "aten::lift_fresh"):
            self.found[func.name()] += 1
        return func(*args, **(kwargs or {}))

    def leave_out(self, model):
        model.register_forward_pre_hook(lambda *_: setattr(self, "depth", self.depth + 1))
        model.register_forward_hook(lambda *_: setattr(self, "depth", self.depth - 1), always_call=True)


def models():
    target, drafter = build("llama").float(), build("llama", 1).float()
    numbers = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for own, wanted in zip(drafter.parameters(), target.parameters(), strict=True):
            own.copy_(wanted + 0.01 * torch.randn(wanted.shape, generator=numbers))
    return target, drafter


def per_step(drafter, verifier, temperature, prompts, monkeypatch, **settings):
    """Operators of a step, on average over all steps but the first."""
    counted, (target, assistant), step = Counted(), models(), _Loop.step
    for model in (target, assistant):
        counted.leave_out(model)
    steps = []

    def counting(self, state, sampler):
        before = counted.found.total()
        with counted:
            verdict = step(self, state, sampler)
        steps.append(counted.found.total() - before)
        return verdict

    with monkeypatch.context() as patched:
        patched.setattr(_Loop, "step", counting)
        sampler = Sampler(temperature, seed=3, **settings)
        decode(CausalLM(target), drafter(assistant), verifier, prompts, sampler=sampler, limits=Limits(20), allow_lossy=True)
    return sum(steps[1:]) / len(steps[1:])


def cases():
    for line in BUDGETS.strip().split("\n"):
        drafter, verifier, *columns = line.split()
        for temperature, column in zip((0.0, 0.8), columns, strict=True):
            for prompts, budget in zip(([PROMPT], ROWS), column.split("/") if column != "-" else (), strict=False):
                yield pytest.param(drafter, verifier, temperature, prompts, int(budget), id=f"{drafter}-{verifier}-{temperature}-{len(prompts)}")


@pytest.mark.parametrize(("drafter", "verifier", "temperature", "prompts", "budget"), list(cases()))
def test_a_step_keeps_its_budget(drafter, verifier, temperature, prompts, budget, monkeypatch):
    assert per_step(DRAFTERS[drafter], VERIFIERS[verifier], temperature, prompts, monkeypatch) <= budget


def test_every_drafter_and_verifier_has_a_budget():
    named = [line.split()[:2] for line in BUDGETS.strip().split("\n")]
    assert {drafter for drafter, _ in named} == set(DRAFTERS)
    assert {verifier for _, verifier in named} == set(VERIFIERS)


def test_one_operator_more_for_each_drafted_token_is_noticed(monkeypatch):
    """The budgets are tight: a drafter that looks at each distribution once more exceeds its own."""
    own = DraftModel._next_logits

    def looking_twice(self, state, tokens, sampler):
        logits, contexts = own(self, state, tokens, sampler)
        return logits.clone().exp().log(), contexts

    monkeypatch.setattr(DraftModel, "_next_logits", looking_twice)
    budget = next(case.values[4] for case in cases() if case.id == "draft_model-recursive-0.0-1")
    assert per_step(DRAFTERS["draft_model"], Recursive(), 0.0, [PROMPT], monkeypatch) > budget


def test_a_repetition_penalty_is_one_scatter_for_all_slots(monkeypatch):
    plain, penalised = (
        per_step(DRAFTERS["draft_tree"], Recursive(), 0.8, ROWS, monkeypatch, **given) for given in ({}, {"repetition_penalty": 1.0001})
    )
    assert penalised < plain + 60  # eight for each of the forwards


@torch.inference_mode()
def test_a_commit_of_a_tree_does_not_grow_with_the_layers():
    found = []
    for num_layers in (2, 12):
        cache, counted = KVCache(num_layers, 2, 16, torch.device("cpu")), Counted()
        cache.reserve(4)
        for layer in range(num_layers):
            cache.update(torch.randn(2, 2, 4, 8), torch.randn(2, 2, 4, 8), layer)
        with counted:
            cache.keep([2, 1], torch.tensor([[0, 2], [0, -1]]))
        found.append(counted.found.total())
    assert found[0] == found[1] < 12
