"""The whole loop with a real, tiny, random network and the real noise: joint frequencies of tokens against the exact distribution, by chi-square."""

from itertools import product

import pytest
import torch
from scipy.stats import chi2
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from drafters.draft_model import DraftModel
from drafters.jacobi import Jacobi
from drafters.lookahead import Lookahead
from drafters.none import NoDraft
from drafters.prompt_lookup import PromptLookup
from experiments.lossless.mutants.chains import SoftArgmax
from spec.decode import decode
from spec.interfaces import Drafter
from spec.model import CausalLM
from spec.sampling import Sampler
from spec.state import Limits
from verifiers.recursive import Recursive

VOCABULARY, WINDOW, NUM_TOKENS, NUM_ROWS = 5, 3, 4, 2000
TEMPERATURE = 0.8
ALPHA = 1e-6
PROMPT = [1, 2, 3, 1, 2, 4, 0, 1, 2]  # repeats itself, so that lookups find something


def tiny_llama(seed: int, layers: int) -> LlamaForCausalLM:
    """A random network whose distributions are far from uniform and depend on the prefix."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        initializer_range=0.3,
    )
    return LlamaForCausalLM(config).double().eval()


@pytest.fixture(scope="module")
def target() -> CausalLM:
    return CausalLM(tiny_llama(0, layers=2))


@pytest.fixture(scope="module")
def exact_distribution(target) -> Tensor:
    """The joint distribution of the first NUM_TOKENS tokens, [V, V, V, V], from plain forwards over every continuation."""
    texts = torch.tensor(list(product(range(VOCABULARY), repeat=NUM_TOKENS)))
    prompts = torch.tensor(PROMPT).expand(len(texts), -1)
    with torch.inference_mode():
        logits = target.model(torch.cat([prompts, texts[:, :-1]], 1)).logits[:, len(PROMPT) - 1 :]
    steps = (logits / TEMPERATURE).softmax(-1).gather(2, texts[..., None]).squeeze(2)
    return steps.prod(1).view([VOCABULARY] * NUM_TOKENS)


def sample(target: CausalLM, drafter: Drafter, seed: int) -> Tensor:
    """NUM_ROWS independent continuations, one decode; [NUM_ROWS, NUM_TOKENS]."""
    limits, sampler = Limits(max_new_tokens=NUM_TOKENS), Sampler(temperature=TEMPERATURE, seed=seed)
    generation = decode(target, drafter, Recursive(), [PROMPT] * NUM_ROWS, sampler=sampler, limits=limits)
    return torch.stack(generation.sequences)[:, len(PROMPT) :]


def p_value(texts: Tensor, distribution: Tensor) -> float:
    """Chi-square of texts [S, L] against their joint distribution [V, ..., V]; cells that expect fewer than 5 are pooled."""
    places = VOCABULARY ** torch.arange(texts.shape[1] - 1, -1, -1)
    expected = distribution.flatten() * len(texts)
    observed = torch.bincount((texts * places).sum(1), minlength=len(expected)).double()
    small = expected < 5
    if bool(small.any()):
        observed = torch.cat([observed[~small], observed[small].sum()[None]])
        expected = torch.cat([expected[~small], expected[small].sum()[None]])
    return float(chi2.sf(((observed - expected) ** 2 / expected).sum().item(), len(expected) - 1))


def worst_p_value(texts: Tensor, distribution: Tensor) -> float:
    """Of the first WINDOW tokens and of the last WINDOW, which later steps have drawn."""
    return min(p_value(texts[:, :WINDOW], distribution.sum(-1)), p_value(texts[:, -WINDOW:], distribution.sum(0)))


@pytest.mark.parametrize(
    "drafter",
    [
        NoDraft(),
        DraftModel(model=tiny_llama(1, layers=1), num_tokens=2),
        PromptLookup(num_tokens=2),
        Lookahead(window=3, ngram=3, guesses=3),
        Jacobi(num_tokens=2),
    ],
    ids=lambda drafter: type(drafter).__name__,
)
def test_frequencies_follow_the_exact_distribution(target, exact_distribution, drafter):
    assert worst_p_value(sample(target, drafter, seed=11), exact_distribution) > ALPHA


def test_soft_rows_for_argmax_tokens_are_convicted(target, exact_distribution):
    mutant = SoftArgmax(model=tiny_llama(1, layers=1), num_tokens=2)
    assert worst_p_value(sample(target, mutant, seed=11), exact_distribution) < ALPHA


def test_distributions_differ_enough_for_the_test_to_mean_something(target, exact_distribution):
    uniform = torch.full_like(exact_distribution, 1 / exact_distribution.numel())
    assert float(exact_distribution.sum()) == pytest.approx(1, abs=1e-12)
    assert p_value(sample(target, NoDraft(), seed=11)[:, :WINDOW], uniform.sum(-1)) < ALPHA
