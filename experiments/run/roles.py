"""Who decodes in a run: our loop with a drafter and a verifier, or a peer; either way an `Answer` per prompt, counted the same way."""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from experiments.parts.peers.interface import Peer
from experiments.parts.tasks import Task
from spec.decode import decode
from spec.interfaces import Drafter, Verifier
from spec.model import CausalLM
from spec.sampling import Sampler
from spec.state import Limits
from spec.stats import PHASES, GenerationStats

WHOLE = "generate"  # the one phase of a peer, whose clock runs from the prompt to the last token


@dataclass(frozen=True)
class Answer:
    """What a role made of one prompt. A batch's seconds are shared out over its rows."""

    tokens: list[int]
    num_steps: int
    num_drafted: int
    num_accepted: int
    tested: list[int]
    kept: list[int]
    seconds: dict[str, float]
    prefill_seconds: float
    process_seconds: float
    steps: list[dict[str, Any]]  # its lines of `steps.jsonl`, without prompt and role


class Role(Protocol):
    """Decodes a batch of tasks."""

    def answer(self, tasks: Sequence[Task], limits: Limits) -> list[Answer]: ...


@dataclass(frozen=True)
class Loop:
    """Our own loop; the noise of a prompt is keyed by its place in the run."""

    target: CausalLM
    drafter: Drafter
    verifier: Verifier
    sampler: Sampler
    allow_lossy: bool = False

    def answer(self, tasks: Sequence[Task], limits: Limits) -> list[Answer]:
        began = time.process_time()
        made = decode(
            self.target,
            self.drafter,
            self.verifier,
            [task.tokens for task in tasks],
            sampler=self.sampler,
            limits=limits,
            allow_lossy=self.allow_lossy,
            sequence_ids=[task.index for task in tasks],
        )
        worked, shares = time.process_time() - began, share_seconds(made.stats, len(tasks))
        prefill = made.stats.prefill_seconds / len(tasks)
        spent = [prefill + sum(share.values()) for share in shares]
        found = []
        for row in range(len(tasks)):
            counts = made.stats.row(row)
            tested, kept = counts.judged_by_position
            found.append(
                Answer(
                    tokens=made.new_tokens(row),
                    num_steps=counts.num_steps,
                    num_drafted=counts.num_drafted,
                    num_accepted=counts.num_accepted,
                    tested=tested,
                    kept=kept,
                    seconds=shares[row],
                    prefill_seconds=prefill,
                    process_seconds=worked * spent[row] / sum(spent),
                    steps=step_lines(made.stats, row),
                )
            )
        return found


@dataclass(frozen=True)
class Beside:
    """A peer. It says how often the target ran and not what was drafted, so every token but one of a forward counts as accepted.

    A peer seeds torch's generators once per call, so every batch gets a seed of its own.
    """

    peer: Peer
    sampler: Sampler

    def answer(self, tasks: Sequence[Task], limits: Limits) -> list[Answer]:
        began = time.process_time()
        made = self.peer.generate([task.tokens for task in tasks], sampler=_seeded(self.sampler, tasks[0].index), limits=limits)
        worked, found = time.process_time() - began, []
        for row, (forwards, seconds) in enumerate(zip(made.target_forwards, made.seconds, strict=True)):
            tokens = made.new_tokens(row)
            share = worked * seconds / sum(made.seconds)
            found.append(Answer(tokens, forwards, 0, len(tokens) - forwards, [], [], {WHOLE: seconds}, 0.0, share, []))
        return found


def share_seconds(stats: GenerationStats, num_rows: int) -> list[dict[str, float]]:
    """Decode seconds of each row by phase: a step's time is shared equally by the rows that were live in it."""
    shares: list[dict[str, float]] = [dict.fromkeys((*PHASES, "other"), 0.0) for _ in range(num_rows)]
    for step in stats.steps:
        for row in step.places:
            for phase, seconds in step.seconds.items():
                shares[row][phase] += seconds / len(step.places)
    for row in range(num_rows):
        shares[row]["other"] += stats.seconds["other"] * stats.row(row).num_steps / max(stats.num_steps, 1)
    return shares


def step_lines(stats: GenerationStats, row: int) -> list[dict[str, Any]]:
    """A line of `steps.jsonl` for every step that the row was live in; the seconds are the whole batch's."""
    lines: list[dict[str, Any]] = []
    for step in stats.steps:
        place = step.places.get(row)
        if place is not None:
            counts = {name: getattr(step, name)[place] for name in ("drafted", "depth", "accepted", "emitted", "cut", "proposed")}
            clocks = {phase: round(seconds, 7) for phase, seconds in step.seconds.items()}
            lines.append({"step": len(lines), **counts, "seconds": clocks})
    return lines


def _seeded(sampler: Sampler, index: int) -> Sampler:
    """A copy of which only the seed is another; a peer reads the seed and never the noise."""
    twin = copy.copy(sampler)
    twin.seed = (sampler.seed * 1_000_003 + index) % 2**63
    return twin
