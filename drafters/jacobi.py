"""Jacobi decoding: guess a block, let the target correct every guess at once, keep what was right and carry the corrections over.

Source: Santilli et al. 2023, arXiv 2305.10427, algorithm 1. Without sampling it is a fixed-point iteration whose fixed point is the greedy
continuation, reached after at most as many steps as there are tokens. As a drafter it is Lookahead (arXiv 2402.02057) without window and pool.
"""

from collections.abc import Sequence
from itertools import cycle, islice
from typing import TYPE_CHECKING

from spec.interfaces import Drafter
from spec.state import DecodeState, carried
from spec.types import Draft, Scores, Verdict

if TYPE_CHECKING:
    from spec.sampling import Sampler


class Jacobi(Drafter):
    """A one-hot chain: the target's own best tokens after the part of the last draft that was not accepted.

    num_tokens: guesses per step. New places at the end of the block start as the row's latest tokens, oldest first, so the drafts depend on
    nothing but history. Raises ValueError unless num_tokens >= 1 or "auto".
    """

    def __init__(self, num_tokens: int | str = 5):
        self.set_length(num_tokens, "at least 1 token for a block; for plain decoding use drafter=none")
        self.guesses: list[list[int]] = []
        self.made_at: list[int] = []  # how long each row was when its guesses were made

    def reset(self, state: DecodeState) -> None:
        self.guesses, self.made_at = [[] for _ in state.rows], [len(row) for row in state.rows]

    def rows_changed(self, state: DecodeState, origin: Sequence[int | None]) -> None:
        self.guesses = carried(self.guesses, origin, lambda _: [])
        self.made_at = carried(self.made_at, origin, lambda row: len(state.rows[row]))

    def propose(self, state: DecodeState, sampler: "Sampler") -> Draft:
        chains = []
        for guesses, made_at, row, done, room in zip(self.guesses, self.made_at, state.rows, state.done, state.room, strict=True):
            guess = guesses[len(row) - made_at :][: self.num_tokens]  # the text may have gone on without a draft
            latest = cycle(row[-self.num_tokens :])
            chains.append([] if done else [*guess, *islice(latest, self.num_tokens - len(guess))][: max(room - 1, 0)])
        return Draft.of_chains(state.roots, chains, state.device)

    def observe(self, state: DecodeState, draft: Draft, verdict: Verdict, scores: Scores) -> None:
        best = scores.logits.argmax(-1).tolist()
        self.guesses = [tokens[len(fresh) :] for tokens, fresh in zip(best, state.fresh, strict=True)]
        self.made_at = [len(row) for row in state.rows]
