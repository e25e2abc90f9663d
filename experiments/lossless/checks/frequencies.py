"""Frequencies against exact expectations: Pearson's chi-square on the joint distribution of the first tokens, looked at a fixed number of times.

A vocabulary is far too large for a cell per text, so a text x_1 ... x_L is brought to the unit cube by the randomised probability integral
transform: with the target's distribution p of every token given those before it, and v uniform, u_t = P(tokens ordered before x_t) + v p(x_t). If the
texts follow p, then u_1, ..., u_L are independent and uniform whatever the prompt was, and cells of equal width have equal, exactly known
probabilities. The order may be any function of the prefix; power is best where it is that of p / q for the distribution q that a bias would lean
towards. Letters besides the usual: S texts, L tokens of each that are looked at, C cells.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import torch
from scipy.optimize import brentq
from scipy.stats import chi2, ncx2
from torch import Tensor

CONTINUE, REJECT, PASS = "continue", "reject", "pass"
LEAST_EXPECTED = 10.0  # texts that a cell must expect at the first look; with fewer, the tail of the chi-square distribution is too light
SURPLUS = 1000  # an early look ends the test only below alpha / SURPLUS, so that a sweep of SURPLUS tests can still be corrected for their number


def integral_transform(distributions: Tensor, tokens: Tensor, v: Tensor, scores: Tensor | None = None) -> Tensor:
    """distributions [S, L, V], tokens [S, L], v [S, L] uniform and drawn for this alone -> u [S, L], float64 in [0, 1].

    Tokens stand in descending order of `scores` [S, L, V] (default: the distributions), ties in ascending order of id. A token that the distribution
    excludes lands at 1, where a method that emits it too often is seen like any other.
    """
    distributions = distributions.double()
    distributions = distributions / distributions.sum(-1, keepdim=True)
    scores = distributions if scores is None else scores
    mine, ids = scores.gather(-1, tokens[..., None]), torch.arange(distributions.shape[-1], device=distributions.device)
    before = (scores > mine) | ((scores == mine) & (ids < tokens[..., None]))
    own = distributions.gather(-1, tokens[..., None]).squeeze(-1)
    start = (distributions * before).sum(-1)
    return torch.where(own > 0, start + v * own, 1.0).clamp(0.0, 1.0)


def equal_cells(u: Tensor, bins: int) -> Tensor:
    """u [S, L] in [0, 1] -> cells [S], int64 in [0, bins ** L), all equally probable for uniform u."""
    places = bins ** torch.arange(u.shape[1], device=u.device)
    return ((u * bins).long().clamp(max=bins - 1) * places).sum(1)


def token_cells(tokens: Tensor, vocabulary: int) -> Tensor:
    """tokens [S, L] -> cells [S], a cell per text: for table models, against the joint distribution [V, ..., V] flattened."""
    places = vocabulary ** torch.arange(tokens.shape[1] - 1, -1, -1, device=tokens.device)
    return (tokens * places).sum(1)


@lru_cache(maxsize=256)
def noncentrality(df: int, alpha: float, power: float) -> float:
    """The noncentrality at which a chi-square test of level `alpha` rejects with probability `power`."""
    critical = chi2.isf(alpha, df)
    return float(brentq(lambda value: ncx2.sf(critical, df, value) - power, 1e-9, 10 * critical + 1000))  # pyright: ignore[reportArgumentType]


def samples_needed(num_cells: int, tv: float, alpha: float = 1e-6, power: float = 0.999) -> int:
    """Texts with which every bias of at least `tv` between the distributions of the cells is found."""
    return math.ceil(noncentrality(num_cells - 1, alpha, power) / (4 * tv**2))


@dataclass
class SequentialTest:
    """Feed it cells until `state` is no longer "continue".

    It looks after num_samples / 2^(num_looks - 1), ..., num_samples / 2, num_samples texts and spends a share of alpha in proportion to the texts at
    each look, so that the probability of ever rejecting texts that follow `expected` is at most alpha (union bound; Lan and DeMets, 1983, for
    the idea of spending). Looks at fewer than ten texts per cell are left out; cells that expect fewer at the first look are pooled; a text in a
    cell of probability zero rejects at once.
    Raises ValueError where no cell is left to compare.
    """

    expected: Tensor | int  # [C] exact probabilities, or the number of equally probable cells
    num_samples: int = 20_000
    num_looks: int = 4
    alpha: float = 1e-6
    power: float = 0.999  # at which `detectable_tv` is stated
    p_values: list[float] = field(default_factory=list)  # of every look so far
    taken: int = 0  # texts that the last look has seen

    def __post_init__(self) -> None:
        distribution = (
            torch.full((self.expected,), 1 / self.expected, dtype=torch.float64) if isinstance(self.expected, int) else self.expected.double().cpu()
        )
        if not 0 < self.alpha < 1 or self.num_looks < 1 or self.num_samples < 1:
            raise ValueError(
                f"alpha={self.alpha}, num_looks={self.num_looks}, num_samples={self.num_samples}: give 0 < alpha < 1, at least one look, one text"
            )
        self.distribution, self.groups = _pooled(distribution, LEAST_EXPECTED / self.looks[0])
        if int((self.distribution > 0).sum()) < 2:
            raise ValueError(
                f"{self.num_samples} texts are too few for {len(distribution)} cells; give at least {math.ceil(LEAST_EXPECTED * len(distribution))}"
            )
        self.counts = torch.zeros_like(self.distribution)  # of the last look
        self.waiting: list[Tensor] = []

    @cached_property
    def looks(self) -> list[int]:
        """Texts seen at each look."""
        cells = self.expected if isinstance(self.expected, int) else int((self.expected > 0).sum())
        planned = [self.num_samples >> shift for shift in range(self.num_looks)]
        return sorted({look for look in planned if look >= LEAST_EXPECTED * cells} or {self.num_samples})

    @property
    def shares(self) -> list[float]:
        """Share of alpha spent at each look."""
        return [look / sum(self.looks) for look in self.looks]

    @property
    def df(self) -> int:
        return int((self.distribution > 0).sum()) - 1

    @property
    def wanted(self) -> int:
        """Texts still missing until the next look; 0 when the test has ended."""
        held = self.taken + sum(map(len, self.waiting))
        return self.looks[len(self.p_values)] - held if self.state == CONTINUE else 0

    def add(self, cells: Tensor) -> None:
        """cells [S] of further texts; what comes after the last look is ignored."""
        self.waiting.append(cells.cpu())
        while self.state == CONTINUE and self.wanted <= 0:
            stored = torch.cat(self.waiting)
            need = self.looks[len(self.p_values)] - self.taken
            self.counts += torch.bincount(self.groups[stored[:need]], minlength=len(self.distribution)).double()
            self.taken, self.waiting = self.taken + need, [stored[need:]]
            self.p_values.append(float(chi2.sf(self.statistic, self.df)) if math.isfinite(self.statistic) else 0.0)

    @property
    def state(self) -> str:
        """ "continue", "reject" or "pass"."""
        if len(self.p_values) < len(self.looks) and self.p_value > self.alpha / SURPLUS:
            return CONTINUE
        return REJECT if self.p_value <= self.alpha else PASS

    @property
    def p_value(self) -> float:
        """P-value of the whole design, valid whenever one stops: the smallest of the looks' p-values over their shares; 1 before the first look."""
        return min([1.0, *(p / share for p, share in zip(self.p_values, self.shares, strict=False))])

    @property
    def statistic(self) -> float:
        """Pearson's chi-square of all texts of the last look."""
        expected, possible = self.distribution * self.taken, self.distribution > 0
        if bool((self.counts[~possible] > 0).any()):
            return math.inf
        return float((((self.counts - expected) ** 2)[possible] / expected[possible]).sum())

    @property
    def tv(self) -> float | None:
        """Total variation between the cells' observed and expected frequencies, less what chance alone gives; the texts' own is at least that."""
        if not self.taken:
            return None
        raw = float((self.counts / self.taken - self.distribution).abs().sum()) / 2
        return max(0.0, raw - float((2 * self.distribution * (1 - self.distribution) / (math.pi * self.taken)).sqrt().sum()) / 2)

    @property
    def detectable_tv(self) -> float:
        """A bias of at least this total variation between the distributions of the cells is rejected with probability `power` at the last look.

        Chi-square divergence >= 4 TV^2 for any two distributions (Cauchy-Schwarz), so the noncentrality is at least 4 n TV^2.
        """
        strength = noncentrality(self.df, self.alpha * self.shares[-1], self.power)
        return min(1.0, math.sqrt(strength / (4 * self.looks[-1])))


def _pooled(distribution: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """Cells below `least` become one, which takes in larger ones until it is no longer small; zeros stay apart. (distributions, group of each
    cell)."""
    order = distribution.argsort(stable=True)
    small, mass = [], 0.0
    for cell in order.tolist():
        if distribution[cell] > 0:
            if distribution[cell] >= least and (mass >= least or not small):
                break
            small.append(cell)
            mass += float(distribution[cell])
    groups = torch.zeros(len(distribution), dtype=torch.int64)
    alone = torch.ones(len(distribution), dtype=torch.bool)
    alone[small] = False
    alone &= distribution > 0
    groups[alone] = torch.arange(2, 2 + int(alone.sum()))
    groups[small] = 1
    return torch.zeros(2 + int(alone.sum()), dtype=torch.float64).index_add_(0, groups, distribution), groups


def holm(p_values: Sequence[float], alpha: float) -> list[bool]:
    """Which hypotheses Holm's step-down procedure rejects while keeping the probability of any false rejection below alpha (Holm, 1979)."""
    rejected = [False] * len(p_values)
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[index] > alpha / (len(p_values) - rank):
            break
        rejected[index] = True
    return rejected
