"""Is the GPU's output right? Compares runtimes with each other and the CPU, a verifier's distribution and the noise, and counts how often the host
waits.

On a machine without a GPU the same code compares the CPU with itself.
"""

import warnings
from collections.abc import Iterator
from typing import Any

import torch

from drafters.draft_model import DraftModel
from drafters.none import NoDraft
from drafters.prompt_lookup import PromptLookup
from experiments.bench.gpu.lab import Lab
from spec import CausalLM, Draft, Drafter, Limits, Noise, Sampler, decode
from spec.loading import load_model
from spec.noise import Purpose
from verifiers.block import Block
from verifiers.recursive import Recursive
from verifiers.rejection import Rejection

PROMPTS = [[0, *range(40, 60)], [0, 7, 8, 9, 7, 8, 9, 7, 8], [0, *range(300, 420, 3)]]


def checks(lab: Lab) -> Iterator[dict[str, Any]]:
    """A line per check; `passed` says how it went."""
    yield noise_is_the_cpus(lab.device)
    yield verdicts_are_the_cpus(lab.device)
    yield from greedy_identity(lab)
    yield samples_are_the_cpus(lab)
    if lab.device == "cuda":
        yield from synchronisations(lab)


def drafters(assistant: Any) -> dict[str, Drafter]:
    return {"none": NoDraft(), "prompt_lookup": PromptLookup(), "draft_model": DraftModel(model=assistant)}


def tokens(target: CausalLM, drafter: Drafter, sampler: Sampler, budget: int) -> list[list[int]]:
    made = decode(target, drafter, Recursive(), PROMPTS, sampler=sampler, limits=Limits(budget))
    return [made.new_tokens(row) for row in range(len(PROMPTS))]


def greedy_identity(lab: Lab) -> Iterator[dict[str, Any]]:
    """The embedded pair in float32: every runtime and drafter against plain decoding on the CPU, token for token."""
    budget, greedy = lab.settings.check_tokens, Sampler(0.0)
    wanted = tokens(CausalLM(load_model("embedded/target", torch.float32)), NoDraft(), greedy, budget)
    model, assistant = (load_model(f"embedded/{name}", torch.float32).to(lab.device) for name in ("target", "drafter"))
    for runtime in lab.settings.check_runtimes:
        for name, drafter in drafters(assistant).items():
            same = sum(map(list.__eq__, tokens(CausalLM(model, None, runtime), drafter, greedy, budget), wanted))
            yield {"check": "greedy identity, float32", "runtime": runtime, "drafter": name, "passed": same == len(PROMPTS), "identical": same}


def samples_are_the_cpus(lab: Lab) -> dict[str, Any]:
    """The embedded pair in float64, where no rounding can move a draw across a boundary: the same seed gives the same tokens."""
    found = []
    for device in ("cpu", lab.device):
        model, assistant = (load_model(f"embedded/{name}", torch.float64).to(device) for name in ("target", "drafter"))
        found.append(tokens(CausalLM(model), DraftModel(model=assistant), Sampler(0.8, seed=3), lab.settings.check_tokens))
    return {"check": "samples, float64, draft_model", "passed": found[0] == found[1]}


def verdicts_are_the_cpus(device: str) -> dict[str, Any]:
    """Random distributions in float64: every verdict of three rules on the device equals the CPU's."""
    generator = torch.Generator().manual_seed(0)
    num_rows, num_slots, vocabulary = 64, 6, 500
    p, q = (torch.randn(num_rows, num_slots, vocabulary, generator=generator, dtype=torch.float64).mul(2).softmax(-1) for _ in range(2))
    q = (p + q) / 2
    drawn = q.flatten(0, 1).multinomial(1, generator=generator).view(num_rows, num_slots)
    ids, equal = torch.arange(num_rows), True
    for rule in (Rejection(), Recursive(), Block()):
        verdicts = []
        for where in ("cpu", device):
            draft = Draft.chain(drawn.to(where), None, q.to(where))
            verdicts.append(rule(p.to(where), draft, Noise(5).at(ids.to(where), ids.to(where))))
        equal &= all(torch.equal(getattr(verdicts[0], name), getattr(verdicts[1], name).cpu()) for name in ("path", "bonus", "counts"))
    return {"check": "verdicts, float64", "passed": equal}


def noise_is_the_cpus(device: str) -> dict[str, Any]:
    """Random numbers of every purpose, bit for bit."""
    ids, roots = torch.tensor([0, 5, -3, 2**62]), torch.tensor([0, 7, 1000, 3])
    slots = torch.arange(9).expand(4, 9)
    here, there = Noise(123456789).at(ids, roots), Noise(123456789).at(ids.to(device), roots.to(device))
    same = all(torch.equal(here.uniform(slots, purpose), there.uniform(slots.to(device), purpose).cpu()) for purpose in Purpose)
    return {"check": "noise", "passed": same}


def synchronisations(lab: Lab) -> Iterator[dict[str, Any]]:
    """How often a step makes the host wait for the GPU, from the difference between a short and a long run; at most once is the aim."""
    model, assistant = (load_model(f"embedded/{name}", torch.float32).to(lab.device) for name in ("target", "drafter"))
    for runtime in lab.settings.check_runtimes:
        for name, drafter in drafters(assistant).items():
            target = CausalLM(model, None, runtime)
            counts = [waits(target, drafter, budget) for budget in (8, 8, 40)][1:]  # the first run warms up
            per_step = (counts[1][0] - counts[0][0]) / max(counts[1][1] - counts[0][1], 1)
            yield {"check": "synchronisations per step", "runtime": runtime, "drafter": name, "passed": per_step <= 1, "per_step": per_step}


def waits(target: CausalLM, drafter: Drafter, budget: int) -> tuple[int, int]:
    """Synchronisations and steps of one run."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            made = decode(target, drafter, Recursive(), PROMPTS[:1], sampler=Sampler(0.0), limits=Limits(budget))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(item.message) for item in caught), len(made.stats.steps)
