"""The published models themselves, from the user's cache: `make test-real`. Greedy answers are those of `generate`, in float32."""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch

from drafters.draft_model import DraftModel
from drafters.none import NoDraft
from drafters.prompt_lookup import PromptLookup
from spec import CausalLM, Drafter, Limits, Sampler, decode
from spec.converted.named import place_of
from spec.loading import load_model, load_tokenizer
from verifiers.recursive import Recursive

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(1800)]
MT_BENCH = (  # questions 81, 101 and 122
    "Compose an engaging travel blog post about a recent trip to Hawaii, highlighting cultural experiences and must-see attractions.",
    "Imagine you are participating in a race with a group of people. If you have just overtaken the second person, what's your current position? "
    "Where is the person you just overtook?",
    "Write a C++ program to find the nth Fibonacci number using recursion.",
)
DRAFTERS: dict[str, Callable[[], Drafter]] = {"none": NoDraft, "prompt_lookup": PromptLookup}
NEW = 32


def need(name: str) -> None:
    if not place_of(name).exists():
        pytest.skip(f"{name} is not in the cache; draftproof models --fetch {name}")


@cache
def model_of(name: str) -> Any:
    return load_model(name, "float32")


def generated(name: str, prompts: list[list[int]]) -> list[list[int]]:
    """What `generate` makes of each prompt alone, prompt included."""
    with torch.inference_mode():
        settings = {"max_new_tokens": NEW, "do_sample": False, "eos_token_id": None}
        alone = [torch.tensor([prompt]) for prompt in prompts]
        return [model_of(name).generate(ids, attention_mask=torch.ones_like(ids), **settings)[0].tolist() for ids in alone]


def decoded(name: str, drafter: Drafter, prompts: list[list[int]], context: int | None = None) -> list[list[int]]:
    target = CausalLM(model_of(name), context=context)
    return [row.tolist() for row in decode(target, drafter, Recursive(), prompts, sampler=Sampler(0.0), limits=Limits(NEW)).sequences]


@cache
def questions() -> list[list[int]]:
    tokenizer = load_tokenizer("smollm2")
    texts = [tokenizer.apply_chat_template([{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True) for text in MT_BENCH]
    return [tokenizer(text).input_ids for text in texts]


@pytest.mark.parametrize("drafter", DRAFTERS)
def test_smollm2_answers_as_generate_does(drafter: str) -> None:
    need("smollm2")
    assert decoded("smollm2", DRAFTERS[drafter](), questions()) == generated("smollm2", questions())


def test_smollm2_by_name_as_a_drafter() -> None:
    """Of itself, so every draft is accepted but for rounding."""
    need("smollm2")
    assert decoded("smollm2", DraftModel("smollm2", num_tokens=4), questions()[:1]) == generated("smollm2", questions()[:1])


def test_smollm2_knows_what_it_knew() -> None:
    need("smollm2")
    tokenizer = load_tokenizer("smollm2")
    assert tokenizer.eos_token == "<|im_end|>"
    (answer,) = generated("smollm2", [tokenizer("The capital of France is").input_ids])
    assert tokenizer.decode(answer).startswith("The capital of France is Paris.")


def text_of(num_tokens: int) -> list[int]:
    """The start of a text that Gemma 3 goes on with."""
    story = " ".join(f"On day {day} the ship sailed {3 * day} miles and the captain wrote of the wind." for day in range(1, 200))
    return load_tokenizer("gemma3_270m")(story).input_ids[:num_tokens]


@pytest.mark.parametrize("drafter", DRAFTERS)
def test_gemma3_answers_as_generate_does_within_its_window(drafter: str) -> None:
    need("gemma3_270m")
    prompts = [text_of(length) for length in (9, 60, 200)]
    assert decoded("gemma3_270m", DRAFTERS[drafter](), prompts, context=512) == generated("gemma3_270m", prompts)


@pytest.mark.parametrize("drafter", DRAFTERS)
def test_gemma3_answers_as_generate_does_beyond_its_window(drafter: str) -> None:
    need("gemma3_270m")
    prompts = [text_of(length) for length in (500, 700)]
    assert decoded("gemma3_270m", DRAFTERS[drafter](), prompts, context=1024) == generated("gemma3_270m", prompts)
