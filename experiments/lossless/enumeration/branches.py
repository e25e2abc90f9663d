"""Exact distributions of randomised code: a noise that, instead of drawing, follows every outcome of positive probability in turn.

The code under test runs unmodified on a batch. Every row carries a script of choices already made, keyed as the real noise is keyed: by root
position, slot and purpose. Where the script is silent the row takes the first possible outcome, and a copy of it that takes another one is
queued for a later batch; the weights of all finished rows are the exact distribution. Rows are independent, so exploring many at once only saves
time.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from spec.noise import Purpose

NUM_PURPOSES = len(Purpose) + 1


class GumbelError(NotImplementedError):
    """Gumbel numbers were asked for: the largest of log p plus such numbers has no outcomes that could be followed one by one."""


@dataclass(frozen=True)
class Keys:
    """How a key becomes a column of the script."""

    num_slots: int
    num_positions: int = 1
    first_position: int = 0

    @property
    def num_columns(self) -> int:
        return self.num_positions * self.num_slots * NUM_PURPOSES

    def columns(self, positions: Tensor, slots: Tensor, purpose: Purpose) -> Tensor:
        """positions [B], slots [B] -> column [B]."""
        inside = (slots >= 0) & (slots < self.num_slots)
        assert bool(inside.all()), f"slots {slots.tolist()} outside the draft's {self.num_slots}"
        return (self.place(positions) * self.num_slots + slots) * NUM_PURPOSES + int(purpose)

    def place(self, positions: Tensor) -> Tensor:
        """positions [B] counted from the first one; finished rows get the place after the last."""
        return (positions - self.first_position).clamp(0, self.num_positions - 1)


@dataclass
class Branches:
    """One batch of rows on their way through the code under test."""

    keys: Keys
    origins: Tensor  # [B]    which start each row descends from
    scripts: Tensor  # [B, C] choices made so far, -1 where none was
    weights: Tensor  # [B]    probability of all choices made so far
    forks: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.used = torch.zeros_like(self.scripts, dtype=torch.bool)

    def __len__(self) -> int:
        return len(self.origins)

    def choose(self, odds: Tensor, columns: Tensor, live: Tensor, rows: Tensor | None = None) -> Tensor:
        """One choice in each of `rows` [R], None: in all; odds [R, V] sum to 1, columns [R], live [R] -> [R].

        A key that a live row uses twice is an error.
        """
        rows = torch.arange(len(self)) if rows is None else rows
        assert not bool((self.used[rows, columns] & live).any()), "a noise key was used twice"
        self.used[rows, columns] |= live
        scripted = self.scripts[rows, columns].long()
        first = (odds > 0).int().argmax(-1)
        fresh = live & (scripted < 0)
        choice = torch.where(scripted >= 0, scripted, first)
        for outcome in range(odds.shape[1]):
            forked = (fresh & (first != outcome) & (odds[:, outcome] > 0)).nonzero().squeeze(1)
            if len(forked):
                scripts = self.scripts[rows[forked]]
                scripts[torch.arange(len(forked)), columns[forked]] = outcome
                self.forks.append((self.origins[rows[forked]], scripts, self.weights[rows[forked]] * odds[forked, outcome]))
        taken = fresh.nonzero().squeeze(1)
        self.scripts[rows[taken], columns[taken]] = choice[taken].to(self.scripts.dtype)
        self.weights[rows[taken]] *= odds[taken, choice[taken]]
        return choice


@dataclass(frozen=True)
class BranchingNoise:
    """Stand-in for `spec.noise.StepNoise`: the same calls on the same shapes, every outcome followed."""

    branches: Branches
    root_positions: Tensor | None = None  # [B]; None: one step, position 0
    live: Tensor | None = None  # [B]; finished rows must not fork: what they draw is thrown away
    rows: Tensor | None = None  # [B] which of the branches each row follows; None: all of them, in their order

    def bernoulli(self, prob: Tensor, purpose: Purpose, slots: Tensor) -> Tensor:
        """bool, shaped as `prob` [B] or [B, K]; every element forks."""
        if prob.ndim == 2:
            return torch.stack([self.bernoulli(prob[:, k], purpose, slots[:, k]) for k in range(prob.shape[1])], 1)
        true = prob.double().nan_to_num(0.0).clamp(0.0, 1.0)
        return self._choose(torch.stack([1 - true, true], 1), purpose, slots).bool()

    def categorical(self, distribution: Tensor, purpose: Purpose, slots: Tensor) -> Tensor:
        """int64 [B] or [B, K]; distribution [B, V] or [B, K, V], not necessarily normalised. Like the real noise it answers V for a distribution
        without mass."""
        if distribution.ndim == 3:
            return torch.stack([self.categorical(distribution[:, k], purpose, slots[:, k]) for k in range(distribution.shape[1])], 1)
        distribution = distribution.double()
        total = distribution.sum(-1, keepdim=True)
        odds = torch.where(total > 0, distribution / total.clamp(min=torch.finfo(torch.float64).tiny), 0.0)
        return self._choose(torch.cat([odds, (total <= 0).double()], 1), purpose, slots)

    def taken(self) -> Tensor:
        """How many choices each row has made in this step so far, [B]; for noise of whole batches."""
        assert self.root_positions is not None
        first, size = self.branches.keys.place(self.root_positions), self.branches.keys.num_slots * NUM_PURPOSES
        used = self.branches.used if self.rows is None else self.branches.used[self.rows]
        return used.gather(1, first[:, None] * size + torch.arange(size)).sum(1)

    def gumbel(self, positions: Tensor, vocabulary: int) -> Tensor:
        """Raises GumbelError."""
        raise GumbelError("Gumbel numbers have no outcomes that could be followed one by one")

    def _choose(self, odds: Tensor, purpose: Purpose, slots: Tensor) -> Tensor:
        num_rows = len(self.branches) if self.rows is None else len(self.rows)
        positions = torch.zeros(num_rows, dtype=torch.int64) if self.root_positions is None else self.root_positions
        live = torch.ones(num_rows, dtype=torch.bool) if self.live is None else self.live
        slots = slots.expand(num_rows)
        columns = self.branches.keys.columns(positions, torch.where(live, slots, 0), purpose)
        return self.branches.choose(odds.expand(num_rows, -1), columns, live, self.rows)


def enumerate_distribution(
    run: Callable[[Branches], Tensor], keys: Keys, starts: Tensor | None = None, batch: int = 20_000
) -> dict[tuple[int, ...], float]:
    """The distribution of what `run` returns: outcomes [B, D] padded with -1, one per row, as tuples without the padding.

    `starts` [S] are the probabilities of the starting points; a row's `origins` entry says which one it began at. Default: one, certain.
    """
    weights = torch.ones(1, dtype=torch.float64) if starts is None else starts.double()
    origins = torch.arange(len(weights))
    scripts = torch.full((len(weights), keys.num_columns), -1, dtype=torch.int8)
    distribution: dict[tuple[int, ...], float] = defaultdict(float)
    pending = [(origins, scripts, weights)]
    while pending:
        origins, scripts, weights = (torch.cat(parts) for parts in zip(*pending, strict=True))
        pending = [(origins[batch:], scripts[batch:], weights[batch:])] if len(origins) > batch else []
        branches = Branches(keys, origins[:batch], scripts[:batch].clone(), weights[:batch].clone())
        outcomes, index = torch.unique(run(branches), dim=0, return_inverse=True)
        totals = torch.zeros(len(outcomes), dtype=torch.float64).index_add_(0, index, branches.weights)
        for outcome, total in zip(outcomes.tolist(), totals.tolist(), strict=True):
            distribution[tuple(token for token in outcome if token >= 0)] += total
        pending += branches.forks
    return dict(distribution)
