"""Prompt lookup: copy what followed the last occurrence of the current n-gram.

Source: prompt lookup decoding (Saxena 2023), with the most recent match instead of the first one, so that the copy follows what the text does now.
The longest n-gram is tried first. An index of n-grams grows with the text, so a step costs the same however long the context is.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from spec.arguments import whole
from spec.interfaces import Drafter
from spec.state import DecodeState, carried
from spec.types import Draft

if TYPE_CHECKING:
    from spec.sampling import Sampler


class NgramIndex:
    """Where each n-gram of a growing text ended last; O(max_ngram) work per new token."""

    def __init__(self, max_ngram: int, min_ngram: int):
        self.lengths = range(max_ngram, min_ngram - 1, -1)
        self.ends: dict[tuple[int, ...], int] = {}
        self.indexed = 0

    def extend(self, row: Sequence[int]) -> None:
        """Takes in the n-grams that end before the last token: the current suffix must not find itself."""
        for end in range(self.indexed + 1, len(row)):
            for length in self.lengths:
                if length <= end:
                    self.ends[tuple(row[end - length : end])] = end
        self.indexed = max(self.indexed, len(row) - 1)

    def match(self, row: Sequence[int]) -> int | None:
        """Position after the most recent earlier occurrence of the longest known suffix of `row`, or None."""
        for length in self.lengths:
            end = self.ends.get(tuple(row[-length:])) if length <= len(row) else None
            if end is not None:
                return end
        return None


class PromptLookup(Drafter):
    """A one-hot chain copied from the row's own text, prompt and output alike.

    max_ngram, min_ngram: longest and shortest suffix that is looked up, in tokens; the longest that occurred before wins.
    num_tokens: most tokens per draft, or "auto". A copy that reaches the end of the text goes on with itself, which continues a loop by its period.
    Raises ValueError unless 1 <= min_ngram <= max_ngram and num_tokens >= 1.
    """

    def __init__(self, max_ngram: int = 3, min_ngram: int = 1, *, num_tokens: int | str = 10):
        self.min_ngram = whole("min_ngram", min_ngram, "a length of at least 1 token", 1)
        self.max_ngram = whole("max_ngram", max_ngram, f"a length of at least min_ngram={min_ngram} tokens", min_ngram)
        self.set_length(num_tokens, "at least 1 token; for plain decoding use drafter=none")
        self.indexes: list[NgramIndex] = []

    def reset(self, state: DecodeState) -> None:
        self.indexes = [NgramIndex(self.max_ngram, self.min_ngram) for _ in state.rows]

    def rows_changed(self, state: DecodeState, origin: Sequence[int | None]) -> None:
        self.indexes = carried(self.indexes, origin, lambda _: NgramIndex(self.max_ngram, self.min_ngram))

    def propose(self, state: DecodeState, sampler: "Sampler") -> Draft:
        room = state.room
        chains = [[] if state.done[b] else self._chain(index, state.rows[b], room[b] - 1) for b, index in enumerate(self.indexes)]
        return Draft.of_chains(state.roots, chains, state.device)

    def _chain(self, index: NgramIndex, row: Sequence[int], room: int) -> list[int]:
        index.extend(row)
        start = index.match(row)
        if start is None:
            return []
        period = len(row) - start
        return [row[start + i % period] for i in range(min(self.num_tokens, room))]
