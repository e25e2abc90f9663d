"""Every way on every prompt, in an order shuffled anew for each prompt, so that whatever the machine does hits all of them."""

import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

from experiments.bench.ways import Answer, Way
from experiments.recording.clock import Spent, Stopwatch, timed


@dataclass(frozen=True)
class Run:
    """One way on one prompt, once."""

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
    def decode_tokens(self) -> int:
        """Tokens made after the prompt's own forward. In others' ways that forward makes the first token; in ours it makes none."""
        return len(self.answer.tokens) - (self.answer.stats is None)


@dataclass(frozen=True)
class Rounds:
    """All runs of every way, and what each of its warm-up rounds took."""

    runs: dict[str, list[Run]]
    warmup_seconds: dict[str, list[float]]
    graphs_compiled_late: int = 0  # by torch.compile after the warm-up: some timing holds a compilation


def interleave(ways: Sequence[Way], prompts: Sequence[list[int]], watch: Stopwatch, *, repeats: int, warmup: int, seed: int) -> Rounds:
    """Warms up with every way over all prompts (each round in one go, so that compilation is over), then times `repeats` rounds.

    Raises ValueError where two ways have the same name, since figures are kept by it.
    """
    if len({way.name for way in ways}) < len(ways):
        raise ValueError(f"two ways have the same name among {', '.join(way.name for way in ways)}; name each once")
    rounds = Rounds({way.name: [] for way in ways}, {way.name: [] for way in ways})
    for way in ways:
        for _ in range(warmup):
            _, spent = timed(lambda way=way: [way.run(index, prompt) for index, prompt in enumerate(prompts)], watch)
            rounds.warmup_seconds[way.name].append(spent.seconds)
    graphs = compiled_graphs()
    for turn in range(repeats):
        for index, prompt in enumerate(prompts):
            order = list(ways)
            random.Random(f"{seed}/{turn}/{index}").shuffle(order)
            for way in order:
                with watch.watch(way.sites):
                    answer, spent = timed(lambda way=way: way.run(index, prompt), watch)  # noqa: B023  called at once
                rounds.runs[way.name].append(Run(index, answer, spent))
    return replace(rounds, graphs_compiled_late=compiled_graphs() - graphs)


def compiled_graphs() -> int:
    """Graphs that torch.compile has made in this process."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    return dynamo.counters["stats"]["unique_graphs"] if dynamo else 0
