"""The loop: rows that do not know of each other, limits, streamers, bad input, and the accounting."""

import pytest
import torch

from drafters.draft_model import DraftModel
from drafters.lookahead import Lookahead
from drafters.none import NoDraft
from drafters.prompt_lookup import PromptLookup
from spec import CausalLM, Draft, Drafter, Limits, Sampler, Verdict, decode
from tests.tiny import CONTEXT, VOCABULARY, build
from verifiers.greedy import Greedy
from verifiers.recursive import Recursive

PROMPTS = [[5, 9, 13, 5, 9, 13, 5, 9], [3], [17, 2, 30, 30, 30, 8, 17, 2, 30, 1, 33, 4], [1, 2], [7] * 9, [38, 0, 12], [4, 4, 21, 4]]


@pytest.fixture(scope="module")
def target():
    return CausalLM(build("llama"))


@pytest.fixture(scope="module")
def assistant():
    model = build("llama")
    torch.manual_seed(3)
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(0.02 * torch.randn_like(weights))
    return model


def drafters(assistant):
    return [NoDraft(), PromptLookup(), DraftModel(model=assistant, num_tokens=4), Lookahead(window=4, ngram=3, guesses=3)]


@pytest.mark.parametrize("options", [{"temperature": 0.8}, {"top_k": 12, "top_p": 0.9, "repetition_penalty": 1.3}, {"temperature": 0}])
@pytest.mark.parametrize("index", range(4))
def test_a_row_does_not_depend_on_its_neighbours(target, assistant, index, options):
    def run(rows):
        drafter = drafters(assistant)[index]
        prompts = [PROMPTS[row] for row in rows]
        result = decode(target, drafter, Recursive(), prompts, sampler=Sampler(**options, seed=7), limits=Limits(20), sequence_ids=rows)
        return {row: result.new_tokens(place) for place, row in enumerate(rows)}

    alone = {row: run([row])[row] for row in range(7)}
    assert run([2, 0, 5]) == {row: alone[row] for row in (2, 0, 5)}
    assert run([6, 5, 4, 3, 2, 1, 0]) == alone


def test_seeds_and_sequence_ids_decide_the_sample(target):
    def run(seed, sequence_id):
        sampler = Sampler(1.0, seed=seed)
        return decode(target, NoDraft(), Recursive(), [PROMPTS[0]], sampler=sampler, limits=Limits(30), sequence_ids=[sequence_id]).new_tokens()

    assert run(1, 0) == run(1, 0)
    assert run(1, 0) != run(2, 0)
    assert run(1, 0) != run(1, 1)


def test_eos_inside_a_block_cuts_it(target, assistant):
    free = decode(target, NoDraft(), Recursive(), [PROMPTS[0]], sampler=Sampler(0), limits=Limits(40)).new_tokens()
    eos = free[17]
    expected = free[: free.index(eos) + 1]
    for drafter in [*drafters(assistant), DraftModel(model=target.model, num_tokens=6)]:
        result = decode(target, drafter, Recursive(), [PROMPTS[0]], sampler=Sampler(0), limits=Limits(40, eos_token_id=[eos, 39]))
        assert result.new_tokens() == expected
        assert result.stats.num_tokens == len(expected) == result.stats.num_accepted + result.stats.num_steps


def test_criteria_stop_where_they_say(target, assistant):
    seen = []

    def criterion(ids, scores):
        seen.append(ids[0].tolist())
        return torch.tensor([ids.shape[1] >= len(PROMPTS[0]) + 11])

    drafter = DraftModel(model=target.model, num_tokens=6)
    result = decode(target, drafter, Recursive(), [PROMPTS[0]], sampler=Sampler(0), limits=Limits(40, criteria=[criterion]))
    assert len(result.new_tokens()) == 11
    assert [len(ids) for ids in seen] == list(range(len(PROMPTS[0]) + 1, len(PROMPTS[0]) + 12))
    assert all(ids[: len(PROMPTS[0])] == PROMPTS[0] for ids in seen)


def test_the_perfect_drafter_is_always_accepted_and_the_budget_is_kept(target):
    for budget in (1, 2, 7, 29):
        result = decode(target, DraftModel(model=target.model, num_tokens=6), Recursive(), [PROMPTS[2]], sampler=Sampler(0.9), limits=Limits(budget))
        assert len(result.new_tokens()) == budget
        assert result.stats.acceptance_rate in (None, pytest.approx(1.0))
        assert result.stats.num_steps == -(-budget // 7)


def test_processors_that_read_the_prefix_see_the_drafted_path(target):
    """With repetition penalty, greedy output equals the plain loop's; a penalty computed from the committed prefix alone would not."""
    sampler = Sampler(0, repetition_penalty=1.7)
    plain = decode(target, NoDraft(), Recursive(), PROMPTS[:3], sampler=sampler, limits=Limits(40))
    for drafter in (DraftModel(model=target.model, num_tokens=5), PromptLookup(), Lookahead(window=4, ngram=3, guesses=3)):
        result = decode(target, drafter, Recursive(), PROMPTS[:3], sampler=sampler, limits=Limits(40))
        assert [row.tolist() for row in result.sequences] == [row.tolist() for row in plain.sequences]
    assert result.stats.num_tokens == 120


def test_steps_add_up(target, assistant):
    for drafter in drafters(assistant):
        stats = decode(target, drafter, Recursive(), PROMPTS[:3], sampler=Sampler(0.8), limits=Limits(25)).stats
        assert stats.num_tokens == 75 == stats.num_accepted + stats.num_steps
        assert stats.num_accepted <= stats.num_drafted
        assert [stats.row(row).num_tokens for row in range(3)] == [25, 25, 25]
        assert sum(stats.row(row).num_steps for row in range(3)) == stats.num_steps
        assert set(stats.seconds) == {"draft", "target", "verify", "commit", "other"}
        assert stats.decode_seconds > 0
        assert stats.prefill_seconds > 0
        assert all(0 <= rate <= 1 for rate in stats.acceptance_by_position)


class Collector:
    def __init__(self):
        self.tokens, self.ended = [], False

    def put(self, value):
        self.tokens += value.flatten().tolist()

    def end(self):
        self.ended = True


def test_a_streamer_gets_every_token_in_order(target, assistant):
    streamer = Collector()
    drafter = DraftModel(model=assistant, num_tokens=4)
    result = decode(target, drafter, Recursive(), [PROMPTS[0]], sampler=Sampler(0.8), limits=Limits(30), streamer=streamer)
    assert streamer.tokens == result.sequences[0].tolist()
    assert streamer.ended


class Silent(Drafter):
    """Proposes a batch in which only the first row has a draft, so the other's is padding."""

    def propose(self, state, sampler):
        tokens = torch.tensor([[root, 1, 2] for root in state.roots])
        return Draft.chain(tokens, torch.tensor([min(3, max(room, 1)) if row == 0 else 1 for row, room in enumerate(state.room)]))


def test_padding_is_never_accepted(target):
    plain = decode(target, NoDraft(), Greedy(), PROMPTS[:3], sampler=Sampler(0), limits=Limits(25))
    for verifier in (Greedy(), Recursive()):
        result = decode(target, Silent(), verifier, PROMPTS[:3], sampler=Sampler(0), limits=Limits(25))
        assert [row.tolist() for row in result.sequences] == [row.tolist() for row in plain.sequences]
        assert result.stats.row(1).num_drafted == 0


class Liar:
    exact = False

    def __call__(self, p, draft, noise):
        return Verdict(torch.zeros_like(draft.tokens[:, :1]), p[:, 0].argmax(-1), torch.ones_like(draft.sizes))


def run(target, prompts=((1, 2),), drafter=None, verifier=None, limits=None, **options):
    return decode(target, drafter or NoDraft(), verifier or Recursive(), prompts, sampler=Sampler(0), limits=limits or Limits(4), **options)


class Unsure(Liar):
    def exact(self):  # a method is true, whatever it would return
        return False


class Silenced(Liar):
    exact = None


@pytest.mark.parametrize("verifier", [Unsure(), Silenced()])
def test_a_verifier_that_does_not_say_whether_it_is_exact_is_refused(target, verifier):
    with pytest.raises(ValueError, match=r"exact must be True or False") as caught:
        run(target, verifier=verifier, allow_lossy=True)
    assert "\n" not in str(caught.value)


def test_lossy_verifiers_need_permission(target):
    with pytest.raises(ValueError, match="allow_lossy=True"):
        run(target, verifier=Liar())
    assert len(run(target, verifier=Liar(), allow_lossy=True).new_tokens()) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompts": []}, "no prompts"),
        ({"prompts": [[1], []]}, "prompt 1 is empty"),
        ({"prompts": [[1] * (CONTEXT + 1)]}, f"more than the model's context of {CONTEXT}"),
        ({"prompts": [[1, VOCABULARY]]}, f"token id {VOCABULARY}"),
        ({"prompts": [[-1]]}, "token id -1"),
        ({"limits": Limits(CONTEXT)}, f"at most {CONTEXT - 1} new tokens"),
        ({"sequence_ids": [1, 2]}, "2 sequence_ids for 1 prompts"),
        ({"prompts": [[1], [2]], "streamer": Collector()}, "streamer follows one prompt"),
    ],
)
def test_bad_input_is_named_before_any_work(target, arguments, message):
    with pytest.raises(ValueError, match=message):
        run(target, **arguments)


def test_vocabularies_must_match(target):
    from transformers import LlamaConfig, LlamaForCausalLM

    other = LlamaForCausalLM(LlamaConfig(vocab_size=41, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1))
    with pytest.raises(ValueError, match="target 40, drafter 41"):
        run(target, drafter=DraftModel(model=other))


def test_a_drafter_with_less_context_is_refused_before_any_work(target):
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "max_position_embeddings": 10}
    with pytest.raises(ValueError, match="context of 10 that target and drafter have"):
        run(target, drafter=DraftModel(model=LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, **shape))), limits=Limits(10))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_logits_are_never_sampled(value):
    model = build("llama")
    with torch.no_grad():
        model.lm_head.weight[7] = value
    with pytest.raises(ValueError, match="token 7"):
        run(CausalLM(model))


def test_greedy_verifier_refuses_a_soft_distribution(target):
    with pytest.raises(ValueError, match="temperature 0"):
        decode(target, NoDraft(), Greedy(), [[1, 2]], sampler=Sampler(1.0), limits=Limits(4))


def test_context_can_be_used_to_its_end(target, assistant):
    prompt = PROMPTS[0]
    limits = Limits(CONTEXT - len(prompt))
    plain = decode(target, NoDraft(), Recursive(), [prompt], sampler=Sampler(0), limits=limits).new_tokens()
    assert len(plain) == CONTEXT - len(prompt)
    for drafter in drafters(assistant):
        assert decode(target, drafter, Recursive(), [prompt], sampler=Sampler(0), limits=limits).new_tokens() == plain


def test_kept_tensors_serve_training_code_after_a_decode(target):
    """What the loop caches inside inference mode must be usable under autograd outside it."""
    run(target, drafter=PromptLookup(), prompts=[[1, 2, 1, 2, 1, 2]])
    weights = torch.randn(1, 7, requires_grad=True)
    for num_slots in range(1, 8):
        draft = Draft.chain(torch.zeros(1, num_slots, dtype=torch.int64))
        weights.gather(1, draft.depths()).sum().backward()
    assert weights.grad is not None
