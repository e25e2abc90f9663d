"""Gumbel coupling: the same text for a seed whatever was drafted, its distribution by chi-square, and how often a coupled drafter is followed."""

from dataclasses import dataclass

import pytest
import torch
from scipy.stats import chi2
from torch import Tensor

from drafters.draft_model import DraftModel
from drafters.jacobi import Jacobi
from drafters.lookahead import Lookahead
from drafters.none import NoDraft
from drafters.prompt_lookup import PromptLookup
from experiments.lossless.enumeration.tables import B4, GOLDEN, A, Z
from spec import CausalLM, Limits, Sampler, decode
from spec.noise import Noise, StepNoise
from spec.types import Draft
from tests.experiments.lossless.reused_noise import write
from tests.tiny import build
from verifiers.coupled import Coupled
from verifiers.sample_match import SampleMatch

PROMPTS = [[5, 9, 13, 5, 9, 13, 5, 9], [3], [17, 2, 30, 30, 30, 8, 17, 2, 30, 1, 33, 4]]
NUM_TOKENS, ALPHA, NUM_TEXTS = 20, 1e-6, 8000


def drafters(dtype: torch.dtype) -> list:
    assistant = build("llama", seed=1).to(dtype)
    itself = build("llama").to(dtype)
    return [
        DraftModel(model=assistant, num_tokens=1),
        DraftModel(model=assistant, num_tokens=4),
        DraftModel(model=itself, num_tokens=3),
        PromptLookup(num_tokens=4),
        Lookahead(window=3, ngram=3, guesses=3),
        Jacobi(num_tokens=3),
    ]


def texts(drafter, verifier, dtype, prompts=PROMPTS, sampler: type[Sampler] = Sampler, **options) -> list[list[int]]:
    target, limits = CausalLM(build("llama").to(dtype)), Limits(max_new_tokens=NUM_TOKENS)
    result = decode(target, drafter, verifier, prompts, sampler=sampler(temperature=0.8, seed=4), limits=limits, **options)
    return [result.new_tokens(row) for row in range(len(prompts))]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_text_of_a_seed_does_not_depend_on_drafter_or_batch(dtype):
    plain = texts(NoDraft(), Coupled(), dtype)
    assert len({tuple(text) for text in plain}) == len(plain)
    for drafter in drafters(dtype):
        assert texts(drafter, Coupled(), dtype) == plain
    alone = [texts(PromptLookup(), Coupled(), dtype, [prompt], sequence_ids=[row])[0] for row, prompt in enumerate(PROMPTS)]
    assert alone == plain


def test_text_of_a_seed_does_depend_on_the_drafter_with_other_verifiers():
    assert texts(PromptLookup(num_tokens=4), SampleMatch(), torch.float64) != texts(NoDraft(), SampleMatch(), torch.float64)


@dataclass(frozen=True)
class ByStep(StepNoise):
    """Wrong: Gumbel noise that belongs to the step and the depth in it."""

    def gumbel(self, positions: Tensor, vocabulary: int) -> Tensor:
        return super().gumbel(positions + 1000 * self.root_positions, vocabulary)


class SteppingSampler(Sampler):
    """Hands out `ByStep`."""

    def noise(self, state) -> StepNoise:
        noise = super().noise(state)
        return ByStep(noise.rows, noise.root_positions)


def test_noise_keyed_by_step_is_convicted_by_the_drafter_that_shows():
    plain = texts(NoDraft(), Coupled(), torch.float64, sampler=SteppingSampler)
    assert texts(Jacobi(num_tokens=3), Coupled(), torch.float64, sampler=SteppingSampler) != plain


def p_value(found: Tensor) -> float:
    """Chi-square of golden texts [S, L] against their exact joint distribution."""
    distribution = torch.tensor(list(GOLDEN.target_distribution(found.shape[1]).values()), dtype=torch.float64)
    cells = (found * 4 ** torch.arange(found.shape[1] - 1, -1, -1)).sum(1)
    expected = distribution * len(found)
    return float(chi2.sf(((torch.bincount(cells, minlength=len(distribution)) - expected) ** 2 / expected).sum().item(), len(distribution) - 1))


@pytest.mark.parametrize("gamma", [0, 1, 2])
def test_first_tokens_follow_the_target(gamma):
    ids = torch.arange(NUM_TEXTS)
    assert p_value(write(Coupled(), NUM_TEXTS, lambda roots, live: Noise(2).at(ids, roots), gamma, 3)) > ALPHA


@dataclass(frozen=True)
class OneForAll(StepNoise):
    """Wrong: one noise for all depths of a step."""

    def gumbel(self, positions: Tensor, vocabulary: int) -> Tensor:
        return super().gumbel(self.root_positions, vocabulary)


def test_one_noise_for_all_depths_is_convicted():
    rows = Noise(2).at(torch.arange(NUM_TEXTS), torch.zeros(NUM_TEXTS, dtype=torch.int64)).rows
    assert p_value(write(Coupled(), NUM_TEXTS, lambda roots, live: OneForAll(rows, roots), 2, 3)) < ALPHA


def match_probability(p: Tensor, q: Tensor) -> float:
    """Sum over j of 1 / sum over i of max(p_i / p_j, q_i / q_j): Daliri et al., arXiv 2408.07978."""
    both = ((p > 0) & (q > 0)).nonzero().flatten().tolist()
    return sum(1 / float(torch.maximum(p / p[j], q / q[j]).sum()) for j in both)


@pytest.mark.parametrize(("instance", "expected"), [(A, 41 / 65), (B4, 19 / 35), (GOLDEN, 0.7164651485), (Z, None)], ids=lambda case: str(case)[:20])
def test_coupled_drafts_are_followed_as_often_as_the_closed_form_says(instance, expected):
    p, q, num_rows = instance.p(()), instance.q(()), 50_000
    matches = match_probability(p, q)
    if expected is not None:
        assert matches == pytest.approx(expected, abs=1e-9)
    ids = torch.arange(num_rows)
    noise = Noise(5).at(ids, ids % 7)
    drafted = (q.log() + noise.gumbel(noise.root_positions + 1, instance.vocabulary)).argmax(1)
    draft = Draft.chain(torch.stack([torch.zeros_like(drafted), drafted], 1))
    verdict = Coupled()(p.expand(num_rows, 2, -1), draft, noise)
    found = float((verdict.counts == 2).double().mean())
    assert abs(found - matches) < 4 * (matches * (1 - matches) / num_rows) ** 0.5
    first = torch.bincount(verdict.emitted(draft)[:, 0], minlength=instance.vocabulary)
    assert not bool(first[p == 0].any())
    assert first.double() / num_rows == pytest.approx(p.numpy(), abs=4 * 0.5 / num_rows**0.5)


def test_repeated_siblings_are_one_branch_with_all_their_children():
    p = torch.eye(4, dtype=torch.float64)[torch.tensor([[2, 1, 3, 0, 0, 1]])]
    p[0, 2] = p[0, 1] = torch.eye(4, dtype=torch.float64)[3]
    draft = Draft(torch.tensor([[0, 2, 2, 1, 3, 3]]), torch.tensor([[-1, 0, 0, 1, 2, 0]]), torch.tensor([5]))
    verdict = Coupled()(p, draft, Noise(0).at(draft.sizes, draft.sizes))
    assert verdict.path.tolist() == [[0, 2, 4, -1, -1, -1]]
    assert verdict.emitted(draft).tolist() == [[2, 3, 0, -1, -1, -1]]
    assert verdict.counts.tolist() == [3]
