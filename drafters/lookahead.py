"""Lookahead decoding: a window of Jacobi guesses makes n-grams while the n-grams made before are verified, all in the target's one forward.

Source: Fu et al. 2024, arXiv 2402.02057, section 3. Their W is `window`, N `ngram`, G `guesses`. Differences: candidates are merged into one tree
by common prefixes; the window starts as text of the prompt, so there is no warm-up; every accepted candidate is followed by a bonus token.

The window has N - 1 levels of W columns. The entry of level l, column i stands l + i places after the root; level 0, column 0 is the root itself,
slot 0 of the draft. Level 0 is a guess of the text ahead, and each column is an n-gram that the target's best token lengthens at every step. An
entry sees the prefix, level 0 up to its own column, and its own column up to its own level.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from spec.arguments import whole
from spec.auto import AUTO, AutoSize
from spec.interfaces import Drafter, Traits
from spec.state import DecodeState, carried
from spec.tree import merge_chains, on_device
from spec.types import Draft, Scores, Scratch, Verdict

if TYPE_CHECKING:
    from spec.model import CausalLM
    from spec.sampling import Sampler


WINDOWS = (0, 2, 4, 7)  # what "auto" chooses from


class NgramPool:
    """For every token the `guesses` n-grams that last began with it (LRU)."""

    def __init__(self, guesses: int):
        self.guesses = guesses
        self.tails: dict[int, dict[tuple[int, ...], None]] = {}  # a dict keeps the order of insertion: oldest first
        self.seen = 0  # tokens of the text whose n-grams are in it

    def add(self, ngram: Sequence[int]) -> None:
        """Makes `ngram` the newest of those that begin with its first token."""
        tails = self.tails.setdefault(ngram[0], {})
        tail = tuple(ngram[1:])
        tails.pop(tail, None)
        tails[tail] = None
        if len(tails) > self.guesses:
            del tails[next(iter(tails))]

    def candidates(self, token: int, length: int) -> list[list[int]]:
        """What may follow `token`, newest first, cut to `length` tokens."""
        return [list(tail[:length]) for tail in reversed(self.tails.get(token, {}))]


class JacobiWindow:
    """The guesses of one row: levels [N - 1][W], with the root at level 0, column 0. No guess is ever one of `eos`: nothing follows those."""

    def __init__(self, prompt: Sequence[int], window: int, ngram: int, eos: frozenset[int] = frozenset()):
        self.eos = eos
        self.text = [token for token in prompt if token not in eos] or [prompt[-1]]
        self.levels = [[self.text[(level + column - 1) % len(self.text)] for column in range(window)] for level in range(ngram - 1)]
        self.levels[0][0] = prompt[-1]

    def entries(self) -> list[int]:
        """All tokens but the root, level by level: the scratch slots, (N - 1) W - 1 of them."""
        return [token for level in self.levels for token in level][1:]

    def ngrams(self, new: Sequence[int]) -> list[tuple[int, ...]]:
        """Every column, completed by the target's best token after its last entry; the root's own column comes last, as the newest."""
        return list(zip(*self.levels, new, strict=True))[::-1]

    def resize(self, window: int) -> None:
        """Makes the window that many columns wide; new columns begin as text of the prompt."""
        text, width = self.text, len(self.levels[0])
        if window != width:
            levels = enumerate(self.levels)
            self.levels = [[*own[:window], *(text[(level + column - 1) % len(text)] for column in range(width, window))] for level, own in levels]

    def advance(self, new: Sequence[int], root: int) -> None:
        """Drops level 0 and takes in `new` as the last level."""
        guesses = [self.text[column % len(self.text)] if token in self.eos else token for column, token in enumerate(new)]
        self.levels = [*self.levels[1:], guesses]
        self.levels[0][0] = root


def window_visibility(window: int, ngram: int) -> Tensor:
    """Which window entries each one sees, both with the root as entry 0; bool [(N - 1) W, (N - 1) W]."""
    level = torch.arange(ngram - 1).repeat_interleave(window)
    column = torch.arange(window).repeat(ngram - 1)
    own_column = (column[:, None] == column) & (level[:, None] >= level)
    ahead = (level == 0) & (column[:, None] >= column)
    return own_column | ahead


class Lookahead(Drafter):
    """A merged tree of the pool's n-grams that begin with the root; the window that fills the pool is scored beside it as scratch slots.

    window, ngram, guesses: W, N, G of the paper. A step scores 1 + (W - 1) + (N - 2) W slots for root and window and at most G (N - 1) for the
    candidates: 28 + 28 by default, and fewer where candidates share a prefix. The defaults are small because on a CPU every slot costs time; a
    memory-bound GPU scores several times as many at almost no cost. A longer n-gram gains more than a wider window of as many slots.
    seed_pool: the prompt's own n-grams are in the pool from the start. learn_output: those of the output follow as they are emitted.
    The drafts are a function of history alone. window "auto": a width that pays, or none (`spec.auto`). Raises ValueError unless window >= 2,
    ngram >= 2 and guesses >= 1.
    """

    traits = Traits(makes_trees=True)

    def __init__(self, window: int | str = 7, ngram: int = 5, *, guesses: int = 7, seed_pool: bool = True, learn_output: bool = True):
        for name, value, least in (("ngram", ngram, 2), ("guesses", guesses, 1)):
            whole(name, value, f"a whole number; Lookahead needs at least {least}", least)
        if window == AUTO:
            self.let_choose(AutoSize(WINDOWS))
        widest = WINDOWS[-1] if window == AUTO else whole("window", window, "a whole number; Lookahead needs at least 2, or auto", 2)
        self.ngram, self.guesses = ngram, guesses
        self.seed_pool, self.learn_output = seed_pool, learn_output
        self.eos: frozenset[int] = frozenset()
        self.take(widest)
        self.pools: list[NgramPool] = []
        self.windows: list[JacobiWindow] = []

    @property
    def taken(self) -> int:
        return self.window

    def take(self, option: int) -> None:
        """From the next draft on the window is that wide."""
        if option != getattr(self, "window", None):
            self.window = option
            self.visible = window_visibility(option, self.ngram)[1:]
            self.positions = (torch.arange(self.ngram - 1)[:, None] + torch.arange(option)).flatten()[1:]
            self.padded: dict[int, Tensor] = {}  # by the number of draft slots: which slots the window's entries see

    def attach(self, target: "CausalLM") -> None:
        eos = getattr(getattr(target.model, "generation_config", None), "eos_token_id", None)
        self.eos = frozenset() if eos is None else frozenset([eos] if isinstance(eos, int) else eos)

    def reset(self, state: DecodeState) -> None:
        self.windows, self.pools = [], []
        self.rows_changed(state, [None] * state.num_rows)
        self.padded = {}

    def rows_changed(self, state: DecodeState, origin: Sequence[int | None]) -> None:
        self.windows = carried(self.windows, origin, lambda row: JacobiWindow(state.rows[row], self.window, self.ngram, self.eos))
        self.pools = carried(self.pools, origin, lambda row: self._pool(state.rows[row]))

    def propose(self, state: DecodeState, sampler: "Sampler") -> Draft:
        trees = []
        for pool, root, room, done in zip(self.pools, state.roots, state.room, state.done, strict=True):
            trees.append(merge_chains([] if done else pool.candidates(root, max(room - 1, 0))))
        num_slots = 1 + max(len(tokens) for tokens, _ in trees)
        tokens, parents = [], []
        for root, (row_tokens, row_parents) in zip(state.roots, trees, strict=True):
            num_padding = num_slots - 1 - len(row_tokens)
            tokens.append([root, *row_tokens, *[root] * num_padding])
            parents.append([-1, *row_parents, *[0] * num_padding])
        sizes = on_device([1 + len(row_tokens) for row_tokens, _ in trees], state.device)
        tokens = on_device(tokens, state.device)
        if all(row_parents == list(range(len(row_parents))) for _, row_parents in trees):
            return Draft.chain(tokens, sizes, scratch=self._scratch(num_slots, state))
        width = max(row_parents.count(parent) for _, row_parents in trees for parent in set(row_parents))
        return Draft(tokens, on_device(parents, state.device), sizes, scratch=self._scratch(num_slots, state), width=width)

    def observe(self, state: DecodeState, draft: Draft, verdict: Verdict, scores: Scores) -> None:
        if scores.scratch is None:
            return
        best = torch.cat([scores.logits[:, :1].argmax(-1), scores.scratch.argmax(-1)], 1)
        for b, new in enumerate(best[:, -self.window :].tolist()):
            for ngram in self.windows[b].ngrams(new):
                self.pools[b].add(ngram)
            self.windows[b].advance(new, state.rows[b][-1])
            if self.learn_output:
                self._learn(self.pools[b], state.rows[b])

    def _pool(self, prompt: Sequence[int]) -> NgramPool:
        pool = NgramPool(self.guesses)
        if self.seed_pool:
            self._learn(pool, prompt)
        pool.seen = len(prompt)
        return pool

    def _learn(self, pool: NgramPool, text: Sequence[int]) -> None:
        """Adds the n-grams that end in what was not seen before."""
        for end in range(max(pool.seen + 1, self.ngram), len(text) + 1):
            pool.add(text[end - self.ngram : end])
        pool.seen = len(text)

    def _scratch(self, num_slots: int, state: DecodeState) -> Scratch:
        visible = self.padded.get(num_slots)
        if visible is None:
            candidates = self.visible.new_zeros(len(self.visible), num_slots - 1)
            visible = torch.cat([self.visible[:, :1], candidates, self.visible[:, 1:]], 1).to(state.device)
            self.padded[num_slots], self.positions = visible, self.positions.to(state.device)
        num_rows = len(self.windows)
        for window, root in zip(self.windows, state.roots, strict=True):
            window.resize(self.window)
            window.levels[0][0] = root
        tokens = on_device([window.entries() for window in self.windows], state.device)
        return Scratch(tokens, self.positions.expand(num_rows, -1), visible.expand(num_rows, -1, -1))
