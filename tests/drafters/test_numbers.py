"""Numbers that are no whole numbers, and arguments that change places, get one line."""

import pytest

from drafters.adversarial import Adversarial
from drafters.coupled import CoupledDraft
from drafters.draft_model import DraftModel
from drafters.draft_tree import DraftTree
from drafters.jacobi import Jacobi
from drafters.lookahead import Lookahead
from drafters.multi_draft import MultiDraft
from drafters.none import NoDraft
from drafters.prompt_lookup import PromptLookup
from drafters.stopping.constant import Constant
from drafters.stopping.heuristic import Heuristic
from spec import CausalLM, Limits, Sampler, decode
from tests.tiny import build
from verifiers.greedy import Greedy

COUNTS = [
    *((kind, "num_tokens") for kind in (Adversarial, CoupledDraft, DraftModel, Jacobi, MultiDraft, PromptLookup, Constant, Heuristic)),
    *((Lookahead, name) for name in ("window", "ngram", "guesses")),
    *((DraftTree, name) for name in ("num_nodes", "num_rounds")),
    (CoupledDraft, "num_children"),
    (MultiDraft, "num_chains"),
    (PromptLookup, "max_ngram"),
    (PromptLookup, "min_ngram"),
]


@pytest.mark.parametrize("value", [1.5, "4", None, True, 0])
@pytest.mark.parametrize(("kind", "name"), COUNTS)
def test_counts_are_whole_numbers(kind, name, value):
    with pytest.raises(ValueError, match=rf"{name}={value!r}.*: give "):
        kind(**{name: value})


@pytest.mark.parametrize("widths", [[1.5], ["2"], 3, "32", [], {}])
def test_widths_are_whole_numbers(widths):
    with pytest.raises(ValueError, match=r"widths=.*: give the number of children"):
        DraftTree(widths=widths)


@pytest.mark.parametrize("context", [1.5, "abc", 1, 10**6, True])
def test_a_context_is_a_whole_number_of_positions(context):
    with pytest.raises(ValueError, match=r"context=.*: give between 2 and the model's \d+ positions"):
        CausalLM(build("llama"), context)


def test_what_is_no_model_is_no_causal_lm():
    for wrong in ("embedded/target", None, 5):
        with pytest.raises(ValueError, match=r"model=.*: give a model of transformers"):
            CausalLM(wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="capacity='x': give a whole number"):
        CausalLM(build("llama"), capacity="x")  # type: ignore[arg-type]


def test_arguments_of_decode_that_change_places_are_named():
    model, sampler, limits = build("llama"), Sampler(0.0), Limits(4)
    target, prompts = CausalLM(model), [[1, 2]]
    swapped = [
        ((target, Greedy(), NoDraft(), prompts), "drafter=Greedy.* is no drafter .*give drafter and verifier in this order"),
        ((target, NoDraft(), prompts, Greedy()), r"verifier=\[\[1, 2\]\] is no verifier"),
        ((NoDraft(), target, Greedy(), prompts), r"target=.*: give CausalLM\(model\), then drafter, verifier and prompts"),
        ((model, NoDraft(), Greedy(), prompts), r"target=.*: give CausalLM\(model\)"),
        ((target, NoDraft(), Greedy(), 5), "prompts is of the type int"),
    ]
    for given, told in swapped:
        with pytest.raises(ValueError, match=told) as caught:
            decode(*given, sampler=sampler, limits=limits)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="sampler=Limits"):
        decode(target, NoDraft(), Greedy(), prompts, sampler=limits, limits=sampler)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"limits=4: give Limits\(max_new_tokens\)"):
        decode(target, NoDraft(), Greedy(), prompts, sampler=sampler, limits=4)  # type: ignore[arg-type]
