"""The best that could be reached on a recorded text: by this drafter with the best length of every draft, and by a drafter that is always right.

Costs are in forwards of the target over one token: a step costs 1 + verify per further slot + draft per drafted token. Everything here is exact
arithmetic over one text, by dynamic programming from its end.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from spec.stats import GenerationStats


@dataclass(frozen=True)
class Price:
    """draft: of one drafted token; verify: of one more slot in the target's forward; both in target forwards. Raises ValueError below 0."""

    draft: float = 0.0
    verify: float = 0.0

    def __post_init__(self) -> None:
        if self.draft < 0 or self.verify < 0:
            raise ValueError(f"cost.draft={self.draft}, cost.verify={self.verify}: give costs of at least 0, in forwards of the target")

    @property
    def is_free(self) -> bool:
        return self.draft == self.verify == 0

    def step(self, drafted: float) -> float:
        return 1 + (self.draft + self.verify) * drafted


@dataclass(frozen=True)
class Counts:
    """Totals over steps; `cost` in target forwards, so tokens / cost is the speedup that the cost model predicts."""

    tokens: float = 0.0
    steps: float = 0.0
    drafted: float = 0.0
    accepted: float = 0.0
    cost: float = 0.0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(mine + theirs for mine, theirs in zip(vars(self).values(), vars(other).values(), strict=True)))

    @property
    def tokens_per_step(self) -> float | None:
        return self.tokens / self.steps if self.steps else None

    @property
    def acceptance_rate(self) -> float | None:
        return self.accepted / self.drafted if self.drafted else None

    @property
    def speedup(self) -> float | None:
        return self.tokens / self.cost if self.cost else None


def counted(stats: GenerationStats, cost: Price) -> Counts:
    """The counts of a replayed text."""
    spent = sum(cost.step(sum(step.drafted)) for step in stats.steps)
    return Counts(stats.num_tokens, stats.num_steps, stats.num_drafted, stats.num_accepted, spent)


def best_lengths(agreed: Sequence[int], cost: Price) -> Counts:
    """The cheapest way through a text where the first agreed[t] tokens of a draft made at t are right and any number of them may be drafted.

    Of equally cheap ways the one with the fewest drafted tokens. A step that drafts n tokens, all of them right, emits n + 1.
    """
    num_tokens = len(agreed)
    spent: list[tuple[float, int]] = [(0.0, 0)] * (num_tokens + 1)  # cost and drafted tokens from t to the end
    chosen = [0] * num_tokens
    for start in range(num_tokens - 1, -1, -1):
        ways = []
        for length in range(min(agreed[start], num_tokens - start - 1) + 1):
            later = spent[start + length + 1]
            ways.append((cost.step(length) + later[0], length + later[1], length))
        best = min(ways)
        spent[start], chosen[start] = best[:2], best[2]
    start = steps = 0
    while start < num_tokens:
        steps, start = steps + 1, start + chosen[start] + 1
    drafted = spent[0][1] if num_tokens else 0
    return Counts(num_tokens, steps, drafted, drafted, spent[0][0])


def perfect(num_tokens: int, length: int, cost: Price) -> Counts:
    """A drafter whose every draft is right to its end, `length` tokens long or as long as the text goes on."""
    steps, drafted, spent, left = 0, 0, 0.0, num_tokens
    while left > 0:
        number = min(length, left - 1)
        steps, drafted, spent, left = steps + 1, drafted + number, spent + cost.step(number), left - number - 1
    return Counts(num_tokens, steps, drafted, drafted, spent)


def expected(ratios: Sequence[float], length: int, cost: Price) -> Counts:
    """Expected counts of token-level speculative sampling, given that this text came out; drafts of `length` tokens, or as long as it goes on.

    ratios[t] = min(1, q / p) of token t, given the tokens before it: the probability that token t was the accepted draft token if a draft was judged
    there, because it is drafted and accepted with probability min(p, q) and emitted with probability p.
    """
    num_tokens = len(ratios)
    ahead = [Counts()] * (num_tokens + 1)
    for start in range(num_tokens - 1, -1, -1):
        number = min(length, num_tokens - start - 1)
        found, reach = Counts(0, 1, number, 0, cost.step(number)), 1.0
        for offset in range(number):
            kept = reach * ratios[start + offset]
            found = found + _weighted(ahead[start + offset + 1], reach - kept) + Counts(accepted=kept)
            reach = kept
        ahead[start] = found + _weighted(ahead[start + number + 1], reach)
    total = ahead[0]
    return Counts(num_tokens, total.steps, total.drafted, total.accepted, total.cost)


def _weighted(counts: Counts, weight: float) -> Counts:
    return Counts(*(weight * value for value in vars(counts).values()))


def agreement(draft: Sequence[int], text: Sequence[int]) -> int:
    """How many tokens at the beginning of a draft are those of the text."""
    return next((index for index, (one, other) in enumerate(zip(draft, text, strict=False)) if one != other), min(len(draft), len(text)))
