"""How much an answer repeats itself: small models loop under greedy decoding, and loops flatter every method that drafts by copying."""

from collections.abc import Sequence

NGRAM = 8
SHORTEST_LOOP = 24  # tokens that a loop must cover before it is called one
PERIODS = 3


def repeated_ngrams(tokens: Sequence[int]) -> tuple[int, int]:
    """(8-grams of the answer that stood in the same answer before, all of its 8-grams); overlapping ones count."""
    seen: set[tuple[int, ...]] = set()
    total = max(len(tokens) - NGRAM + 1, 0)
    for start in range(total):
        seen.add(tuple(tokens[start : start + NGRAM]))
    return total - len(seen), total


def loops(tokens: Sequence[int]) -> bool:
    """Whether the answer ends in a loop: its tail repeats one period at least three times, over at least 24 tokens."""
    for period in range(1, len(tokens) // PERIODS + 1):
        tail = max(PERIODS * period, SHORTEST_LOOP)
        if tail > len(tokens):
            return False
        if all(tokens[-i] == tokens[-i - period] for i in range(1, tail - period + 1)):
            return True
    return False
