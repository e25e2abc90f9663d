"""The mode `verifiers`: what every exact verifier costs relative to one softmax over the same rows, and what making distributions from logits costs.

Every verifier gets the same distributions and the same draft: chains of N slots, and binary trees of N slots whose siblings are drawn independently.
Softmax and verifiers are timed in turn, so that other load hits all of them; a ratio is one verification over the softmax of the same round.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.analysis.interval import median_interval
from experiments.analysis.terminal import render
from experiments.bench.figures import describe
from experiments.bench.material import Material
from experiments.parts.build import exact_verifiers
from experiments.recording.clock import seconds_of
from spec import Draft, Noise, Sampler, Verifier
from spec.tree import chain_parents

CLOSENESS = 0.7  # share of the target's logits in the drafter's: about three of four tokens are accepted


def logits_and_draft(shape: str, num_slots: int, num_rows: int, vocabulary: int, device: torch.device) -> tuple[Tensor, Draft]:
    """Raw target logits [B, N, V] and a draft that was honestly drawn beside them. Siblings share a row, as i.i.d. siblings do."""
    generator = torch.Generator(device).manual_seed(0)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator, device=device)

    logits = normal(num_rows, num_slots, vocabulary).mul_(3)
    slots = torch.arange(num_slots, device=device)
    parents = chain_parents(num_rows, num_slots, device) if shape == "chain" else ((slots - 1) // 2).expand(num_rows, -1)
    q = torch.empty_like(logits)
    for slot in range(num_slots):
        above = slot - 1 if shape == "chain" else (slot - 1) // 2
        if shape == "tree" and slot % 2 == 0 and slot > 0:
            q[:, slot] = q[:, slot - 1]
        else:
            mixed = logits[:, max(above, 0)] * CLOSENESS + normal(num_rows, vocabulary) * 3 * (1 - CLOSENESS**2) ** 0.5
            q[:, slot] = mixed.softmax(-1)
    tokens = q.flatten(0, 1).multinomial(1, generator=generator).view(num_rows, num_slots)
    sizes = torch.full((num_rows,), num_slots, device=device)
    return logits, Draft(tokens, parents, sizes, q, width=1 if shape == "chain" else 2)


def ratios(verifiers: dict[str, Verifier], logits: Tensor, draft: Draft, repeats: int) -> dict[str, dict[str, Any]]:
    """Per verifier: median ratio to softmax with a 95 % interval over the repeats, and milliseconds. "distribution": what the sampler makes of the
    logits."""
    p, device, ids = logits.softmax(-1), logits.device, torch.arange(len(logits), device=logits.device)
    seconds: dict[str, list[float]] = {name: [] for name in ("softmax", "distribution", *verifiers)}
    sampler = Sampler()
    for index in range(repeats + 1):
        noise = Noise(0).at(ids, ids + index)
        works = {"softmax": lambda: logits.softmax(-1), "distribution": lambda: sampler.distribution(logits)}
        works |= {name: lambda rule=rule: rule(p, draft, noise) for name, rule in verifiers.items()}  # noqa: B023
        for name, work in works.items():
            spent = seconds_of(work, device)
            if index:  # the first round warms up
                seconds[name].append(spent)
    reference = np.array(seconds["softmax"])
    return {name: row(np.array(values), reference) for name, values in seconds.items()}


def row(seconds: np.ndarray, reference: np.ndarray) -> dict[str, Any]:
    found = seconds / reference
    timed = {"ratio": float(np.median(found)), "interval": median_interval(found), "units": len(found)}
    return timed | {"ms": 1000 * float(np.median(seconds))}


@torch.inference_mode()
def verifier_cost(material: Material) -> dict[str, Any]:
    """A case for every vocabulary, shape and number of rows, on the target's device; nothing else of the target matters."""
    settings, every, cases = material.config.verifiers, exact_verifiers(), []
    for vocabulary in settings.vocabularies:
        for shape, num_slots in (("chain", settings.chain_slots), ("tree", settings.tree_slots)):
            chosen = {name: rule for name, rule in every.items() if shape == "chain" or not getattr(rule, "chains_only", False)}
            for num_rows in settings.rows:
                found = ratios(chosen, *logits_and_draft(shape, num_slots, num_rows, vocabulary, material.target.device), settings.repeats)
                cases.append({"vocabulary": vocabulary, "shape": shape, "slots": num_slots, "rows": num_rows, "verifiers": found})
    return {"cases": cases}


def show(result: dict[str, Any]) -> None:
    """A table per case."""
    for case in result["cases"]:
        rows = [{"verifier": name, "x softmax": describe(found), "ms": f"{found['ms']:.2f}"} for name, found in case["verifiers"].items()]
        render(rows, title=f"V = {case['vocabulary']}, {case['shape']} of {case['slots']}, {case['rows']} rows")
