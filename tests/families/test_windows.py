"""Beyond a window greedy output is still `model.generate`'s: every drafter, every kind of window, one row and a ragged batch; and what would be wrong
is found."""

import copy
from functools import cache

import pytest
import torch

import spec.masks
from drafters.draft_model import DraftModel
from drafters.draft_tree import DraftTree
from drafters.prompt_lookup import PromptLookup
from spec import CausalLM, Limits, Sampler, decode
from spec.windows import Window, Windows
from tests.families.test_families import PROMPTS, greedy, make, parts
from tests.tiny import build
from tests.windowed import WINDOWED, windowed
from verifiers.coupled import Coupled
from verifiers.recursive import Recursive

NUM_TOKENS = 40
GROWN = "draft_tree that grows"


@cache
def models(family):
    """The target, and an assistant that is often but not always right: the target with noise on its weights."""
    target = windowed(family)
    assistant = copy.deepcopy(target)
    torch.manual_seed(1)
    with torch.no_grad():
        for weights in assistant.parameters():
            weights.add_(0.02 * torch.randn_like(weights))
    return target, assistant


@cache
def reference(family):
    """What `generate` adds to each prompt, alone."""
    return [greedy(models(family)[0], prompt, NUM_TOKENS) for prompt in PROMPTS]


def drafter(name, assistant):
    if name == GROWN:
        return DraftTree(model=assistant, widths=None, num_nodes=9, num_rounds=3)
    return make("drafter", name, model=assistant)


def texts(target, drafter, prompts=PROMPTS, verifier=None, **sampling):
    options = {"sampler": Sampler(**(sampling or {"temperature": 0})), "limits": Limits(max_new_tokens=NUM_TOKENS)}
    result = decode(target, drafter, verifier or Recursive(), prompts, **options)
    return [result.new_tokens(row) for row in range(len(prompts))]


@pytest.mark.parametrize("num_rows", [1, 3])
@pytest.mark.parametrize("name", [*parts("drafter"), GROWN])
@pytest.mark.parametrize("family", WINDOWED)
def test_greedy_output_is_generates(family, name, num_rows):
    target, assistant = models(family)
    wanted = reference(family)[-num_rows:]
    assert min(len(set(text)) for text in wanted) > 4  # no text that repeats one word
    assert texts(CausalLM(target), drafter(name, assistant), PROMPTS[-num_rows:]) == wanted


@pytest.mark.parametrize("family", ["mistral", "gemma3", "llama4"])
def test_rows_that_join_a_batch_are_served_alike(family):
    target, assistant = models(family)
    options = {"sampler": Sampler(temperature=0), "limits": Limits(max_new_tokens=NUM_TOKENS), "batch_size": 2}
    for name in ("prompt_lookup", "draft_tree", GROWN):
        result = decode(CausalLM(target), drafter(name, assistant), Recursive(), PROMPTS, **options)
        assert [result.new_tokens(row) for row in range(3)] == reference(family)


@pytest.mark.parametrize("family", WINDOWED)
def test_the_window_matters(family):
    """Or these tests would show nothing: without it other texts come out."""
    everything = copy.deepcopy(models(family)[0])
    for name in ("sliding_window", "attention_chunk_size"):
        if getattr(everything.config, name, None):
            setattr(everything.config, name, 160)
    assert [greedy(everything, prompt, NUM_TOKENS) for prompt in PROMPTS] != reference(family)


@pytest.mark.parametrize("family", ["mistral", "qwen3", "gpt_oss", "llama4"])
def test_over_fixed_shapes(family):
    target, assistant = models(family)
    shaped = CausalLM(target, runtime="compile")
    assert shaped.runtime is not None
    shaped.runtime.kind = "hf"  # the same shapes, run by plain calls
    for name in ("none", "draft_model", "draft_tree"):
        assert texts(shaped, drafter(name, assistant)) == reference(family)


@pytest.mark.parametrize("family", ["mistral", "gemma3", "llama4"])
def test_sampled_texts_are_those_of_plain_decoding_alone(family):
    target, assistant = (CausalLM(model) for model in models(family))
    options = {"verifier": Coupled(), "temperature": 0.8, "seed": 3}
    alone = [texts(target, make("drafter", "none"), [prompt], **options)[0] for prompt in PROMPTS[:1]]
    for name in ("none", "draft_model", "draft_tree", GROWN):
        assert texts(target, drafter(name, assistant), **options)[:1] == alone


@pytest.mark.parametrize("family", ["mistral", "gemma3", "llama4"])
def test_a_drafter_with_a_window_beside_a_target_without_one(family):
    target = build("llama")
    wanted = [greedy(target, prompt, NUM_TOKENS) for prompt in PROMPTS]
    for made in (DraftModel(model=windowed(family)), DraftTree(model=windowed(family)), DraftTree(model=windowed(family), widths=None)):
        assert texts(CausalLM(target), made) == wanted


@pytest.mark.parametrize("family", WINDOWED)
def test_a_drafter_that_is_its_target_is_always_right(family):
    model = models(family)[0]
    options = {"sampler": Sampler(temperature=0), "limits": Limits(max_new_tokens=NUM_TOKENS)}
    assert decode(CausalLM(model), DraftModel(model=model), Recursive(), PROMPTS, **options).stats.acceptance_rate == 1


def by_slot(monkeypatch):
    """Distances between columns of the cache, where branches stand beside each other."""

    def columns(draft, cache, num_scored, width):
        return torch.arange(width)[None]

    def queries(draft, cache, num_scored, context=2**31):
        own = torch.arange(draft.num_slots - num_scored + (0 if draft.scratch is None else draft.scratch.tokens.shape[1]))
        return cache.starts()[:, None] + own

    real = spec.masks.by_window
    monkeypatch.setattr(spec.masks, "positions_of_columns", columns)
    monkeypatch.setattr(
        spec.masks,
        "by_window",
        lambda mask, windows, draft, cache, num_scored, own=None: real(mask, windows, draft, cache, num_scored, queries(draft, cache, num_scored)),
    )


def off_by_one(monkeypatch):
    hides = Window.hides
    monkeypatch.setattr(Window, "hides", lambda self, own, other: hides(Window(self.size + 1, self.is_chunked), own, other))


def one_mask_for_all(monkeypatch):
    monkeypatch.setattr(Windows, "by_name", lambda self, masks: masks[0])


def no_window(monkeypatch):
    monkeypatch.setattr(Windows, "beyond", lambda self, num_positions: Windows())


WRONG = [
    *((by_slot, family) for family in ("mistral", "gemma3", "gpt_oss", "llama4")),
    *((off_by_one, family) for family in ("mistral", "gemma3", "gpt_oss", "llama4")),
    *((one_mask_for_all, family) for family in ("gemma3", "qwen3", "gpt_oss", "llama4")),
    *((no_window, family) for family in ("mistral", "gemma3", "llama4")),
]


@pytest.mark.parametrize(("mutant", "family"), WRONG)
def test_a_wrong_mask_is_found(mutant, family, monkeypatch):
    target, assistant = models(family)
    reference(family)
    mutant(monkeypatch)
    made = [PromptLookup(), drafter("draft_tree", assistant)]
    assert any(texts(CausalLM(target), one) != reference(family) for one in made)
