"""Wrong arguments: one line that says what was given and what is allowed, never a traceback from within."""

import numpy as np
import pytest
import torch

from drafters.none import NoDraft
from drafters.prompt_lookup import PromptLookup
from spec import CausalLM, Limits, Noise, Sampler, decode, speculative
from tests.tiny import build
from verifiers.recursive import Recursive

PROMPT = [5, 9, 13]


@pytest.fixture(scope="module")
def target():
    return CausalLM(build("llama"))


def run(target, prompts=(PROMPT,), sampler=None, **options):
    return decode(target, NoDraft(), Recursive(), prompts, sampler=sampler or Sampler(seed=1), limits=Limits(4), **options)


def one_line(call, words):
    with pytest.raises(ValueError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


SAMPLERS = [
    {"temperature": "hot"},
    {"temperature": float("nan")},
    {"temperature": None},
    {"temperature": True},
    {"temperature": torch.ones(2)},
    {"top_k": -1},
    {"top_k": 2.5},
    {"top_k": True},
    {"top_p": 2},
    {"top_p": float("nan")},
    {"top_p": "most"},
    {"min_p": -0.1},
    {"repetition_penalty": "much"},
    {"repetition_penalty": 0},
    {"repetition_penalty": float("nan")},
    {"processors": 5},
    {"processors": [5]},
    {"seed": 1.5},
    {"seed": 1.0},
    {"seed": True},
    {"seed": "1"},
    {"seed": None},
    {"seed": torch.tensor([1])},
    {"seed": torch.tensor(True)},
]


@pytest.mark.parametrize("options", SAMPLERS, ids=str)
@pytest.mark.parametrize("greedy", [False, True])
def test_samplers(options, greedy):
    """At temperature 0, too, where most of them would never be looked at."""
    (name,) = options
    one_line(lambda: Sampler(**({"temperature": 0} if greedy else {}) | options), f"^{name}=.*: give ")


@pytest.mark.parametrize("seed", [1.5, True, "1", 2**63, np.float64(2)])
def test_seeds_of_the_noise_and_of_the_door(seed):
    one_line(lambda: Noise(seed), "^seed=.*: give a whole number of at most 64 bits")
    one_line(lambda: speculative(PromptLookup(), Recursive(), seed=seed), "^seed=.*: give a whole number of at most 64 bits")


LIMITS = [
    {"max_new_tokens": 2.5},
    {"max_new_tokens": True},
    {"max_new_tokens": "8"},
    {"max_new_tokens": 0},
    {"max_new_tokens": None},
    {"eos_token_id": "x"},
    {"eos_token_id": 1.0},
    {"eos_token_id": [3, "x"]},
    {"eos_token_id": True},
    {"criteria": lambda ids, scores: True},
    {"criteria": [3]},
]


@pytest.mark.parametrize("options", LIMITS, ids=lambda options: ", ".join(f"{name}={value}" for name, value in options.items())[:30])
def test_limits(options):
    (name,) = options
    one_line(lambda: Limits(**options), f"^{name}=.*: give ")


@pytest.mark.parametrize("batch_size", [1.5, True, "2", 0])
def test_batch_sizes(target, batch_size):
    one_line(lambda: run(target, batch_size=batch_size), "^batch_size=.*: give at least 1")
    one_line(lambda: speculative(PromptLookup(), Recursive(), batch_size=batch_size), "^batch_size=.*: give at least 1")


@pytest.mark.parametrize(
    ("prompts", "words"),
    [
        ([[1.0, 2.0]], r"prompt 0 holds 1\.0; token ids are whole numbers"),
        ([PROMPT, [1, 2.5]], r"prompt 1 holds 2\.5"),
        ([[True, False]], "prompt 0 holds True"),
        ([torch.tensor([1.0])], r"prompt 0 holds 1\.0"),
        ([torch.tensor([True])], "prompt 0 holds True"),
        ([torch.tensor([[1, 2]])], r"prompt 0 holds \[1, 2\]"),
        ([np.array([1.5])], "prompt 0 holds .*1.5"),
        (PROMPT, "prompt 0 is 5; give a list of token ids for each prompt"),
        (torch.tensor(PROMPT), "prompt 0 is 5"),
        ("def f", "prompt 0 is 'd'"),
        (["def f"], "prompt 0 is 'def f'"),
        (7, "prompts is of the type int; give a list"),
        (iter([PROMPT]), "prompts is of the type list_iterator"),
    ],
)
def test_prompts(target, prompts, words):
    one_line(lambda: run(target, prompts), words)


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        ([0.0], r"^sequence id=0\.0: give whole numbers"),
        ([True], "^sequence id=True"),
        (["0"], "^sequence id='0'"),
        ("0", "^sequence_ids='0': give a list"),
        (3, "^sequence_ids=3: give a list"),
        (torch.tensor([0.0]), "^sequence id="),
        (torch.tensor([[0]]), "^sequence_ids="),
        ([2**63], "^sequence id=9223372036854775808"),
        ([0, 1], "2 sequence_ids for 1 prompts"),
        ([], "0 sequence_ids for 1 prompts"),
    ],
)
def test_sequence_ids(target, ids, words):
    one_line(lambda: run(target, sequence_ids=ids), words)
    one_line(lambda: target.prefill([PROMPT], sequence_ids=ids), words)


@pytest.mark.parametrize("number", [3, np.int64(3), np.array(3), torch.tensor(3), torch.tensor(3, dtype=torch.int32)], ids=repr)
def test_whole_numbers_of_other_kinds_are_the_same_numbers(target, number):
    wanted = decode(target, NoDraft(), Recursive(), [PROMPT], sampler=Sampler(seed=3), limits=Limits(3, 3), sequence_ids=[3]).new_tokens()
    limits, sampler = Limits(number, number), Sampler(seed=number, top_k=None)
    options = {"sampler": sampler, "limits": limits, "sequence_ids": [number], "batch_size": number}
    assert decode(target, NoDraft(), Recursive(), [PROMPT], **options).new_tokens() == wanted
    assert {type(value) for value in (sampler.seed, Noise(number).seed, limits.max_new_tokens, *limits.eos_ids)} == {int}


def test_prompts_of_other_kinds_are_the_same_prompts(target):
    wanted = run(target).new_tokens()
    elements = [[kind(token) for token in PROMPT] for kind in (np.int64, torch.tensor)]
    for prompt in (tuple(PROMPT), torch.tensor(PROMPT), np.array(PROMPT), *elements):
        made = run(target, [prompt])
        assert made.new_tokens() == wanted
        assert made.sequences[0].dtype == torch.int64
    assert run(target, torch.tensor([PROMPT])).new_tokens() == wanted


def test_an_id_that_stands_twice_is_warned_of(target):
    with pytest.warns(UserWarning, match="the sequence id 8 is given more than once") as caught:
        made = run(target, [PROMPT] * 3, sequence_ids=[8, 2, 8])
    assert caught[0].filename == __file__
    assert made.new_tokens(0) == made.new_tokens(2) != made.new_tokens(1)
    run(target, [PROMPT] * 2, sequence_ids=[8, 8], sampler=Sampler(0))  # nothing is drawn, so nothing is warned of
