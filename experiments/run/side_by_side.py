"""Batches of prompts, decoded by every role side by side - the method, plain decoding through the same loop, peers - and counted the same way."""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from drafters.none import NoDraft
from experiments.analysis.divergence import choice_margin, first_difference, same_drafts
from experiments.analysis.repetition import loops, repeated_ngrams
from experiments.lossless.betting.witness import Witness
from experiments.parts.build import Parts
from experiments.parts.interleave import shuffled
from experiments.parts.plan import Plan
from experiments.parts.roles import Answer, Loop, Role
from experiments.parts.tasks import Task, next_turn
from experiments.recording.record import BASELINE, METHOD, Pair, Record
from experiments.run import costs
from spec.sampling import Sampler
from spec.state import Limits
from verifiers.recursive import Recursive


@dataclass
class SideBySide:
    """Decodes batches of tasks with every role; the seed of the plan's settings decides the order of the roles."""

    parts: Parts
    plan: Plan
    witness: Witness | None = None  # reads what the method emits in what is recorded; warm-up and repetitions are not read
    roles: dict[str, Role] = field(init=False)

    def __post_init__(self) -> None:
        target = self.parts.target.model
        method = Loop(target, self.parts.drafter, self.parts.verifier, allow_lossy=self.plan.settings.allow_lossy)
        self.roles = {METHOD: method, BASELINE: Loop(target, NoDraft(), Recursive()), **self.parts.peers}

    def warm_up(self) -> None:
        """Runs every role on text mixed from the tasks, so that nothing measured later is done for the first time, nor seen before."""
        limits = replace(self.plan.limits, max_new_tokens=min(self.plan.limits.max_new_tokens, 32), eos_token_id=None)
        if not costs.known(self.parts.drafter):
            self._measure(limits)
        for index in range(self.plan.settings.warmup):
            for role in self.roles.values():
                self._answers(role, [self._mixed(index)], limits)

    def _measure(self, limits: Limits) -> None:
        """Lets the drafter learn what steps cost, in batches as large as they will be and in smaller ones, and how much is accepted."""
        num_rows = min(self.plan.settings.batch_size, len(self.plan.tasks))
        while num_rows:
            self._answers(self.roles[METHOD], [self._mixed(index) for index in range(num_rows)], limits)
            num_rows, limits = num_rows // 2, replace(limits, max_new_tokens=1)

    def _mixed(self, index: int) -> Task:
        """Half of one prompt and half of another."""
        tasks = self.plan.tasks
        first, second = tasks[-1 - index % len(tasks)].tokens, tasks[-1 - (index + 1) % len(tasks)].tokens
        mixed = [*first[: (len(first) + 1) // 2], *second[(len(second) + 1) // 2 :]]
        return Task(len(tasks) + index, tasks[0].prompt, mixed)

    def run(self, batch: int, tasks: Sequence[Task]) -> tuple[list[Pair], list[dict[str, Any]]]:
        """The records of all roles and turns for every task of one batch, prompt by prompt, and the lines of `steps.jsonl`."""
        pairs: dict[str, list[Pair]] = {task.prompt.id: [] for task in tasks}
        lines: list[dict[str, Any]] = []
        waiting = list(tasks)
        while waiting:
            found, steps = self._turn(batch, waiting)
            lines += steps
            for task, pair in zip(waiting, found, strict=True):
                pairs[task.prompt.id].append(pair)
            waiting = self._following(waiting, found)
        return [pair for turns in pairs.values() for pair in turns], lines

    def repeats(self, tasks: Sequence[Task], pairs: dict[str, Pair], steps: Sequence[dict[str, Any]]) -> bool | None:
        """Whether the method drafts for these tasks now what it drafted when they were recorded; None where rounding parts the texts first.

        The drafter has decoded everything else in between, so a draft that differs after the same text is something that it carried along.
        """
        now = self._answers(self.roles[METHOD], tasks, self.plan.limits)
        verdicts = []
        for task, answer in zip(tasks, now, strict=True):
            held = [step for step in steps if step["role"] == METHOD and step["prompt"] == task.id]
            verdicts.append(same_drafts(pairs[task.id].method.tokens, held, answer.tokens, answer.steps))
        return False if False in verdicts else None if None in verdicts else True

    def _turn(self, batch: int, tasks: Sequence[Task]) -> tuple[list[Pair], list[dict[str, Any]]]:
        turn = tasks[0].turn
        found: dict[str, list[Record]] = {}
        lines: list[dict[str, Any]] = []
        for place, role in enumerate(shuffled(self.roles, self.plan.settings.seed, batch, *([] if turn == 1 else [turn]))):
            began = time.process_time()
            answers = self._answers(self._decoding(role), tasks, self.plan.limits)
            worked = time.process_time() - began
            records = [self._record(role, batch, place, task, answer) for task, answer in zip(tasks, answers, strict=True)]
            spent = [record.prefill_seconds + sum(record.seconds.values()) for record in records]
            found[role] = [replace(record, process_seconds=worked * own / sum(spent)) for record, own in zip(records, spent, strict=True)]
            lines += [{"prompt": task.id, **line, "role": role} for task, answer in zip(tasks, answers, strict=True) for line in answer.steps]
        if self.witness is not None:
            self.witness.judge()
        pairs = []
        for row, task in enumerate(tasks):
            baseline = found[BASELINE][row]
            others = {role: self._against(task, found[role][row], baseline) for role in self.roles if role != BASELINE}
            pairs.append(Pair(others.pop(METHOD), baseline, others))
        return pairs, lines

    def _decoding(self, name: str) -> Role:
        role = self.roles[name]
        return replace(role, verifier=self.witness) if name == METHOD and self.witness is not None and isinstance(role, Loop) else role

    def _answers(self, role: Role, tasks: Sequence[Task], limits: Limits) -> list[Answer]:
        """The noise of a prompt is keyed by its place in the run. A peer seeds torch once per call, so every batch gets a seed of its own."""
        ids, sampler = [task.index for task in tasks], self.parts.sampler
        if not isinstance(role, Loop):
            sampler = reseeded(sampler, ids[0])
        return role.answer([task.tokens for task in tasks], sampler=sampler, limits=limits, ids=ids)

    def _following(self, tasks: Sequence[Task], pairs: Sequence[Pair]) -> list[Task]:
        """The next turns, whose history is the baseline's answers."""
        turns = [next_turn(task, pair.baseline.tokens, self.plan.encoder) for task, pair in zip(tasks, pairs, strict=True)]
        return [task for task in turns if task is not None]

    def _record(self, role: str, batch: int, order: int, task: Task, answer: Answer) -> Record:
        tokens = answer.tokens
        repeated, ngrams = repeated_ngrams(tokens)
        ends = [index for index, token in enumerate(tokens) if token in self.plan.limits.eos_ids]
        return Record(
            prompt=task.id,
            category=task.prompt.category,
            role=role,
            batch=batch,
            order=order,
            prompt_tokens=len(task.tokens),
            tokens=tokens,
            text=self.parts.target.tokenizer.decode(tokens, skip_special_tokens=True),
            **answer.counts,
            seconds=answer.seconds,
            prefill_seconds=answer.prefill_seconds,
            ended="eos" if ends else "length",
            repetition=repeated / ngrams if ngrams else None,
            loops=loops(tokens),
            after_eos=len(tokens) - 1 - ends[0] if ends else 0,
            turn=task.turn,
            prompt_ids=task.tokens if role == BASELINE else None,
        )

    def _against(self, task: Task, record: Record, baseline: Record) -> Record:
        """The record, at temperature 0 with the place where it leaves the baseline: index, both tokens, and by what margin."""
        index = first_difference(record.tokens, baseline.tokens) if self.parts.sampler.greedy else None
        if index is None:
            return record
        tokens = [role.tokens[index] if index < len(role.tokens) else None for role in (record, baseline)]
        prefix = [*task.tokens, *baseline.tokens[:index]]
        margin = choice_margin(self.parts.target.model.model, self.parts.sampler, prefix, [token for token in tokens if token is not None])
        return replace(record, divergence={"index": index, "method": tokens[0], "baseline": tokens[1]} | margin)


def reseeded(sampler: Sampler, index: int) -> Sampler:
    """A copy of which only the seed is another; a peer reads the seed and never the noise."""
    twin = copy.copy(sampler)
    twin.seed = (sampler.seed * 1_000_003 + index) % 2**63
    return twin
