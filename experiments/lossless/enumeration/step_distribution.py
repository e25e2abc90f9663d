"""What one step emits, exactly, and how far that is from the target's distribution.

The step condition: run one step and complete what it emitted with the target; a lossless rule gives the target's own distribution. If every step
meets it, so does the loop. For chains it is the argument of Leviathan et al., arXiv 2211.17192, A.1; here it is checked by enumeration, for any
draft.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from experiments.lossless.enumeration.branches import Branches, BranchingNoise, Keys, enumerate_distribution
from experiments.lossless.enumeration.proposals import Proposals
from experiments.lossless.enumeration.tables import Instance, Prefix
from spec.interfaces import Verifier
from spec.types import Draft, Verdict

Distribution = dict[Prefix, float]


def check_verdict(draft: Draft, verdict: Verdict) -> None:
    """The shape of a verdict: a connected path of used slots from the root down, -1 after it, and a legal bonus token."""
    path, counts = verdict.path, verdict.counts
    kept = torch.arange(path.shape[1]) < counts[:, None]
    assert bool((counts >= 1).all()), "a live row emitted nothing"
    assert bool((path[:, 0] == 0).all()), "a path does not start at the root"
    assert bool((path[~kept] == -1).all()), "a path goes on after its end"
    assert bool(((path < draft.sizes[:, None]) | ~kept).all()), "a padding slot was kept"
    up = draft.parents.gather(1, path[:, 1:].clamp(min=0))
    assert bool(((up == path[:, :-1]) | ~kept[:, 1:]).all()), "a path is not connected"


def step_distribution(proposals: Proposals, verifier: Verifier, batch: int = 50_000) -> Distribution:
    """The distribution of the string that one step emits."""

    def run(branches: Branches) -> Tensor:
        rows = proposals.rows(branches.origins)
        noise = BranchingNoise(branches, torch.zeros(len(branches), dtype=torch.int64))
        verdict = verifier(rows.p, rows.draft, noise)  # pyright: ignore[reportArgumentType]
        check_verdict(rows.draft, verdict)
        return verdict.emitted(rows.draft)

    return enumerate_distribution(run, Keys(proposals.draft.num_slots), proposals.weights, batch)


def complete_with_p(distribution: Mapping[Prefix, float], instance: Instance, length: int) -> Distribution:
    """The distribution of the first `length` tokens if p writes what is missing; longer strings are cut."""
    full: Distribution = defaultdict(float)
    for emitted, weight in distribution.items():
        for text in _texts(emitted[:length], instance.vocabulary, length):
            full[text] += weight * instance.probability(text, start=min(len(emitted), length))
    return dict(full)


def _texts(start: Prefix, vocabulary: int, length: int) -> list[Prefix]:
    texts = [start]
    while len(texts[0]) < length:
        texts = [text + (token,) for text in texts for token in range(vocabulary)]
    return texts


def tv(left: Mapping[Prefix, float], right: Mapping[Prefix, float]) -> float:
    """Total variation distance."""
    return sum(abs(left.get(key, 0.0) - right.get(key, 0.0)) for key in left.keys() | right.keys()) / 2


def expected_emitted(distribution: Mapping[Prefix, float]) -> float:
    """Expected number of tokens."""
    return sum(weight * len(emitted) for emitted, weight in distribution.items())


@dataclass(frozen=True)
class Report:
    """What the exactness check finds out about one drafter and verifier."""

    distribution: Distribution
    error: float  # TV between the completed distribution and the target's
    expected: float  # tokens that a step emits
    mass: float  # total probability, 1 unless the enumeration itself is broken

    @property
    def lengths(self) -> list[float]:
        """Probability of emitting 1, 2, ... tokens."""
        result = [0.0] * max(map(len, self.distribution))
        for emitted, weight in self.distribution.items():
            result[len(emitted) - 1] += weight
        return result


def examine(instance: Instance, proposals: Proposals, verifier: Verifier, length: int = 0) -> Report:
    """Enumerates one step and compares with the target. `length` 0: as long as the longest string a step can emit."""
    distribution = step_distribution(proposals, verifier)
    length = length or int(proposals.draft.depths().max()) + 1
    error = tv(complete_with_p(distribution, instance, length), instance.target_distribution(length))
    return Report(distribution, error, expected_emitted(distribution), sum(distribution.values()))


def assert_exact(report: Report, expected: float | None = None) -> None:
    """The check that production code must pass and every mutant must fail."""
    assert abs(report.mass - 1) < 1e-12, f"the distribution sums to {report.mass!r}"
    assert report.error < 1e-12, f"the distribution of the emitted tokens is off by TV {report.error:.3e}"
    if expected is not None:
        assert abs(report.expected - expected) < 1e-9, f"emits {report.expected!r} tokens a step, should be {expected!r}"
