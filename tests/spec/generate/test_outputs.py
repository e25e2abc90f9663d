"""What `generate` returns beside the tokens: scores and logits of every emitted token, several answers to a prompt."""

import pytest
import torch
from transformers import LogitsProcessorList
from transformers.generation import GenerateDecoderOnlyOutput

from drafters.draft_model import DraftModel
from drafters.draft_tree import DraftTree
from drafters.lookahead import Lookahead
from drafters.prompt_lookup import PromptLookup
from spec import CausalLM, Limits, Sampler, decode, speculative
from spec.stats import GenerationStats
from tests.spec.generate.material import MASK, PADDED, both, call
from tests.tiny import build
from verifiers.recursive import Recursive

ASKED = {"return_dict_in_generate": True, "output_scores": True, "output_logits": True}
EOS = 27


@pytest.fixture(scope="module")
def model():
    return build("llama")


DRAFTERS = {
    "chain": lambda model: DraftModel(model=build("llama", seed=1), num_tokens=3),
    "tree": lambda model: DraftTree(model=model, widths=(3, 2, 1)),
    "window": lambda model: Lookahead(window=3, ngram=3, guesses=3),
    "lookup": lambda model: PromptLookup(),
}


class Forbid:
    """Forbids the token before last: a processor that reads the prefix."""

    def __call__(self, input_ids, scores):
        return scores.scatter(1, input_ids[:, -2:-1], float("-inf"))


@pytest.mark.parametrize("name", DRAFTERS)
def test_scores_and_logits_are_those_of_generate(model, name):
    options = {**ASKED, "eos_token_id": EOS, "repetition_penalty": 1.2, "logits_processor": LogitsProcessorList([Forbid()])}
    ours, theirs = both(model, speculative(DRAFTERS[name](model)), **options)
    assert torch.equal(ours.sequences, theirs.sequences)
    assert len(ours.scores) == len(ours.logits) == len(theirs.scores)
    ended = live = 0
    for place in range(len(theirs.scores)):
        for row in range(len(PADDED)):
            if EOS in ours.sequences[row, PADDED.shape[1] : PADDED.shape[1] + place]:  # `generate` scores padding there, which means nothing
                assert ours.scores[place][row].softmax(-1)[0] == ours.logits[place][row].softmax(-1)[0] == 1
                ended += 1
                continue
            live += 1
            assert torch.allclose(ours.scores[place][row], theirs.scores[place][row], atol=1e-5)
            assert torch.allclose(ours.logits[place][row], theirs.logits[place][row], atol=1e-5)
    assert ended > 5 < live


def test_transition_scores(model):
    ours, theirs = both(model, **ASKED)
    for normalised in (True, False):
        found, wanted = (model.compute_transition_scores(out.sequences, out.scores, normalize_logits=normalised) for out in (ours, theirs))
        assert torch.allclose(found, wanted, atol=1e-5)
    ended = call(model, **ASKED, eos_token_id=EOS, custom_generate=speculative())
    assert model.compute_transition_scores(ended.sequences, ended.scores, normalize_logits=True)[1, -1] == 0


def test_what_is_returned(model):
    plain = call(model, custom_generate=speculative(), output_scores=True)
    assert isinstance(plain, torch.Tensor)
    found = call(model, custom_generate=speculative(), return_dict_in_generate=True)
    assert isinstance(found, GenerateDecoderOnlyOutput)
    assert isinstance(found.stats, GenerationStats)
    assert torch.equal(found["sequences"], plain)
    assert set(found.keys()) == {"sequences", "stats"}
    assert set(call(model, custom_generate=speculative(), **ASKED).keys()) == {"sequences", "scores", "logits", "stats"}
    assert found.past_key_values is found.attentions is found.hidden_states is None


def test_waiting_prompts_keep_their_own_scores(model):
    together, one_by_one = (call(model, **ASKED, eos_token_id=EOS, custom_generate=speculative(batch_size=size)) for size in (3, 1))
    assert all(torch.allclose(first, second, atol=1e-5) for first, second in zip(together.scores, one_by_one.scores, strict=True))


def test_several_answers_to_a_prompt(model):
    """Rows with noise of their own: each is what the same seed gives as a batch of repeated prompts."""
    options = {"do_sample": True, "num_return_sequences": 3, "temperature": 1.3}
    found = call(model, custom_generate=speculative("prompt_lookup", seed=3), **options)
    assert found.shape[0] == 9
    assert len({tuple(row.tolist()) for row in found}) == 9
    repeated = {"ids": PADDED.repeat_interleave(3, 0), "mask": MASK.repeat_interleave(3, 0)}
    assert torch.equal(found, call(model, custom_generate=speculative("prompt_lookup", seed=3), **{**options, "num_return_sequences": 1}, **repeated))
    ranked = call(model, custom_generate=speculative(), **options, **ASKED)
    assert model.compute_transition_scores(ranked.sequences, ranked.scores, normalize_logits=True).shape == (9, 16)


def test_sampled_scores_are_what_tokens_were_drawn_from(model):
    """At temperature > 0 the scores are those of the warpers, so a token that they cut off is never emitted."""
    found = call(model, custom_generate=speculative(DraftModel(model=model, num_tokens=4)), do_sample=True, top_k=2, **ASKED)
    new = found.sequences[:, PADDED.shape[1] :]
    for place, scores in enumerate(found.scores):
        assert (scores.isfinite().sum(1) == 2).all()
        assert scores.gather(1, new[:, place : place + 1]).isfinite().all()


def test_decode_keeps_them_too(model):
    prompts = [[5, 9, 13], [3, 7, 3, 7, 3]]
    result = decode(
        CausalLM(model), PromptLookup(), Recursive(), prompts, sampler=Sampler(0.7, seed=2), limits=Limits(9, 13), keep=["scores", "logits"]
    )
    assert result.scores is not None
    assert result.logits is not None
    for row, prompt in enumerate(prompts):
        text = [*prompt, *result.new_tokens(row)]
        raw = model(torch.tensor([text])).logits[0, len(prompt) - 1 : -1]
        assert torch.allclose(result.logits[row], raw)
        assert torch.allclose(result.scores[row], raw / 0.7)
    for keep in ("scores", ["attention"], [3]):
        with pytest.raises(ValueError, match=r"^keep=.*: give a list of scores and logits"):
            decode(CausalLM(model), PromptLookup(), Recursive(), prompts, sampler=Sampler(), limits=Limits(9), keep=keep)
