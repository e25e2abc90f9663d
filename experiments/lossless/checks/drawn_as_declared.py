"""Watches the drafter while it draws: from which distribution each drafted token came, and whether it used random numbers of the right purpose.

Frequencies need thousands of tokens to see that a declared distribution is not the one that was drawn from. Here the two distributions are compared,
so one token is enough, and the difference is known to the last digit. A drafter that does not draw by the step's noise cannot be watched; the bets
judge it. Letters besides the usual: E draws of a step.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from experiments.lossless.subject import FAIL, NOT_APPLICABLE, PASS, Check
from spec.interfaces import Wrapped
from spec.noise import Purpose, StepNoise
from spec.sampling import Sampler
from spec.state import DecodeState
from spec.types import Draft, Verdict

NAME = "drawn as declared"
CLOSE = 1e-6  # total variation that rounding may make between the two forms of one float32 distribution
CERTAIN = 1 - 1e-6
ENOUGH = 4000  # drafted tokens that are compared
FOREIGN = {Purpose.ACCEPT: "judge drafted tokens", Purpose.RESIDUAL: "draw what replaces a rejected token"}


@dataclass
class Drawing:
    """One call of `categorical`."""

    distributions: Tensor  # [B, K, V]
    results: Tensor  # [B, K]


@dataclass
class Watch:
    """What was drawn since the last verdict, and what has been found out so far."""

    drawings: list[Drawing] = field(default_factory=list)
    keys: set[tuple[int, int, int, int]] = field(default_factory=set)  # of all numbers taken so far
    foreign: set[Purpose] = field(default_factory=set)
    verifying: bool = False
    repeated: str = ""
    compared: int = 0  # drafted tokens whose draw was seen
    unseen: int = 0  # drafted tokens whose distribution leaves a choice, but whose draw was not seen
    differing: int = 0
    worst: float = 0.0  # total variation between declared and drawn from
    total: float = 0.0

    def over(self, sampler: Sampler) -> Sampler:
        """The same sampler; its noise is watched."""

        def noise(state: DecodeState) -> WatchedNoise:
            found = sampler.noise(state)
            return WatchedNoise(found.rows, found.root_positions, self)

        return sampler.with_noise(noise)

    def note(self, noise: StepNoise, purpose: Purpose, slots: Tensor) -> None:
        """Notes which numbers are taken. A number belongs to a row, a root position, a purpose and a slot, and may be used once."""
        if not self.verifying and purpose in FOREIGN:
            self.foreign.add(purpose)
        positions, rows = noise.root_positions.tolist(), noise.rows.tolist()
        for row, position, own in zip(rows, positions, slots.reshape(len(rows), -1).tolist(), strict=True):
            for slot in own:
                key = (row, position, int(purpose), slot)
                if key in self.keys:
                    self.repeated = f"the {purpose.name} number of slot {slot} at root position {position} is used twice"
                self.keys.add(key)

    def compare(self, draft: Draft) -> None:
        """The declared rows of a draft with those that its tokens were drawn from."""
        if draft.q is None or draft.num_slots == 1 or self.compared >= ENOUGH:
            return
        used = (draft.slots > 0) & (draft.slots < draft.sizes[:, None])
        certain = draft.q.gather(2, draft.tokens[..., None]).squeeze(2) >= CERTAIN
        rows, slots = (used & ~certain).nonzero(as_tuple=True)
        if not len(rows):
            return
        if not self.drawings:
            self.unseen += len(rows)
            return
        results = torch.cat([drawing.results for drawing in self.drawings], 1)  # [B, E]
        distributions = torch.cat([drawing.distributions for drawing in self.drawings], 1)
        weights = torch.rand(distributions.shape[2], dtype=torch.float64, generator=torch.Generator().manual_seed(7)).to(distributions.device)
        marks = (distributions.double() @ weights) / distributions.sum(2, dtype=torch.float64)  # a number per distribution, to find the nearest
        mark = draft.q[rows, slots].double() @ weights
        same = results[rows] == draft.tokens[rows, slots][:, None]
        distance = (marks[rows] - mark[:, None]).abs().masked_fill(~same, torch.inf)
        drawn = same.any(1)
        self.unseen += int((~drawn).sum())
        rows, slots, nearest = rows[drawn], slots[drawn], distance.argmin(1)[drawn]
        declared = draft.q[rows, slots]
        apart = between(distributions[rows, nearest], declared)
        for place in (
            (apart > CLOSE).nonzero().flatten().tolist()
        ):  # the marks of two distributions may be equal by chance, so all draws of this token are asked
            others = distributions[rows[place], same[drawn][place]]
            apart[place] = between(others, declared[place]).min()
        self.compared += len(apart)
        self.differing += int((apart > CLOSE).sum())
        self.worst = max([self.worst, *apart.tolist()])
        self.total += float(apart.sum())

    def next_step(self) -> None:
        self.drawings, self.verifying = [], False


def between(drawn: Tensor, declared: Tensor) -> Tensor:
    """Total variation between distributions [S, V] that need not sum to 1 and distributions [S, V] or [V] that do; float64 [S]."""
    distributions = drawn.double()
    return (distributions / distributions.sum(1, keepdim=True) - declared.double()).abs().sum(1) / 2


@dataclass(frozen=True)
class WatchedNoise(StepNoise):
    """Noise that reports every draw to `watch`."""

    watch: Watch

    def uniform(self, slots: Tensor, purpose: Purpose) -> Tensor:
        self.watch.note(self, purpose, slots)
        return StepNoise(self.rows, self.root_positions).uniform(slots, purpose)

    def bits(self, slots: Tensor, purpose: Purpose) -> Tensor:
        self.watch.note(self, purpose, slots)
        return super().bits(slots, purpose)

    def categorical(self, distribution: Tensor, purpose: Purpose, slots: Tensor) -> Tensor:
        result = super().categorical(distribution, purpose, slots)  # asks for its number by `uniform`
        if not self.watch.verifying:
            whole = distribution.ndim == 3
            self.watch.drawings.append(Drawing(distribution if whole else distribution[:, None], result if whole else result[:, None]))
        return result


@dataclass
class Watching(Wrapped):
    """Wraps the verifier: everything that is drawn before it is called was drawn by the drafter."""

    watch: Watch

    def __call__(self, p: Tensor, draft: Draft, noise: Any) -> Verdict:
        self.watch.compare(draft)
        self.watch.verifying = True
        verdict = self.inner(p, draft, noise)
        self.watch.next_step()
        return verdict


def verdict_of(watch: Watch, declares: bool) -> Check:
    """`declares`: any drafted token came with a distribution."""
    if watch.foreign:
        taken = " and ".join(f"{purpose.name} numbers, which {FOREIGN[purpose]}" for purpose in sorted(watch.foreign))
        return Check(NAME, FAIL, f"the drafter takes {taken}: drafts may use DRAFT numbers alone")
    if watch.repeated:
        return Check(NAME, FAIL, watch.repeated)
    if watch.differing:
        share = watch.differing / watch.compared
        detail = f"{share:.0%} of {watch.compared} drafted tokens were drawn from another distribution than declared, by TV {watch.worst:.3g} at most"
        return Check(NAME, FAIL, detail, tv=watch.total / watch.compared, detectable_tv=CLOSE, power=1.0)
    if not declares:
        return Check(NAME, NOT_APPLICABLE, "the drafter declares no distributions (q is left out), which is exact for any tokens")
    if not watch.compared:
        return Check(NAME, NOT_APPLICABLE, f"{watch.unseen} drafted tokens were not drawn through the step's noise; the counts alone judge them")
    about = f"{watch.compared} drafted tokens were drawn from the very distributions declared for them"
    left = f"; {watch.unseen} were not drawn through the step's noise" if watch.unseen else ""
    return Check(NAME, PASS, about + left, tv=watch.total / watch.compared, detectable_tv=CLOSE, power=1.0)
