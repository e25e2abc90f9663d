"""The mode `memory`: whether a process that decodes many prompts grows, and how its peak compares with what must be held.

On a GPU the allocator's own count is read; on a CPU the resident set, which holds the interpreter too and shrinks when the system likes.
"""

import resource
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from experiments.analysis.terminal import render
from experiments.bench.material import Material, check_names
from experiments.bench.traffic import footprint
from spec import decode

STATM = Path("/proc/self/statm")


def resident() -> int:
    """Bytes of this process in memory now; where the system does not say, the most there ever were."""
    if STATM.exists():
        return int(STATM.read_text().split()[1]) * resource.getpagesize()
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


@dataclass(frozen=True)
class Growing:
    """What readings taken after every prompt say, in bytes."""

    peak_before: int  # over the warm-up
    peak_after: int  # over all that came later
    per_prompt: float  # slope of a straight line through the later readings

    @property
    def grew(self) -> int:
        return max(self.peak_after - self.peak_before, 0)


def growth(readings: Sequence[int], warmup: int) -> Growing:
    """Splits readings, one per prompt, at `warmup`. Raises ValueError where fewer than two are left on either side."""
    early, late = list(readings[:warmup]), list(readings[warmup:])
    if min(len(early), len(late)) < 2:
        raise ValueError(f"{len(readings)} prompts with {warmup} of warm-up: give at least 2 of each")
    places = torch.arange(len(late), dtype=torch.float64)
    values = torch.tensor(late, dtype=torch.float64)
    centred = places - places.mean()
    slope = float((centred * (values - values.mean())).sum() / (centred**2).sum())
    return Growing(max(early), max(late), slope)


def must_hold(model: Any, *, rows: int, positions: int, slots: int) -> int:
    """Bytes of the weights, of a cache with `positions` per row, and of one block of logits [B, N, V] as the model gives them."""
    config = model.config.get_text_config()
    weights = sum(tensor.nbytes for tensor in {tensor.data_ptr(): tensor for tensor in (*model.parameters(), *model.buffers())}.values())
    return weights + rows * positions * footprint(model).kv_per_position + rows * slots * config.vocab_size * model.dtype.itemsize


def memory(material: Material) -> dict[str, Any]:
    """Decodes prompts one after another, those of the run in turn, and reads the memory after each."""
    settings = material.config.memory
    check_names("memory.drafter", [settings.drafter], material.config.ours)
    drafter, device, readings = material.drafter(settings.drafter), material.target.device, []
    slots = 1
    for number in range(settings.num_prompts):
        index = number % len(material.prompts)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        made = decode(
            material.target,
            drafter,
            material.verifier,
            [material.prompts[index]],
            sampler=material.sampler,
            limits=material.limits,
            sequence_ids=[index],
        )
        slots = max(slots, *(1 + max(step.drafted) for step in made.stats.steps))
        readings.append(torch.cuda.max_memory_allocated(device) if device.type == "cuda" else resident())
    found = growth(readings, settings.warmup)
    positions = max(map(len, material.prompts)) + material.limits.max_new_tokens
    held = must_hold(material.model, rows=1, positions=positions, slots=slots)
    return {"growth": asdict(found) | {"grew": found.grew}, "must_hold": held, "readings": readings}


def show(result: dict[str, Any]) -> None:
    """What the process held before and after."""
    found, keys = result["growth"], {"peak, warm-up": "peak_before", "peak, later": "peak_after", "grew": "grew"}
    cells = {name: f"{found[key] / 2**20:.1f} MiB" for name, key in keys.items()}
    extra = {"per prompt": f"{found['per_prompt'] / 1024:.2f} KiB", "target, cache and logits": f"{result['must_hold'] / 2**20:.1f} MiB"}
    render([{"prompts": str(len(result["readings"])), **cells, **extra}], title="memory of the process")
