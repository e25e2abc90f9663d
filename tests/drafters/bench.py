"""What the tests of single drafters share: a state without a model, a tiny target, and a plain greedy loop to compare with."""

from collections.abc import Callable, Sequence
from functools import cache

import torch

from spec.cache import KVCache
from spec.decode import Generation, decode
from spec.interfaces import Drafter
from spec.model import CausalLM
from spec.sampling import Sampler
from spec.state import DecodeState, Limits
from tests.tiny import build
from verifiers.recursive import Recursive

PROMPTS = [[7, 3, 9, 7, 3], [5], [1, 2, 3, 4, 5, 6, 1, 2, 3]]


def state_of(rows: Sequence[Sequence[int]], room: int = 100) -> DecodeState:
    """A state of these committed rows, for drafters that never look at a cache; every row may still emit `room` tokens."""
    copies = [list(row) for row in rows]
    cache = KVCache(0, len(copies), 1, torch.device("cpu"))
    return DecodeState(copies, cache, torch.arange(len(copies)), 10_000, [len(row) + room for row in copies])


def tiny_target(family: str = "llama", seed: int = 0) -> CausalLM:
    return CausalLM(build(family, seed))


def looping_target() -> CausalLM:
    """A Llama whose attention adds nothing, so that its greedy text is a walk over 40 tokens and must soon go round in a loop."""
    target = tiny_target()
    for layer in target.model.model.layers:
        torch.nn.init.zeros_(layer.self_attn.o_proj.weight)
    return target


def run(target: CausalLM, drafter: Drafter, prompts: Sequence[Sequence[int]] = PROMPTS, new: int = 50, temperature: float = 0.0) -> Generation:
    sampler = Sampler(temperature=temperature, seed=3)
    return decode(target, drafter, Recursive(), prompts, sampler=sampler, limits=Limits(max_new_tokens=new))


def new_tokens(generation: Generation) -> list[list[int]]:
    return [generation.new_tokens(b) for b in range(len(generation.sequences))]


def plain_greedy(target: CausalLM, prompts: Sequence[Sequence[int]] = PROMPTS, new: int = 50) -> list[list[int]]:
    """One token per forward, one row at a time, everything recomputed: no part of the loop under test but the model."""
    found = []
    with torch.inference_mode():
        for prompt in prompts:
            row = list(prompt)
            for _ in range(new):
                row.append(int(target.model(input_ids=torch.tensor([row]), use_cache=False).logits[0, -1].argmax()))
            found.append(row[len(prompt) :])
    return found


@cache
def tiny_greedy(new: int) -> list[list[int]]:
    """What the tiny Llama says to PROMPTS."""
    return plain_greedy(tiny_target(), new=new)


def check_greedy_identity(make: Callable[[], Drafter], new: int = 40) -> None:
    """Drafts change nothing about greedy text, alone or in a ragged batch, nor does the batch change what a row accepts."""
    target, expected = tiny_target(), tiny_greedy(new)
    together = run(target, make(), new=new)
    assert new_tokens(together) == expected
    for b, prompt in enumerate(PROMPTS):
        alone = run(target, make(), [prompt], new=new)
        assert new_tokens(alone) == [expected[b]]
        assert [step.accepted for step in together.stats.row(b).steps] == [step.accepted for step in alone.stats.steps]
