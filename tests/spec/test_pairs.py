"""Which drafter goes with which verifier, and what a draft may declare: refused with a sentence, before work or at the first step."""

import copy

import pytest
import torch

from drafters.lookahead import Lookahead
from drafters.prompt_lookup import PromptLookup
from spec import CausalLM, Draft, Drafter, Limits, Sampler, decode
from spec.interfaces import Wrapped
from tests.tiny import VOCABULARY, build
from verifiers.block import Block
from verifiers.coupled import Coupled
from verifiers.ensemble import Ensemble
from verifiers.lenient import Lenient
from verifiers.recursive import Recursive
from verifiers.rejection import Rejection

CHAINS_ONLY = [Rejection(), Block(), Lenient(), Ensemble()]


class Declaring(Drafter):
    """Drafts token 1 and declares what it is told; says or does not say that it may branch."""

    def __init__(self, q: torch.Tensor | None = None, width: int | None = 1):
        self.q, self.width = q, width
        self.proposed = 0

    def propose(self, state, sampler):
        self.proposed += 1
        tokens = torch.tensor([[root, 1] for root in state.roots])
        return Draft(tokens, torch.tensor([[-1, 0]]).expand_as(tokens), torch.full_like(tokens[:, 0], 2), self.q, width=self.width)


@pytest.fixture(scope="module")
def target():
    return CausalLM(build("llama"))


def run(target, drafter, verifier):
    return decode(target, drafter, verifier, [[1, 2, 3, 1, 2]], sampler=Sampler(), limits=Limits(max_new_tokens=3), allow_lossy=True)


@pytest.mark.parametrize("verifier", CHAINS_ONLY, ids=repr)
def test_drafter_of_trees_is_refused_by_a_verifier_of_chains_before_any_work(target, verifier):
    drafter = Lookahead()
    with pytest.raises(ValueError, match=f"{type(verifier).__name__} verifies chains only and Lookahead drafts trees; take a verifier for trees"):
        run(target, drafter, verifier)
    assert drafter.pools == []
    assert len(run(target, PromptLookup(), verifier).new_tokens()) == 3


class Counting(Wrapped):
    """Counts its calls."""

    calls = 0

    def __call__(self, p, draft, noise):
        self.calls += 1
        return self.inner(p, draft, noise)


def test_a_verifier_that_is_wrapped_says_and_does_what_it_does_alone(target):
    wrapped = Counting(Lenient())
    assert (wrapped.exact, copy.copy(wrapped).leniency, hasattr(wrapped, "shares_noise")) == (False, 0.8, False)
    with pytest.raises(ValueError, match="verifies chains only"):
        run(target, Lookahead(), wrapped)
    assert run(target, PromptLookup(), wrapped).new_tokens() == run(target, PromptLookup(), Lenient()).new_tokens()
    assert wrapped.calls > 0


@pytest.mark.parametrize("verifier", CHAINS_ONLY, ids=repr)
def test_drafter_that_does_not_say_that_it_branches_is_refused_at_its_first_draft(target, verifier):
    drafter = Declaring(width=None)
    with pytest.raises(ValueError, match="was given a draft that may branch"):
        run(target, drafter, verifier)
    assert drafter.proposed == 1
    assert len(run(target, Declaring(width=None), Recursive()).new_tokens()) == 3


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("verifier", [Recursive(), Rejection(), Block(), Coupled()], ids=repr)
def test_distribution_that_is_not_finite_is_refused(target, verifier, value):
    q = torch.full((1, 2, VOCABULARY), 1 / VOCABULARY, dtype=torch.float64)
    q[0, 1, 7] = value
    with pytest.raises(ValueError, match=r"not finite \(row 0, slot 1\)"):
        run(target, Declaring(q), verifier)


def test_rows_of_q_that_nobody_reads_may_hold_anything():
    q = torch.full((2, 3, 4), 0.25)
    q[:, 0], q[1, 2] = torch.nan, torch.nan
    Draft.chain(torch.zeros(2, 3, dtype=torch.int64), torch.tensor([3, 2]), q).check_distributions()
    with pytest.raises(ValueError, match=r"row 1, slot 2"):
        Draft.chain(torch.zeros(2, 3, dtype=torch.int64), q=q).check_distributions()
