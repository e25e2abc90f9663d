"""The door for transformers users: the same call, the same answer, more tokens per forward."""

import pytest
import torch
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    MaxLengthCriteria,
    StoppingCriteria,
    StoppingCriteriaList,
    T5Config,
    T5ForConditionalGeneration,
)

from drafters.draft_model import DraftModel
from drafters.prompt_lookup import PromptLookup
from spec import speculative
from spec.generate import generate
from spec.stats import GenerationStats
from tests.spec.generate.material import MASK, PADDED, Collector, call
from tests.spec.generate.material import both as with_and_without
from tests.tiny import build
from verifiers.recursive import Recursive


@pytest.fixture(scope="module")
def model():
    return build("llama")


def both(model, drafter=None, **options):
    """With the door and without it; the model drafts for itself."""
    door = speculative(drafter or DraftModel(model=model, num_tokens=4), Recursive())
    return with_and_without(model, door, **{"max_new_tokens": 24, **options})


def test_left_padded_batches(model):
    for drafter in (None, PromptLookup()):
        ours, theirs = both(model, drafter)
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    "options",
    [{"repetition_penalty": 1.5}, {"no_repeat_ngram_size": 2}, {"bad_words_ids": [[11], [3, 4]]}, {"min_new_tokens": 20, "eos_token_id": 13}],
    ids=["repetition_penalty", "no_repeat_ngram", "bad_words", "min_new_tokens"],
)
def test_generation_config_is_obeyed(model, options):
    ours, theirs = both(model, **options)
    assert torch.equal(ours, theirs)


def test_eos_and_padding_after_it(model):
    free = both(model)[1][:, PADDED.shape[1] :]
    eos = [int(free[0, 9]), int(free[1, 14])]
    ours, theirs = both(model, eos_token_id=eos, pad_token_id=1)
    assert torch.equal(ours, theirs)
    assert ours.shape[1] < PADDED.shape[1] + 24 or (ours == 1).any()


class Forbid(LogitsProcessor):
    """Forbids the token before last: a processor of a user's own that reads the prefix."""

    def __call__(self, input_ids, scores):
        return scores.scatter(1, input_ids[:, -2:-1], float("-inf"))


class AfterTwo(StoppingCriteria):
    """Stops a row at the second occurrence of a token that it has generated."""

    def __init__(self, token):
        self.token = token

    def __call__(self, input_ids, scores, **kwargs):
        return (input_ids[:, PADDED.shape[1] :] == self.token).sum(1) >= 2


def test_users_processors_and_criteria(model):
    free = both(model, logits_processor=LogitsProcessorList([Forbid()]))
    assert torch.equal(*free)
    token = int(free[1][1, -3])
    rules = {"logits_processor": LogitsProcessorList([Forbid()]), "stopping_criteria": StoppingCriteriaList([AfterTwo(token)])}
    stopped = both(model, **rules, eos_token_id=39)  # without an EOS transformers lets stopped rows run on
    assert torch.equal(*stopped)


def test_return_dict_carries_the_stats(model):
    ours, theirs = both(model, return_dict_in_generate=True)
    assert torch.equal(ours.sequences, theirs.sequences)
    assert isinstance(ours.stats, GenerationStats)
    assert ours.stats.tokens_per_step > 4


def test_sampling_follows_manual_seed(model):
    def sample(seed):
        torch.manual_seed(seed)
        door = speculative(PromptLookup(), Recursive())
        return model.generate(PADDED, attention_mask=MASK, max_new_tokens=16, do_sample=True, temperature=0.9, pad_token_id=0, custom_generate=door)

    assert torch.equal(sample(1), sample(1))
    assert not torch.equal(sample(1), sample(2))


def test_streamer_gets_prompt_then_tokens(model):
    """Wherever it is given."""
    for place in ("door", "generate"):
        streamer = Collector()
        given = {"streamer": streamer} if place == "generate" else {}
        door = speculative(PromptLookup(), Recursive(), streamer=streamer if place == "door" else None)
        out = call(model, ids=PADDED[1:2], mask=MASK[1:2], custom_generate=door, **given)
        assert streamer.chunks[0] == PADDED[1].tolist()
        assert len(streamer.chunks) > 2
        assert [token for chunk in streamer.chunks for token in chunk] == out[0].tolist()
        assert streamer.ended
    with pytest.raises(ValueError, match=r"^streamer was given to speculative\(...\) and to generate"):
        call(model, ids=PADDED[1:2], mask=MASK[1:2], custom_generate=speculative(streamer=Collector()), streamer=Collector())


def test_stop_strings_need_a_tokenizer(model):
    with pytest.raises(ValueError, match="tokenizer"):
        call(model, stop_strings=["a"], custom_generate=speculative())


def test_what_cannot_be_served_is_refused(model):
    with pytest.raises(ValueError, match="padding_side='left'"):
        both(model, ids=PADDED.flip(1), mask=MASK.flip(1))
    with pytest.raises(ValueError, match="model_kwargs"):
        both(model, gama=3)
    with pytest.raises(ValueError, match="position_ids is not served"):
        both(model, position_ids=MASK.cumsum(1) + 3)
    embedded = model.get_input_embeddings()(PADDED).detach()
    with pytest.raises(ValueError, match="inputs_embeds is not served"):
        model.generate(PADDED, inputs_embeds=embedded, attention_mask=MASK, max_new_tokens=3, custom_generate=speculative())


def test_a_model_that_is_none_is_named_before_its_inputs():
    torch.manual_seed(0)
    shape = {"vocab_size": 40, "d_model": 16, "d_kv": 4, "d_ff": 16, "num_layers": 1, "num_heads": 2, "decoder_start_token_id": 0}
    both_ways = T5ForConditionalGeneration(T5Config(**shape)).eval()
    with pytest.raises(ValueError, match=r"^T5ForConditionalGeneration is an encoder-decoder; "):
        call(both_ways, custom_generate=speculative())


def test_the_same_as_a_function(model):
    """With every argument of `generate`, and drafters by name: what a folder custom_generate/ hands to transformers."""
    arguments = {"attention_mask": MASK, "max_new_tokens": 24, "do_sample": False, "pad_token_id": 0}
    wanted = model.generate(PADDED, **arguments)
    for drafter, options in ((None, None), ("lookahead", {"window": 3}), (PromptLookup(), None)):
        found = generate(model, PADDED, drafter=drafter, drafter_options=options, **arguments, return_dict_in_generate=True)
        assert torch.equal(found.sequences, wanted)
        assert found.stats.num_tokens == 3 * 24
    assert torch.equal(generate(model, input_ids=PADDED, **arguments, assistant_model=model), wanted)
    streamer = Collector()
    generate(model, PADDED[1:2], drafter="jacobi", verifier="coupled", attention_mask=MASK[1:2], max_new_tokens=4, streamer=streamer)
    assert sum(map(len, streamer.chunks)) == PADDED.shape[1] + 4
    with pytest.raises(ValueError, match=r"^drafter_options={'window': 3} are settings of a drafter that is given by its name; name one"):
        generate(model, PADDED, drafter_options={"window": 3})


def test_a_processor_may_know_its_row(model):
    ours, theirs = both(model, prefix_allowed_tokens_fn=lambda row, _: [[1, 2], [3, 4], [5, 6]][row])
    assert torch.equal(ours, theirs)


def test_a_users_own_limits_are_kept(model):
    ours, theirs = both(model, stopping_criteria=StoppingCriteriaList([MaxLengthCriteria(9)]), max_new_tokens=10)
    assert torch.equal(ours, theirs)
    assert ours.shape[1] == 9


def test_without_a_mask_the_padding_is_what_generate_takes_for_it(model):
    """Which is every token that is the padding token, the prompt's own among them: so give the mask."""
    ours, theirs = both(model, mask=None)
    assert torch.equal(ours, theirs)
    assert torch.equal(ours, both(model)[0])
    asis = torch.tensor([[0, 5, 9, 13]])  # here 0 opens the text and is the padding, too
    inferred, given = (both(model, ids=asis, mask=mask) for mask in (None, torch.ones_like(asis)))
    assert torch.equal(*inferred)
    assert torch.equal(*given)
    assert not torch.equal(inferred[0], given[0])


def test_the_same_drafter_serves_again(model):
    door = speculative(DraftModel(model=model, num_tokens=4), Recursive())
    for ids, mask in ((PADDED, MASK), (PADDED[1:2], MASK[1:2]), (PADDED[:, 3:], MASK[:, 3:])):
        arguments = {"attention_mask": mask, "max_new_tokens": 12, "do_sample": False, "pad_token_id": 0}
        assert torch.equal(model.generate(ids, **arguments, custom_generate=door), model.generate(ids, **arguments))
