"""What a step costs outside the target's forward, by the loop's own clock.

Short decodes of text made from a setup's prompts, with its own drafter, verifier and sampling, beside plain decoding of the same.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from drafters.none import NoDraft
from experiments.parts.build import Parts
from spec.decode import decode
from spec.interfaces import Drafter, Verifier
from spec.state import Limits
from spec.stats import GenerationStats
from verifiers.recursive import Recursive

NONE = 0  # stands for plain decoding among the lengths


@dataclass(frozen=True)
class StepTimes:
    """Measured steps, [S]; seconds."""

    drafted: NDArray  # draft tokens, in the row that had most
    draft: NDArray
    target: NDArray
    rest: NDArray

    @staticmethod
    def joined(parts: Sequence["StepTimes"]) -> "StepTimes":
        return StepTimes(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("drafted", "draft", "target", "rest")))


@dataclass(frozen=True)
class Calibration:
    """The steps of a method and those of plain decoding beside it."""

    method: StepTimes
    plain: StepTimes


def calibrate(parts: Parts, prompts: Sequence[list[int]], lengths: Sequence[int], config: "Effort") -> Calibration:
    """Decodes batches of text mixed from the prompts, in turn by plain decoding and by the drafter at each of `lengths`.

    A drafter without a length is run as it is. The first round warms up.
    """
    found: dict[int, list[StepTimes]] = {length: [] for length in (NONE, *lengths)}
    order, limits = random.Random(config.seed), Limits(config.tokens)
    for number in range(config.rounds + 1):
        chosen = [_mixed(prompts, number * config.batch + row) for row in range(config.batch)]
        turns = list(found)
        order.shuffle(turns)
        for length in turns:
            drafter: Drafter = NoDraft() if length == NONE else parts.drafter
            verifier: Verifier = Recursive() if length == NONE else parts.verifier
            if length != NONE and drafter.length is not None:
                drafter.length = length
            made = decode(parts.target.model, drafter, verifier, chosen, sampler=parts.sampler, limits=limits, allow_lossy=True)
            if number:
                found[length].append(step_times(made.stats))
    method = StepTimes.joined([part for length in lengths for part in found[length]])
    return Calibration(method, StepTimes.joined(found[NONE]))


@dataclass(frozen=True)
class Effort:
    """How much is decoded to calibrate a setup."""

    rounds: int
    tokens: int  # per answer
    batch: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("rounds", "tokens", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: give at least 1")

    def at(self, batch: int) -> "Effort":
        return replace(self, batch=batch)


def step_times(stats: GenerationStats) -> StepTimes:
    """The clocks of every step; what the loop spends between the phases is spread evenly."""
    other = stats.seconds["other"] / max(len(stats.steps), 1)
    rows = [(max(step.drafted), *(step.seconds[phase] for phase in ("draft", "target", "verify", "commit"))) for step in stats.steps]
    drafted, draft, target, verify, commit = np.array(rows, dtype=float).T
    return StepTimes(drafted, draft, target, verify + commit + other)


def _mixed(prompts: Sequence[list[int]], number: int) -> list[int]:
    """The first half of one prompt and the second half of another: text that no run has seen, as long as the prompts are."""
    first, second = prompts[number % len(prompts)], prompts[(number + 1) % len(prompts)]
    return [*first[: (len(first) + 1) // 2], *second[(len(second) + 1) // 2 :]]
