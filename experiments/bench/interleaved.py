"""Every role on every prompt, in an order shuffled anew for each prompt, so that whatever the machine does hits all of them."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

from experiments.bench.material import Material
from experiments.parts.interleave import shuffled
from experiments.parts.roles import Answer, Role
from experiments.recording.clock import Spent, Stopwatch, timed


@dataclass(frozen=True)
class Run:
    """One role on one prompt, once."""

    prompt: int  # its index
    answer: Answer
    spent: Spent

    @property
    def decode_seconds(self) -> float | None:
        """Without the prompt's own forward; None where that cannot be told apart."""
        if self.answer.stats is not None:
            return self.answer.stats.decode_seconds
        return self.spent.seconds - self.spent.forwards[0][1] if self.spent.forwards else None

    @property
    def decode_forwards(self) -> int:
        """Forwards of the target behind the prompt's own, which others count and we do not."""
        return self.answer.forwards - (self.answer.stats is None)

    @property
    def decode_tokens(self) -> int:
        """Tokens made after the prompt's own forward. A peer makes the first token in that forward, our loop makes none."""
        return len(self.answer.tokens) - (self.answer.stats is None)


@dataclass(frozen=True)
class Rounds:
    """All runs of every role, and what each of its warm-up rounds took."""

    runs: dict[str, list[Run]]
    warmup_seconds: dict[str, list[float]]
    graphs_compiled_late: int = 0  # by torch.compile after the warm-up: some timing holds a compilation


def interleave(roles: Sequence[Role], material: Material) -> Rounds:
    """Warms up with every role over all prompts (each round in one go, so that compilation is over), then times as many rounds as are asked for.

    Raises ValueError where two roles have the same name, since figures are kept by it.
    """
    if len({role.name for role in roles}) < len(roles):
        raise ValueError(f"two ways have the same name among {', '.join(role.name for role in roles)}; name each once")
    rounds = Rounds({role.name: [] for role in roles}, {role.name: [] for role in roles})
    watch, config, prompts = Stopwatch(material.target.device), material.config, list(enumerate(material.prompts))

    def run(role: Role, index: int, prompt: list[int]) -> Answer:
        return role.answer([prompt], sampler=material.sampler, limits=material.limits, ids=[index])[0]

    for role in roles:
        for _ in range(config.warmup):
            _, spent = timed(lambda role=role: [run(role, *prompt) for prompt in prompts], watch)
            rounds.warmup_seconds[role.name].append(spent.seconds)
    graphs = compiled_graphs()
    for turn in range(config.repeats):
        for index, prompt in prompts:
            for role in shuffled(roles, config.seed, turn, index):
                with watch.watch(role.sites):
                    answer, spent = timed(lambda role=role: run(role, index, prompt), watch)  # noqa: B023  called at once
                rounds.runs[role.name].append(Run(index, answer, spent))
    return replace(rounds, graphs_compiled_late=compiled_graphs() - graphs)


def compiled_graphs() -> int:
    """Graphs that torch.compile has made in this process."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    return dynamo.counters["stats"]["unique_graphs"] if dynamo else 0
