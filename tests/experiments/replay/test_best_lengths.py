"""The best lengths against all lengths, and the expectation by the distributions against every way that speculative sampling can go."""

import random
from functools import lru_cache
from itertools import product
from math import prod

import pytest

from experiments.replay.best_lengths import Counts, Price, agreement, best_lengths, expected, perfect


def every_way(agreed: list[int], cost: Price, start: int = 0) -> list[Counts]:
    """The counts of every choice of a length at every step; a draft longer than what is right is cut there, and paid for."""
    if start >= len(agreed):
        return [Counts()]
    ways = []
    for length in range(len(agreed) - start):
        kept = min(length, agreed[start])
        step = Counts(kept + 1, 1, length, kept, cost.step(length))
        ways += [step + rest for rest in every_way(agreed, cost, start + kept + 1)]
    return ways


@pytest.mark.parametrize("cost", [Price(), Price(0.3, 0.05), Price(0.7, 0.4)])
def test_no_choice_of_lengths_is_cheaper_than_the_best(cost: Price) -> None:
    draw = random.Random(0)
    for _ in range(20):
        agreed = [draw.choice([0, 0, 1, 2, 3]) for _ in range(6)]
        found = best_lengths(agreed, cost)
        cheapest = min(every_way(agreed, cost), key=lambda counts: (counts.cost, counts.drafted))
        assert found.cost == pytest.approx(cheapest.cost)
        assert (found.tokens, found.drafted) == (6, cheapest.drafted)


def test_dear_drafts_are_not_made_and_free_ones_are() -> None:
    agreed = [3, 0, 0, 0]
    assert best_lengths(agreed, Price()) == Counts(4, 1, 3, 3, 1)
    assert best_lengths(agreed, Price(draft=2)) == Counts(4, 4, 0, 0, 4)


@pytest.mark.parametrize(("num_tokens", "length", "steps", "drafted"), [(10, 4, 2, 8), (11, 4, 3, 8), (12, 4, 3, 9), (3, 10, 1, 2), (1, 5, 1, 0)])
def test_a_drafter_that_is_always_right(num_tokens: int, length: int, steps: int, drafted: int) -> None:
    assert perfect(num_tokens, length, Price(draft=0.5)) == Counts(num_tokens, steps, drafted, drafted, steps + 0.5 * drafted)


def test_agreement_is_counted_from_the_beginning() -> None:
    assert [agreement([1, 2, 3], text) for text in ([1, 2, 4], [1, 2, 3, 4], [1, 2], [9, 2, 3], [])] == [2, 3, 2, 0, 0]


class Toy:
    """Distributions of two tokens behind every text, drawn once."""

    def __init__(self, seed: int):
        self.seed = seed

    def p(self, text: tuple[int, ...]) -> list[float]:
        return self._distribution("p", text)

    def q(self, text: tuple[int, ...]) -> list[float]:
        return self._distribution("q", text)

    def _distribution(self, name: str, text: tuple[int, ...]) -> list[float]:
        share = random.Random(f"{self.seed}{name}{text}").random()
        return [share, 1 - share]


def expected_counts(toy: Toy, total: int, length: int) -> tuple[float, float]:
    """(steps, accepted) of speculative sampling itself, over everything that can be drafted, accepted and drawn."""

    @lru_cache
    def step(text: tuple[int, ...]) -> tuple[float, float]:
        if len(text) == total:
            return 0.0, 0.0
        steps, accepted = judge(text, min(length, total - len(text) - 1))
        return steps + 1, accepted

    @lru_cache
    def judge(text: tuple[int, ...], left: int) -> tuple[float, float]:
        p, q, steps, accepted = toy.p(text), toy.q(text), 0.0, 0.0
        rest = [max(one - other, 0.0) for one, other in zip(p, q, strict=True)]
        for token in (0, 1):
            if left:
                kept, bonus = min(p[token], q[token]), sum(rest) * rest[token] / (sum(rest) or 1)
                later = judge((*text, token), left - 1)
                steps, accepted = steps + kept * later[0], accepted + kept * (1 + later[1])
            else:
                bonus = p[token]
            later = step((*text, token))
            steps, accepted = steps + bonus * later[0], accepted + bonus * later[1]
        return steps, accepted

    return step(())


@pytest.mark.parametrize("length", [1, 2, 4])
def test_the_expectation_given_the_text_averages_to_that_of_speculative_sampling(length: int) -> None:
    total = 5
    for seed in range(5):
        toy, steps, accepted = Toy(seed), 0.0, 0.0
        for text in product((0, 1), repeat=total):
            distributions = [(toy.p(text[:index]), toy.q(text[:index])) for index in range(total)]
            ratios = [min(1.0, q[token] / p[token]) for (p, q), token in zip(distributions, text, strict=True)]
            found, weight = expected(ratios, length, Price()), prod(p[token] for (p, _), token in zip(distributions, text, strict=True))
            assert found.tokens == pytest.approx(found.steps + found.accepted)
            steps, accepted = steps + weight * found.steps, accepted + weight * found.accepted
        assert (steps, accepted) == pytest.approx(expected_counts(toy, total, length))


def test_costs_below_0_are_refused() -> None:
    with pytest.raises(ValueError, match=r"cost\.verify=-1"):
        Price(0, -1)
