"""Models that count positions by their cache: chains are exact row by row, the rest is refused, and a wrong count is found."""

import pytest
import torch
from torch import nn
from transformers.models.bart.modeling_bart import BartLearnedPositionalEmbedding

import spec.model
import spec.rows
from drafters.draft_model import DraftModel
from drafters.draft_tree import DraftTree
from drafters.lookahead import Lookahead
from drafters.none import NoDraft
from drafters.prompt_lookup import PromptLookup
from experiments.lossless.families.judge import PROMPTS, REFUSED, WRONG, alone, find, generated, judge, num_tokens
from experiments.lossless.families.tiny import CONTEXT, build
from spec import CausalLM, Draft, Limits, Sampler, decode, speculative
from spec.cache import KVCache
from verifiers.recursive import Recursive

COUNTING = ("bart", "bloom", "mpt", "gpt_neo")
MANY = [*PROMPTS, [9, 8, 7, 9, 8], [40, 41]]


def texts(target, drafter, prompts, batch_size=None, count=12):
    made = decode(target, drafter, Recursive(), prompts, sampler=Sampler(0), limits=Limits(count), batch_size=batch_size)
    return [made.new_tokens(row) for row in range(len(prompts))]


def shifted(shift, rows=(0, 1, 2)):
    """`KVCache.end`, wrong by `shift` for some of the rows that have a forward of their own."""
    real = KVCache.end.fget
    assert real is not None
    return property(lambda cache: real(cache) + shift * (cache.row in rows))


@pytest.mark.parametrize("shift", [1, -1])
def test_a_second_row_that_stands_one_off_is_refused_by_the_trial(shift, monkeypatch):
    model = build("bart")
    monkeypatch.setattr(KVCache, "end", shifted(shift, rows=(1,)))
    with pytest.raises(ValueError, match=r"BartForCausalLM .*does not place tokens by what its cache holds \(logits move by"):
        CausalLM(model)


@pytest.mark.parametrize("model_type", COUNTING)
def test_a_third_row_that_stands_one_off_is_found_by_the_judge(model_type, monkeypatch):
    monkeypatch.setattr(KVCache, "end", shifted(-1, rows=(2,)))  # the trial has two rows
    assert find(model_type).verdict == WRONG


@pytest.mark.parametrize("model_type", COUNTING)
def test_ragged_rows_in_one_forward_are_found_by_trial_and_judge(model_type, monkeypatch):
    monkeypatch.setattr(KVCache, "is_uniform", True)
    assert find(model_type).verdict == REFUSED
    monkeypatch.setattr(spec.model, "refuse_uncounted", lambda *_: None)
    assert find(model_type).verdict == WRONG


def test_a_class_that_starts_every_forward_at_position_zero_is_refused(monkeypatch):
    real = BartLearnedPositionalEmbedding.forward
    monkeypatch.setattr(BartLearnedPositionalEmbedding, "forward", lambda self, input_ids, *_, **__: real(self, input_ids))
    found = find("bart")
    assert found.verdict == REFUSED
    assert "logits move by" in found.why
    monkeypatch.setattr(spec.model, "refuse_uncounted", lambda *_: None)
    assert judge(build("bart")).verdict == WRONG


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("model_type", [*COUNTING, "whisper"])
def test_the_trial_tells_rounding_from_a_wrong_place(model_type, dtype, monkeypatch):
    CausalLM(build(model_type).to(dtype))
    monkeypatch.setattr(KVCache, "is_uniform", True)  # the second row stands where the first ends
    with pytest.raises(ValueError, match="logits move by"):
        CausalLM(build(model_type).to(dtype))


def test_a_class_that_counts_tokens_other_than_padding_is_refused():
    CausalLM(build("trocr"))
    with pytest.raises(ValueError, match=r"TrOCRForCausalLM .*logits move by"):
        CausalLM(build("trocr", {"use_learned_position_embeddings": False}))


@pytest.mark.parametrize(("model_type", "count"), [("bloom", 4), ("llama", 0), ("opt", 0)])
def test_the_trial_runs_once_and_only_where_no_positions_are_taken(model_type, count):
    model, calls = build(model_type), []
    model.register_forward_hook(lambda *_: calls.append(1))
    for _ in range(3):
        CausalLM(model)
    assert len(calls) == count


@pytest.mark.parametrize("model_type", COUNTING)
def test_rows_that_come_and_go_keep_their_texts(model_type):
    target = CausalLM(build(model_type))
    wanted = [texts(target, NoDraft(), [prompt])[0] for prompt in MANY]
    for drafter in (PromptLookup(), DraftModel(model=CausalLM(build(model_type, seed=1)))):
        assert texts(target, drafter, MANY, batch_size=2) == wanted
        assert texts(target, drafter, MANY) == wanted


@pytest.mark.parametrize("model_type", COUNTING)
def test_rows_that_keep_step_share_their_forwards(model_type):
    target, calls, prompts = CausalLM(build(model_type)), [], [[5, 9, 13, 5], [3, 7, 3, 7], [30, 2, 30, 30]]
    wanted = [texts(target, NoDraft(), [prompt])[0] for prompt in prompts]
    target.model.register_forward_hook(lambda *_: calls.append(1))
    assert texts(target, NoDraft(), prompts) == wanted
    assert len(calls) == 1 + 12


@pytest.mark.parametrize("model_type", COUNTING)
def test_generate_gives_its_own_texts(model_type):
    model = build(model_type)
    ids = torch.tensor([PROMPTS[0]])
    options = {"attention_mask": torch.ones_like(ids), "do_sample": False, "pad_token_id": 0, "max_new_tokens": 12}
    method = speculative(PromptLookup(), Recursive())
    assert model.generate(ids, **options, custom_generate=method).tolist() == model.generate(ids, **options).tolist()


def test_generate_pads_on_the_left_and_bloom_skips_it():
    model, longest = build("bloom").float(), max(map(len, PROMPTS))  # in float64, its masks give NaN beside padding
    ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in PROMPTS])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in PROMPTS])
    options = {"attention_mask": mask, "do_sample": False, "pad_token_id": 0, "max_new_tokens": 12}
    method = speculative(PromptLookup(), Recursive())
    assert model.generate(ids, **options, custom_generate=method).tolist() == model.generate(ids, **options).tolist()


@pytest.mark.parametrize("drafter", [Lookahead(window=3, ngram=3, guesses=3), DraftTree(model=build("llama"), widths=(2, 1))])
def test_trees_and_windows_are_refused(drafter):
    with pytest.raises(ValueError, match=r"BloomForCausalLM places tokens by counting .*it serves chains only; instead of trees and"):
        texts(CausalLM(build("bloom")), drafter, PROMPTS)


def test_a_drafter_that_counts_drafts_chains_and_no_trees():
    target, drafter = CausalLM(build("llama")), CausalLM(build("bloom"))
    wanted = [generated(target.model, prompt, CONTEXT) for prompt in PROMPTS]
    assert texts(target, DraftModel(model=drafter), PROMPTS, count=num_tokens(CONTEXT)) == wanted
    assert texts(target, DraftTree(model=drafter, widths=(1, 1, 1)), PROMPTS, count=num_tokens(CONTEXT)) == wanted
    with pytest.raises(ValueError, match=r"BloomForCausalLM .*chains only"):
        texts(target, DraftTree(model=drafter, widths=(2, 2)), PROMPTS)


@pytest.mark.parametrize("runtime", ["compile", "graphs"])
def test_fixed_shapes_are_refused(runtime):
    with pytest.raises(ValueError, match=f"runtime={runtime} needs a model that takes position_ids, and MptForCausalLM counts"):
        CausalLM(build("mpt"), runtime=runtime)


@pytest.mark.parametrize("model_type", ["mpt", "whisper"])
def test_positions_end_where_the_configuration_says(model_type):
    """MPT calls them max_seq_len, Whisper max_target_positions."""
    target = CausalLM(build(model_type))
    assert target.context == CONTEXT
    with pytest.raises(ValueError, match=f"between 2 and the model's {CONTEXT} positions"):
        CausalLM(target.model, CONTEXT + 1)
    larger = CausalLM(build("llama", {"max_position_embeddings": 2 * CONTEXT}))
    DraftModel(model=build(model_type)).attach(larger)


def test_a_decoder_has_more_layers_than_the_encoder_it_was_cut_from():
    """`num_hidden_layers` of these configurations counts the encoder's; transformers' own cache has too few layers then."""
    model = build("bart", {"encoder_layers": 1, "decoder_layers": 3})
    target = CausalLM(model)
    assert len(target.new_cache(1, 8).slot_layers) == 3
    assert texts(target, PromptLookup(), PROMPTS) == [texts(target, NoDraft(), [prompt])[0] for prompt in PROMPTS]


@torch.inference_mode()
@pytest.mark.parametrize("model_type", [name for name in COUNTING if name != "bloom"])  # Bloom's positions have no end
def test_slots_beyond_the_context_are_not_run(model_type):
    """A row at its last position, one with no room at all, and one that has some: logits and states are right inside and zero outside."""
    target, length = CausalLM(build(model_type)), CONTEXT - 1
    rows = [[1 + (7 * place + row) % 40 for place in range(length)] for row in range(3)]
    state = target.prefill([rows[0], rows[1], rows[2][:20]])
    state.cache.keep([0, 2, 0])
    tokens = torch.tensor([[rows[0][-1], 5, 6], [1, 2, 3], [rows[2][19], 5, 6]])
    made = target.score(Draft.chain(tokens), state.cache, hidden=True)
    assert made.hidden is not None
    assert made.logits.shape[:2] == made.hidden.shape[:2] == (3, 3)
    assert made.hidden.shape[2] == 32
    assert (made.logits[0, 0] - alone(target.model, rows[0])[-1]).abs().max() < 1e-4
    assert (made.logits[2] - alone(target.model, [*rows[2][:20], 5, 6])[-3:]).abs().max() < 1e-4
    for values in (made.logits, made.hidden):
        assert values[0, 0].abs().max() > 0
        assert values[0, 2].abs().max() == values[1].abs().max() == 0


class Sparse(nn.Module):
    """A layer of a class that nobody knows, which caches keys of an index."""

    def forward(self, past_key_values, keys):
        return past_key_values.update_indexer(keys, 0)


class Heir(Sparse):
    """Inherits the call."""


@pytest.mark.parametrize("layer", [Sparse, Heir])
def test_a_layer_that_calls_for_another_cache_is_refused_by_name(layer):
    model = build("llama")
    CausalLM(model)
    model.model.layers[1].extra = layer()
    with pytest.raises(ValueError, match=rf"LlamaForCausalLM caches more than keys and values \(for {layer.__name__}\)"):
        CausalLM(model)


@pytest.mark.parametrize("model_type", ["openai-gpt", "xlm", "xlnet", "reformer"])
def test_a_class_without_a_cache_is_refused_by_name(model_type):
    model = build(model_type)
    with pytest.raises(ValueError, match=f"{type(model).__name__} takes no cache of keys and values") as refusal:
        CausalLM(model)
    assert "\n" not in str(refusal.value)
