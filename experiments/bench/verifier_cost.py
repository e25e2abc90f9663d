"""What verifications and laws cost beside one softmax over the same rows. `python -m experiments.bench.verifier_cost`, `conf/verification_cost.yaml`.

Every verifier gets the same laws and the same draft: chains of N slots, and binary trees of N slots whose siblings are drawn independently.
Softmax and verifiers are timed in turn, so that what else the machine does hits all of them; a ratio is one verification over the softmax beside it.
"""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from scipy import stats
from torch import Tensor

from experiments.analysis.terminal import render
from experiments.parts.build import exact_verifiers
from experiments.parts.command import entry
from experiments.recording.clock import seconds_of
from experiments.recording.files import write_atomically
from experiments.recording.machine import circumstances, load_average
from spec import Draft, Noise, Sampler, Verifier
from spec.tree import chain_parents

log = logging.getLogger(__name__)
CLOSENESS = 0.7  # the drafter's logits are this much the target's: about three of four tokens are accepted


def material(shape: str, num_slots: int, num_rows: int, vocabulary: int, device: torch.device) -> tuple[Tensor, Draft]:
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
    """Per verifier: median ratio to softmax with a 95 % interval over the repeats, and milliseconds. "law": what the sampler makes of the logits."""
    p, device, ids = logits.softmax(-1), logits.device, torch.arange(len(logits), device=logits.device)
    seconds: dict[str, list[float]] = {name: [] for name in ("softmax", "law", *verifiers)}
    sampler = Sampler()
    for index in range(repeats + 1):
        noise = Noise(0).at(ids, ids + index)
        works = {"softmax": lambda: logits.softmax(-1), "law": lambda: sampler.law(logits)}
        works |= {name: lambda rule=rule: rule(p, draft, noise) for name, rule in verifiers.items()}  # noqa: B023
        for name, work in works.items():
            spent = seconds_of(work, device)
            if index:  # the first round warms up
                seconds[name].append(spent)
    reference = np.array(seconds["softmax"])
    return {name: row(np.array(values), reference) for name, values in seconds.items()}


def row(seconds: np.ndarray, reference: np.ndarray) -> dict[str, Any]:
    found = seconds / reference
    interval = [1.0, 1.0]
    if len(found) > 2 and found.std() > 0:
        low, high = stats.bootstrap((found,), np.median, rng=0, method="percentile").confidence_interval
        interval = [float(low), float(high)]
    return {"ratio": float(np.median(found)), "interval": interval, "ms": 1000 * float(np.median(seconds))}


@torch.inference_mode()
def execute(config: DictConfig) -> None:
    """Times every case, prints its table and writes the file, if one is wanted."""
    torch.set_num_threads(config.threads)
    device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if config.device == "auto" else config.device)
    every = exact_verifiers()
    cases = []
    for vocabulary in config.vocabularies:
        for shape, num_slots in (("chain", config.chain_slots), ("tree", config.tree_slots)):
            for num_rows in config.rows:
                chosen = {name: rule for name, rule in every.items() if shape == "chain" or not getattr(rule, "chains_only", False)}
                found = ratios(chosen, *material(shape, num_slots, num_rows, vocabulary, device), config.repeats)
                cases.append({"vocabulary": vocabulary, "shape": shape, "slots": num_slots, "rows": num_rows, "verifiers": found})
                cells = {
                    name: f"{figures['ratio']:.2f} [{figures['interval'][0]:.2f}, {figures['interval'][1]:.2f}]" for name, figures in found.items()
                }
                render([{"verifier": name, "x softmax": cell, "ms": f"{found[name]['ms']:.2f}"} for name, cell in cells.items()],
                       title=f"V = {vocabulary}, {shape} of {num_slots}, {num_rows} rows")  # fmt: skip
    result = {"provenance": circumstances(device, torch.float32) | {"load_average_after": load_average()}, "cases": cases}
    if config.output:
        Path(config.output).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(Path(config.output), json.dumps(result, indent=1) + "\n")
        log.info("written to %s", config.output)


main = entry("verification_cost", lambda config, *_: execute(config))

if __name__ == "__main__":
    main()
