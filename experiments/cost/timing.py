"""How long one forward takes: the real `CausalLM.score` after a warm cache, at chosen numbers of slots, contexts and batch sizes.

All cells are timed in rounds, each round in another shuffled order, so that whatever else the machine does hits all of them alike.
"""

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from experiments.recording.clock import seconds_of
from spec.model import CausalLM
from spec.tree import chain_parents
from spec.types import Draft, Scratch

TARGET, DRAFTER = "target", "drafter"  # a drafter's model is called "drafter NAME"
Timer = Callable[[Callable[[], Any], torch.device], float]  # runs the work, gives its seconds


@dataclass(frozen=True, order=True)
class Shape:
    """What decides the cost of slots, besides their number: whether drafts branch, and how many of the slots are scratch."""

    tree: bool = False
    scratch: int = 0

    def __str__(self) -> str:
        return ("tree" if self.tree else "chain") + (f" with {self.scratch} scratch slots" if self.scratch else "")


CHAIN = Shape()


@dataclass(frozen=True, order=True)
class Cell:
    """One thing to time: a forward of `model` over `slots` slots (root and scratch among them) in each of `batch` rows after `context` positions."""

    model: str
    shape: Shape
    batch: int
    context: int
    slots: int


def make_draft(cell: Cell, model: CausalLM) -> Draft:
    """Random tokens in the cell's shape. Raises ValueError where the scratch slots alone are as many as the slots asked for."""
    num_slots, num_scratch = cell.slots - cell.shape.scratch, cell.shape.scratch
    if num_slots < 1:
        raise ValueError(f"slots={cell.slots}: {num_scratch} of them are scratch; give at least {num_scratch + 1}")
    tokens = torch.tensor(_tokens(cell.batch, cell.slots, model.vocab_size), device=model.device)
    scratch = None
    if num_scratch:
        own = torch.ones(num_scratch, num_scratch, dtype=torch.bool, device=model.device).tril()
        root = own.new_zeros(num_scratch, num_slots)
        root[:, 0] = True
        visible = torch.cat([root, own], 1).expand(cell.batch, -1, -1)
        positions = torch.arange(1, num_scratch + 1, device=model.device).expand(cell.batch, -1)
        scratch = Scratch(tokens[:, num_slots:], positions, visible)
    sizes = torch.full((cell.batch,), num_slots, device=model.device)
    if not cell.shape.tree:
        return Draft(tokens[:, :num_slots], chain_parents(cell.batch, num_slots, model.device), sizes, scratch=scratch, width=1)
    parents = ((torch.arange(num_slots, device=model.device) - 1).div(2, rounding_mode="floor")).expand(cell.batch, -1)
    return Draft(tokens[:, :num_slots], parents, sizes, scratch=scratch, width=2)


def _tokens(num_rows: int, length: int, vocabulary: int) -> list[list[int]]:
    draw = random.Random(f"{num_rows}/{length}")
    return [[draw.randrange(vocabulary) for _ in range(length)] for _ in range(num_rows)]


@torch.inference_mode()
def time_cells(models: Mapping[str, CausalLM], cells: Iterable[Cell], repeats: int, seed: int = 0, timer: Timer = seconds_of) -> dict[Cell, NDArray]:
    """Seconds of every cell, [repeats] each; one more round before them warms up. Batches stand at uneven lengths, as in the loop.

    Raises ValueError for cells that do not fit the context of their model.
    """
    cells = sorted(set(cells))
    for cell in cells:
        if cell.context < 1 or cell.slots < 1 or cell.batch < 1 or cell.context + cell.slots > models[cell.model].context:
            raise ValueError(
                f"{cell.slots} slots behind {cell.context} cached positions in {cell.batch} rows cannot be measured: the {cell.model} has "
                f"{models[cell.model].context} positions; give fewer, and at least 1 of each (measure.contexts, measure.slots, measure.batches)"
            )
    caches, work = {}, {}
    for cell in cells:
        model, place = models[cell.model], (cell.model, cell.batch, cell.context)
        if place not in caches:
            rows = _tokens(cell.batch, cell.context + 1, model.vocab_size)
            caches[place] = model.prefill([row[row_number % 2 :] if len(row) > 2 else row for row_number, row in enumerate(rows)]).cache
        work[cell] = (model, make_draft(cell, model), caches[place])
    found: dict[Cell, list[float]] = {cell: [] for cell in cells}
    order = random.Random(seed)
    for number in range(repeats + 1):
        order.shuffle(cells)
        for cell in cells:
            model, draft, cache = work[cell]
            spent = timer(lambda: model.score(draft, cache), model.device)  # noqa: B023  called at once
            if number:
                found[cell].append(spent)
    return {cell: np.array(seconds) for cell, seconds in found.items()}
