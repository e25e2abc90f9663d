"""The distribution of the next token over 262,144 tokens in float32: exact verifiers are within 1e-7 of plain decoding, and what is wrong there is
found."""

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from experiments.lossless.battery import SMALL_EFFORT, rejecting
from experiments.lossless.checks.real_vocabulary import NAME, check_real_vocabulary, look
from experiments.lossless.mutants.loops import LoopMutant
from experiments.lossless.mutants.real_size import REAL_MUTANTS
from experiments.lossless.real_size.rows import Case, Rows, strong
from experiments.parts.build import exact_verifiers
from spec.chains import keep_chain, until_rejected
from spec.interfaces import Verifier
from spec.sampling import Sampler
from spec.types import Draft, Verdict
from verifiers.ensemble import Ensemble
from verifiers.greedy import Greedy
from verifiers.lenient import Lenient
from verifiers.rejection import Rejection

EXACT = exact_verifiers()
SMALL = 1 << 15  # where the distribution itself is not at stake


def check(verifier: Verifier, sampler: Sampler | None = None):
    return check_real_vocabulary(replace(LoopMutant("", verifier=verifier).subject(), sampler=sampler or Sampler()), SMALL_EFFORT)


@pytest.mark.parametrize("name", EXACT)
def test_exact_verifiers_pass(name):
    found = check(EXACT[name])
    assert found.verdict == "pass", found.detail
    assert found.tv is not None
    assert found.tv < 1e-7


@pytest.mark.parametrize("mutant", REAL_MUTANTS, ids=lambda mutant: mutant.name)
def test_mutants_are_rejected(mutant):
    assert rejecting(mutant) == [NAME]


def test_lossy_verifiers_are_judged_and_refusing_ones_are_not():
    assert check(Lenient()).verdict == "fail"
    assert check(Greedy()).verdict == "not applicable"
    assert check(Greedy(), Sampler(0)).verdict == "pass"


def test_filters_and_processors_of_the_subject_are_used_as_far_as_they_need_no_text():
    found = check(Rejection(), Sampler(0.7, top_k=50, top_p=0.9, repetition_penalty=1.2))
    assert found.verdict == "pass", found.detail


P, Q = 0.4, 0.8  # of the strong token


def tv_of(verifier: Any, parents: tuple[int, ...] = (0,), rule: str = "independent") -> float:
    """On a small vocabulary: a token of .4 in the target and .8 in the drafter, the others equal."""
    found = look(Case(Rows("", strong(P, SMALL), strong(Q, SMALL)), parents, rule), verifier, Sampler())
    assert found.tv is not None, found.reason
    return found.tv


@dataclass(frozen=True)
class Scaled:
    """Token-level rejection that accepts by a ratio, and leaves by a difference, which the fields make wrong."""

    ratio: float = 1.0
    subtracted: float = 1.0
    exact: bool = True

    def __call__(self, p: Tensor, draft: Draft, noise: Any) -> Verdict:
        assert draft.q is not None
        token = draft.tokens[:, 1:]
        odds = p[:, 0].gather(1, token) / draft.q[:, 1].gather(1, token)
        return keep_chain(until_rejected(odds * self.ratio, draft, noise), p, replace(draft, q=draft.q * self.subtracted), noise)


@pytest.mark.parametrize(
    ("wrong", "wanted"),
    [
        (Scaled(), 0.0),
        (Scaled(ratio=1 - 1e-4), P * 1e-4),  # the tail is accepted in any case
        (Scaled(subtracted=0.4), P * (P - 0.4 * Q) / (1 - 0.4)),  # the rejected share of q is 1 - P - (1 - Q) = P
        (Ensemble(0.75), 0.25 * (Q - P)),
    ],
)
def test_distance_of_wrong_chains_is_the_one_they_must_have(wrong, wanted):
    assert tv_of(wrong) == pytest.approx(wanted, abs=2e-7)


def test_first_token_of_a_longer_chain_is_looked_at():
    assert tv_of(Ensemble(0.75), (0, 1)) == pytest.approx(0.25 * (Q - P), abs=2e-7)


@dataclass(frozen=True)
class Takes:
    """Wrong: always keeps one of the root's children."""

    slot: int
    exact: bool = True

    def __call__(self, p: Tensor, draft: Draft, noise: Any) -> Verdict:
        path = torch.tensor([0, self.slot]).expand(len(p), -1)
        return Verdict(path, torch.zeros(len(p), dtype=torch.int64), torch.full((len(p),), 2))


@pytest.mark.parametrize(
    ("rule", "slot", "share"),
    [
        ("independent", 1, Q),
        ("independent", 2, Q),
        ("distinct", 1, Q),
        ("distinct", 2, (1 - Q) * Q / (1 - (1 - Q) / (SMALL - 1))),  # the strong token comes second if another one came first
        ("greedy", 1, 1.0),
        ("greedy", 2, 0.0),
        ("top", 1, 1.0),
    ],
)
def test_distance_of_wrong_siblings_is_the_one_they_must_have(rule, slot, share):
    assert tv_of(Takes(slot), (0, 0), rule) == pytest.approx(abs(share - P), abs=2e-7)


@dataclass(frozen=True)
class Race:
    """Gumbel-max over log p, which a temperature makes wrong; `rounded`: in float32."""

    sharpness: float = 1.0
    rounded: bool = False
    exact: bool = True

    def __call__(self, p: Tensor, draft: Draft, noise: Any) -> Verdict:
        scores = p[:, 0].log() if self.rounded else p[:, 0].double().log()
        drawn = (self.sharpness * scores + noise.gumbel(noise.root_positions + 1, p.shape[2])).argmax(1)
        return Verdict(torch.zeros_like(drawn)[:, None], drawn, torch.ones_like(drawn))


def test_distribution_of_a_race_is_found_from_outside():
    assert tv_of(Race()) < 1e-8
    strength, tail = P**1.2, (SMALL - 1) * ((1 - P) / (SMALL - 1)) ** 1.2
    assert tv_of(Race(1.2)) == pytest.approx(strength / (strength + tail) - P, abs=1e-6)


def test_logarithms_in_float32_are_not_exact_enough():
    tail = [tv_of(Race(rounded=True), (0,), rule) for rule in ("independent", "top")]
    assert max(tail) > 5e-8


class Narrowed(Rejection):
    """A user's verifier that looks up a number no stand-in for the noise has."""

    def __call__(self, p: Tensor, draft: Draft, noise: Any) -> Verdict:
        noise.uniform(draft.slots, 1)
        return super().__call__(p, draft, noise)


def test_a_verifier_that_cannot_be_followed_is_named_not_passed():
    found = check(Narrowed())
    assert found.verdict == "not applicable"
    assert "cannot be followed" in found.detail
