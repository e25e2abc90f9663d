"""The same core on any device: everything here runs on the CPU, and again on CUDA wherever there is one."""

import warnings
from functools import partial

import pytest
import torch

from drafters.coupled import CoupledDraft
from drafters.draft_model import DraftModel
from drafters.draft_tree import DraftTree
from drafters.jacobi import Jacobi
from drafters.lookahead import Lookahead
from drafters.multi_draft import MultiDraft
from drafters.none import NoDraft
from drafters.prompt_lookup import PromptLookup
from drafters.stopping.confidence import Confidence
from spec import CausalLM, Limits, Noise, Sampler, decode
from spec.model import EMBEDDED, load_model
from spec.noise import Purpose, uniform
from tests.tiny import build
from tests.windowed import windowed
from verifiers.block import Block
from verifiers.coupled import Coupled
from verifiers.greedy import Greedy
from verifiers.greedy_multi import GreedyMulti
from verifiers.kseq import KSeq
from verifiers.recursive import Recursive
from verifiers.rejection import Rejection
from verifiers.sample_match import SampleMatch
from verifiers.traversal import Traversal

CUDA = pytest.param("cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")])
PROMPTS = [[5, 9, 13, 5, 9, 13, 5, 9], [3], [17, 2, 30, 30, 30, 8, 17, 2, 30, 1, 33, 4]]
devices = pytest.mark.parametrize("device", ["cpu", CUDA])


def drafters(model):
    return [NoDraft(), PromptLookup(), Jacobi(), Lookahead(window=4, ngram=3, guesses=3), DraftModel(model=model, num_tokens=4)]


@devices
@pytest.mark.parametrize("verifier", [Recursive(), Greedy()])
def test_float32_greedy_identity_on_ragged_batches(device, verifier):
    model = build("llama").float().to(device)
    assistant = build("llama").float().to(device)
    with torch.no_grad():
        for weights in assistant.parameters():
            weights.add_(0.02 * torch.ones_like(weights))
    ids = [torch.tensor([row], device=device) for row in PROMPTS]
    options = {"max_new_tokens": 48, "do_sample": False, "pad_token_id": 0}
    expected = [model.generate(row, attention_mask=torch.ones_like(row), **options)[0].tolist() for row in ids]
    for drafter in drafters(assistant):
        result = decode(CausalLM(model), drafter, verifier, PROMPTS, sampler=Sampler(0), limits=Limits(48))
        assert [row.tolist() for row in result.sequences] == expected
        assert result.stats.decode_seconds > 0


@devices
def test_samples_equal_the_cpus(device):
    """float64, where no rounding can move a draw across a boundary: the same seed gives the same tokens."""
    model = build("llama")
    expected = [
        decode(CausalLM(model), drafter, Recursive(), PROMPTS, sampler=Sampler(0.9, seed=4), limits=Limits(24)) for drafter in drafters(model)
    ]
    there = build("llama").to(device)
    sampler, limits = Sampler(0.9, seed=4), Limits(24)
    found = [decode(CausalLM(there), drafter, Recursive(), PROMPTS, sampler=sampler, limits=limits) for drafter in drafters(there)]
    for one, other in zip(expected, found, strict=True):
        assert [row.tolist() for row in one.sequences] == [row.tolist() for row in other.sequences]


@devices
@pytest.mark.parametrize("family", ["mistral", "gemma3"])
def test_samples_beyond_a_window_equal_the_cpus(device, family):
    expected, found = [], []
    for where, results in (("cpu", expected), (device, found)):
        model = windowed(family).to(where)
        for drafter in (PromptLookup(), Lookahead(window=4, ngram=3, guesses=3), DraftTree(model=model, widths=[2, 2, 1])):
            made = decode(CausalLM(model), drafter, Recursive(), PROMPTS, sampler=Sampler(0.9, seed=4), limits=Limits(24))
            results.append([row.tolist() for row in made.sequences])
    assert expected == found


def pairs(model):
    chains = partial(MultiDraft, model=model, num_chains=2, num_tokens=3)
    return [
        (Rejection(), DraftModel(model=model, num_tokens=4)),
        (Block(), DraftModel(model=model, num_tokens=4, stopping=Confidence())),
        (Traversal(), DraftTree(model=model, widths=[2, 2, 1])),
        (Traversal(), DraftTree(model=model, widths=None, num_nodes=8, num_rounds=3)),
        (KSeq(), chains(siblings="independent")),
        (GreedyMulti(), chains(siblings="greedy")),
        (SampleMatch(), PromptLookup()),
        (Coupled(), CoupledDraft(model=model, num_tokens=3, num_children=2)),
    ]


@devices
def test_samples_of_every_exact_verifier_equal_the_cpus(device):
    expected, found = [], []
    for where, results in (("cpu", expected), (device, found)):
        model = build("llama").to(where)
        for verifier, drafter in pairs(model):
            result = decode(CausalLM(model), drafter, verifier, PROMPTS, sampler=Sampler(0.9, seed=4), limits=Limits(16))
            results.append([row.tolist() for row in result.sequences])
    assert expected == found


@devices
def test_noise_is_the_same_number_for_number(device):
    """The tensor hash, which is what runs on CUDA, against the integer hash, which is what runs on the CPU."""
    ids, roots = torch.tensor([0, 5, -3, 2**62]), torch.tensor([0, 7, 1000, 3])
    slots = torch.arange(9).expand(4, 9)
    here, there = Noise(123456789).at(ids, roots), Noise(123456789).at(ids.to(device), roots.to(device))
    for purpose in Purpose:
        assert torch.equal(here.uniform(slots, purpose), uniform(there.bits(slots.to(device), purpose)).cpu())
        assert torch.equal(here.uniform(slots[:, 2], purpose), there.uniform(slots[:, 2].to(device), purpose).cpu())


@devices
@pytest.mark.skipif(not (EMBEDDED / "target" / "config.json").exists(), reason="no embedded pair")
def test_sixteen_bit_divergences_are_near_ties(device):
    """bfloat16 sums in another order for other shapes: greedy output may leave plain decoding, but only where two logits are nearly equal."""
    model = load_model("embedded/target", dtype="bfloat16").to(device)
    target = CausalLM(model)
    prompts = [[0, *range(40 + row, 60 + row)] for row in range(4)]
    plain = decode(target, NoDraft(), Recursive(), prompts, sampler=Sampler(0), limits=Limits(48))
    other = decode(target, PromptLookup(), Recursive(), prompts, sampler=Sampler(0), limits=Limits(48))
    for row in range(4):
        one, two = plain.new_tokens(row), other.new_tokens(row)
        parted = next((index for index, (a, b) in enumerate(zip(one, two, strict=True)) if a != b), None)
        if parted is not None:
            ids = torch.tensor([[*prompts[row], *one[:parted]]], device=device)
            top = model(ids, use_cache=False).logits[0, -1].float().topk(2).values
            assert top[0] - top[1] <= 8 * torch.finfo(torch.bfloat16).eps * max(1.0, top[0].abs().item())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("name", ["none", "prompt_lookup", "draft_model"])
def test_a_step_of_a_chain_waits_for_the_device_once(name, temperature):
    model = build("llama").float().cuda()
    drafter = {"none": NoDraft(), "prompt_lookup": PromptLookup(), "draft_model": DraftModel(model=model)}[name]
    target, settings = CausalLM(model), {"sampler": Sampler(temperature), "limits": Limits(24)}
    decode(target, drafter, Recursive(), [[1, 2, 3, 1, 2]], **settings)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            made = decode(target, drafter, Recursive(), [[1, 2, 3, 1, 2]], **settings)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    before_the_first_step = 4  # prompts and sequence ids go there once
    assert sum("synchroniz" in str(item.message) for item in said) <= len(made.stats.steps) + before_the_first_step


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("runtime", ["compile", "graphs"])
def test_runtimes_change_no_token_on_cuda(runtime):
    model = build("llama").cuda()
    prompts, settings = [[1, 2, 3, 1, 2], [7], [4, 4, 4]], {"sampler": Sampler(0), "limits": Limits(24)}
    plain = decode(CausalLM(model), PromptLookup(), Recursive(), prompts, **settings)
    target = CausalLM(model, runtime=runtime)
    for batch_size in (1, 3):
        made = decode(target, PromptLookup(), Recursive(), prompts, batch_size=batch_size, **settings)
        assert [row.tolist() for row in made.sequences] == [row.tolist() for row in plain.sequences]
    assert target.runtime_kind == runtime
