"""One batch of prompts, decoded by the method and by plain decoding through the same loop, and counted the same way."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from drafters.none import NoDraft
from experiments.build import Parts
from experiments.records import BASELINE, METHOD, Pair, Record
from experiments.repetition import loops, repeated_ngrams
from experiments.tasks import Task
from spec.decode import Generation, decode
from spec.interfaces import Drafter, Verifier
from spec.sampling import Sampler
from spec.state import Limits
from spec.stats import PHASES, GenerationStats
from verifiers.recursive import Recursive


@dataclass
class Bench:
    """Decodes batches of tasks with both roles. `seed` decides which role goes first."""

    parts: Parts
    limits: Limits
    seed: int = 0
    allow_lossy: bool = False
    roles: dict[str, tuple[Drafter, Verifier]] = field(init=False)

    def __post_init__(self) -> None:
        self.roles = {METHOD: (self.parts.drafter, self.parts.verifier), BASELINE: (NoDraft(), Recursive())}

    def warm_up(self, tasks: Sequence[Task], rounds: int) -> None:
        """Runs both roles on text mixed from the tasks, so that nothing measured later is done for the first time, nor seen before."""
        limits = Limits(min(self.limits.max_new_tokens, 32))
        for index in range(rounds):
            first, second = tasks[-1 - index % len(tasks)].tokens, tasks[-1 - (index + 1) % len(tasks)].tokens
            mixed = [*first[: (len(first) + 1) // 2], *second[(len(second) + 1) // 2 :]]
            for drafter, verifier in self.roles.values():
                self._decode(drafter, verifier, [mixed], limits, [len(tasks) + index])

    def run(self, batch: int, tasks: Sequence[Task]) -> tuple[list[Pair], list[dict[str, Any]]]:
        """The records of both roles for every task of one batch, and the lines of `steps.jsonl`."""
        order = [METHOD, BASELINE]
        random.Random(f"{self.seed}/{batch}").shuffle(order)
        found: dict[str, list[Record]] = {}
        made: dict[str, Generation] = {}
        lines = []
        for place, role in enumerate(order):
            drafter, verifier = self.roles[role]
            generation = self._decode(drafter, verifier, [task.tokens for task in tasks], self.limits, [task.index for task in tasks])
            made[role] = generation
            shares = share_seconds(generation.stats, len(tasks))
            found[role] = [self._record(role, batch, place, task, generation, row, shares[row]) for row, task in enumerate(tasks)]
            lines += [line | {"role": role} for row, task in enumerate(tasks) for line in step_lines(task.prompt.id, generation.stats, row)]
        pairs = [Pair(method, baseline) for method, baseline in zip(found[METHOD], found[BASELINE], strict=True)]
        if self.parts.sampler.greedy:
            pairs = [Pair(with_divergence(pair, self._margin(task, pair)), pair.baseline) for pair, task in zip(pairs, tasks, strict=True)]
        return pairs, lines

    def _decode(self, drafter: Drafter, verifier: Verifier, prompts: list[list[int]], limits: Limits, ids: list[int]) -> Generation:
        return decode(
            self.parts.target.model,
            drafter,
            verifier,
            prompts,
            sampler=self.parts.sampler,
            limits=limits,
            allow_lossy=self.allow_lossy,
            sequence_ids=ids,
        )

    def _record(self, role: str, batch: int, order: int, task: Task, generation: Generation, row: int, seconds: dict[str, float]) -> Record:
        tokens, counts = generation.new_tokens(row), generation.stats.row(row)
        tested, kept = counts.judged_by_position
        repeated, ngrams = repeated_ngrams(tokens)
        ends = [index for index, token in enumerate(tokens) if token in self.limits.eos_ids]
        return Record(
            prompt=task.prompt.id,
            category=task.prompt.category,
            role=role,
            batch=batch,
            order=order,
            prompt_tokens=len(task.tokens),
            tokens=tokens,
            text=self.parts.target.tokenizer.decode(tokens, skip_special_tokens=True),
            num_steps=counts.num_steps,
            num_drafted=counts.num_drafted,
            num_accepted=counts.num_accepted,
            tested=tested,
            kept=kept,
            seconds=seconds,
            prefill_seconds=generation.stats.prefill_seconds / len(generation.prompt_lengths),
            ended="eos" if ends else "length",
            repetition=repeated / ngrams if ngrams else None,
            loops=loops(tokens),
            after_eos=len(tokens) - 1 - ends[0] if ends else 0,
        )

    @torch.inference_mode()
    def _margin(self, task: Task, pair: Pair) -> dict[str, Any] | None:
        """Where the roles part at temperature 0: index, both tokens, how far the worse of them is from the largest logit; None if they never do."""
        index = first_difference(pair.method.tokens, pair.baseline.tokens)
        if index is None:
            return None
        prefix = [*task.tokens, *pair.baseline.tokens[:index]]
        tokens = [role.tokens[index] if index < len(role.tokens) else None for role in pair]
        found = choice_margin(self.parts.target.model.model, self.parts.sampler, prefix, [token for token in tokens if token is not None])
        return {"index": index, "method": tokens[0], "baseline": tokens[1]} | found


@torch.inference_mode()
def choice_margin(model: Any, sampler: Sampler, prefix: list[int], choices: Sequence[int]) -> dict[str, float]:
    """`margin`: how far the worst of the choices after `prefix` is from the largest logit, which is `logit`; processors have been applied."""
    logits = model(input_ids=torch.tensor([prefix], device=model.device), use_cache=False).logits[:, -1:]
    scores = sampler.processed(logits, lambda _row, _slot: prefix)[0, 0]
    best = scores.max().item()
    return {"margin": best - min(scores[token].item() for token in choices), "logit": best}


def share_seconds(stats: GenerationStats, num_rows: int) -> list[dict[str, float]]:
    """Decode seconds of each row by phase: a step's time is shared equally by the rows that were live in it."""
    shares: list[dict[str, float]] = [dict.fromkeys((*PHASES, "other"), 0.0) for _ in range(num_rows)]
    for step in stats.steps:
        live = [row for row, count in enumerate(step.emitted) if count]
        for row in live:
            for phase, seconds in step.seconds.items():
                shares[row][phase] += seconds / len(live)
    for row in range(num_rows):
        shares[row]["other"] += stats.seconds["other"] * stats.row(row).num_steps / max(stats.num_steps, 1)
    return shares


def step_lines(prompt: str, stats: GenerationStats, row: int) -> list[dict[str, Any]]:
    """A line of `steps.jsonl` for every step that the row was live in; the seconds are the whole batch's."""
    lines = []
    for step in stats.steps:
        if step.emitted[row]:
            counts = {name: getattr(step, name)[row] for name in ("drafted", "depth", "accepted", "emitted", "cut")}
            clocks = {phase: round(seconds, 7) for phase, seconds in step.seconds.items()}
            lines.append({"prompt": prompt, "step": len(lines), **counts, "seconds": clocks})
    return lines


def first_difference(one: Sequence[int], other: Sequence[int]) -> int | None:
    """The first index at which two answers differ, where one ends counting as a difference; None if they are equal."""
    if list(one) == list(other):
        return None
    return next((index for index, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def with_divergence(pair: Pair, divergence: dict[str, Any] | None) -> Record:
    return pair.method if divergence is None else Record(**{**vars(pair.method), "divergence": divergence})
