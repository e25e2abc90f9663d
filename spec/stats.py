"""Counts of what happened in a decode; every term is defined here.

A step is one target forward over one draft. Some of the draft tokens are *accepted*, and one more token, the *bonus*, always follows (also when
it replaces a rejected token). acceptance rate = accepted / drafted; accepted per step leaves the bonus out; tokens per step counts it: 1 for
plain decoding. The token at which a row is cut (EOS, budget) counts as that step's bonus, so emitted = accepted + 1 in every live row.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

import torch

from spec.types import Verdict

PHASES = ("draft", "target", "verify", "commit")


@dataclass
class Step:
    """One step of a batch; every list has an entry per row of that batch, zero for rows that were finished before."""

    drafted: list[int]  # draft tokens, root not counted
    depth: list[int]  # the deepest of them
    accepted: list[int]
    emitted: list[int]
    cut: list[bool]
    proposed: list[list[int]] = field(default_factory=list)  # the draft tokens themselves, in slot order
    seconds: dict[str, float] = field(default_factory=dict)  # phase -> seconds
    prompt_of: list[int] | None = None  # which prompt each entry belongs to; None: entry i to prompt i

    @cached_property
    def places(self) -> dict[int, int]:
        """Prompt -> index of its entry, for the prompts that were live in this step."""
        prompts = range(len(self.emitted)) if self.prompt_of is None else self.prompt_of
        return {prompt: place for place, prompt in enumerate(prompts) if self.emitted[place]}


class Clock:
    """Marks between phases: `perf_counter` on the CPU, events on CUDA that are read after the run."""

    def __init__(self, device: torch.device):
        self.on_cuda = device.type == "cuda"
        self.marks: list[tuple[str, float | torch.cuda.Event]] = []
        self.lap("start")

    def lap(self, phase: str) -> None:
        """The time since the last mark belongs to `phase`."""
        if self.on_cuda:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self.marks.append((phase, event))
        else:
            self.marks.append((phase, time.perf_counter()))

    def laps(self) -> list[tuple[str, float]]:
        """(phase, seconds) in order."""
        if self.on_cuda:
            torch.cuda.synchronize()
        found = []
        for (_, before), (phase, after) in zip(self.marks, self.marks[1:], strict=False):
            seconds = before.elapsed_time(after) / 1000 if isinstance(before, torch.cuda.Event) else after - before  # pyright: ignore
            found.append((phase, seconds))
        return found


@dataclass
class GenerationStats:
    """Steps, clocks and the rates derived from them, for a batch or, merged, for many."""

    steps: list[Step] = field(default_factory=list)
    prefill_seconds: float = 0.0
    other_seconds: float = 0.0
    clock: Clock | None = None

    def record(self, verdict: Verdict, live: list[bool], emitted: list[int], prompt_of: list[int] | None = None) -> None:
        """`live` rows were unfinished before the step; `emitted` are the token counts that were committed; `prompt_of` as in `Step`."""
        if verdict.drafted is None or verdict.depths is None:
            raise ValueError("the verdict has not been brought to the host; `Limits.cut` does that")
        proposed = [tokens if alive else [] for tokens, alive in zip(verdict.drafted, live, strict=True)]
        self.steps.append(
            Step(
                drafted=[len(tokens) for tokens in proposed],
                depth=[depth if alive else 0 for depth, alive in zip(verdict.depths, live, strict=True)],
                accepted=[max(count - 1, 0) for count in emitted],
                emitted=emitted,
                cut=verdict.cut or [False] * len(live),
                proposed=proposed,
                prompt_of=prompt_of,
            )
        )

    def finish(self) -> "GenerationStats":
        """Reads the clock and hands every step its seconds."""
        if self.clock is None:
            return self
        step = -1
        for phase, seconds in self.clock.laps():
            if phase == "prefill":
                self.prefill_seconds += seconds
            elif phase in PHASES:
                step += phase == PHASES[0]
                self.steps[step].seconds[phase] = seconds
            else:
                self.other_seconds += seconds
        self.clock = None
        return self

    @staticmethod
    def merged(parts: Iterable["GenerationStats"]) -> "GenerationStats":
        """Totals over several generations."""
        total = GenerationStats()
        for part in parts:
            total.steps += part.steps
            total.prefill_seconds += part.prefill_seconds
            total.other_seconds += part.other_seconds
        return total

    def row(self, index: int) -> "GenerationStats":
        """The counts of one prompt; clocks belong to the batch and are left out."""
        found = [(step, step.places[index]) for step in self.steps if index in step.places]
        names = ("drafted", "depth", "accepted", "emitted", "cut", "proposed")
        return GenerationStats([Step(*(getattr(step, name)[place : place + 1] for name in names)) for step, place in found])

    @property
    def num_steps(self) -> int:
        """Row-steps: one for every live row of every step."""
        return sum(count > 0 for step in self.steps for count in step.emitted)

    @property
    def num_tokens(self) -> int:
        return sum(map(sum, (step.emitted for step in self.steps)))

    @property
    def num_drafted(self) -> int:
        return sum(map(sum, (step.drafted for step in self.steps)))

    @property
    def num_accepted(self) -> int:
        return sum(map(sum, (step.accepted for step in self.steps)))

    @property
    def acceptance_rate(self) -> float | None:
        """Accepted / drafted; None where nothing was drafted."""
        return self.num_accepted / self.num_drafted if self.num_drafted else None

    @property
    def accepted_per_step(self) -> float:
        return self.num_accepted / max(self.num_steps, 1)

    @property
    def tokens_per_step(self) -> float:
        return self.num_tokens / max(self.num_steps, 1)

    @property
    def judged_by_position(self) -> tuple[list[int], list[int]]:
        """(steps that judged the draft token at each depth, steps that accepted it), from depth 1 on.

        A step that was cut says nothing about the position after its cut and is not counted there.
        """
        tested: list[int] = []
        kept: list[int] = []
        for step in self.steps:
            for depth, accepted, cut in zip(step.depth, step.accepted, step.cut, strict=True):
                for position in range(min(depth, accepted + (not cut))):
                    if position == len(tested):
                        tested.append(0)
                        kept.append(0)
                    tested[position] += 1
                    kept[position] += position < accepted
        return tested, kept

    @property
    def acceptance_by_position(self) -> list[float]:
        """Conditional rates: of the steps that drafted depth i and accepted all i - 1 before it, the share that accepted depth i too."""
        return [accepted / judged for judged, accepted in zip(*self.judged_by_position, strict=True)]

    @property
    def seconds(self) -> dict[str, float]:
        """Decode seconds by phase; `other` is what the loop spends between the phases."""
        sums = {phase: sum(step.seconds.get(phase, 0.0) for step in self.steps) for phase in PHASES}
        return {**sums, "other": self.other_seconds}

    @property
    def decode_seconds(self) -> float:
        return sum(self.seconds.values())
