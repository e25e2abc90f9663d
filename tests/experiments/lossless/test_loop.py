"""The whole loop, enumerated: real decode, cache, masks, drafters and verifier on the golden instance, all randomness followed."""

import pytest
import torch
from torch import Tensor

from drafters.draft_model import DraftModel
from drafters.jacobi import Jacobi
from drafters.lookahead import Lookahead
from drafters.none import NoDraft
from drafters.prompt_lookup import PromptLookup
from experiments.lossless.enumeration.loop import PROMPT, TableLoop, golden_model
from experiments.lossless.enumeration.step_distribution import tv
from experiments.lossless.enumeration.tables import GOLDEN_Q, SMALL
from experiments.lossless.mutants.chains import SoftArgmax
from spec.interfaces import Drafter
from spec.noise import Purpose
from spec.sampling import Sampler
from spec.state import DecodeState
from spec.types import Draft


def drafter_name(drafter: Drafter) -> str:
    return type(drafter).__name__


class SiblingTree(Drafter):
    """Two children of the root without replacement, one child each, from the small drafter: a sampled tree, to move slots in the cache."""

    purpose = Purpose.DRAFT

    def propose(self, state: DecodeState, sampler: Sampler) -> Draft:
        noise, rows = sampler.noise(state), [tuple(row[len(PROMPT) :]) for row in state.rows]
        root = torch.tensor(state.roots)
        sizes = torch.tensor([(1, 3, 5)[min(max(room - 1, 0), 2)] for room in state.room])
        certain = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
        distributions, tokens = [torch.zeros(len(rows), 3, dtype=torch.float64)], [root]

        def draw(distribution: Tensor) -> list[int]:
            distributions.append(torch.where(sizes[:, None] > len(tokens), distribution, certain))  # padding must not fork
            tokens.append(noise.categorical(distributions[-1], self.purpose, torch.full_like(root, len(tokens))))
            return tokens[-1].tolist()

        distribution = torch.stack([SMALL.q(row) for row in rows])
        first = draw(distribution)
        rest = distribution.scatter(1, tokens[1][:, None], 0.0)
        second = draw(rest / rest.sum(1, keepdim=True))
        for chosen in (first, second):
            draw(torch.stack([SMALL.q((*row, token)) for row, token in zip(rows, chosen, strict=True)]))
        parents = torch.tensor([-1, 0, 0, 1, 2]).expand(len(rows), -1)
        return Draft(torch.stack(tokens, 1), parents, sizes, torch.stack(distributions, 1), width=2)


class Colliding(SiblingTree):
    """Wrong: draws its draft with the numbers that the draft will be judged by."""

    purpose = Purpose.ACCEPT


DRAFTERS = [
    NoDraft(),
    DraftModel(model=golden_model(GOLDEN_Q), num_tokens=2),
    PromptLookup(max_ngram=2, num_tokens=2),
    Lookahead(window=2, ngram=3, guesses=2),
    Jacobi(num_tokens=2),
]


def assert_exact_loop(drafter: Drafter, loop: TableLoop) -> None:
    distribution = loop.distribution(lambda assistant: drafter)
    assert abs(sum(distribution.values()) - 1) < 1e-12
    assert tv(distribution, loop.target_distribution()) < 1e-12


@pytest.mark.parametrize("drafter", DRAFTERS, ids=drafter_name)
def test_loop_emits_the_distribution_of_the_target(drafter):
    assert_exact_loop(drafter, TableLoop())


@pytest.mark.parametrize("drafter", [DraftModel(model=golden_model(GOLDEN_Q, 3), num_tokens=2), *DRAFTERS[2:]], ids=drafter_name)
def test_loop_that_goes_on_after_a_full_acceptance(drafter):
    assert_exact_loop(drafter, TableLoop(SMALL, 4))


@pytest.mark.parametrize("drafter", DRAFTERS[1:], ids=drafter_name)
def test_loop_cut_at_eos_emits_the_distribution_of_the_target(drafter):
    assert_exact_loop(drafter, TableLoop(eos=2))


def test_loop_with_a_sampled_tree():
    assert_exact_loop(SiblingTree(), TableLoop(SMALL))


def test_loop_convicts_a_drafter_that_declares_soft_rows_for_argmax_tokens():
    assert TableLoop().error(lambda assistant: SoftArgmax(model=assistant, num_tokens=2)) > 0.1


def test_loop_convicts_a_noise_key_used_twice():
    with pytest.raises(AssertionError, match="noise key"):
        TableLoop(SMALL, 2).distribution(lambda assistant: Colliding())
