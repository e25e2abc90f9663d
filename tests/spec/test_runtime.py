"""A runtime changes nothing but time: the same tokens over fixed shapes, compiled and captured; what cannot be done is said and done eagerly."""

import warnings

import pytest
import torch

from drafters.draft_model import DraftModel
from drafters.draft_tree import DraftTree
from drafters.jacobi import Jacobi
from drafters.lookahead import Lookahead
from drafters.none import NoDraft
from drafters.prompt_lookup import PromptLookup
from experiments.lossless.families.tiny import build as tiny_model
from spec import CausalLM, Draft, Limits, Sampler, decode, runtime
from spec.runtime import Graph, Inputs, Runtime
from tests.tiny import FAMILIES, build
from verifiers.recursive import Recursive

PROMPTS = [[1, 2, 3, 1, 2, 3, 1, 2], [5], [7, 8, 9, 7, 8], [4, 4, 4]]
EXACT = 1e-12


def fixed(model, **settings):
    """Fixed shapes, run by plain calls: all that a runtime does besides compiling."""
    target = CausalLM(model, runtime="compile", **settings)
    assert target.runtime is not None
    target.runtime.kind = "hf"
    return target


def texts(target, drafter, temperature=0.0, batch_size=None, prompts=PROMPTS, budget=12):
    made = decode(target, drafter, Recursive(), prompts, sampler=Sampler(temperature), limits=Limits(budget), batch_size=batch_size)
    return [sequence.tolist() for sequence in made.sequences]


@pytest.fixture(scope="module")
def llama():
    return build("llama")


DRAFTERS = {
    "none": lambda model: NoDraft(),
    "prompt_lookup": lambda model: PromptLookup(),
    "jacobi": lambda model: Jacobi(),
    "lookahead": lambda model: Lookahead(window=3, ngram=3, guesses=3),
    "draft_model": lambda model: DraftModel(model=fixed(model), num_tokens=5),
    "draft_tree": lambda model: DraftTree(model=fixed(model), widths=(2, 2)),
    "draft_tree, grown": lambda model: DraftTree(model=fixed(model), widths=None, num_nodes=6, num_rounds=2),
}


@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("drafter", DRAFTERS)
def test_fixed_shapes_change_no_token(llama, drafter, temperature):
    assistant = build("llama", 1)
    for batch_size in (1, 3):
        plain = texts(CausalLM(llama), NoDraft() if temperature == 0 else DRAFTERS[drafter](assistant), temperature, batch_size)
        assert texts(fixed(llama), DRAFTERS[drafter](assistant), temperature, batch_size) == plain


@pytest.mark.parametrize("family", FAMILIES)
def test_fixed_shapes_serve_every_family(family):
    model = build(family)
    assert texts(fixed(model), Lookahead(window=3, ngram=3)) == texts(CausalLM(model), NoDraft())


@torch.inference_mode()
def test_layers_that_share_keys_are_served_by_used_buffers_too():
    settings = {"num_hidden_layers": 4, "layer_types": ["sliding_attention", "full_attention"] * 2, "num_kv_shared_layers": 2}
    model = tiny_model("gemma4_text", settings)
    target, plain = fixed(model), texts(CausalLM(model), NoDraft())
    assert [texts(target, PromptLookup()) for _ in range(2)] == [plain, plain]


def test_logits_and_hidden_states_are_those_of_plain_forwards(llama):
    draft = Draft.chain(torch.tensor([[3, 4, 5], [6, 7, 8]]))
    found = []
    for target in (CausalLM(llama), fixed(llama)):
        scores = target.score(draft, target.prefill([[1, 2, 3], [9]]).cache, hidden=True)
        found.append(scores)
    assert found[0].logits.shape == found[1].logits.shape
    assert (found[0].logits - found[1].logits).abs().max() < EXACT
    assert (found[0].hidden - found[1].hidden).abs().max() < EXACT


@torch.inference_mode()
def test_padding_that_is_seen_would_show(llama, monkeypatch):
    right = texts(fixed(llama), PromptLookup(num_tokens=4))

    def seen_by_all(columns, width, dtype):
        return torch.zeros(*columns.shape, width, dtype=dtype)[:, None]

    monkeypatch.setattr("spec.masks.up_to", seen_by_all)
    assert texts(fixed(llama), PromptLookup(num_tokens=4)) != right


def test_padding_that_is_written_over_the_draft_would_show(llama, monkeypatch):
    right = texts(fixed(llama), Lookahead(window=3, ngram=3))
    padded = Inputs.padded

    def over_the_first(self, num_rows, num_slots):
        found = padded(self, num_rows, num_slots)
        found.columns[:, self.tokens.shape[1] :] = self.columns[:, :1]
        return found

    monkeypatch.setattr(Inputs, "padded", over_the_first)
    assert texts(fixed(llama), Lookahead(window=3, ngram=3)) != right


@pytest.mark.slow
def test_compiled_forwards_change_no_token_and_are_compiled_once(llama, monkeypatch):
    monkeypatch.setattr(runtime, "BACKEND", "eager")  # traced and guarded as ever, run by plain kernels
    target = CausalLM(llama, runtime="compile")
    plain = [texts(CausalLM(llama), PromptLookup(num_tokens=3), temperature, 1) for temperature in (0.0, 0.8)]
    assert [texts(target, PromptLookup(num_tokens=3), temperature, 1) for temperature in (0.0, 0.8)] == plain
    with torch._dynamo.config.patch(error_on_recompile=True):  # setting it by hand would leave it hidden afterwards
        assert texts(target, PromptLookup(num_tokens=3), 0.0, 1) == plain[0]
    assert target.runtime_kind == "compile"
    assert target.runtime is not None
    assert {key[:2] for key in target.runtime.compiled} <= {(1, 1), (1, 2), (1, 4)}


@pytest.mark.slow
def test_compiled_by_inductor_the_tokens_are_the_same(llama):
    target = CausalLM(llama, runtime="compile")
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # of the compiler's own
        found = texts(target, NoDraft(), prompts=PROMPTS[:1])
    assert found == texts(CausalLM(llama), NoDraft(), prompts=PROMPTS[:1])
    if target.runtime_kind == "hf":
        pytest.skip("no compiler here")


def test_what_cannot_be_compiled_is_run_eagerly_and_said_once(llama, monkeypatch):
    def broken(*args):
        raise RuntimeError("no compiler was found\nand more")

    monkeypatch.setattr(runtime, "compiled", broken)
    target = CausalLM(llama, runtime="compile")
    with pytest.warns(RuntimeWarning, match="runtime=compile is not possible here.*RuntimeError: no compiler was found$") as said:
        found = texts(target, PromptLookup())
    assert len(said) == 1
    assert target.runtime_kind == "hf"
    assert found == texts(CausalLM(llama), PromptLookup())


def test_out_of_memory_is_not_taken_for_a_compiler_that_fails(llama, monkeypatch):
    def full(*args):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(runtime, "compiled", full)
    with pytest.raises(torch.OutOfMemoryError, match=r"out of memory.*batch_size"):
        texts(CausalLM(llama, runtime="compile"), NoDraft())


def test_graphs_without_cuda_are_said_not_to_be_possible(llama):
    with pytest.warns(RuntimeWarning, match="CUDA graphs need a CUDA device"):
        target = CausalLM(llama, runtime="graphs")
    assert target.runtime_kind == "hf"
    assert texts(target, PromptLookup()) == texts(CausalLM(llama), PromptLookup())


class Replayed(Graph):
    """A graph without CUDA: what was captured is run again over the inputs and into the outputs that the capture had."""

    captured = 0

    @staticmethod
    def capture(run):
        Replayed.captured += 1
        output = run()

        def replay():
            for kept, new in zip(output, run(), strict=True):
                if kept is not None:
                    kept.copy_(new)

        return replay, output


def as_graphs(model, monkeypatch):
    monkeypatch.setattr(runtime, "Graph", Replayed)
    monkeypatch.setattr(runtime, "compiled", lambda function, name, device: function)
    target = CausalLM(model, runtime="compile")
    assert target.runtime is not None
    target.runtime.kind = "graphs"
    return target


def test_graphs_are_captured_once_for_a_bucket_and_a_capacity(llama, monkeypatch):
    target, Replayed.captured = as_graphs(llama, monkeypatch), 0
    plain = texts(CausalLM(llama), PromptLookup(num_tokens=3), batch_size=1)
    for _ in range(3):
        assert texts(target, PromptLookup(num_tokens=3), batch_size=1) == plain
    assert target.runtime is not None
    assert Replayed.captured == len({key for buffers in target.runtime.pool for key in buffers.graphs}) <= 3
    assert len(target.runtime.pool) == 1


def test_graphs_serve_a_batch_that_shrinks(llama, monkeypatch):
    plain = texts(CausalLM(llama), Lookahead(window=3, ngram=3), 0.8, 3)
    assert texts(as_graphs(llama, monkeypatch), Lookahead(window=3, ngram=3), 0.8, 3) == plain


@pytest.mark.parametrize("drafter", ["draft_model", "draft_tree", "draft_tree, grown"])
def test_graphs_may_write_over_their_outputs_while_a_drafter_grows_its_draft(llama, drafter, monkeypatch):
    assistant = build("llama", 1)
    plain = texts(CausalLM(llama), DRAFTERS[drafter](assistant), 0.8, 3)
    target = as_graphs(llama, monkeypatch)
    monkeypatch.setitem(globals(), "fixed", lambda model: as_graphs(model, monkeypatch))
    assert texts(target, DRAFTERS[drafter](assistant), 0.8, 3) == plain


def test_buffers_of_finished_generations_are_used_again_and_few_are_kept(llama):
    target = fixed(llama)
    assert target.runtime is not None
    for count in range(12):
        texts(target, NoDraft(), prompts=[[1, 2]] * (1 + count % 6), budget=3)
    assert len(target.runtime.pool) <= runtime.POOL
    one = fixed(llama)
    for _ in range(5):
        texts(one, NoDraft(), batch_size=1, budget=3)
    assert one.runtime is not None
    assert len(one.runtime.pool) == 1


def test_a_cache_that_outgrows_its_capacity_moves_to_a_larger_one(llama, monkeypatch):
    monkeypatch.setattr(runtime, "SMALLEST_CAPACITY", 8)
    target = fixed(llama)
    prompts = [[1, 2, 3], [4] * 30]
    plain = texts(CausalLM(llama), PromptLookup(), batch_size=1, prompts=prompts, budget=40)
    monkeypatch.setattr("spec.assistant.MOST_RESERVED", 0)
    state = target.prefill([[1, 2, 3]], room=0)
    assert state.cache.capacity == 32
    assert texts(target, PromptLookup(), batch_size=1, prompts=prompts, budget=40) == plain


def test_a_capacity_that_does_not_suffice_is_refused_before_any_work(llama):
    target = CausalLM(llama, runtime="compile", capacity=32)
    with pytest.raises(ValueError, match=r"capacity=32 slots, and prompt, new tokens and draft need \d+; give a larger capacity"):
        texts(target, NoDraft(), budget=64)


def test_a_draft_larger_than_the_largest_bucket_is_refused(llama):
    with pytest.raises(ValueError, match=r"a draft of 129 slots.*larger than the largest bucket, 128"):
        Runtime(llama, "compile").bucket(129)


def test_an_unknown_runtime_is_refused(llama):
    with pytest.raises(ValueError, match="runtime='fast': give one of auto, hf, lean, compile, graphs"):
        CausalLM(llama, runtime="fast")
    with pytest.raises(ValueError, match="runtime='fast': give one of auto, hf, lean, compile, graphs"):
        DraftModel(runtime="fast")


@pytest.mark.parametrize("runtime", ["hf", "compile"])
def test_weights_that_are_cast_between_decodes(runtime):
    """Masks and buffers have the model's own dtype, whatever it was when it was wrapped."""
    model = build("llama")
    target = CausalLM(model, runtime=runtime)
    if target.runtime is not None:
        target.runtime.kind = "hf"
    for dtype in (torch.float64, torch.float32, torch.float64):
        model.to(dtype)
        assert texts(target, Lookahead(window=3, ngram=3, guesses=3)) == texts(CausalLM(model), NoDraft())
        assert target.dtype == dtype
        if target.runtime is not None:
            target.runtime.kind = "hf"
