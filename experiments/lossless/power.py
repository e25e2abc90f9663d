"""How small a bias the bets on long texts still find, by `python -m experiments.lossless.power`: drafters that are wrong in a share of their steps.

On the table of 80 tokens, where a hundred thousand tokens take seconds. For each wrong drafter the total variation between the distribution of an
emitted token and the target's is computed at every token, the share is chosen so that its mean is the one asked for, and the bets alone (not the
comparison of drawn and declared distributions, which sees such faults at once) judge the texts of several seeds. Prints one JSON line for each.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from experiments.lossless.betting.witness import Witness
from experiments.lossless.checks.long_texts import Reading, end_tokens
from experiments.lossless.mutants.drafter_battery import DRAFTER_MUTANTS, DrafterMutant
from experiments.lossless.mutants.drafters import WrongChain
from experiments.lossless.subject import Effort
from spec.interfaces import Wrapped
from spec.sampling import Sampler
from spec.types import Draft, Verdict

Distribution = Callable[[Tensor, Tensor, Tensor], Tensor]  # p, q declared, q drawn from, [S, V] each -> the distribution of the emitted token


def residual(p: Tensor, q: Tensor) -> Tensor:
    rest = (p - q).clamp(min=0)
    mass = rest.sum(-1, keepdim=True)
    return torch.where(mass > 0, rest / mass, p)


def odds(p: Tensor, q: Tensor) -> Tensor:
    return (p / q).nan_to_num(0.0, posinf=1.0).clamp(max=1)


def drawn_otherwise(p: Tensor, q: Tensor, drawn: Tensor) -> Tensor:
    """Tokens drawn from one distribution and judged by another."""
    kept = drawn * odds(p, q)
    return kept + (1 - kept.sum(-1, keepdim=True)) * residual(p, q)


def dropped(bad: Callable[[Tensor], Tensor]) -> Distribution:
    """Drafts that end before a bad token: the token there comes from the target's own distribution."""

    def distribution(p: Tensor, q: Tensor, drawn: Tensor) -> Tensor:
        good = q * ~bad(q)
        kept = good * odds(p, q)
        return kept + (good.sum(-1, keepdim=True) - kept.sum(-1, keepdim=True)) * residual(p, q) + (q * bad(q)).sum(-1, keepdim=True) * p

    return distribution


def by_accept_number(p: Tensor, q: Tensor, drawn: Tensor) -> Tensor:
    """The number that drew token x, inside x's part of the unit interval, is the one that must lie below p(x) / q(x)."""
    begin = q.cumsum(-1) - q
    kept = (torch.minimum(begin + q, odds(p, q)) - begin).clamp(min=0)
    return kept + (1 - kept.sum(-1, keepdim=True)) * residual(p, q)


def by_residual_number(p: Tensor, q: Tensor, drawn: Tensor) -> Tensor:
    """The number that drew a rejected token draws what replaces it."""
    kept, rest = q * odds(p, q), residual(p, q)
    knots = torch.nn.functional.pad(q.cumsum(-1), (1, 0))  # of the rejected mass below each number, linear in between
    below = torch.nn.functional.pad((q - kept).cumsum(-1), (1, 0))
    ends = rest.cumsum(-1).clamp(max=1)
    place = torch.searchsorted(knots, ends.contiguous()).clamp(1, q.shape[-1])
    left, right = knots.gather(-1, place - 1), knots.gather(-1, place)
    low, high = below.gather(-1, place - 1), below.gather(-1, place)
    reached = low + (high - low) * ((ends - left) / (right - left).clamp(min=1e-300)).clamp(0, 1)
    return kept + reached.diff(dim=-1, prepend=torch.zeros_like(reached[..., :1]))


def peeked(p: Tensor, q: Tensor, drawn: Tensor) -> Tensor:
    """A draft only where the accepting number is below 1/2."""
    kept = q * odds(p, q).clamp(max=0.5)
    return 0.5 * p + kept + (0.5 - kept.sum(-1, keepdim=True)) * residual(p, q)


LAWS: dict[str, Distribution] = {
    "D4": dropped(lambda q: q < q.amax(-1, keepdim=True) / 4),
    "D5": dropped(lambda q: torch.arange(q.shape[-1]).expand_as(q) == 2),
    "D14": by_accept_number,
    "D15": by_residual_number,
}
FIRST_ONLY: dict[str, Distribution] = {"D16": peeked}  # it looks at the first number alone


@dataclass
class Measured(Wrapped):
    """A verifier that computes how far the distribution of each emitted token is from the target's, given what the drafter did."""

    identity: str
    drafter: Any = None
    total: float = 0.0
    tokens: int = 0

    def __call__(self, p: Tensor, draft: Draft, noise: Any) -> Verdict:
        verdict = self.inner(p, draft, noise)
        self.tokens += int(verdict.counts.sum())
        distribution = FIRST_ONLY.get(self.identity) or LAWS.get(self.identity, drawn_otherwise)
        distributions, drawn = self.drafter.distributions, self.drafter.drawn
        for depth in range(len(distributions) if self.drafter.wrong else 0):
            if depth and self.identity in FIRST_ONLY:
                break
            declared = distributions[depth] if self.identity in LAWS or self.identity in FIRST_ONLY else self._declared(draft, depth)
            if declared is None:
                continue
            reached = (verdict.counts > depth) & ((draft.sizes > depth + 1) | (self.identity in LAWS) | (self.identity in FIRST_ONLY))
            off = (distribution(p[:, min(depth, p.shape[1] - 1)], declared, drawn[depth]) - p[:, min(depth, p.shape[1] - 1)]).abs().sum(-1) / 2
            self.total += float((off * reached).sum())
        return verdict

    def _declared(self, draft: Draft, depth: int) -> Tensor | None:
        return draft.q[:, depth + 1] if draft.q is not None and depth + 1 < draft.num_slots else None


@dataclass
class Power:
    """How one wrong drafter fares."""

    mutant: DrafterMutant
    effort: Effort
    found: list[dict[str, Any]] = field(default_factory=list)

    @property
    def identity(self) -> str:
        return self.mutant.name.partition(" ")[0]

    def reading(self, share: float, seed: int) -> tuple[Reading, Measured]:
        subject = replace(self.mutant, settings={**self.mutant.settings, "share": share}).subject()
        drafter = subject.make_drafter()
        assert isinstance(drafter, WrongChain)
        drafter.coin.generator.manual_seed(seed)
        measured = Measured(subject.verifier, self.identity, drafter)
        subject = replace(subject, sampler=Sampler(0.7, seed=seed), make_drafter=lambda model=None: drafter)
        reading = Reading(subject, self.effort, Witness(measured, end_tokens(subject.target.config), log_probs={}))
        reading.watch.compared = 10**9  # not watched
        return reading, measured

    def mean_tv(self, share: float, tokens: int = 3000) -> float:
        """Mean TV per emitted token."""
        reading, measured = self.reading(share, 10**6)
        for _ in reading.waves():
            if measured.tokens >= tokens:
                break
        return measured.total / max(measured.tokens, 1)

    def judge(self, share: float, seed: int) -> dict[str, Any]:
        """Reads until the bets are sure or the tokens are used up."""
        reading, measured = self.reading(share, seed)
        witness = reading.witness
        for _ in reading.waves():
            if min(witness.texts.p_value, witness.drafts.p_value) <= self.effort.level / 2:
                break
        found = {"texts": witness.texts.p_value <= self.effort.level / 2, "drafts": witness.drafts.p_value <= self.effort.level / 2}
        return found | {"tokens": witness.texts.taken, "mean_tv": measured.total / measured.tokens}


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description="How small a bias the bets on long texts still find.")
    parser.add_argument("--tv", type=float, default=0.01, help="mean total variation per emitted token")
    parser.add_argument("--tokens", type=int, default=Effort.long_texts)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--only", nargs="*", default=[], help="mutants, such as D6")
    parser.add_argument("--texts-only", action="store_true", help="judge emitted tokens alone, as for a drafter that declares no distributions")
    given = parser.parse_args()
    torch.set_num_threads(1)
    for mutant in DRAFTER_MUTANTS:
        power = Power(mutant, Effort(long_texts=given.tokens))
        if (given.only and power.identity not in given.only) or not issubclass(mutant.drafter, WrongChain):  # pyright: ignore[reportArgumentType]
            continue
        whole = power.mean_tv(1.0)
        share = min(1.0, given.tv / whole) if whole else 1.0
        runs = [power.judge(share, seed) for seed in range(given.seeds)]
        line = {"mutant": mutant.name, "tv_in_every_step": whole, "share": share, "mean_tv": sum(run["mean_tv"] for run in runs) / len(runs)}
        line |= {kind: sum(run[kind] for run in runs) for kind in ("texts", "drafts")}
        line |= {"found": sum(run["texts"] or run["drafts"] for run in runs), "seeds": len(runs), "most_tokens": max(run["tokens"] for run in runs)}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
