"""Logits processors that keep state are refused where two answers show it; those that are functions are served and not disturbed."""

import pytest
import torch
from transformers import LogitsProcessorList, NoRepeatNGramLogitsProcessor, PrefixConstrainedLogitsProcessor, TemperatureLogitsWarper

from drafters.draft_model import DraftModel
from drafters.prompt_lookup import PromptLookup
from spec import CausalLM, Limits, Sampler, decode, speculative
from spec.noise import Noise
from tests.tiny import VOCABULARY, build
from verifiers.recursive import Recursive

PROMPTS = [[5, 9, 13, 5, 9, 13], [3, 4], [17, 2, 30, 30]]


@pytest.fixture(scope="module")
def target():
    return CausalLM(build("llama"))


def run(target, *processors, **options):
    sampler = Sampler(**{"temperature": 0.8, "seed": 1} | options, processors=processors)
    return decode(target, PromptLookup(), Recursive(), PROMPTS, sampler=sampler, limits=Limits(6))


class Cooling:
    """Colder with every call."""

    calls = 0

    def __call__(self, ids, scores):
        self.calls += 1
        return scores * (1 + 0.1 * self.calls)


class Toggle(Cooling):
    """Another answer every second time."""

    def __call__(self, ids, scores):
        self.calls += 1
        return scores + 1 if self.calls % 2 else scores


class Unsaid:
    """Forbids the tokens that it has been shown, by a list of its own."""

    def __init__(self):
        self.shown = []

    def __call__(self, ids, scores):
        self.shown.append(int(ids[0, -1]))
        return scores.index_fill(1, torch.tensor(self.shown), float("-inf"))


class Automaton:
    """As constrained decoding often is: every call moves on by the last token, and a second move from the prompt fails."""

    moves = 0

    def __call__(self, ids, scores):
        self.moves += 1
        if self.moves > 1 and int(ids[0, -1]) == PROMPTS[0][-1]:
            raise AssertionError("no such move")
        return scores


class Randomly:
    """Draws numbers of its own."""

    def __call__(self, ids, scores):
        return scores + torch.rand(scores.shape)


class Colder(TemperatureLogitsWarper):
    """A user's own warper that keeps state is no warper of transformers'."""

    def __call__(self, input_ids, scores):
        self.temperature *= 0.9
        return scores / self.temperature


STATEFUL = [Cooling, Toggle, Unsaid, Automaton, Randomly, lambda: Colder(1.0)]


@pytest.mark.parametrize("make", STATEFUL, ids=lambda make: make.__name__)
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_state_from_call_to_call_is_refused(target, make, temperature):
    with pytest.raises(ValueError, match="when it is called again with the same tokens and scores: it keeps state") as caught:
        run(target, make(), temperature=temperature)
    assert type(make()).__name__ in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_door_refuses_it_too(target):
    ids = torch.tensor(PROMPTS[:1])
    options = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 4, "pad_token_id": 0}
    door = speculative(PromptLookup(), Recursive())
    with pytest.raises(ValueError, match="Cooling answers differently"):
        target.model.generate(ids, **options, logits_processor=LogitsProcessorList([Cooling()]), custom_generate=door)


def test_nothing_is_run_before_the_refusal(target, monkeypatch):
    monkeypatch.setattr(target, "prefill", None)
    with pytest.raises(ValueError, match="Cooling"):
        run(target, Cooling())


class FromTheFirstLength:
    """Remembers how long the first text was that it saw, and forbids what was generated behind that. Legal where all prompts have one length."""

    start = None

    def __call__(self, ids, scores):
        if self.start is None:
            self.start = ids.shape[1]
        return scores.scatter(1, ids[:, self.start :], float("-inf"))


def test_the_first_call_shows_what_generate_would_show(target):
    """Left padding included: a processor that measures its first text measures the right one, and the answer is `generate`'s."""
    ids = torch.tensor([[0, 0, 0, 0, 3, 4], PROMPTS[0], [0, 0, *PROMPTS[2]]])
    mask = torch.tensor([[0, 0, 0, 0, 1, 1], [1] * 6, [0, 0, 1, 1, 1, 1]])
    options = {"attention_mask": mask, "max_new_tokens": 12, "do_sample": False, "pad_token_id": 0}
    theirs = target.model.generate(ids, **options, logits_processor=LogitsProcessorList([FromTheFirstLength()]))
    for drafter in (PromptLookup(), DraftModel(build("llama"), num_tokens=3)):
        own = FromTheFirstLength()
        ours = target.model.generate(ids, **options, logits_processor=LogitsProcessorList([own]), custom_generate=speculative(drafter, Recursive()))
        assert own.start == 6
        assert torch.equal(ours, theirs)


class Watching:
    """A function that notes what it was shown."""

    def __init__(self):
        self.shapes = []

    def __call__(self, ids, scores):
        self.shapes.append((tuple(ids.shape), tuple(scores.shape), scores.dtype))
        return scores.mul_(0.5)  # in place


def test_the_probe_is_four_calls_in_the_shape_of_the_batch(target):
    processor = Watching()
    Sampler(processors=[processor]).check(PROMPTS[0], 3, VOCABULARY, torch.device("cpu"))
    tokens = [6, 6, 7, 6]
    assert processor.shapes == [((3, length), (3, VOCABULARY), torch.float32) for length in tokens]


def test_processors_without_state_are_served(target):
    def only_short(place, ids):
        if len(ids) > len(PROMPTS[place]) + 12:
            raise AssertionError("nobody asks that far")
        return list(range(10 * place, 10 * place + 10))

    made = run(target, Watching(), PrefixConstrainedLogitsProcessor(only_short, num_beams=1), NoRepeatNGramLogitsProcessor(2), Colorless(1.0))
    for place in range(3):
        assert {token // 10 for token in made.new_tokens(place)} == {place}


class Colorless(TemperatureLogitsWarper):
    """A subclass that reads the prefix: it must be shown it."""

    def __call__(self, input_ids, scores):
        assert input_ids.shape[1] > 0
        return scores


def test_a_text_that_is_made_up_may_be_refused(target):
    """A processor that raises for tokens which never come is a function all the same."""

    def strict(ids, scores):
        if ids.tolist() not in [[prompt] * 3 for prompt in PROMPTS]:
            raise KeyError("no such text")
        return scores

    sampler = Sampler(0.8, processors=[strict])
    made = decode(target, PromptLookup(), Recursive(), PROMPTS, sampler=sampler, limits=Limits(1))
    assert [len(made.new_tokens(row)) for row in range(3)] == [1, 1, 1]


def test_what_fails_at_once_fails_as_itself(target):
    with pytest.raises(KeyError, match="mine"):
        run(target, fails)


def fails(ids, scores):
    raise KeyError("mine")


def test_without_processors_nobody_is_asked(target, monkeypatch):
    monkeypatch.setattr("spec.sampling.refuse_stateful", None)
    run(target, top_k=5, top_p=0.9, repetition_penalty=1.2)
    assert Sampler(seed=5).seed == Noise(5).seed
