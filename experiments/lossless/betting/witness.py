"""Watches a verifier: emitted tokens are tested against the target's distribution, and drafted tokens against the distribution that was declared for
them.

Known before a token is drawn are the row's text so far, where the steps began and ended in it, and the distributions. Given all that, and given that
a step goes on at least this far, the next token of an exact verifier follows the target's distribution. So a bet may choose places by their depth in
the step, by the outcomes of earlier steps or by their number, but never by whether their own token was accepted. Letters: S tokens, C contexts.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from experiments.lossless.betting.bets import Bets
from experiments.lossless.betting.sets import NAMES, Places, behind, sets_of
from spec.interfaces import Drafter, Verifier, Wrapped
from spec.tree import older_siblings
from spec.types import Draft, Verdict

COMMON = (
    *(f"after {count} steps in which nothing was accepted" for count in (1, 2)),
    "after 3 or more steps in which nothing was accepted",
    "the row's first step",
    "the row's second step",
    "steps 3 to 12",
    "steps 13 to 64",
    "steps from 65 on",
    "the first row",
    "a row that is not the first",
    "within two steps of a change of rows",
    "after a draft of more than 5 slots",
)
EMITTED = (*(f"depth {depth} of the step" for depth in range(4)), "depth 4 or more of the step", "after the last drafted token", *COMMON)
DRAFTED = (*(f"depth {depth}" for depth in (1, 2, 3)), "depth 4 or more", "an older sibling stands before it", "slot 5 or later", *COMMON)
SPANS = ((0, 0), (1, 1), (2, 11), (12, 63), (64, 10**9))  # of step numbers
RECENT = 2  # steps


@dataclass
class History:
    """What is remembered of a row."""

    steps: int = 0
    rejected: int = 0  # steps in a row in which nothing was accepted
    emitted_at: float = float("nan")  # where the last token stood in the order of ids
    drafted_at: float = float("nan")


@dataclass(frozen=True)
class Step:
    """One verdict and what was known before it."""

    p: Tensor  # [B, N, V]
    draft: Draft
    verdict: Verdict
    batch: list[int]  # which sequence each row is
    root_positions: Tensor  # [B]
    recent: bool  # rows joined or left in one of the last steps
    wide: bool  # the draft before this one had more than 5 slots; the width of this one may depend on its tokens

    @property
    def numbers(self) -> int:
        return self.p.numel() + (0 if self.draft.q is None else self.draft.q.numel())


@dataclass(frozen=True)
class Seen:
    """S tokens of one step."""

    places: Places
    context: Tensor  # [S, C]
    sequences: list[int]  # S which sequence each belongs to


@dataclass
class Witness(Wrapped):
    """Wraps a verifier and stands in for it. `texts` judges emitted tokens, `drafts` drafted ones whose distribution is declared; `judge` does the
    work.

    `use_drafts`: the distributions and tokens of drafts may be used to choose sets for emitted tokens (`sees_drafts` says when). `eos_ids` are bet on
    by themselves. `log_probs`, where it is wanted, collects by sequence and position the probability that each emitted token had.
    """

    eos_ids: Sequence[int] = ()
    use_drafts: bool = True
    judge_drafts: bool = True
    most: int = 4_000_000  # numbers in the distributions that may wait to be judged
    in_steps: bool = True  # judge within a step when `most` numbers wait; False: do not bet on further steps until `judge` is called
    num_passed: int = 0  # steps without bets, because `most` numbers waited
    log_probs: dict[int, dict[int, tuple[int, float]]] | None = None  # row hash -> position -> (token, log p)
    texts: Bets = field(default_factory=lambda: Bets(NAMES, EMITTED))
    drafts: Bets = field(default_factory=lambda: Bets(NAMES, DRAFTED))
    num_modes: int = 0  # drafted tokens that are the most probable one of their distribution
    mode_mass: float = 0.0  # how many of them chance would give

    def __post_init__(self) -> None:
        self.generator = torch.Generator().manual_seed(0)
        self.rows: dict[int, History] = {}
        self.batch: list[int] = []
        self.since_change = RECENT  # steps
        self.wide = False
        self.waiting: list[Step] = []
        self.held = 0

    def __call__(self, p: Tensor, draft: Draft, noise: Any) -> Verdict:
        """As the verifier that is wrapped; p [B, N, V]."""
        verdict = self.inner(p, draft, noise)
        batch = noise.rows.tolist()
        self.since_change = 0 if self.batch and batch != self.batch else self.since_change + 1
        self.batch = batch
        if self.held > self.most and not self.in_steps:  # depends on earlier steps only: what is bet on is settled before its tokens are drawn
            self.num_passed += 1
            return verdict
        self.waiting.append(Step(p, draft, verdict, batch, noise.root_positions, self.since_change < RECENT, self.wide))
        self.wide = draft.num_slots > 5
        self.held += self.waiting[-1].numbers
        if self.held > self.most and self.in_steps:
            self.judge()
        return verdict

    def judge(self) -> None:
        """Settles the bets on everything that waits."""
        steps, self.waiting, self.held = self.waiting, [], 0
        emitted, drafted = [], []
        for step in steps:
            histories = [self.rows.setdefault(row, History()) for row in step.batch]
            if self.judge_drafts and step.draft.q is not None and step.draft.num_slots > 1:
                drafted.append(self._drafted(step, histories))
            emitted.append(self._emitted(step, histories))
            for history, count in zip(histories, step.verdict.counts.tolist(), strict=True):
                history.steps += 1
                history.rejected = 0 if count > 1 else history.rejected + 1
        self._settle(self.texts, emitted, "emitted_at")
        self._settle(self.drafts, drafted, "drafted_at")

    def _settle(self, bets: Bets, seen: Sequence[Seen], remembered: str) -> None:
        if not seen:
            return
        parts = [part.places for part in seen]
        width = parts[0].distributions.shape[1]
        others = None
        if any(part.others is not None for part in parts):
            none = (
                part.distributions.new_full((1, 1), torch.nan).expand(len(part.tokens), width) if part.others is None else part.others
                for part in parts
            )
            others = torch.cat(list(none))
        tokens, drafted = torch.cat([part.tokens for part in parts]), torch.cat([part.drafted for part in parts])
        places = Places(torch.cat([part.distributions for part in parts]), tokens, others, drafted)
        found = sets_of(places, torch.tensor(list(self.eos_ids), dtype=torch.int64, device=tokens.device), self.generator)
        before = []
        for sequence, where in zip((row for part in seen for row in part.sequences), found.where.tolist(), strict=True):
            before.append(getattr(self.rows[sequence], remembered))
            setattr(self.rows[sequence], remembered, where)
        found = behind(found, torch.tensor(before, dtype=torch.float64))
        bets.add(found.mass, found.hit, torch.cat([part.context for part in seen]), found.impossible)
        if bets is self.drafts:
            largest = places.distributions == places.distributions.amax(1, keepdim=True)  # one token, or several that tie
            self.mode_mass += float((places.distributions * largest).sum())
            self.num_modes += int(largest.gather(1, tokens[:, None]).sum())

    def _drafted(self, step: Step, histories: Sequence[History]) -> Seen:
        p, draft = step.p, step.draft
        assert draft.q is not None
        rows, slots = ((draft.slots > 0) & (draft.slots < draft.sizes[:, None])).nonzero(as_tuple=True)
        beside = torch.full_like(rows, -1)  # the token of the next older sibling
        if not draft.is_chain:
            older = older_siblings(draft.parents, draft.sizes)[rows, slots]
            beside = torch.where(older.any(1), draft.tokens[rows, (older * draft.slots[rows]).amax(1)], -1)
        places = Places(draft.q[rows, slots], draft.tokens[rows, slots], p[rows, draft.parents[rows, slots]], beside)
        depth, rows, slots = draft.depths()[rows, slots].cpu(), rows.cpu(), slots.cpu()
        own = [*(depth == count for count in (1, 2, 3)), depth >= 4, beside.cpu() >= 0, slots >= 5]
        return Seen(places, torch.stack([*own, *common(step, rows, histories)], 1), [step.batch[row] for row in rows.tolist()])

    def _emitted(self, step: Step, histories: Sequence[History]) -> Seen:
        p, draft, verdict = step.p, step.draft, step.verdict
        rows, depths = (verdict.path >= 0).nonzero(as_tuple=True)
        slots, tokens = verdict.path[rows, depths], verdict.emitted(draft)[rows, depths]
        distributions, others, drafted = p[rows, slots], None, torch.full_like(rows, -1)
        leaves = torch.zeros(len(rows), dtype=torch.bool)
        if self.use_drafts:
            first = first_children(draft)[rows, slots]  # -1 where there is none
            leaves = first.cpu() < 0
            if draft.q is None:
                drafted = torch.where(first < 0, -1, draft.tokens[rows, first.clamp(min=0)])
            else:
                others = torch.where(first[:, None] < 0, torch.nan, draft.q[rows, first.clamp(min=0)])
        sequences = [step.batch[row] for row in rows.tolist()]
        if self.log_probs is not None:
            logs = distributions.gather(1, tokens[:, None]).squeeze(1).double().log().tolist()
            positions = (step.root_positions[rows] + 1 + depths).tolist()
            for sequence, position, token, log in zip(sequences, positions, tokens.tolist(), logs, strict=True):
                self.log_probs.setdefault(sequence, {})[position] = (token, log)
        rows, depths = rows.cpu(), depths.cpu()
        own = [*(depths == count for count in range(4)), depths >= 4, leaves]
        return Seen(Places(distributions, tokens, others, drafted), torch.stack([*own, *common(step, rows, histories)], 1), sequences)


def common(step: Step, rows: Tensor, histories: Sequence[History]) -> Iterable[Tensor]:
    """The contexts that emitted and drafted tokens share, for tokens of `rows` [S]; bool [S] each."""
    rejected = torch.tensor([history.rejected for history in histories])[rows]
    steps = torch.tensor([history.steps for history in histories])[rows]
    yield from (rejected == count for count in (1, 2))
    yield rejected >= 3
    yield from ((steps >= low) & (steps <= high) for low, high in SPANS)
    yield rows == 0
    yield rows > 0
    yield torch.full_like(rows, step.recent, dtype=torch.bool)
    yield torch.full_like(rows, step.wide, dtype=torch.bool)


def sees_drafts(drafter: Drafter, verifier: Verifier) -> bool:
    """Whether what stands in a draft before a place is independent of the token that will be emitted there.

    It is not if a tree grows by what was drawn elsewhere in it, or if the drafter may see the noise that the target draws with.
    """
    return not drafter.traits.adapts_siblings and not getattr(verifier, "shares_noise", False)


def first_children(draft: Draft) -> Tensor:
    """The oldest child of every slot, -1 where there is none; [B, N]."""
    if draft.is_chain:
        return torch.where(draft.slots + 1 < draft.sizes[:, None], draft.slots + 1, -1)
    found = torch.full_like(draft.slots, -1)
    used = (draft.slots > 0) & (draft.slots < draft.sizes[:, None])
    for slot in range(draft.num_slots - 1, 0, -1):  # the oldest comes last and stays
        column = draft.parents[:, slot].clamp(min=0)[:, None]
        found.scatter_(1, column, torch.where(used[:, slot : slot + 1], slot, found.gather(1, column)))
    return found
