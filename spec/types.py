"""The four values that travel through the loop.

Letters, here and everywhere: B rows, N slots of a draft (slot 0 is the root), M scratch slots, D longest kept path, V vocabulary,
T committed length, H hidden size. Integers are int64. Distributions are float32 (float64 where the model is), never 16 bit.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from spec.mass import excess, mass
from spec.tree import Tables, ancestor_mask, chain_parents, children, numbers, older_siblings, on_device, path_to, same_parents, tables_of

ROUNDED = 1e-2  # a distribution that sums to 1 within this may be rounded: bfloat16 rounds a number by up to 0.4 %, float16 small ones to nothing
NEAR = {torch.float32: 1e-7, torch.float64: 1e-13}  # a distribution that sums to 1 within this is left as it is


@lru_cache(maxsize=256)
def full_sizes(num_rows: int, num_slots: int, device: torch.device) -> Tensor:
    """`sizes` of a draft without padding, [B]; made once, never write into it."""
    with torch.inference_mode(False):
        return torch.full((num_rows,), num_slots, device=device)


@dataclass(frozen=True)
class Scratch:
    """Slots that are scored in the same forward as the draft but never accepted; they leave no trace in the cache."""

    tokens: Tensor  # [B, M]
    positions: Tensor  # [B, M]         relative to the root's position, at least 0
    visible: Tensor  # [B, M, N + M]  bool: the draft and scratch slots that each one sees besides the cached prefix


@dataclass(frozen=True)
class Draft:
    """What a drafter proposes: for every row a tree rooted at the last committed token.

    The contract on `q`: q[:, i] is the distribution that token i was drawn from given everything drawn before it: its path, its earlier siblings,
    other branches. Whether slot i exists at all may depend on the same things, but never on its own token.
    All tensors are dense and on the target's device. `spec.checks.check_draft` refuses what does not fit, before the target sees it.
    """

    tokens: Tensor  # [B, N]    slot 0 = the root: last committed token, not yet in the cache
    parents: Tensor  # [B, N]    parent slot: -1 for the root, otherwise 0 <= parents[:, i] < i (padding too); siblings in the order they were drawn
    sizes: Tensor  # [B]       slots in use, 1 <= size <= N; the rest is padding
    q: Tensor | None = None  # [B, N, V] or None: every distribution is one-hot (deterministic, or unknown and treated so)
    scratch: Scratch | None = None
    width: int | None = None  # no slot has more children than this (1: a chain, every used slot hangs on the one before); None: read off `parents`
    shape: tuple[int, ...] | None = None  # the parents of every row, where `of_shape` made them: what follows from them is made once

    @staticmethod
    def chain(tokens: Tensor, sizes: Tensor | None = None, q: Tensor | None = None, scratch: Scratch | None = None) -> "Draft":
        """A chain in every row; tokens [B, N] with the root first, sizes [B] (default: all N)."""
        num_rows, num_slots = tokens.shape
        if sizes is None:
            sizes = full_sizes(num_rows, num_slots, tokens.device)
        return Draft(tokens, chain_parents(num_rows, num_slots, tokens.device), sizes, q, scratch, width=1)

    @staticmethod
    def of_shape(tokens: Tensor, shape: tuple[int, ...], sizes: Tensor | None = None, q: Tensor | None = None, width: int | None = None) -> "Draft":
        """The same tree in every row: tokens [B, N], and N parents that the host knows; sizes [B] (default: all N)."""
        sizes = full_sizes(*tokens.shape, tokens.device) if sizes is None else sizes
        return Draft(tokens, same_parents(shape, len(tokens), tokens.device), sizes, q, width=width, shape=shape)

    @staticmethod
    def of_chains(roots: Sequence[int], chains: Sequence[Sequence[int]], device: torch.device | str = "cpu") -> "Draft":
        """Deterministic chains of any lengths, one per row, given as token lists without the root."""
        num_slots = 1 + max(map(len, chains))
        tokens = [[root, *chain, *[root] * (num_slots - 1 - len(chain))] for root, chain in zip(roots, chains, strict=True)]
        sizes = on_device([1 + len(chain) for chain in chains], device)
        return Draft.chain(on_device(tokens, device), sizes)

    @property
    def num_slots(self) -> int:
        return self.tokens.shape[1]

    @property
    def is_chain(self) -> bool:
        return self.width == 1

    @property
    def is_full(self) -> bool:
        """Whether it is known without a look that every slot is used."""
        return self.sizes is full_sizes(*self.tokens.shape, self.tokens.device)

    @property
    def slots(self) -> Tensor:
        """0, 1, ..., N - 1 in every row; [B, N], never write into it."""
        return numbers(self.num_slots, self.tokens.device).expand_as(self.tokens)

    @cached_property
    def tables(self) -> Tables | None:
        """What follows from the parents alone, if `Draft.chain` or `Draft.of_shape` made them."""
        shape, kind = self.shape, (len(self.tokens), self.tokens.device)
        if shape is not None and self.parents is same_parents(shape, *kind):
            return tables_of(shape, kind[1])
        is_chain = self.parents is chain_parents(len(self.tokens), self.num_slots, kind[1])
        return tables_of(tuple(range(-1, self.num_slots - 1)), kind[1]) if is_chain else None

    def depths(self) -> Tensor:
        """Distance of every slot from the root; [B, N]."""
        if self.is_chain:
            return self.slots
        return self.ancestors.sum(-1) - 1 if self.tables is None else self.tables.depths.expand_as(self.tokens)

    @cached_property
    def ancestors(self) -> Tensor:
        """ancestors[b, i, j]: slot j is slot i or above it; bool [B, N, N]."""
        return ancestor_mask(self.parents) if self.tables is None else self.tables.ancestors.expand(len(self.tokens), -1, -1)

    @cached_property
    def older(self) -> Tensor:
        """`spec.tree.older_siblings` of the draft, [B, N, N]."""
        if self.tables is None or not self.is_full:
            return older_siblings(self.parents, self.sizes)
        return self.tables.older.expand(len(self.tokens), -1, -1)

    @cached_property
    def children(self) -> Tensor:
        """`spec.tree.children` of the draft, [B, R, N]; R is `width` at most."""
        if self.tables is None or not self.is_full:
            return children(self.parents, self.sizes, self.width)
        return self.tables.children.expand(len(self.tokens), -1, -1)

    def behind_root(self, tokens: Tensor) -> "Draft":
        """The draft without its root, with `tokens` [B, N - 1]: several trees, whose roots have the parent -1. Padding counts as used."""
        sizes = full_sizes(*tokens.shape, tokens.device)
        if self.shape is not None and self.tables is not None:
            return Draft.of_shape(tokens, tuple(parent - 1 for parent in self.shape[1:]), sizes, width=self.width)
        if self.is_chain:
            return Draft.chain(tokens)
        found = Draft(tokens, self.parents[:, 1:] - 1, sizes, width=self.width)
        return found.knowing(self.ancestors[:, 1:, 1:]) if "ancestors" in vars(self) else found

    def knowing(self, ancestors: Tensor) -> "Draft":
        """The draft, told its `ancestors` so that it need not find them."""
        vars(self)["ancestors"] = ancestors
        return self

    def check_distributions(self, drafter: str = "the drafter") -> "Draft":
        """The draft with rows of q that sum to 1: used rows that are off by rounding are normalised, and 16-bit rows become float32.

        A token is drawn from its row as if the row summed to 1, so the normalised row is its distribution. Raises ValueError where q holds NaN,
        infinity or a negative entry, or is off by more than rounding explains: the token was not drawn from such a row. The error names `drafter`.
        On CUDA this is an assertion that nothing waits for.
        """
        if self.q is None:
            return self
        q = self.q if self.q.dtype.itemsize > 2 else self.q.float()
        masses, least, counts = mass(q), q.amin(-1), self.slots > 0 if self.is_full else (self.slots > 0) & (self.slots < self.sizes[:, None])
        off = torch.where(counts, torch.where(least < 0, torch.inf, (masses - 1).abs()), 0.0)
        if q.device.type == "cuda":
            reason = f"{drafter} declared a distribution q that does not sum to 1, or has a negative entry"
            torch._assert_async((off < ROUNDED).all(), reason)  # pyright: ignore[reportPrivateImportUsage]
        else:
            worst = off.max().item()
            if not worst < ROUNDED:
                self._refuse_distribution(drafter, masses, least, ~(off < ROUNDED))
            if worst < NEAR[q.dtype]:
                return self if q is self.q else replace(self, q=q)
        return replace(self, q=torch.addcmul(q, q, excess(torch.where(off < NEAR[q.dtype], 1.0, masses), q.dtype), value=-1))

    def _refuse_distribution(self, drafter: str, masses: Tensor, least: Tensor, bad: Tensor) -> None:
        row, slot = (int(index) for index in bad.nonzero()[0])
        total, lowest = float(masses[row, slot]), float(least[row, slot])
        fault = f"sums to {total:.6g}" if math.isfinite(total) else "is not finite"
        fault = f"has a negative entry, {lowest:.6g}" if -math.inf < lowest < 0 else fault
        raise ValueError(
            f"{drafter} declared a distribution q that {fault} (row {row}, slot {slot}); q must be the probabilities the token was drawn from, "
            "which sum to 1: make it with sampler.distribution, normalise what a filter left, or leave q out if there is none"
        )

    def children_of(self, chosen: Tensor) -> Tensor:
        """The used slots whose parent is among `chosen` [B, N]; bool [B, N]."""
        found = chosen.gather(1, self.parents.clamp(min=0)) & (self.slots > 0)
        return found if self.is_full else found & (self.slots < self.sizes[:, None])

    def slots_to(self, node: Tensor) -> tuple[Tensor, Tensor]:
        """The slots from the root down to `node` [B]: [B, N] with -1 after the end, and how many they are [B]."""
        if self.is_chain:
            return self.slots.masked_fill(self.slots > node[:, None], -1), node + 1
        return path_to(node, self.ancestors)

    def path(self, row: int, slot: int) -> list[int]:
        """Tokens from the root's child down to `slot`, for processors that read the prefix."""
        parents, tokens = (lists[row] for lists in self._lists)
        found = []
        while slot > 0:
            found.append(tokens[slot])
            slot = parents[slot]
        return found[::-1]

    @cached_property
    def _lists(self) -> tuple[list[list[int]], list[list[int]]]:
        """Parents and tokens on the host."""
        return self.parents.tolist(), self.tokens.tolist()

    def contexts(self, seen: Callable[[int], list[int]]) -> Callable[[int, int], list[int]]:
        """contexts(b, i): all tokens up to and including slot i of row b, where seen(b) are the committed ones; computed when called."""
        return lambda row, slot: [*seen(row), *self.path(row, slot)]


@dataclass(frozen=True)
class Scores:
    """Raw target logits of what follows each slot."""

    logits: Tensor  # [B, N, V]
    hidden: Tensor | None = None  # [B, N, H] the last hidden state, where somebody needs it
    scratch: Tensor | None = None  # [B, M, V]


@dataclass(frozen=True)
class Verdict:
    """What a verifier keeps. Emitted tokens of a row = tokens of path[1:], then the bonus; there are `counts` of them.

    A verifier gives the three tensors; `Limits.cut` brings the tokens to the host and says where a row was shortened and where it ends.
    """

    path: Tensor  # [B, D] kept slots from the root down (root first), -1 after the end
    bonus: Tensor  # [B]    the token after the last kept slot
    counts: Tensor  # [B]    kept slots = emitted tokens; 0 for finished rows
    tokens: list[list[int]] | None = None  # B lists of the counts[b] emitted tokens
    cut: list[bool] | None = None  # an EOS, the budget or a criterion shortened the row in this step
    ended: list[bool] | None = None  # the row is finished after this step
    in_place: bool = False  # every row keeps its first slots in their order, so nothing moves in the cache
    drafted: list[list[int]] | None = None  # the draft's tokens in slot order, root and padding left out
    depths: list[int] | None = None  # depth of the deepest drafted token

    def emitted(self, draft: Draft) -> Tensor:
        """The emitted tokens, [B, D], -1 after the end."""
        after = torch.nn.functional.pad(self.path[:, 1:], (0, 1), value=-1)
        column, last = torch.arange(after.shape[1], device=after.device), self.counts[:, None] - 1
        tokens = draft.tokens.gather(1, after.clamp(min=0))
        return torch.where(column < last, tokens, torch.where(column == last, self.bonus[:, None], -1))

    def to_host(self, draft: Draft) -> "OnHost":
        """Everything the host wants to know of the step: its one transfer from the device."""
        num_slots, width = draft.num_slots, self.path.shape[1]
        numbers_of = [draft.tokens, self.path, self.bonus[:, None], self.counts[:, None], draft.sizes[:, None]]
        if not draft.is_chain:
            numbers_of.append(torch.where(draft.slots < draft.sizes[:, None], draft.depths(), 0).amax(1, keepdim=True))
        packed = torch.cat(numbers_of, 1).tolist()
        after = num_slots + width  # where bonus, counts, sizes and depths stand
        paths = [row[num_slots:after][: row[after + 1]] for row in packed]
        emitted = [[*[row[slot] for slot in path[1:]], row[after]] for row, path in zip(packed, paths, strict=True)]
        drafted = [row[1 : row[after + 2]] for row in packed]
        return OnHost(emitted, paths, drafted, [len(row) for row in drafted] if draft.is_chain else [row[after + 3] for row in packed])


@dataclass(frozen=True)
class OnHost:
    """A draft and its verdict as lists, one entry per row."""

    emitted: list[list[int]]  # the kept tokens, then the bonus
    paths: list[list[int]]  # the kept slots, root first
    drafted: list[list[int]]  # the draft's tokens in slot order, root and padding left out
    depths: list[int]  # depth of the deepest drafted token
