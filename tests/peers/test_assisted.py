"""What transformers asks of assisted decoding, asked of every type of causal LM through `generate(custom_generate=speculative())`.

Five checks a type: a random assistant, the model as its own assistant, prompt lookup, sampling, and the outputs of a call. A type passes all five,
or is refused with one line; `not_served.txt` lists those, with their reasons.
"""

import copy
import re
from functools import cache
from pathlib import Path

import pytest
import torch
import transformers

from drafters.draft_model import DraftModel
from experiments.lossless.families.tiny import NotBuiltError, build, model_types, randomised
from spec import CausalLM, speculative

NOT_SERVED = Path(__file__).with_name("not_served.txt")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "models.md"
PROMPTS = torch.tensor([[5, 9, 13, 5, 9, 13], [3, 7, 3, 7, 3, 7]])
NUM_TOKENS = 10
ROW = re.compile(r"^\| (?P<type>\S+) \| `(?P<kind>\w+)` \| (?P<verdict>refused|not built) \| (?P<note>.*) \|$", re.MULTILINE)


def not_served() -> dict[str, str]:
    """Type -> the reason why it is not served, or could not be built small."""
    lines = NOT_SERVED.read_text(encoding="utf-8").splitlines()
    return dict(line.split("\t") for line in lines if line and not line.startswith("#"))


def call(model, **options):
    ids = options.pop("ids", PROMPTS)
    return model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=NUM_TOKENS, pad_token_id=0, **{"do_sample": False, "top_k": 0, **options}
    )


@cache
def pair(model_type):
    """A tiny model and one of the same class with other weights."""
    target = build(model_type)
    return target, randomised(copy.deepcopy(target), 7)


def same_as_greedy(target, **options):
    asked = {"return_dict_in_generate": True, "output_scores": True, "output_logits": True}
    found = call(target, **options, **asked, custom_generate=speculative())
    for row in range(len(PROMPTS)):  # alone, where nothing is padded, since some classes look at the whole batch
        wanted = call(target, ids=PROMPTS[row : row + 1], **asked)
        assert torch.equal(found.sequences[row : row + 1], wanted.sequences)
        for ours, theirs in ((found.scores, wanted.scores), (found.logits, wanted.logits)):
            assert torch.allclose(torch.stack([part[row] for part in ours]), torch.stack([part[0] for part in theirs]), atol=1e-3)
    return found


def assisted_random(target, assistant):
    assert same_as_greedy(target, assistant_model=assistant).stats.num_drafted > 0


def assisted_same(target, assistant):
    stats = same_as_greedy(target, assistant_model=target, assistant_confidence_threshold=0.0).stats
    assert stats.num_accepted == stats.num_drafted > 0


def prompt_lookup(target, assistant):
    assert same_as_greedy(target, prompt_lookup_num_tokens=3).stats.num_drafted > 0


def sampled(target, assistant):
    """The seed decides, also which of several answers is which, and not the drafter."""
    drafters = {"chain": DraftModel(model=assistant, num_tokens=3), "none": "none"}

    def draw(name, seed):
        return call(target, do_sample=True, num_return_sequences=2, custom_generate=speculative(drafters[name], "coupled", seed=seed))

    first = draw("chain", 1)
    assert torch.equal(first, draw("chain", 1))
    assert torch.equal(first, draw("none", 1))
    assert not torch.equal(first, draw("chain", 2))
    assert first.shape == (4, PROMPTS.shape[1] + NUM_TOKENS)


def outputs(target, assistant):
    found = same_as_greedy(target, assistant_model=assistant, num_assistant_tokens=2)
    assert isinstance(found, transformers.generation.GenerateDecoderOnlyOutput)
    assert len(found.scores) == len(found.logits) == NUM_TOKENS
    assert target.compute_transition_scores(found.sequences, found.scores).shape == (2, NUM_TOKENS)


CHECKS = (assisted_random, assisted_same, prompt_lookup, sampled, outputs)


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model_type", model_types())
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_every_type(model_type, check):
    reason = not_served().get(model_type)
    if reason is None:
        check(*pair(model_type))
    elif reason.startswith("not built: "):
        with pytest.raises(NotBuiltError, match=f"^{re.escape(reason.removeprefix('not built: '))}$"):
            pair(model_type)
    else:
        target = pair(model_type)[0]
        with pytest.raises(ValueError, match=f"^{re.escape(reason)}$"):
            CausalLM(target)
        with pytest.raises((ValueError, AttributeError)) as refusal:  # transformers stumbles over some of them itself, before it calls anybody
            call(target, custom_generate=speculative())
        assert str(refusal.value) == reason or not any("/spec/" in str(entry.path) for entry in refusal.traceback)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("model_type", ["llama", "gpt2", "falcon"])
def test_some_types(model_type, check):
    """So that the checks themselves are run by every `make test`."""
    check(*pair(model_type))


def test_the_list_is_that_of_the_page_of_models():
    on_page = {row["type"]: row["note"] if row["verdict"] == "refused" else f"not built: {row['note']}" for row in ROW.finditer(PAGE.read_text())}
    assert not_served() == on_page
