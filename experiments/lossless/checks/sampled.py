"""The first tokens of many short answers of the real parts, counted: their joint distribution against the target's."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from experiments.lossless.checks.frequencies import CONTINUE, LEAST_EXPECTED, REJECT, SequentialTest, equal_cells, integral_transform
from experiments.lossless.subject import FAIL, NOT_APPLICABLE, NOT_RUN, PASS, Check, Effort, Subject
from spec.interfaces import Drafter
from spec.model import CausalLM
from spec.sampling import Sampler

NAME = "frequencies"
CELLS = 64
LARGEST = 4_000_000  # numbers in a block of distributions


@dataclass
class Sampling:
    """Batches of answers to a few prompts, every row with a noise of its own."""

    subject: Subject
    effort: Effort
    length: int
    generator: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(20_240_607))
    taken: int = 0

    def batch(self, drafter: Drafter, num_rows: int) -> Tensor:
        """u [num_rows, length] of fresh texts."""
        subject, prompts = self.subject, self.subject.prompts
        ids = list(range(self.taken, self.taken + num_rows))
        self.taken += num_rows
        rows = [list(prompts[index % len(prompts)]) for index in ids]
        generation = subject.decode(rows, self.length, drafter=drafter, sequence_ids=ids)
        tokens = torch.tensor([generation.new_tokens(row) for row in range(num_rows)])
        assistant = next((model for model in drafter.models.values() if model.vocab_size == subject.target.vocab_size), None)
        found = torch.empty(num_rows, self.length, dtype=torch.float64)
        for index in range(len(prompts)):
            own = [row for row, number in enumerate(ids) if number % len(prompts) == index]
            for part in blocks(own, self.length * subject.target.vocab_size):
                distributions = own_distributions(subject.target, subject.sampler, prompts[index], tokens[part])
                scores = None
                if assistant is not None:
                    scores = distributions / own_distributions(assistant, subject.sampler, prompts[index], tokens[part]).clamp(min=1e-12)
                v = torch.rand(len(part), self.length, dtype=torch.float64, generator=self.generator)
                found[part] = integral_transform(distributions, tokens[part], v, scores)
        return found


def blocks(rows: list[int], numbers_per_row: int) -> Iterator[list[int]]:
    size = max(LARGEST // numbers_per_row, 1)
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


@torch.inference_mode()
def own_distributions(model: CausalLM, sampler: Sampler, prompt: Any, tokens: Tensor) -> Tensor:
    """The model's distribution at each of `tokens` [S, L], from one plain forward without a cache; every place is judged after its own prefix. [S, L,
    V]"""
    num_rows, length = tokens.shape
    ids = torch.cat([torch.tensor(list(prompt)).expand(num_rows, -1), tokens], 1).to(model.device)
    logits = model.model(input_ids=ids[:, :-1], use_cache=False).logits[:, len(prompt) - 1 :]
    prefixes = ids.tolist() if sampler.reads_prefix else []
    flat = logits.reshape(num_rows * length, 1, -1)
    return sampler.distribution(flat, lambda row, _: prefixes[row // length][: len(prompt) + row % length]).view(num_rows, length, -1).cpu()


def bins_for(length: int, num_samples: int) -> int:
    """Bins per token, at least 2, such that no more than CELLS joint cells arise and each can expect enough texts."""
    return max(int(min(CELLS, num_samples / LEAST_EXPECTED) ** (1 / length) + 1e-9), 2)


def check_sampled(subject: Subject, effort: Effort) -> Check:
    """Answers are drawn until the test has ended or `samples` texts are used up."""
    if subject.sampler.greedy:
        return Check(NAME, NOT_APPLICABLE, "at temperature 0 nothing is drawn; greedy parity compares token by token")
    drafter = subject.make_drafter()
    probe = subject.decode(list(subject.prompts), 8, drafter=drafter).stats
    length = effort.tokens or min(max(1 + max(max(step.depth) for step in probe.steps), 2), 6)
    bins, sampling = bins_for(length, effort.samples), Sampling(subject, effort, length)
    test = SequentialTest(bins**length, effort.samples, effort.looks, effort.alpha, effort.power)
    while sampling.taken < effort.samples and test.state == CONTINUE:
        test.add(equal_cells(sampling.batch(drafter, min(effort.batch, effort.samples - sampling.taken)), bins))
    about = f"the first {length} tokens of {test.taken} texts in {test.df + 1} cells"
    figures: dict[str, Any] = {"statistic": test.statistic, "p_value": test.p_value, "tv": test.tv, "alpha": effort.alpha} if test.taken else {}
    figures |= {"detectable_tv": test.detectable_tv, "power": effort.power}
    if test.state == REJECT:
        return Check(NAME, FAIL, f"{about} do not follow the target's distribution", **figures)
    return Check(NAME, PASS, about, **figures) if test.taken else Check(NAME, NOT_RUN, f"{sampling.taken} texts are too few for a look", **figures)
