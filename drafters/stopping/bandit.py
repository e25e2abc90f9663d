"""Finds out which rule pays best: an upper-confidence-bound bandit over rules, one choice per step.

Source: BanditSpec (arXiv 2505.15141, UCBSpec) and TapOut (2511.02017). The arm of a step is chosen from earlier steps alone; its reward is what the
step emitted over what it cost, in target forwards.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from spec.state import carried
from spec.stopping import StoppingRule


class Bandit(StoppingRule):
    """Arms: a constant length for each of `lengths`, and the given `rules`; every row chooses for itself, without randomness.

    relative_cost: a drafter's forward over a target's. exploration: weight of the confidence bound. Raises ValueError where there is no arm.
    """

    def __init__(
        self,
        lengths: Sequence[int] = (1, 3, 5),
        rules: Sequence[StoppingRule] | None = None,
        relative_cost: float = 0.1,
        exploration: float = 0.5,
    ):
        if not lengths and not rules:
            raise ValueError("lengths and rules are both empty: give the bandit something to choose from")
        if lengths and min(lengths) < 1:
            raise ValueError(f"lengths={list(lengths)}: give lengths of at least 1")
        self.lengths, self.rules, self.relative_cost, self.exploration = list(lengths), list(rules or []), relative_cost, exploration
        self.num_arms = len(self.lengths) + len(self.rules)
        self.keeps_state = any(rule.keeps_state for rule in self.rules)
        self.wants_costs = any(rule.wants_costs for rule in self.rules)

    def reset(self, num_rows: int, device: torch.device) -> None:
        self.plays = [[0] * self.num_arms for _ in range(num_rows)]
        self.rewards = [[0.0] * self.num_arms for _ in range(num_rows)]
        self.device = device
        for rule in self.rules:
            rule.costs = self.costs
            rule.reset(num_rows, device)

    def rows_changed(self, origin: Sequence[int | None], device: torch.device) -> None:
        self.plays = carried(self.plays, origin, lambda _: [0] * self.num_arms)
        self.rewards = carried(self.rewards, origin, lambda _: [0.0] * self.num_arms)
        for rule in self.rules:
            rule.rows_changed(origin, device)

    def start(self, longest: Sequence[int]) -> list[int]:
        self.chosen = [self._best(row) for row in range(len(longest))]
        self.arms = torch.tensor(self.chosen, device=self.device)
        by_arm = [[min(length, most) for most in longest] for length in self.lengths] + [rule.start(longest) for rule in self.rules]
        return [by_arm[arm][row] for row, arm in enumerate(self.chosen)]

    def before(self, distribution: Tensor, depth: int) -> Tensor | None:
        return self._ask([rule.before(distribution, depth) for rule in self.rules])

    def after(self, prob: Tensor, depth: int) -> Tensor | None:
        return self._ask([rule.after(prob, depth) for rule in self.rules])

    def observe(self, drafted: Sequence[int], accepted: Sequence[int], cut: Sequence[bool]) -> None:
        for row, arm in enumerate(self.chosen):
            if not cut[row]:
                self.plays[row][arm] += 1
                self.rewards[row][arm] += (accepted[row] + 1) / (1 + self.relative_cost * drafted[row])
        for rule in self.rules:
            rule.observe(drafted, accepted, cut)

    def _ask(self, answers: list[Tensor | None]) -> Tensor | None:
        """Every row's answer is that of its own arm."""
        found = None
        for arm, answer in enumerate(answers, start=len(self.lengths)):
            if answer is not None:
                found = (answer | (self.arms != arm)) & (True if found is None else found)
        return found

    def _best(self, row: int) -> int:
        plays, rewards = self.plays[row], self.rewards[row]
        if 0 in plays:
            return plays.index(0)
        bonus = self.exploration * math.sqrt(2 * math.log(sum(plays)))
        return max(range(self.num_arms), key=lambda arm: rewards[arm] / plays[arm] + bonus / math.sqrt(plays[arm]))
