"""A test that may look at any time: capital that is staked on where a bias would show, and that cannot grow if there is none.

Before a token is drawn from its distribution, a set of tokens is chosen whose probability m under that distribution is known. The bet with tilt t
multiplies the capital by exp(t) / (1 - m + m exp(t)) if the token falls into the set and by 1 / (1 - m + m exp(t)) if it does not. Under the
distribution the expected factor is 1 whatever the set, so the capital is a martingale, and the probability that it EVER reaches 1 / alpha is at most
alpha (Ville's inequality; Waudby-Smith and Ramdas, arXiv 2010.09686). Many bets run side by side, each with its share of the starting capital of 1;
their sum, the e-value, is such a capital again. Letters besides the usual: S observed tokens, F sets, C contexts.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from scipy.stats import norm
from torch import Tensor

SIZES = (0.03, 0.06, 0.12, 0.25, 0.5, 1.0)  # log-odds; neighbours differ by a factor of two, which loses at most 17 % of the best growth
TILTS = (*SIZES, *(-size for size in SIZES))
GRID_LOSS = 0.17


@dataclass
class Bets:
    """Feed it observations; `e_value` is valid whenever one stops, however often one looked.

    Half of the capital is staked on every token, the other half on the tokens of one context each, such as "the row's second step", which must be
    known before the token is drawn.
    """

    sets: Sequence[str]  # F names
    contexts: Sequence[str] = ()  # C names
    taken: int = 0  # tokens seen so far
    impossible: int = 0  # tokens of probability 0 among them: they refute the distribution at once
    highest: float = 0.0  # the largest log e-value so far
    log_capital: Tensor = field(init=False)  # [F, T, 1 + C] of every bet, 0 = as much as it began with

    def __post_init__(self) -> None:
        self.log_capital = torch.zeros(len(self.sets), len(TILTS), 1 + len(self.contexts), dtype=torch.float64)
        share = torch.full(self.log_capital.shape[2:], 0.5 / max(len(self.contexts), 1), dtype=torch.float64)
        share[0] = 0.5 if self.contexts else 1.0
        self._log_shares = (share / (len(self.sets) * len(TILTS))).log()

    def add(self, mass: Tensor, hit: Tensor, context: Tensor | None = None, impossible: int = 0) -> None:
        """mass [S, F]: probability of each set; hit [S, F]: the token is in it; context [S, C] bool. NaN as mass: there is no such set here."""
        tilts = torch.tensor(TILTS, dtype=torch.float64)
        mass, hit = mass.double()[..., None], hit.double()[..., None]
        gains = (tilts * hit - torch.log1p(mass.clamp(0.0, 1.0) * torch.expm1(tilts))).nan_to_num(0.0)  # [S, F, T]
        self.log_capital[..., 0] += gains.sum(0)
        if self.contexts and context is not None:
            self.log_capital[..., 1:] += torch.einsum("sft,sc->ftc", gains, context.double())
        self.taken += len(mass)
        self.impossible += impossible
        self.highest = max(self.highest, self.log_e_value)

    @property
    def log_e_value(self) -> float:
        """Logarithm of the capital as it is now."""
        if self.impossible:
            return math.inf
        return float((self.log_capital + self._log_shares).logsumexp((0, 1, 2)))

    @property
    def p_value(self) -> float:
        """Valid at any time: 1 / the largest capital there has been, at most 1."""
        return min(1.0, math.exp(-min(self.highest, 700.0))) if math.isfinite(self.highest) else 0.0

    def best(self) -> tuple[str, str, float]:
        """The bet that has won most: its set, its context ("" for all tokens), and its tilt: above 0 the set is hit too often."""
        index = int((self.log_capital + self._log_shares).argmax())
        num_columns = self.log_capital.shape[2]
        place, column = divmod(index, num_columns)
        chosen, tilt = divmod(place, len(TILTS))
        return self.sets[chosen], "" if column == 0 else self.contexts[column - 1], TILTS[tilt]

    def detectable(self, alpha: float, power: float) -> float:
        """A bias by which one of the sets, of any probability, is hit this much too often or too seldom is found with probability `power`.

        By the normal approximation of the logarithm of the capital: with n tokens its mean G is at least 2 n bias^2, less what the grid of
        tilts loses, and its variance 2 G. 1 where too few tokens have been seen.
        """
        if not self.taken:
            return 1.0
        needed, z = -math.log(alpha) - float(self._log_shares[0]), float(norm.ppf(power))
        growth = needed + z * z + z * math.sqrt(z * z + 2 * needed)
        return min(1.0, math.sqrt(growth / (1 - GRID_LOSS) / (2 * self.taken)))
