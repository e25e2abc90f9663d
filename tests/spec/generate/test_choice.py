"""Which drafter a call uses, and that two of them are refused."""

import pytest
import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from drafters.draft_model import DraftModel
from drafters.prompt_lookup import PromptLookup
from drafters.stopping.confidence import Confidence
from drafters.stopping.heuristic import Heuristic
from spec import named, speculative
from spec.generate.choice import Choices
from spec.generate.handed import Handed
from spec.interfaces import check_pair
from tests.spec.generate.material import both, call, words
from tests.tiny import COMMON, GROUPED, build
from verifiers.recursive import Recursive


@pytest.fixture(scope="module")
def model():
    return build("llama")


@pytest.fixture(scope="module")
def assistant():
    return build("llama", seed=1)


def config(**fields):
    prepared = GenerationConfig(**fields)
    prepared.update(**GenerationConfig._get_default_generation_params(), defaults_only=True)
    return prepared


def test_the_calls_arguments_choose(model, assistant):
    for options in ({"assistant_model": assistant}, {"prompt_lookup_num_tokens": 3}, {"prompt_lookup_num_tokens": 3, "max_matching_ngram_size": 1}):
        ours, theirs = both(model, speculative(), ids=torch.tensor([[5, 9, 13, 5, 9]]), mask=torch.ones(1, 5, dtype=torch.int64), **options)
        assert torch.equal(ours, theirs)
    options = {"assistant_model": model, "assistant_confidence_threshold": 0.0, "return_dict_in_generate": True}
    drafted = call(model, **options, custom_generate=speculative()).stats
    assert drafted.tokens_per_step > 8  # the model drafts for itself, so everything is accepted
    assert max(map(max, (step.drafted for step in drafted.steps))) > 10
    looked_up = call(model, return_dict_in_generate=True, prompt_lookup_num_tokens=2, custom_generate=speculative()).stats
    assert max(map(max, (step.drafted for step in looked_up.steps))) == 2


def test_lengths_as_generate_would_give_them(assistant):
    def made(**fields):
        return Choices(None).choose(Handed(assistant_model=assistant), config(**fields))

    plain = made().drafter
    assert isinstance(plain, DraftModel)
    assert plain.num_tokens == 20
    assert isinstance(plain.stopping, Confidence)
    assert plain.stopping.threshold == 0.4
    own = made(num_assistant_tokens=7, assistant_confidence_threshold=0.0)
    assert (own.drafter.num_tokens, own.drafter.stopping) == (7, None)
    grown = made(num_assistant_tokens=3, num_assistant_tokens_schedule="heuristic", assistant_confidence_threshold=0.1)
    assert isinstance(grown.drafter.stopping, Heuristic)
    assert grown.drafter.stopping.num_tokens == 3 < grown.drafter.num_tokens
    assert "assistant_confidence_threshold" not in grown.used  # so that it is said
    with pytest.raises(ValueError, match=r"^num_assistant_tokens_schedule='often': give constant, heuristic"):
        made(num_assistant_tokens_schedule="often")


def test_an_assistant_with_fewer_rows_of_embeddings():
    """transformers would ask for two tokenizers; ours is padding of one."""
    target, small = (LlamaForCausalLM(LlamaConfig(**{**COMMON, **GROUPED, "vocab_size": size})).double().eval() for size in (48, 40))
    with pytest.warns(UserWarning, match="tokenizer"):
        found = call(target, assistant_model=small, custom_generate=speculative())
    assert torch.equal(found, call(target))
    with pytest.raises(ValueError, match=r"^assistant_tokenizer is not served: drafts are made in the target's own tokens"):
        call(target, assistant_model=small, tokenizer=words(), assistant_tokenizer=words(), custom_generate=speculative())


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"prompt_lookup_num_tokens": 0}, "prompt_lookup_num_tokens=0: give at least 1 token"),
        ({"prompt_lookup_num_tokens": 2.5}, "prompt_lookup_num_tokens=2.5: give at least 1 token"),
        ({"prompt_lookup_num_tokens": 2, "max_matching_ngram_size": -1}, "max_matching_ngram_size=-1: give at least 1 token"),
        ({"num_assistant_tokens": 0}, "num_assistant_tokens=0: give at least 1 token"),
        ({"assistant_confidence_threshold": 7}, "assistant_confidence_threshold=7: give a probability, or 0 to stop nowhere"),
    ],
)
def test_wrong_numbers_are_named_as_they_were_given(assistant, options, line):
    handed = Handed() if "prompt_lookup_num_tokens" in options else Handed(assistant_model=assistant)
    with pytest.raises(ValueError, match=f"^{line}$"):
        Choices(None).choose(handed, config(**options))


def test_an_assistants_own_settings_count(assistant):
    """`generate` looks there alone."""
    assistant.generation_config.num_assistant_tokens = 4
    assert Choices(None).choose(Handed(assistant_model=assistant), config()).drafter.num_tokens == 4
    assert Choices(None).choose(Handed(assistant_model=assistant), config(num_assistant_tokens=6)).drafter.num_tokens == 6
    assistant.generation_config.num_assistant_tokens = None


def test_two_drafters_are_refused(model, assistant):
    door = speculative("lookahead")
    for options, names in (
        ({"assistant_model": assistant, "custom_generate": door}, r"drafter=Lookahead and assistant_model=LlamaForCausalLM"),
        ({"prompt_lookup_num_tokens": 3, "custom_generate": door}, r"drafter=Lookahead and prompt_lookup_num_tokens=3"),
        (
            {"assistant_model": assistant, "prompt_lookup_num_tokens": 3, "custom_generate": speculative()},
            "assistant_model=LlamaForCausalLM and prompt_lookup_num_tokens=3",
        ),
    ):
        with pytest.raises(ValueError, match=f"^{names} ask for 2 drafters; give one of them$"):
            call(model, **options)


def test_settings_of_a_drafter_that_was_not_chosen_are_said(model):
    with pytest.warns(UserWarning, match="^num_assistant_tokens=7 has no effect .* a drafter that was not chosen"):
        call(model, num_assistant_tokens=7, custom_generate=speculative("lookahead"))


def test_every_name_makes_what_the_file_of_its_name_holds():
    for place, places, role in (("drafters", named.DRAFTERS, "drafter"), ("verifiers", named.VERIFIERS, "verifier")):
        for name, at in places.items():
            assert at.removeprefix("draftproof.").startswith(f"{place}.{name}:"), role  # in the wheel everything lies inside
            assert named.class_at(at).__module__.removeprefix("draftproof.") == f"{place}.{name}"
    assert isinstance(named.drafter_named("prompt_lookup", {"num_tokens": 3}), PromptLookup)
    check_pair(named.drafter_named("lookahead"), named.verifier_named("recursive"))
    assert isinstance(named.verifier_named("recursive"), Recursive)


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: speculative("medusa_9"), "^drafter='medusa_9': give one of none, prompt_lookup, "),
        (lambda: speculative(verifier="sure"), "^verifier='sure': give one of recursive, "),
        (lambda: speculative(3), "^drafter=3 is no drafter"),
        (lambda: speculative("draft_tree", "rejection"), "verifies chains only"),
        (lambda: named.drafter_named("lookahead", {"windows": 3}), "^drafter=lookahead does not take {'windows': 3}: "),
        (lambda: named.drafter_named("lookahead", 3), "^drafter_options=3: give a dict"),
    ],
)
def test_wrong_names(make, line):
    with pytest.raises(ValueError, match=line) as refusal:
        make()
    assert "\n" not in str(refusal.value)
