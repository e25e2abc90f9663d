"""Is a peer's output distributed as the target's distribution says: frequencies of the first tokens after a prompt against the exact joint
distribution."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from typing import Any

import torch
from torch import Tensor

from experiments.lossless.checks.frequencies import PASS, SequentialTest, token_cells
from experiments.parts.roles import Answer, Role
from spec.sampling import Sampler
from spec.state import Limits


@torch.inference_mode()
def joint_distribution(model: Any, prompt: Sequence[int], length: int, sampler: Sampler) -> Tensor:
    """The target's distribution of the `length` tokens after the prompt, float64 [V ** L], the last token counting fastest. One forward over V^(L-1)
    texts.

    The sampler must not read the prefix other than through the logits.
    """
    vocabulary = model.config.get_text_config().vocab_size
    if sampler.reads_prefix:
        raise ValueError("a joint distribution under a repetition penalty is not computed here; use temperature, top_k, top_p, min_p alone")
    texts = torch.tensor(list(product(range(vocabulary), repeat=length - 1)), dtype=torch.int64).reshape(vocabulary ** (length - 1), length - 1)
    ids = torch.cat([torch.tensor([list(prompt)]).expand(len(texts), -1), texts], 1).to(model.device)
    rows = sampler.distribution(model(input_ids=ids).logits[:, len(prompt) - 1 :].float()).double().cpu()  # [S, L, V]
    reach = rows[:, :-1].gather(2, texts[..., None]).squeeze(2).prod(1)
    distribution = (reach[:, None] * rows[:, -1]).flatten()
    return distribution / distribution.sum()


@dataclass(frozen=True)
class DistributionRow:
    """One line of the table: what was sampled, and what the test says about it."""

    peer: str
    setting: str
    verdict: str  # "pass" or "fail"
    tv: float | None  # between observed and exact joint distribution, less what chance alone gives; cells that expect few texts are one
    first_token_tv: float  # the same for the first token
    p_value: float
    detectable_tv: float  # found with probability 0.999 at the last look
    alpha: float
    num_samples: int
    num_tokens: int  # per sample
    batch_size: int
    tokens_per_step: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class DistributionCheck:
    """The frequency test for one target, prompt and length: texts of `length` tokens, one cell each.

    `length` must exceed the drafted tokens, or no step can end in a bonus token. `sampling` are the sampler's arguments without the seed.
    """

    prompt: Sequence[int]
    length: int
    sampling: Mapping[str, Any] = field(default_factory=dict)
    num_samples: int = 2000
    alpha: float = 1e-5
    seed: int = 0

    def run(self, role: Role, target: Any, setting: str) -> DistributionRow:
        """Samples until the sequential test has an answer."""
        vocabulary = target.config.get_text_config().vocab_size
        distribution = joint_distribution(target, self.prompt, self.length, Sampler(**self.sampling))
        test = SequentialTest(distribution, num_samples=self.num_samples, num_looks=2, alpha=self.alpha)
        first, tokens, forwards, seed = torch.zeros(vocabulary, dtype=torch.float64), 0, 0, self.seed
        while (wanted := test.wanted) > 0:
            answers = role.answer([self.prompt] * wanted, sampler=Sampler(**self.sampling, seed=seed), limits=Limits(self.length))
            texts = torch.tensor([answer.tokens for answer in answers])
            test.add(token_cells(texts, vocabulary))
            first += torch.bincount(texts[:, 0], minlength=vocabulary)
            tokens, forwards = tokens + texts.numel(), forwards + sum(answer.forwards for answer in answers)
            seed += 1
        return DistributionRow(
            peer=role.name,
            setting=setting,
            verdict="pass" if test.state == PASS else "fail",
            tv=test.tv,
            first_token_tv=excess_tv(first, distribution.reshape(vocabulary, -1).sum(1)),
            p_value=test.p_value,
            detectable_tv=test.detectable_tv,
            alpha=self.alpha,
            num_samples=test.taken,
            num_tokens=self.length,
            batch_size=getattr(role, "batch_size", 1),
            tokens_per_step=tokens / forwards,
        )


def excess_tv(counts: Tensor, distribution: Tensor) -> float:
    """Total variation between frequencies and a distribution, less the mean that chance alone gives (normal approximation); not below 0."""
    total = counts.sum()
    chance = float((2 * distribution * (1 - distribution) / (torch.pi * total)).sqrt().sum()) / 2
    return max(0.0, float((counts / total - distribution).abs().sum()) / 2 - chance)


def tempered(role: Any, temperature: float) -> Role:
    """A control that must fail: the role asked for another temperature than the distribution that it is judged by."""

    class Tempered(Role):
        name = f"{role.name} at temperature {temperature:g} (control)"
        batch_size = role.batch_size

        def answer(self, prompts: Sequence[Sequence[int]], *, sampler: Sampler, limits: Limits, ids: Sequence[int] | None = None) -> list[Answer]:
            return role.answer(prompts, sampler=Sampler(temperature, seed=sampler.seed), limits=limits)

    return Tempered()
