"""Replay without the target counts what a live run counts, and drafters that need the target are refused."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from drafters.adversarial import Adversarial
from drafters.draft_model import DraftModel
from drafters.draft_tree import DraftTree
from drafters.jacobi import Jacobi
from drafters.lookahead import Lookahead
from drafters.multi_draft import MultiDraft
from drafters.none import NoDraft
from drafters.oracle import Oracle
from drafters.prompt_lookup import PromptLookup
from drafters.stopping.bandit import Bandit
from experiments.parts.data.sources import embedded
from experiments.replay.recorded_target import RecordedTarget, Replay, longest_agreement, recorded_target
from experiments.replay.texts import read_texts
from spec import CausalLM, DecodeState, Draft, Drafter, GenerationStats, Limits, Sampler, Scores, Verdict, decode
from spec.interfaces import Traits
from spec.model import load_model, resolve_name
from tests import tiny
from verifiers.recursive import Recursive
from verifiers.sample_match import SampleMatch

PROMPTS = ([1, 2, 3, 4, 1, 2, 3], [5, 6], [7, 8, 9, 7, 8, 9, 7])

EOS = 26  # the first two of them end with it


@pytest.fixture(scope="module")
def target() -> CausalLM:
    return CausalLM(tiny.build("llama"))


def recorded(target: CausalLM) -> RecordedTarget:
    return RecordedTarget(target.vocab_size, target.context, dtype=target.dtype)


def counts(stats: GenerationStats) -> list[dict[str, Any]]:
    return [{name: value for name, value in vars(step).items() if name != "seconds"} for step in stats.steps]


def drafters() -> dict[str, Drafter]:
    near, far = tiny.build("llama"), tiny.build("llama", seed=1)
    return {
        "prompt_lookup": PromptLookup(num_tokens=4),
        "draft_model": DraftModel(model=near, num_tokens=3),
        "far": DraftModel(model=far, num_tokens=3),
        "bandit": DraftModel(model=near, num_tokens=5, stopping=Bandit((1, 4))),
        "multi_draft": MultiDraft(model=far, num_chains=3, num_tokens=2),
        "draft_tree": DraftTree(model=near, widths=(3, 2, 1)),
        "growing": DraftTree(model=near, widths=None, num_nodes=6, num_rounds=3),
        "too_long": Adversarial("too_long", num_tokens=3),
    }


@pytest.mark.parametrize("name", drafters())
@pytest.mark.parametrize("eos", [None, EOS])
def test_replay_is_the_live_run_step_by_step_at_temperature_0(target: CausalLM, name: str, eos: int | None) -> None:
    sampler = Sampler(0)
    for number, prompt in enumerate(PROMPTS):
        limits = Limits(14, eos)
        plain = decode(target, NoDraft(), Recursive(), [prompt], sampler=sampler, limits=limits).new_tokens()
        live = decode(target, drafters()[name], Recursive(), [prompt], sampler=sampler, limits=limits, sequence_ids=[number])
        assert live.new_tokens() == plain
        replay = Replay(recorded(target), sampler, [] if eos is None else [eos], 14)
        assert counts(replay.run(drafters()[name], prompt, plain, number)) == counts(live.stats)


def test_the_eos_of_these_tests_ends_some_answers_and_is_drafted(target: CausalLM) -> None:
    ends = [decode(target, NoDraft(), Recursive(), [prompt], sampler=Sampler(0), limits=Limits(14, EOS)).new_tokens() for prompt in PROMPTS]
    assert [len(tokens) for tokens in ends] == [2, 7, 14]
    stats = [
        Replay(recorded(target), Sampler(0), [EOS], 14).run(drafters()["draft_model"], prompt, tokens)
        for prompt, tokens in zip(PROMPTS, ends, strict=True)
    ]
    assert [part.steps[-1].cut for part in stats] == [[True], [True], [False]]


def test_a_sampled_answer_is_replayed_as_sample_match_decodes_it(target: CausalLM) -> None:
    sampler = Sampler(0.7, seed=5)
    for number, prompt in enumerate(PROMPTS):
        drafter = DraftModel(model=tiny.build("llama"), num_tokens=3)
        live = decode(target, drafter, SampleMatch(), [prompt], sampler=sampler, limits=Limits(14), sequence_ids=[number])
        replayed = Replay(recorded(target), sampler, budget=14).run(drafter, prompt, live.new_tokens(), number)
        assert counts(replayed) == counts(live.stats)


def test_the_embedded_prompts_are_replayed_exactly() -> None:
    """Prompt lookup and the embedded drafter on a prompt of each category, with the models that come with the package."""
    target = CausalLM(load_model("embedded/target", "float32"))
    tokenizer = AutoTokenizer.from_pretrained(resolve_name("embedded/target"))
    stand_in = recorded_target("embedded/target", dtype="float32", device="cpu")
    assert (stand_in.vocab_size, stand_in.context, stand_in.dtype) == (target.vocab_size, target.context, target.dtype)
    sampler, limits = Sampler(0), Limits(12, 0)
    for number, prompt in enumerate(embedded()[5::12]):
        ids = tokenizer(prompt.text)["input_ids"]
        plain = decode(target, NoDraft(), Recursive(), [ids], sampler=sampler, limits=limits).new_tokens()
        for drafter in (PromptLookup(), DraftModel(num_tokens=4)):
            live = decode(target, drafter, Recursive(), [ids], sampler=sampler, limits=limits, sequence_ids=[number])
            assert counts(Replay(stand_in, sampler, [0], 12).run(drafter, ids, plain, number)) == counts(live.stats)


class ReadsScores(Drafter):
    """Drafts what the target liked best behind the root of the last step."""

    def __init__(self) -> None:
        self.best: list[int] = []

    def propose(self, state: DecodeState, sampler: Sampler) -> Draft:
        return Draft.of_chains(state.roots, [self.best[: max(state.room[0] - 1, 0)]], state.device)

    def observe(self, state: DecodeState, draft: Draft, verdict: Verdict, scores: Scores) -> None:
        self.best = scores.logits[0, :1].argmax(-1).tolist()


class NeedsHidden(PromptLookup):
    traits = Traits(needs=frozenset({"hidden"}))


class ReadsHead(PromptLookup):
    def attach(self, target: CausalLM) -> None:
        self.head = target.model.get_output_embeddings()


@pytest.mark.parametrize(
    "drafter", [Jacobi(), Lookahead(), Oracle(), ReadsScores(), NeedsHidden(), ReadsHead()], ids=lambda drafter: type(drafter).__name__
)
def test_a_drafter_that_needs_the_target_is_refused_in_one_sentence(drafter: Drafter) -> None:
    with pytest.raises(ValueError, match=f"^{type(drafter).__name__} cannot be replayed: it needs the target's scores") as caught:
        Replay(RecordedTarget(40), Sampler(0)).run(drafter, [1, 2], [3, 4, 5])
    assert "\n" not in str(caught.value)


def test_other_mistakes_keep_their_own_words() -> None:
    with pytest.raises(ValueError, match="vocabulary sizes differ: target 640"):
        Replay(RecordedTarget(640), Sampler(0)).run(DraftModel(model=tiny.build("llama")), [1], [2, 3])


def test_a_recorded_oracle_can_be_replayed() -> None:
    stats = Replay(RecordedTarget(40), Sampler(0)).run(Oracle(1.0, 3, {0: [5, 6, 7, 8, 9]}), [1], [5, 6, 7, 8, 9])
    assert [step.emitted for step in stats.steps] == [[4], [1]]


@pytest.mark.parametrize(
    ("tokens", "parents", "text", "path"),
    [
        ([0, 5, 6, 7], [-1, 0, 1, 2], [5, 6, 9], [0, 1, 2]),
        ([0, 5, 6, 7], [-1, 0, 1, 2], [6], [0]),
        ([0, 5, 6, 7], [-1, 0, 1, 2], [5, 6], [0, 1, 2]),
        ([0, 5, 5, 6, 7], [-1, 0, 0, 1, 2], [5, 7], [0, 2, 4]),
        ([0, 5, 5], [-1, 0, 0], [5, 7], [0, 1]),
        ([0, 4, 6], [-1, 0, 1], [5, 6], [0]),
    ],
)
def test_the_longest_path_that_spells_the_text(tokens: list[int], parents: list[int], text: Sequence[int], path: list[int]) -> None:
    draft = Draft(torch.tensor([[*tokens, 5]]), torch.tensor([[*parents, 0]]), torch.tensor([len(tokens)]))  # the last slot is padding
    assert longest_agreement(draft, text) == path


ARENA = Path(__file__).resolve().parents[4] / "shared" / "data" / "arena_hard" / "v0.1_gpt-4-0613.jsonl"


@pytest.mark.skipif(not ARENA.exists(), reason="the arena-hard answers are not at hand")
def test_arena_hard_answers_are_copied_from_as_text_is(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(resolve_name("embedded/target"))
    (tmp_path / "few.jsonl").write_bytes(b"".join(ARENA.read_bytes().splitlines(keepends=True)[:3]))
    texts = read_texts(tmp_path / "few.jsonl", tokenizer).texts
    assert len(texts) == 3
    stats = [Replay(RecordedTarget(len(tokenizer)), Sampler(0)).run(PromptLookup(), text.prompt, text.tokens) for text in texts]
    assert 1.1 < GenerationStats.merged(stats).tokens_per_step < 3
