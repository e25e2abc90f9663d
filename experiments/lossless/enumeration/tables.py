"""Table models: a target and a drafter given as rows of probabilities, small enough to be enumerated and chosen so that bugs show."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

import torch
from torch import Tensor

Prefix = tuple[int, ...]


@dataclass(frozen=True)
class Instance:
    """Distributions p (target) and q (drafter) of the next token given what was emitted since the prompt; float64 [V]."""

    name: str
    vocabulary: int
    p: Callable[[Prefix], Tensor]
    q: Callable[[Prefix], Tensor]

    def target_distribution(self, length: int) -> dict[Prefix, float]:
        """p^L, the distribution of the first `length` tokens."""
        return {text: float(self.probability(text)) for text in product(range(self.vocabulary), repeat=length)}

    def probability(self, text: Prefix, start: int = 0) -> float:
        """Probability under p of text[start:] given text[:start]."""
        result = 1.0
        for place in range(start, len(text)):
            result *= float(self.p(text[:place])[text[place]])
        return result


GOLDEN_P = (5, 1, 2, 13)
GOLDEN_Q = (1, 6, 8, 9)


def golden_weights(constants: tuple[int, int, int, int], prefix_sum: Tensor, vocabulary: int = 4) -> Tensor:
    """w(x) = 1 + ((a x^2 + b h + c x (h + 1)) mod m) with h = prefix_sum [...] -> [..., V]; h = sum over j of (j + 1)(token_j + 1)."""
    a, b, c, m = constants
    x, h = torch.arange(vocabulary, dtype=torch.float64), prefix_sum[..., None]
    return 1 + torch.remainder(a * x * x + b * h + c * x * (h + 1), m)


def _golden(constants: tuple[int, int, int, int], vocabulary: int = 4) -> Callable[[Prefix], Tensor]:
    @cache
    def distribution(prefix: Prefix) -> Tensor:
        h = sum((j + 1) * (token + 1) for j, token in enumerate(prefix))
        weights = golden_weights(constants, torch.tensor(float(h), dtype=torch.float64), vocabulary)
        return weights / weights.sum()

    return distribution


def constant(row: Sequence[float]) -> Callable[[Prefix], Tensor]:
    """The same row after every prefix."""
    distribution = torch.tensor(row, dtype=torch.float64)
    return lambda prefix: distribution


def iid(name: str, p: Sequence[float], q: Sequence[float]) -> Instance:
    """An instance whose tokens are independent."""
    return Instance(name, len(p), constant(p), constant(q))


def random_instance(seed: int, vocabulary: int, zeros: float = 0.0) -> Instance:
    """Random rows, each entry zero with probability `zeros` (one is always kept); a row depends on its whole prefix."""

    def distributions(which: int) -> Callable[[Prefix], Tensor]:
        @cache
        def distribution(prefix: Prefix) -> Tensor:
            code = sum((token + 1) * (vocabulary + 1) ** place for place, token in enumerate(prefix))
            generator = torch.Generator().manual_seed(code * 1_000_003 + seed * 2 + which)
            row = torch.rand(vocabulary, dtype=torch.float64, generator=generator) ** 3
            keep = torch.rand(vocabulary, generator=generator) >= zeros
            keep[torch.randint(vocabulary, (1,), generator=generator)] = True
            row = (row + 1e-3) * keep
            return row / row.sum()

        return distribution

    return Instance(f"random{seed}", vocabulary, distributions(0), distributions(1))


SMALL = Instance("small", 3, _golden(GOLDEN_P, 3), _golden(GOLDEN_Q, 3))  # golden without its last token, where four are too many
GOLDEN = Instance("golden", 4, _golden(GOLDEN_P), _golden(GOLDEN_Q))
A = iid("A", (0.5, 0.3, 0.2), (0.2, 0.3, 0.5))
B4 = iid("B4", (0.1, 0.2, 0.3, 0.4), (0.4, 0.3, 0.2, 0.1))
S = iid("S", (1 / 3, 2 / 3), (2 / 3, 1 / 3))
Z = iid("Z", (0.6, 0.4, 0.0), (0.0, 0.5, 0.5))
INSTANCES = (GOLDEN, A, B4, S, Z)
