"""Arguments that are wrong are named in one line; unusual ones that `generate` takes are taken."""

import copy
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
import torch
from transformers import StoppingCriteriaList

from drafters.draft_model import DraftModel
from drafters.lookahead import Lookahead
from drafters.prompt_lookup import PromptLookup
from spec import speculative
from spec.generate import generate
from tests.spec.generate.material import MASK, PADDED, both, call
from tests.tiny import build
from verifiers.recursive import Recursive
from verifiers.typical import Typical


@pytest.fixture(scope="module")
def model():
    return build("llama")


class Wrapper(torch.nn.Module):
    """Hands everything on, as PEFT and others do."""

    def __init__(self, inner: Any):
        super().__init__()
        self.inner, self.config, self.device, self.dtype = inner, inner.config, inner.device, inner.dtype

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner(*args, **kwargs)


WRONG_DOORS: list[tuple[Callable[[], Any], str]] = [
    (lambda: speculative(allow_lossy="no"), r"^allow_lossy='no': give True or False$"),  # pyright: ignore[reportArgumentType]
    (lambda: speculative(PromptLookup), r"^drafter=PromptLookup is a class; give an object, for example PromptLookup\(\)$"),  # pyright: ignore[reportArgumentType]
    (lambda: speculative("prompt_lookup", Recursive), r"^verifier=Recursive is a class; give an object"),  # pyright: ignore[reportArgumentType]
    (lambda: speculative(verifier=Recursive), r"^verifier=Recursive is a class; give an object"),  # pyright: ignore[reportArgumentType]
    (lambda: speculative(verifier=3), r"^verifier=3 is no verifier"),  # pyright: ignore[reportArgumentType]
    (lambda: speculative(verifier=Typical()), r"^Typical changes the output's distribution; pass allow_lossy=True"),
    (lambda: speculative(streamer=print), r"^streamer=<built-in function print>: give an object with put and end"),
    (lambda: generate(None, custom_generate="x", drafter="jacobi"), r"^drafter='jacobi' and custom_generate were given; give one of them$"),
    (lambda: generate(None, drafter=PromptLookup(), drafter_options={}), r"^drafter_options={} are settings of a drafter .* has its own$"),
    (lambda: generate(None, drafter_options={"window": 3}), r"^drafter_options={'window': 3} are settings .*; name one, as in drafter='lookahead'$"),
    (lambda: generate(None, runtime="fast"), r"^runtime='fast'"),
]


@pytest.mark.parametrize(("make", "message"), WRONG_DOORS)
def test_a_door_is_checked_when_it_is_made(make, message):
    with pytest.raises(ValueError, match=message) as raised:
        make()
    assert "\n" not in str(raised.value)


WRONG_CALLS: dict[str, tuple[dict[str, Any], str]] = {
    "streamer": ({"streamer": Queue(), "ids": PADDED[1:2], "mask": MASK[1:2]}, r"^streamer=<queue\.Queue .*>: give an object with put and end"),
    "mask, shorter": ({"mask": MASK[:, 1:]}, r"^attention_mask=torch\.Size\(\[3, 5\]\): give a tensor \[3, 6\], as input_ids is$"),
    "mask, fewer rows": ({"mask": MASK[:1]}, r"^attention_mask=torch\.Size\(\[1, 6\]\): give"),
    "mask of shares": ({"mask": MASK * 0.5}, r"^attention_mask holds numbers other than 0 and 1"),
    "mask of twos": ({"mask": MASK * 2}, r"^attention_mask holds numbers other than 0 and 1"),
    "positions as a list": ({"position_ids": [0, 1, 2]}, r"^position_ids is not served"),
    "positions, shorter": ({"position_ids": torch.arange(3)[None]}, r"^position_ids is not served"),
    "n-gram of none": (
        {"prompt_lookup_num_tokens": 3, "max_matching_ngram_size": 0, "ids": PADDED[1:2], "mask": MASK[1:2]},
        "^max_matching_ngram_size=0",
    ),
    "is_assistant": ({"is_assistant": True}, "^is_assistant=True is not served"),
}


@pytest.mark.parametrize(("options", "message"), WRONG_CALLS.values(), ids=WRONG_CALLS)
def test_wrong_arguments_are_named(model, options, message):
    with pytest.raises(ValueError, match=message) as raised:
        call(model, custom_generate=speculative(), **options)
    assert "\n" not in str(raised.value)


def reads_scores(input_ids: torch.Tensor, scores: Any) -> bool:
    return bool(scores[-1].max() > 3)


def test_a_criterion_that_reads_scores_is_told_that_there_are_none(model):
    with pytest.raises(ValueError, match=r"^function failed: .*; a stopping criterion gets scores=None here") as raised:
        call(model, custom_generate=speculative(), stopping_criteria=StoppingCriteriaList([reads_scores]))  # pyright: ignore[reportArgumentType]
    assert isinstance(raised.value.__cause__, TypeError)


@pytest.mark.parametrize("eos", [torch.tensor([17, 30]), torch.tensor(17), torch.tensor([30]), [17, 30]], ids=["two", "a number", "one", "list"])
def test_ids_may_be_tensors(model, eos):
    """An EOS token that the texts reach, and padding behind it."""
    free = call(model)[:, PADDED.shape[1] :]
    eos = eos.clone() if isinstance(eos, torch.Tensor) else list(eos)
    numbers = torch.as_tensor(eos)
    numbers.flatten()[0] = free[0, 4]
    eos = numbers.tolist() if isinstance(eos, list) else numbers
    for pad in (1, torch.tensor(1), None):
        ours, theirs = both(model, eos_token_id=eos, pad_token_id=pad)
        assert torch.equal(ours, theirs)
        assert ours.shape[1] < PADDED.shape[1] + 16 or (ours[0, PADDED.shape[1] + 5 :] == ours[0, -1]).all()


@pytest.mark.parametrize("wrap", [lambda model: torch.compile(model, backend="eager"), Wrapper, lambda model: Wrapper(Wrapper(model))])
def test_wrapped_models_draft(model, wrap):
    assistant = wrap(build("llama"))
    ours = call(model, custom_generate=speculative(DraftModel(assistant, num_tokens=4)), return_dict_in_generate=True)
    assert torch.equal(ours.sequences, call(model))
    assert ours.stats.tokens_per_step > 3  # it is the target itself


@pytest.mark.parametrize(
    "drafter", [PromptLookup(), Lookahead(), DraftModel(build("gpt2"), num_tokens=4)], ids=lambda drafter: type(drafter).__name__
)
def test_the_last_token_takes_no_position(drafter):
    """A table of positions ends where the context does, and `generate` may emit one token more."""
    table = build("gpt2")
    fits = table.config.max_position_embeddings + 1 - PADDED.shape[1]
    door = speculative(drafter)
    ours, theirs = both(table, door, max_new_tokens=fits)
    assert torch.equal(ours, theirs)
    with pytest.raises(ValueError, match=f"ask for at most {fits} new tokens"):
        call(table, max_new_tokens=fits + 1, custom_generate=door)
    whole = torch.arange(fits + PADDED.shape[1] - 1)[None] % 40
    ours, theirs = both(table, door, ids=whole, mask=torch.ones_like(whole), max_new_tokens=1)
    assert torch.equal(ours, theirs)


def test_one_door_in_several_threads(model):
    """A drafter remembers its text, so calls wait for each other."""
    door, found = speculative(DraftModel(build("llama", seed=1), num_tokens=4)), {}

    def work(row: int) -> None:
        for _ in range(3):
            found[row] = call(model, ids=PADDED[row : row + 1], mask=MASK[row : row + 1], custom_generate=door)

    threads = [threading.Thread(target=work, args=(row,)) for row in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for row in range(3):
        assert torch.equal(found[row], call(model, ids=PADDED[row : row + 1], mask=MASK[row : row + 1]))


def test_a_call_within_a_call_and_copies(model):
    """A criterion that itself generates, by the same door and the same assistant."""
    door, assistant = speculative(), build("llama", seed=1)
    inside = []

    def criterion(input_ids: torch.Tensor, scores: Any) -> bool:
        inside.append(call(model, ids=PADDED[1:2], mask=MASK[1:2], max_new_tokens=3, assistant_model=assistant, custom_generate=door))
        return False

    one = {"ids": PADDED[1:2], "mask": MASK[1:2]}
    found = call(model, **one, assistant_model=assistant, custom_generate=door, stopping_criteria=StoppingCriteriaList([criterion]))  # pyright: ignore[reportArgumentType]
    assert torch.equal(found, call(model, **one))
    assert all(torch.equal(answer, call(model, **one, max_new_tokens=3)) for answer in inside)
    assert inside
    assert torch.equal(call(model, custom_generate=copy.deepcopy(door)), call(model))


def test_an_assistant_is_compared_once(model, monkeypatch):
    """Tokenizers of 262,144 tokens take seconds to read."""
    assistant, door, made = build("llama", seed=1), speculative(), []
    monkeypatch.setattr("spec.assistant.shared_ids", lambda target, drafter: made.append(drafter))
    for length in (4, 4, 5, 5):
        call(model, ids=PADDED[1:2], mask=MASK[1:2], custom_generate=door, assistant_model=assistant, num_assistant_tokens=length)
    assert len(made) == 2


def test_a_model_whose_generate_this_is_still_takes_other_functions(model):
    """As transformers makes it of a folder custom_generate/ among a model's files."""
    asked = []

    def theirs(model, input_ids, **_):
        asked.append(model)
        return input_ids

    assert torch.equal(generate(model, PADDED, attention_mask=MASK, max_new_tokens=3, custom_generate=theirs), PADDED)
    assert asked == [model]
    arguments = {"attention_mask": MASK, "max_new_tokens": 16, "do_sample": False, "pad_token_id": 0}
    assert torch.equal(generate(model, PADDED, **arguments, custom_generate=None), call(model))


def test_a_door_can_be_pickled_after_a_call():
    model, assistant = build("llama"), build("llama", seed=1)
    for door, options in ((speculative(DraftModel(assistant)), {}), (speculative(), {"assistant_model": assistant})):
        one = {"ids": PADDED[1:2], "mask": MASK[1:2], **options}
        found = call(model, custom_generate=door, **one)
        again = pickle.loads(pickle.dumps(door))
        assert torch.equal(call(model, custom_generate=again, **one), found)


def test_outputs_that_nobody_gets_are_no_mistake(model):
    options = {"output_attentions": True, "output_hidden_states": True}
    assert torch.equal(call(model, custom_generate=speculative(), **options), call(model, **options))


def test_a_warning_points_at_the_callers_line(model):
    for run in (
        lambda: call(model, custom_generate=speculative(), max_cache_len=64),
        lambda: generate(model, PADDED[1:2], max_new_tokens=2, max_cache_len=64),
    ):
        with pytest.warns(UserWarning, match="^max_cache_len=64 has no effect") as found:
            run()
        places = [warning.filename for warning in found if "max_cache_len" in str(warning.message)]
        assert len(places) == 1
        assert Path(places[0]).parent == Path(__file__).parent


@pytest.mark.parametrize("place", ["target", "draft model"])
def test_training_with_gradient_checkpointing_is_refused(model, place):
    # Layers without a cache make the masks of a draft too wide.
    other = build("llama", seed=1)
    (getattr(other, "activation_checkpointing_enable", None) or other.gradient_checkpointing_enable)()  # the first since transformers 5.23
    assert torch.equal(call(other, custom_generate=speculative()), call(other))
    other.train()
    with pytest.raises(ValueError, match=r"is in training mode with gradient checkpointing, .*; call model\.eval\(\) first$"):
        call(other if place == "target" else model, custom_generate=speculative(None if place == "target" else DraftModel(other)))
