"""Distributions: what transformers' own processors make of the same logits, and the edges."""

import pytest
import torch
from transformers import GenerationConfig, LogitsProcessorList, MinLengthLogitsProcessor

from spec import Sampler
from spec.noise import StepNoise
from tests.drafters.bench import state_of
from tests.tiny import build

OPTIONS = {"temperature": 0.7, "top_k": 9, "top_p": 0.8, "min_p": 0.02, "repetition_penalty": 1.4}


def test_the_distribution_is_what_generate_samples_from():
    """Compared with the processor list that transformers itself builds for the same settings."""
    model = build("llama")
    prefix = [3, 5, 5, 8]
    logits = torch.randn(1, 1, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    config = GenerationConfig(do_sample=True, **OPTIONS)
    theirs = model._get_logits_processor(config, input_ids_seq_length=4, logits_processor=LogitsProcessorList(), device="cpu")
    expected = theirs(torch.tensor([prefix]), logits[0]).softmax(-1)
    assert torch.allclose(Sampler(**OPTIONS).distribution(logits, lambda row, slot: prefix)[0], expected, atol=1e-15)


def test_each_slot_is_penalised_by_its_own_context():
    logits = torch.randn(2, 3, 10, generator=torch.Generator().manual_seed(1))
    contexts = {(row, slot): [row, slot, slot + 4] for row in range(2) for slot in range(3)}
    sampler = Sampler(repetition_penalty=2.0)
    whole = sampler.distribution(logits, lambda row, slot: contexts[row, slot])
    for (row, slot), context in contexts.items():
        alone = sampler.distribution(logits[row : row + 1, slot : slot + 1], lambda _row, _slot, context=context: context)
        assert torch.equal(whole[row, slot], alone[0, 0])


def test_temperature_zero_takes_the_lowest_of_equal_logits():
    distribution = Sampler(0).distribution(torch.tensor([[[1.0, 3.0, 3.0, 2.0]]]))
    assert distribution.tolist() == [[[0.0, 1.0, 0.0, 0.0]]]


def test_half_precision_logits_become_float32_and_float64_stays():
    logits = torch.randn(1, 2, 8)
    assert Sampler().distribution(logits.bfloat16()).dtype == torch.float32
    assert Sampler().distribution(logits.double()).dtype == torch.float64
    assert torch.allclose(Sampler().distribution(logits.double()).sum(-1), torch.ones(1, 2, dtype=torch.float64))


def test_masked_logits_are_no_error_but_a_row_of_them_is():
    logits = torch.zeros(1, 2, 4)
    logits[0, 0, 1] = float("-inf")
    assert Sampler().distribution(logits)[0, 0, 1] == 0
    logits[0, 1] = float("-inf")
    with pytest.raises(ValueError, match="slot 1"):
        Sampler().distribution(logits)


@pytest.mark.parametrize("temperature", [-1.0, float("nan"), float("inf")])
def test_bad_temperatures_are_refused(temperature):
    with pytest.raises(ValueError, match="temperature"):
        Sampler(temperature)


def test_a_prefix_reader_without_contexts_says_what_it_needs():
    with pytest.raises(ValueError, match="needs contexts"):
        Sampler(processors=[MinLengthLogitsProcessor(3, 0)]).distribution(torch.zeros(1, 1, 4))


def test_seeds_that_no_device_holds_are_refused():
    with pytest.raises(ValueError, match="seed="):
        Sampler(seed=2**63)


def test_processors_must_leave_a_token():
    forbid = lambda ids, scores: torch.full_like(scores, float("-inf"))  # noqa: E731
    with pytest.raises(ValueError, match="at least one token"):
        Sampler(processors=[forbid]).distribution(torch.zeros(1, 1, 4), lambda row, slot: [0])
    with pytest.raises(ValueError, match="temperature and processors left"):
        Sampler(1e-40).distribution(torch.ones(1, 1, 4))


def test_a_sampler_takes_another_noise_and_keeps_everything_else():
    sampler, state = Sampler(temperature=0.7, top_k=9, seed=3), state_of([[1, 2], [3, 4, 5]])
    other = sampler.with_noise(lambda state: state.num_rows)
    logits = torch.randn(1, 2, 40, generator=torch.Generator().manual_seed(2))
    assert (other.noise(state), other.among(state).noise(state)) == (2, 2)
    assert (other.seed, other.greedy) == (3, False)
    assert torch.equal(other.distribution(logits), sampler.distribution(logits))
    assert isinstance(sampler.noise(state), StepNoise)  # the first one keeps its own
