"""Distributions and drafts at the size of a real vocabulary: rows of few distinct values, and every draft that can be drawn from them, one for each
kind.

Tokens with equal p and equal q are exchangeable, so what holds for one of them holds for all: they are one class. A draft is drawn class by class,
and a token that an earlier slot holds already is told apart from the others of its class.
"""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import LogitsProcessorList

from spec.interfaces import Verifier
from spec.sampling import Sampler
from spec.types import Draft

VOCABULARY = 262_144  # of Gemma 3
SHARES = (0.5, 0.9, 0.99)  # of the token that stands out
STRONG, OTHERS = 777, (5, 7_000, 100_001)  # the token that is likelier than all others, and three more


def strong(share: float, vocabulary: int, at: int = STRONG) -> Tensor:
    """Logits of one token of probability `share` over a flat tail; [V]."""
    logits = torch.zeros(vocabulary)
    logits[at] = math.log(share * (vocabulary - 1) / (1 - share))
    return logits


def tailless(vocabulary: int) -> Tensor:
    """Logits of four tokens, the first of them likelier than the others; [V]."""
    logits = torch.full((vocabulary,), -math.inf)
    logits[list(OTHERS)] = 0.0
    logits[STRONG] = 1.5
    return logits


def gaussian(seed: int, vocabulary: int, levels: int | None = None) -> Tensor:
    """Normal logits of standard deviation 4; with `levels` each is rounded to one of so many values; [V]."""
    logits = 4 * torch.randn(vocabulary, generator=torch.Generator().manual_seed(seed))
    if levels is None:
        return logits
    step = (logits.max() - logits.min()) / (levels - 1)
    return logits.min() + step * ((logits - logits.min()) / step).round()


@dataclass(frozen=True)
class Rows:
    """Logits of the target and of the drafter, the same after every slot."""

    name: str
    target: Tensor  # [V]
    drafter: Tensor  # [V]


def pairs(share: float, v: int) -> tuple[Rows, Rows, Rows]:
    """Three pairs: a flat tail besides the strong token in both distributions, in the target's only, in the drafter's only."""
    return (
        Rows(f"one of {share}, both with a tail", strong(share, v), strong(0.7, v)),
        Rows(f"one of {share}, tail in p only", strong(share, v), tailless(v)),
        Rows(f"four tokens, tail in q only ({share})", tailless(v), strong(share, v)),
    )


@dataclass(frozen=True)
class Case:
    """One kind of draft from one pair of rows. rule: how siblings come about, as in `proposals`."""

    rows: Rows
    parents: tuple[int, ...]  # of the slots after the root
    rule: str = "independent"  # "independent", "distinct", "top" (the most probable, q left out), "greedy" (all but the last are)

    @property
    def name(self) -> str:
        shape = {(0,): "1 token", (0, 1): "chain of 2"}.get(self.parents, f"{len(self.parents)} {self.rule} siblings")
        return f"{self.rows.name}: {shape}{', certain' if self.rule == 'top' else ''}"


def cases(verifier: Verifier, greedy: bool, *, thorough: bool = False, vocabulary: int = VOCABULARY) -> Iterator[Case]:
    """What is looked at: chains, and trees for verifiers that take them. `thorough`: every strong token in every shape, and three siblings."""
    v, trees = vocabulary, not getattr(verifier, "chains_only", False)
    for share in SHARES if thorough else SHARES[1:]:
        yield Case(Rows(f"one of {share}", strong(share, v), strong(share, v)), (0,), "top")
    yield Case(Rows("one of 0.5, draft from its tail", strong(0.5, v), strong(0.7, v, at=OTHERS[0])), (0,), "top")
    yield Case(Rows("Gaussian", gaussian(0, v), gaussian(0, v)), (0,), "top")
    if trees:
        yield Case(Rows("one of 0.9", strong(0.9, v), strong(0.9, v)), (0, 0), "top")
    if greedy:
        return
    yield Case(Rows("Gaussian of 5 x 3 values", gaussian(1, v, 5), gaussian(2, v, 3)), (0,))
    every = [rows for share in SHARES for rows in pairs(share, v)]
    half, most = every[:3], every[3:6]
    yield from (Case(rows, (0,)) for rows in (every if thorough else [half[0], *most]))
    yield from (Case(rows, (0, 1)) for rows in (every if thorough else [half[0], most[2]]))
    for rule in taken(verifier) if trees else ():
        yield from (Case(rows, (0, 0), rule) for rows in (every if thorough else [most[0], half[2]]))
        yield from (Case(rows, (0, 0, 0), rule) for rows in (most if thorough else ()))


def taken(verifier: Verifier) -> tuple[str, ...]:
    """Rules for siblings that the verifier says it takes."""
    takes = getattr(verifier, "takes", None)
    return tuple(rule for rule in ("independent", "distinct", "greedy") if takes is None or rule in takes)


@dataclass(frozen=True)
class Drafts:
    """All drafts of a case, one for each kind, as a batch of S rows; the target's row is the same after every slot."""

    draft: Draft
    p: Tensor  # [V] as the sampler makes it
    reference: Tensor  # [V] float64: plain decoding's own float32 row, normalised
    weights: Tensor  # [S]
    classes: Tensor  # [V] numbers 0, 1, ...: tokens of the same number are exchangeable
    certain: bool  # there is one draft only, so that the distribution is known token by token, and not only class by class


def prepared(sampler: Sampler) -> Sampler:
    """The sampler for tokens without a text before them: processors that would read it, or are the user's own, are left out."""
    twin = copy.copy(sampler)
    if sampler.reads_prefix:
        twin.processors = LogitsProcessorList([one for one in sampler.processors if not Sampler(processors=[one]).reads_prefix])
    return twin


def build(case: Case, sampler: Sampler) -> Drafts:
    """The distributions through the sampler, the drafts through `Draft.check_distributions`, as in the loop. Raises ValueError where a draft cannot
    be made."""
    sampler = prepared(sampler)
    p, q = (sampler.distribution(logits[None, None])[0, 0] for logits in (case.rows.target, case.rows.drafter))
    plain = p if sampler.greedy else sampler.processed(case.rows.target[None, None]).softmax(-1)[0, 0]
    growths = [Growth()]
    classes, certain = classes_of(p, q, case), case.rule == "top"
    for parent in case.parents:
        growths = [longer for growth in growths for longer in growth.extended(parent, q, classes, case)]
    tokens = torch.tensor([(0, *growth.tokens) for growth in growths])
    parents = torch.tensor([(-1, *case.parents)]).expand(len(growths), -1)
    rows = None if certain else torch.stack([torch.stack([torch.zeros_like(q), *growth.rows]) for growth in growths])
    sizes = torch.full((len(growths),), tokens.shape[1])
    draft = Draft(tokens, parents, sizes, rows, width=max(map(case.parents.count, case.parents)))
    weights = torch.tensor([growth.weight for growth in growths], dtype=torch.float64)
    return Drafts(draft.check_distributions(), p, plain.double() / plain.double().sum(), weights, classes, certain)


def classes_of(p: Tensor, q: Tensor, case: Case) -> Tensor:
    """Numbers 0, 1, ... of the pairs of equal p and q, tokens that are certain to be drafted apart; [V]."""
    first, second = (torch.unique(row, return_inverse=True)[1] for row in (p, q))
    both = first * (int(second.max()) + 1) + second
    if case.rule == "greedy":
        token = q.argmax()
        both[token] = both.max() + 1
    return torch.unique(both, return_inverse=True)[1]


@dataclass(frozen=True)
class Growth:
    """A draft under construction."""

    tokens: tuple[int, ...] = ()
    rows: tuple[Tensor, ...] = ()
    weight: float = 1.0

    def extended(self, parent: int, q: Tensor, classes: Tensor, case: Case) -> Iterator["Growth"]:
        """The draft with one more slot, for every kind of token that this slot may hold."""
        older = [token for token, above in zip(self.tokens, case.parents, strict=False) if above == parent]
        row = q if case.rule == "independent" else without(q, older)
        last = case.parents[len(self.tokens) + 1 :].count(parent) == 0
        if case.rule == "top" or (case.rule == "greedy" and not last):
            token = int(row.argmax())
            yield replace(self, tokens=(*self.tokens, token), rows=(*self.rows, torch.zeros_like(q).index_fill_(0, torch.tensor(token), 1.0)))
            return
        for token, mass in kinds(row, classes, self.tokens):
            yield Growth((*self.tokens, token), (*self.rows, row), self.weight * mass)


def without(q: Tensor, tokens: list[int]) -> Tensor:
    """q without the tokens, normalised the plain way, as a user's drafter does it; [V]. Raises ValueError where nothing is left."""
    if not tokens:
        return q
    left = q.clone()
    left[tokens] = 0.0
    if not left.any():
        raise ValueError("the sampler leaves too few tokens for siblings that differ")
    return left / left.sum()


def kinds(row: Tensor, classes: Tensor, seen: tuple[int, ...]) -> Iterator[tuple[int, float]]:
    """Tokens that stand for others, and the probability of these: each token seen before stands for itself, one more for the rest of its class."""
    left, total = row.double(), float(row.double().sum())
    for token in dict.fromkeys(seen):
        if left[token] > 0:
            yield token, float(left[token]) / total
    left[list(seen)] = 0.0
    masses = torch.zeros(int(classes.max()) + 1, dtype=torch.float64).index_add_(0, classes, left)
    for number in masses.nonzero()[:, 0].tolist():
        yield int(((classes == number) & (left > 0)).int().argmax()), float(masses[number]) / total
