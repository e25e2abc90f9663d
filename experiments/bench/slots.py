"""The mode `verify`: what a forward over N new slots costs relative to one over a single slot, by N; interleaved, medians."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from omegaconf import OmegaConf

from experiments.analysis.speedup import Timed, compare
from experiments.analysis.terminal import render
from experiments.bench.material import Material
from experiments.parts.build import make
from experiments.parts.interleave import shuffled
from experiments.recording.clock import Stopwatch, timed
from spec import CausalLM, Draft
from spec.runtime import BUCKETS, FIXED
from spec.state import DecodeState


@dataclass
class Bed:
    """A target with its cache filled, ready to score drafts of any length; nothing is ever kept, so every forward finds the same."""

    name: str
    target: CausalLM
    state: DecodeState

    @staticmethod
    def make(name: str, target: CausalLM, *, rows: int, context: int, seed: int, max_slots: int = 64) -> "Bed":
        """A cache of `context` positions of random ids in each of the rows. Raises ValueError where the context has no room for that."""
        generator = torch.Generator().manual_seed(seed)
        prompts = torch.randint(target.vocab_size, (rows, context + 1), generator=generator).tolist()
        return Bed(name, target, target.prefill(prompts, room=max_slots))

    @torch.inference_mode()
    def score(self, num_slots: int) -> Any:
        tokens = torch.ones(self.state.num_rows, num_slots, dtype=torch.int64, device=self.target.device)
        return self.target.score(Draft.chain(tokens), self.state.cache)


def verification(material: Material) -> dict[str, Any]:
    """The curve of every precision under every runtime, all interleaved."""
    config, settings = material.config, material.config.verify
    beds = []
    for dtype in settings.dtypes:
        target = OmegaConf.merge(config, {"target": {"dtype": dtype}})
        base = make(target, "target").model  # pyright: ignore[reportArgumentType]
        for runtime in config.runtimes:
            capacity = None if runtime not in FIXED else settings.context + 1 + BUCKETS[-1]
            served = CausalLM(base.model, base.context, runtime, capacity)
            beds.append(Bed.make(f"{dtype}, {runtime}", served, rows=settings.rows, context=settings.context, seed=config.seed))
    return {"curves": curves(beds, settings.slots, repeats=settings.repeats, seed=config.seed)}


def curves(beds: Sequence[Bed], slots: Sequence[int], *, repeats: int, seed: int) -> list[dict[str, Any]]:
    """For every bed and number of slots: milliseconds and the ratio to one slot, with a 95 % interval over rounds; two rounds warm up.

    Raises ValueError where no count of one slot is asked for, or one that the context has no room for.
    """
    for bed in beds:
        if 1 not in slots or bed.state.cache.longest + max(slots) > bed.target.context:
            raise ValueError(f"slots={list(slots)}: give 1 among them, and no more than fit behind {bed.state.cache.longest} cached positions")
    seconds = {(bed.name, count): [] for bed in beds for count in slots}
    watches = {bed.name: Stopwatch(bed.target.device) for bed in beds}
    for turn in range(repeats + 2):
        for bed, count in shuffled(product(beds, slots), seed, turn):
            _, spent = timed(lambda bed=bed, count=count: bed.score(count), watches[bed.name])
            if turn > 1:
                seconds[bed.name, count].append(spent.seconds)
    return [{"bed": bed.name, "points": [point(seconds, bed.name, count) for count in slots]} for bed in beds]


def point(seconds: dict[tuple[str, int], list[float]], bed: str, count: int) -> dict[str, Any]:
    """One number of slots. The ratio is of medians, the interval that of the totals."""
    ones, own = torch.tensor(seconds[bed, 1]), torch.tensor(seconds[bed, count])
    ratio = statistics.median(own.tolist()) / statistics.median(ones.tolist())
    found = compare(Timed(own.numpy(), torch.ones(len(own)).numpy()), Timed(ones.numpy(), torch.ones(len(ones)).numpy()))
    return {"slots": count, "ms": 1000 * statistics.median(own.tolist()), "ratio": ratio, "interval": found.interval, "units": found.units}


def show(result: dict[str, Any]) -> None:
    """A line per number of slots, a column per precision and runtime."""
    counts = [point["slots"] for point in result["curves"][0]["points"]]
    rows = []
    for index, count in enumerate(counts):
        cells = {}
        for curve in result["curves"]:
            one = curve["points"][index]
            cells[curve["bed"]] = f"{one['ms']:.2f} ms, {one['ratio']:.2f}"
        rows.append({"slots": str(count), **cells})
    render(rows, title="a forward over N slots: milliseconds, and times one slot")
