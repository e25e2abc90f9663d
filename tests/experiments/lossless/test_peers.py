"""The peers: greedy output is `generate`'s, everything that leaks is pinned and put back, forwards are counted, and the tests of distributions have
teeth."""

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_module
from transformers import GenerationConfig

from drafters.draft_model import DraftModel
from experiments.lossless.mutants.chains import SoftArgmax
from experiments.lossless.peers import command as entry
from experiments.lossless.peers import suite
from experiments.lossless.peers.distribution_check import DistributionCheck, joint_distribution, tempered
from experiments.lossless.peers.toys import STRANGER_TOKENS, TARGET_TOKENS, ToyPair, toy_pair, toy_tokenizer
from experiments.parts.peers import Assisted, Generate, OtherTokenizer, PromptLookup
from experiments.parts.peers.greedy import GreedyCheck
from experiments.parts.roles import Answer, Loop, Role
from spec import CausalLM, Limits, Sampler
from verifiers.recursive import Recursive

PROMPTS = [[0, 2, 1, 3, 0, 2], [1, 0, 2], [3, 3, 2, 1]]
GREEDY = Sampler(0.0)


@pytest.fixture
def pair() -> ToyPair:
    return toy_pair()


def stranger(pair: ToyPair, num_tokens: int = 3) -> OtherTokenizer:
    tokenizers: dict[str, Any] = {"tokenizer": toy_tokenizer(TARGET_TOKENS), "assistant_tokenizer": toy_tokenizer(STRANGER_TOKENS)}
    return OtherTokenizer(pair.target, assistant=pair.stranger, num_tokens=num_tokens, **tokenizers)


MAKERS: dict[str, Callable[[ToyPair], Any]] = {
    "assisted": lambda pair: Assisted(pair.target, assistant=pair.assistant, num_tokens=3),
    "other tokenizer": stranger,
    "prompt lookup": lambda pair: PromptLookup(pair.target, num_tokens=3),
    "ours": lambda pair: Loop(CausalLM(pair.target), DraftModel(model=pair.assistant, num_tokens=3), Recursive(), batch_size=2),
}
TRANSFORMERS = [name for name in MAKERS if name != "ours"]


def texts(answers: Sequence[Answer]) -> list[list[int]]:
    return [answer.tokens for answer in answers]


def argmax_loop(model: Any, prompt: Sequence[int], count: int) -> list[int]:
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(int(model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0, -1].argmax()))
    return tokens[len(prompt) :]


@pytest.mark.parametrize("name", MAKERS)
def test_greedy_output_is_that_of_generate(pair: ToyPair, name: str) -> None:
    answers = MAKERS[name](pair).answer(PROMPTS, sampler=GREEDY, limits=Limits(14))
    assert texts(answers) == [argmax_loop(pair.target, prompt, 14) for prompt in PROMPTS]
    assert all(sum(answer.seconds.values()) > 0 for answer in answers)
    assert 1 <= 3 * 14 / sum(answer.forwards for answer in answers) <= 4


def test_plain_generate_counts_a_forward_per_token_in_any_batch(pair: ToyPair) -> None:
    single = Generate(pair.target).answer(PROMPTS, sampler=GREEDY, limits=Limits(9))
    batch = Generate(pair.target, batch_size=3).answer(PROMPTS, sampler=GREEDY, limits=Limits(9))
    assert texts(single) == texts(batch)
    assert [answer.forwards for answer in single] == [answer.forwards for answer in batch] == [9, 9, 9]


def test_forwards_are_those_of_the_target(pair: ToyPair) -> None:
    twin = Assisted(pair.target, assistant=copy.deepcopy(pair.target), num_tokens=3)
    answers = twin.answer(PROMPTS[:2], sampler=GREEDY, limits=Limits(12))
    assert [answer.forwards for answer in answers] == [3, 3]  # every draft of three is kept whole and a bonus follows
    assert [len(answer.tokens) for answer in answers] == [12, 12]
    assert not pair.target._forward_hooks


@pytest.mark.parametrize("name", MAKERS)
def test_an_eos_ends_a_text_and_is_its_last_token(pair: ToyPair, name: str) -> None:
    prompts = [[*prompt, 3] for prompt in PROMPTS]
    eos = argmax_loop(pair.target, prompts[0], 5)[-1]
    assert eos != 3  # before 5.23 prompt lookup answers nothing to a prompt that ends in an EOS
    wanted = texts(Generate(pair.target, batch_size=3).answer(prompts, sampler=GREEDY, limits=Limits(14, eos)))
    assert wanted[0][-1] == eos
    assert len(wanted[0]) <= 5
    assert texts(MAKERS[name](pair).answer(prompts, sampler=GREEDY, limits=Limits(14, eos))) == wanted


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_what_models_and_generators_hold_neither_matters_nor_changes(pair: ToyPair, name: str) -> None:
    poison = {"top_k": 1, "temperature": 0.2, "eos_token_id": 1, "repetition_penalty": 3.0, "do_sample": True}
    draft = {"num_assistant_tokens": 1, "num_assistant_tokens_schedule": "heuristic", "assistant_confidence_threshold": 0.9}
    clean = MAKERS[name](pair).answer(PROMPTS, sampler=Sampler(seed=3), limits=Limits(10))
    models = [pair.target, pair.assistant, pair.stranger]
    for model in models:
        model.generation_config = GenerationConfig(**poison, **draft)
    configs = [(model.generation_config, model.generation_config.to_dict()) for model in models]
    parts = [(model.get_input_embeddings(), model.get_output_embeddings()) for model in models]
    state = torch.get_rng_state()
    again = MAKERS[name](pair).answer(PROMPTS, sampler=Sampler(seed=3), limits=Limits(10))
    assert texts(again) == texts(clean)
    assert [answer.forwards for answer in again] == [answer.forwards for answer in clean]
    assert torch.equal(torch.get_rng_state(), state)
    assert all(model.generation_config is config and config.to_dict() == held for model, (config, held) in zip(models, configs, strict=True))
    assert [(model.get_input_embeddings(), model.get_output_embeddings()) for model in models] == parts
    assert texts(MAKERS[name](pair).answer(PROMPTS, sampler=Sampler(seed=4), limits=Limits(10))) != texts(clean)


def test_one_assistant_serves_two_peers_and_both_ways_of_decoding(pair: ToyPair) -> None:
    one, other = stranger(pair), stranger(pair)
    greedy = one.answer(PROMPTS, sampler=GREEDY, limits=Limits(10))
    first = one.answer(PROMPTS, sampler=Sampler(), limits=Limits(10))
    assert texts(one.answer(PROMPTS, sampler=Sampler(), limits=Limits(10))) == texts(first)
    assert texts(other.answer(PROMPTS, sampler=Sampler(), limits=Limits(10))) == texts(first)
    after = one.answer(PROMPTS, sampler=GREEDY, limits=Limits(10))
    assert [(answer.tokens, answer.forwards) for answer in after] == [(answer.tokens, answer.forwards) for answer in greedy]


def test_what_is_lent_comes_back_after_a_failure(pair: ToyPair, monkeypatch: pytest.MonkeyPatch) -> None:
    peer, configs = stranger(pair), (pair.target.generation_config, pair.stranger.generation_config)
    monkeypatch.setattr(pair.target.lm_head, "forward", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        peer.answer(PROMPTS[:1], sampler=Sampler(), limits=Limits(4))
    assert (pair.target.generation_config, pair.stranger.generation_config) == configs
    assert pair.stranger.get_output_embeddings().weight.shape[0] == len(STRANGER_TOKENS)
    assert not pair.target._forward_hooks


@pytest.mark.parametrize("knobs", [{"temperature": 0.5}, {"top_k": 2}, {"top_p": 0.6}, {"min_p": 0.3}])
def test_sampling_settings_reach_generate(pair: ToyPair, knobs: dict[str, Any]) -> None:
    peer = Generate(pair.target, batch_size=400)
    row = DistributionCheck(PROMPTS[0], 2, knobs, num_samples=800).run(peer, pair.target, "")
    assert row.verdict == "pass"
    assert row.first_token_tv < 0.05
    assert DistributionCheck(PROMPTS[0], 2, {}, num_samples=800).run(Shifted(peer, knobs), pair.target, "").verdict == "fail"


@dataclass(frozen=True)
class Shifted(Role):
    """A peer that samples by other settings than it is asked for."""

    peer: Role
    knobs: dict[str, Any]
    name: str = "shifted"

    def answer(self, prompts: Sequence[Sequence[int]], *, sampler: Sampler, limits: Limits, ids: Sequence[int] | None = None) -> list[Answer]:
        return self.peer.answer(prompts, sampler=Sampler(**self.knobs, seed=sampler.seed), limits=limits)


def test_repetition_penalty_is_that_of_our_sampler(pair: ToyPair) -> None:
    sampler = Sampler(0.0, repetition_penalty=1.7)
    peers = (Generate(pair.target), *(MAKERS[name](pair) for name in ("assisted", "prompt lookup", "ours")))
    first, *others = (texts(peer.answer(PROMPTS, sampler=sampler, limits=Limits(10))) for peer in peers)
    assert all(other == first for other in others)
    assert first != texts(Generate(pair.target).answer(PROMPTS, sampler=GREEDY, limits=Limits(10)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda pair: Assisted(pair.target, assistant=pair.assistant, batch_size=2), "one prompt at a time"),
        (lambda pair: PromptLookup(pair.target, num_tokens=0), "at least one drafted token"),
        (lambda pair: PromptLookup(pair.target, max_ngram=0), "max_ngram=0"),
        (lambda pair: Assisted(pair.target), "give an assistant"),
        (lambda pair: Assisted(pair.target, assistant=pair.target), "another model object"),
        (lambda pair: Assisted(pair.target, assistant=pair.stranger), "sizes are 4 and 5: .* use OtherTokenizer"),
        (lambda pair: OtherTokenizer(pair.target, assistant=pair.assistant), "sizes are 4 and 4: .* use Assisted"),
        (lambda pair: OtherTokenizer(pair.target, assistant=pair.stranger), "give both tokenizers"),
    ],
)
def test_a_peer_that_cannot_be_is_refused(pair: ToyPair, make: Callable[[ToyPair], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(pair)


@pytest.mark.parametrize(
    ("prompts", "sampler", "limits", "message"),
    [
        ([], GREEDY, Limits(4), "prompt is empty or none"),
        ([[]], GREEDY, Limits(4), "prompt is empty or none"),
        (PROMPTS, GREEDY, Limits(300), "context of 256"),
        (PROMPTS, GREEDY, Limits(4, criteria=[lambda *_: True]), "stopping criteria"),
        (PROMPTS, Sampler(processors=[lambda ids, scores: scores]), Limits(4), "is no setting of generate"),
        (PROMPTS, Sampler(repetition_penalty=1.2), Limits(4), "repetition_penalty under sampling"),
    ],
)
def test_settings_that_cannot_be_honoured_are_refused(pair: ToyPair, prompts: Any, sampler: Sampler, limits: Limits, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        stranger(pair).answer(prompts, sampler=sampler, limits=limits)


def test_the_joint_distribution_is_the_product_of_rows(pair: ToyPair) -> None:
    distribution = joint_distribution(pair.target, PROMPTS[0], 3, Sampler(0.7)).view(4, 4, 4)
    assert float(distribution.sum()) == pytest.approx(1)
    product = 1.0
    for place, token in enumerate((2, 0, 3)):
        logits = pair.target(input_ids=torch.tensor([PROMPTS[0] + [2, 0, 3][:place]])).logits[0, -1]
        product *= float((logits.detach() / 0.7).softmax(-1)[token])
    assert float(distribution[2, 0, 3]) == pytest.approx(product, rel=1e-5)
    with pytest.raises(ValueError, match="repetition penalty"):
        joint_distribution(pair.target, PROMPTS[0], 2, Sampler(repetition_penalty=1.2))


def test_the_distribution_check_passes_what_is_exact_and_convicts_what_is_not(pair: ToyPair) -> None:
    check = DistributionCheck(pair.prompt, 3, num_samples=1200)
    right = Loop(CausalLM(pair.target), DraftModel(model=pair.assistant, num_tokens=2), Recursive(), batch_size=500)
    wrong = replace(right, drafter=SoftArgmax(model=pair.assistant, num_tokens=2))
    plain = Generate(pair.target, batch_size=500)
    rows = [check.run(peer, pair.target, "") for peer in (right, plain, wrong, tempered(plain, 4.0))]
    assert [row.verdict for row in rows] == ["pass", "pass", "fail", "fail"]
    assert rows[0].p_value > 1e-3
    assert rows[2].p_value < 1e-8
    assert 1.2 < rows[0].tokens_per_step < 3
    assert rows[0].detectable_tv < 0.2
    moved = joint_distribution(pair.target, pair.prompt, 1, Sampler(4.0)) - joint_distribution(pair.target, pair.prompt, 1, Sampler())
    assert rows[3].first_token_tv == pytest.approx(float(moved.abs().sum()) / 2, abs=0.05)  # the known distance


@dataclass(frozen=True)
class Meddling(Role):
    """A peer whose answers are changed on the way."""

    peer: Role
    change: Callable[[list[int]], list[int]]
    name: str = "meddling"

    def answer(self, prompts: Sequence[Sequence[int]], *, sampler: Sampler, limits: Limits, ids: Sequence[int] | None = None) -> list[Answer]:
        answers = self.peer.answer(prompts, sampler=sampler, limits=limits)
        return [replace(answer, tokens=self.change(answer.tokens)) for answer in answers]


@pytest.mark.parametrize("change", [lambda text: [*text[:-3], (text[-3] + 1) % 4, *text[-2:]], lambda text: text[:-1]])
def test_greedy_check_convicts_a_changed_and_a_missing_token(pair: ToyPair, change: Callable[[list[int]], list[int]]) -> None:
    check = GreedyCheck(pair.target, PROMPTS, 10)
    good, bad = check.run(Generate(pair.target), ""), check.run(Meddling(Generate(pair.target), change), "")
    assert (good.verdict, good.identical, good.bugs, good.widest_margin) == ("pass", 3, 0, None)
    assert (bad.verdict, bad.identical, bad.bugs) == ("fail", 0, 3)
    assert bad.widest_margin is not None


def test_a_near_tie_in_16_bit_is_no_bug() -> None:
    target = toy_pair(dtype=torch.bfloat16).target
    with torch.no_grad():
        target.lm_head.weight[1] = target.lm_head.weight[0]  # two tokens whose logits are always equal
    check = GreedyCheck(target, PROMPTS, 12)
    other = {0: 1, 1: 0}
    row = check.run(Meddling(Generate(target), lambda text: [*text[:-1], other.get(text[-1], text[-1])]), "")
    assert row.verdict == "pass"
    assert row.ties + row.identical == 3


def test_toys_speak_about_one_text() -> None:
    ours, theirs = toy_tokenizer(TARGET_TOKENS), toy_tokenizer(STRANGER_TOKENS, STRANGER_TOKENS[::-1])
    for text in ("a", "b", "abbbaab", "bbbb", "aaba"):
        for tokenizer in (ours, theirs):
            assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert list(theirs.get_vocab().values()) == [4, 3, 2, 1, 0]
    one, again = toy_pair(1), toy_pair(1)
    assert all(torch.equal(x, y) for x, y in zip(one.stranger.parameters(), again.stranger.parameters(), strict=True))


def run_entry(monkeypatch: pytest.MonkeyPatch, path: Path, must: str) -> int:
    pair = toy_pair()
    row = DistributionCheck(pair.prompt, 2, num_samples=400).run(Generate(pair.target, batch_size=400), pair.target, "float32")
    greedy = GreedyCheck(pair.target, PROMPTS, 4).run(Generate(pair.target), "float32")
    monkeypatch.setattr(entry, "distribution_rows", lambda *_: iter([(row, must)]))
    monkeypatch.setattr(entry, "toy_greedy_rows", lambda *_: iter([(greedy, None)]))
    with initialize_config_module("conf", version_base=None):
        config = compose("peers", [f"output={path}", "model=null"])
    try:
        entry.job(config)
    except SystemExit as end:
        return int(str(end))
    return 0


def test_the_entry_point_writes_tables_and_a_record(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new" / "peers.json"
    assert run_entry(monkeypatch, path, "pass") == 0
    record = json.loads(path.read_text())
    assert record["distributions"][0] | {"verdict": "pass", "must": "pass", "batch_size": 400} == record["distributions"][0]
    assert record["greedy"][0]["identical"] == 3
    assert record["provenance"]["versions"]["transformers"]
    table = path.with_suffix(".md").read_text()
    assert "| generate | float32 | pass (must pass) |" in table
    assert table in capsys.readouterr().out
    assert run_entry(monkeypatch, path, "fail") == 1


def test_the_suite_has_controls_of_both_kinds(pair: ToyPair) -> None:
    cases = suite.controls(pair, 2, "float32")
    assert [case.must for case in cases] == ["pass", "pass", "fail", "fail"]
    assert all(("(control)" in case.role.name) == (case.must == "fail") for case in cases)
