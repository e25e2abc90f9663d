"""Pairs whose vocabularies have different sizes: what may be drafted, when tokenizers are told apart, and the same text as without drafts."""

import warnings

import pytest
import torch

from drafters.coupled import CoupledDraft
from drafters.draft_model import DraftModel
from drafters.draft_tree import DraftTree
from drafters.multi_draft import MultiDraft
from drafters.none import NoDraft
from drafters.stopping.confidence import Confidence
from spec import CausalLM, Limits, Sampler, decode
from spec.assistant import Assistant
from spec.vocabulary import NEVER, SharedIds, shared_ids
from tests.drafters.bench import new_tokens, plain_greedy
from tests.spec.padded import beside, letters, random_llama, resized, tokenizer_file
from verifiers.coupled import Coupled
from verifiers.recursive import Recursive

PROMPTS = [[7, 3, 9, 7, 3], [5], [1, 2, 3, 4, 5, 6, 1, 2, 3]]
SIZES = pytest.mark.parametrize(("rows", "own"), [(40, 37), (37, 40)], ids=["fewer", "more"])
assumed = pytest.mark.filterwarnings("ignore:vocabulary sizes differ")
MAKERS = {
    "chain": lambda model: DraftModel(model=model, num_tokens=4),
    "chain that stops": lambda model: DraftModel(model=model, num_tokens=4, stopping=Confidence(0.3)),
    "independent chains": lambda model: MultiDraft(model=model, num_chains=3, num_tokens=3),
    "distinct chains": lambda model: MultiDraft(model=model, num_chains=3, num_tokens=3, siblings="distinct"),
    "greedy chains": lambda model: MultiDraft(model=model, num_chains=3, num_tokens=3, siblings="greedy"),
    "tree": lambda model: DraftTree(model=model, widths=(3, 2, 1)),
    "tree as wide as can be": lambda model: DraftTree(model=model, widths=(40, 1)),
    "grown tree": lambda model: DraftTree(model=model, widths=None),
    "coupled": lambda model: CoupledDraft(model=model, num_tokens=4),
    "coupled tree": lambda model: CoupledDraft(model=model, num_tokens=3, num_children=3),
}


def pair(tmp_path, target: dict, drafter: dict, sizes=(16, 24), target_added=None, drafter_added=None) -> SharedIds:
    """What two models may share whose tokenizers have these tokens."""
    models = [random_llama(size) for size in sizes]
    beside(models[0], tokenizer_file(tmp_path / "target", target, target_added))
    beside(models[1], tokenizer_file(tmp_path / "drafter", drafter, drafter_added))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return shared_ids(*(CausalLM(model) for model in models))


@assumed
@SIZES
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_greedy_text_is_that_of_generate_in_a_ragged_batch(rows, own, make):
    target, drafter = CausalLM(resized(rows)), make(resized(own, noise=0.01))
    prompts = [[*PROMPTS[0], rows - 1], PROMPTS[1], [rows - 2, *PROMPTS[2]]]
    found = decode(target, drafter, Recursive(), prompts, sampler=Sampler(0.0), limits=Limits(24))
    expected = plain_greedy(target, prompts, 24)
    generated = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        row = target.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False)[0]
        generated.append(row[len(prompt) :].tolist())
    assert new_tokens(found) == expected == generated
    assert found.stats.num_accepted > 15
    if rows > own:
        assert any(token >= own for row in expected for token in row), "the draft model is never asked to read what it has no row for"


@assumed
@SIZES
@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_drafts_hold_shared_ids_alone_and_q_is_a_distribution_over_the_target_s_vocabulary(rows, own, temperature, make):
    drafter, seen = make(resized(own, noise=0.01)), []
    propose = drafter.propose
    drafter.propose = lambda state, sampler: seen.append(propose(state, sampler)) or seen[-1]
    decode(CausalLM(resized(rows)), drafter, Recursive(), PROMPTS, sampler=Sampler(temperature, top_k=38, seed=2), limits=Limits(16))
    for draft in seen:
        used = (draft.slots > 0) & (draft.slots < draft.sizes[:, None])
        assert (draft.tokens[used] < 37).all()
        if draft.q is not None:
            assert draft.q.shape[2] == rows
            assert (draft.q[used][:, 37:] == 0).all()
            assert (draft.q[used].sum(-1) - 1).abs().max() < 1e-12
    assert sum(int(draft.sizes.sum()) for draft in seen) > 30


@assumed
@SIZES
def test_coupled_drafts_change_no_token_of_a_seed(rows, own):
    def text(drafter) -> list[list[int]]:
        found = decode(CausalLM(resized(rows)), drafter, Coupled(), PROMPTS, sampler=Sampler(0.8, seed=4), limits=Limits(16))
        accepted.append(found.stats.num_accepted)
        return new_tokens(found)

    accepted: list[int] = []
    plain = text(NoDraft())
    for make in (MAKERS["coupled"], MAKERS["coupled tree"], MAKERS["chain"]):
        assert text(make(resized(own, noise=0.01))) == plain
    assert accepted[1] > 15


@assumed
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_constraint_to_ids_that_the_draft_model_lacks_is_obeyed(make, temperature):
    """Processors may leave nothing that the draft model has a row for; the target's text does not suffer."""

    def only_the_last(ids, scores):
        return scores.masked_fill(torch.arange(scores.shape[1]) < 38, -torch.inf)

    sampler, found = Sampler(temperature, processors=[only_the_last], seed=1), []
    for drafter in (NoDraft(), make(resized(37))):
        found.append(decode(CausalLM(resized(40)), drafter, Recursive(), PROMPTS, sampler=sampler, limits=Limits(8)))
    assert {token for row in new_tokens(found[1]) for token in row} <= {38, 39}
    assert temperature or new_tokens(found[0]) == new_tokens(found[1])


@assumed
@pytest.mark.parametrize(("temperature", "penalty"), [(0.0, 1e10), (1e-9, None), (1.0, 1e10), (1e-9, 1e10), (1e-9, 1e-10), (1e9, 1e10)])
def test_nor_do_extreme_settings_leave_it_without_a_token(temperature, penalty):
    """In float32, where -1e30 would overflow to a row of only -inf; the draft model has no row for either id that is left."""

    def only_the_last(ids, scores):
        return scores.masked_fill(torch.arange(scores.shape[1]) < 38, -torch.inf)

    target, drafter = CausalLM(resized(40).float()), MAKERS["chain"](resized(37).float())
    sampler = Sampler(temperature, repetition_penalty=penalty, processors=[only_the_last], seed=1)
    found = decode(target, drafter, Recursive(), [[7, 38, 39], [5]], sampler=sampler, limits=Limits(8))
    assert {token for row in new_tokens(found) for token in row} <= {38, 39}


@assumed
@pytest.mark.parametrize("sizes", [(152_064, 151_936), (151_936, 152_064)], ids=["fewer", "more"])
def test_at_the_size_of_a_real_family(sizes):
    target, own = (CausalLM(random_llama(size, torch.float32)) for size in sizes)
    drafter, seen = DraftModel(model=own, num_tokens=2), []
    propose = drafter.propose
    drafter.propose = lambda state, sampler: seen.append(propose(state, sampler)) or seen[-1]
    decode(target, drafter, Recursive(), [[151_930, 2], [5]], sampler=Sampler(seed=3), limits=Limits(4))
    drafted = torch.cat([draft.q[:, 1:].flatten(0, 1) for draft in seen if draft.q is not None])
    assert drafted.shape[1] == sizes[0]
    assert drafted.dtype == torch.float32
    assert (drafted.double().sum(-1) - 1).abs().max() < 1e-7
    assert (drafted[:, 151_936:] == 0).all()


def test_only_ids_that_both_tokenizers_know_alike_are_drafted(tmp_path):
    assert pair(tmp_path / "a", letters(13), letters(13)) == SharedIds(16, 24, 13)
    assert pair(tmp_path / "b", letters(13), letters(14), sizes=(24, 16)) == SharedIds(24, 16, 13)
    assert pair(tmp_path / "c", letters(16), letters(16), sizes=(16, 16)) == SharedIds(16, 16, 16)
    assert pair(tmp_path / "d", letters(20), letters(20)).end == 16
    with_holes = pair(tmp_path / "e", letters(10), letters(10), target_added={"<a>": 11, "<b>": 12, "<c>": 13}, drafter_added={"<x>": 11, "<c>": 13})
    assert with_holes.end == 14
    assert with_holes.holes is not None
    assert with_holes.holes.tolist() == [10, 11, 12]  # known to none, another name, known to one alone
    logits = torch.arange(24.0, dtype=torch.float16)[None, None]
    wide = with_holes.logits(logits)
    assert wide.shape == (1, 1, 16)
    assert wide.dtype == torch.float32
    assert wide[0, 0].tolist() == [float(number) if number in (*range(10), 13) else pytest.approx(NEVER) for number in range(16)]
    assert logits[0, 0].tolist() == list(range(24))
    unigram = [[f"t{number}", -1.0] for number in range(13)]
    assert pair(tmp_path / "f", letters(13), unigram) == SharedIds(16, 24, 13)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("sizes", [(16, 24), (16, 16)], ids=str)
def test_another_tokenizer_is_refused_in_one_line_that_names_an_id_and_its_tokens(tmp_path, sizes):
    other = letters(13, {4: "x", 7: "y"})
    with pytest.raises(ValueError, match=r"the tokenizers differ: id 4 is 't4' in the target's and 'x' in the draft model's; a draft") as caught:
        pair(tmp_path, letters(13), other, sizes)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"id 13 is unknown in the target's and 't13' in the draft model's"):
        pair(tmp_path / "more", letters(13), letters(13 + 513), (16, 600))
    assert pair(tmp_path / "few", letters(13), letters(13 + 512), (16, 600)).end == 13


@SIZES
def test_without_tokenizers_padding_is_assumed_with_one_warning(rows, own):
    target, drafter = CausalLM(resized(rows)), DraftModel(model=resized(own))
    with pytest.warns(UserWarning, match=f"vocabulary sizes differ: target {rows}, drafter {own}; no tokenizer.json .* No id from 37 on") as told:
        decode(target, drafter, Recursive(), PROMPTS, sampler=Sampler(0.0), limits=Limits(4))
    assert len(told) == 1
    decode(target, drafter, Recursive(), PROMPTS, sampler=Sampler(0.0), limits=Limits(4))  # says nothing more


@pytest.mark.parametrize(("rows", "own"), [(40, 41), (41, 40), (1064, 551), (32_768, 32_000)])
def test_sizes_that_padding_does_not_explain_are_refused(rows, own):
    with pytest.raises(ValueError, match=f"vocabulary sizes differ: target {rows}, drafter {own}; padding to a multiple of 8 .* by at most 512"):
        Assistant(model=random_llama(own)).attach(CausalLM(random_llama(rows)))


def test_one_tokenizer_says_which_ids_it_knows(tmp_path):
    target, own = random_llama(16), random_llama(24)
    beside(own, tokenizer_file(tmp_path, letters(13)))
    with pytest.warns(UserWarning, match="vocabulary sizes differ"):
        assert shared_ids(CausalLM(target), CausalLM(own)).end == 13


def test_names_that_are_not_here_are_not_asked_for(monkeypatch):
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("the network was asked"))
    monkeypatch.setattr("spec.loading._hub_answers", lambda: pytest.fail("the hub was asked"))
    models = [beside(random_llama(16), name) for name in ("somebody/some-model", "not a name")]
    assert shared_ids(*map(CausalLM, models)) == SharedIds(16, 16, 16)
