"""The sets of tokens that are bet on: where the distribution of a wrong drafter or verifier would differ from the one that is claimed.

The same sets serve for an emitted token under the target's distribution, where the other distribution is the drafter's, and for a drafted token under
its declared distribution, where the other distribution is the target's. Each set is settled before the token is drawn, by the distributions alone.
Letters: S tokens, F sets.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

TAILS = (0.5, 0.8, 0.95, 0.99, 0.999)  # of the distribution, tokens in descending order of probability
RANKS = (1, 2, 10, 50)
PLACES = (0.25, 0.5, 0.75)  # of the distribution, tokens in ascending order of id
RATIOS = (0.25, 1.0, 4.0)  # of the other distribution to this one
NAMES = (
    *(f"the least likely {1 - tail:.3g} of the distribution" for tail in TAILS),
    *(f"the {rank} likeliest tokens" for rank in RANKS),
    *(f"the first {place:.0%} by id" for place in PLACES),
    "end tokens",
    *(f"tokens that the other distribution finds {ratio:g} times as likely or more" for ratio in RATIOS),
    "tokens of the first half by id that the other distribution finds likelier",
    "tokens of the second half by id that the other distribution finds likelier",
    "the likeliest token of the other distribution",
    "the token drafted for this place, or beside it",
    "another half by id than the token before",
)


@dataclass(frozen=True)
class Places:
    """S tokens, the distributions that they claim to be drawn from, and what was known before."""

    distributions: Tensor  # [S, V] each of mass 1
    tokens: Tensor  # [S]
    others: Tensor | None  # [S, V] the other side's distribution; NaN in rows that have none
    drafted: Tensor  # [S] what was drafted for this place with certainty, or for a drafted token its older sibling; -1 where there is none


@dataclass(frozen=True)
class Sets:
    """What the bets need to know."""

    mass: Tensor  # [S, F] float64; NaN where there is no such set
    hit: Tensor  # [S, F] bool
    where: Tensor  # [S] where each token stands in the order of ids: uniform in [0, 1] if the distribution is right
    impossible: int  # tokens of probability 0


def sets_of(places: Places, ends: Tensor, generator: torch.Generator) -> Sets:
    """All sets but the one that looks at the token before; `ends` [E] are the ids of end tokens, `generator` spreads a token over its share."""
    distributions, tokens = places.distributions, places.tokens
    own = distributions.gather(1, tokens[:, None])
    ids = torch.arange(distributions.shape[1], device=distributions.device)
    v = torch.rand(2, len(tokens), dtype=torch.float64, generator=generator).to(distributions.device)
    likelier = (distributions > own) | ((distributions == own) & (ids < tokens[:, None]))
    share = own.squeeze(1).double()
    by_rank = (distributions * likelier).sum(1, dtype=torch.float64) + v[0] * share
    by_id = (distributions * (ids < tokens[:, None])).sum(1, dtype=torch.float64) + v[1] * share
    rank = likelier.sum(1)
    likeliest = distributions.topk(min(max(RANKS), distributions.shape[1]), dim=1).values.cumsum(1, dtype=torch.float64)
    ones = torch.ones_like(by_rank)
    mass = [ones * (1 - tail) for tail in TAILS]
    hit = [by_rank >= tail for tail in TAILS]
    for size in RANKS:
        mass.append(likeliest[:, size - 1] if size <= likeliest.shape[1] else torch.full_like(ones, torch.nan))
        hit.append(rank < size)
    mass += [ones * place for place in PLACES]
    hit += [by_id < place for place in PLACES]
    mass.append(distributions[:, ends].sum(1, dtype=torch.float64) if len(ends) else torch.full_like(ones, torch.nan))
    hit.append((tokens[:, None] == ends).any(1))
    for found in (*_by_other(places, ones), _of_drafted(places)):
        mass.append(found[0])
        hit.append(found[1])
    return Sets(torch.stack(mass, 1).cpu(), torch.stack(hit, 1).cpu(), by_id.cpu(), int((share <= 0).sum()))


def behind(found: Sets, before: Tensor) -> Sets:
    """Adds the set that looks at the token before. `before` [S]: where that token stands in the order of ids, in [0, 1]; NaN where there is none."""
    mass = torch.where(before.isnan(), torch.nan, 0.5)[:, None]
    hit = ((found.where < 0.5) != (before < 0.5))[:, None]
    return Sets(torch.cat([found.mass, mass], 1), torch.cat([found.hit, hit], 1), found.where, found.impossible)


def _by_other(places: Places, ones: Tensor) -> list[tuple[Tensor, Tensor]]:
    distributions, others, tokens = places.distributions, places.others, places.tokens[:, None]
    if others is None:
        none = torch.full_like(ones, torch.nan)
        return [(none, torch.zeros_like(none, dtype=torch.bool))] * (len(RATIOS) + 3)
    missing = others[:, 0].isnan()
    likelier, first = others >= distributions, others.cumsum(1) <= 0.5  # halves of the other distribution, as its tokens are drawn by a number
    found = []
    for above in (*(others >= ratio * distributions for ratio in RATIOS), likelier & first, likelier & ~first):
        mass = (distributions * above).sum(1, dtype=torch.float64)
        found.append((torch.where(missing, torch.nan, mass), above.gather(1, tokens).squeeze(1)))
    mode = others.nan_to_num(0.0).argmax(1, keepdim=True)
    mass = distributions.gather(1, mode).squeeze(1).double()
    found.append((torch.where(missing, torch.nan, mass), (mode == tokens).squeeze(1)))
    return found


def _of_drafted(places: Places) -> tuple[Tensor, Tensor]:
    mass = places.distributions.gather(1, places.drafted.clamp(min=0)[:, None]).squeeze(1).double()
    return torch.where(places.drafted < 0, torch.nan, mass), places.tokens == places.drafted
