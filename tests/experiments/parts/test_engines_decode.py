"""The engines decode what `generate` decodes. Skipped where the extra `peers` is not installed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from experiments.lossless.peers.distribution_check import DistributionCheck
from experiments.lossless.peers.toys import toy_pair
from experiments.parts.data.prompts import choose
from experiments.parts.data.sources import embedded
from experiments.parts.peers.engines import wanted
from experiments.parts.peers.engines.engine import Engine, installed
from experiments.parts.peers.transformers_generate import Generate
from spec import CausalLM, Limits, Sampler
from spec.loading import load_model, load_tokenizer

PLAIN = ("openvino", "ctranslate2")
MISSING = [package for package in ("openvino-genai", "ctranslate2") if installed(package) is None]

pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f'{", ".join(MISSING)} is not installed: pip install "draftproof[peers]"'),
    pytest.mark.filterwarnings("default"),  # of the engines' own code
    pytest.mark.slow,
]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def pair() -> tuple[CausalLM, Any]:
    return CausalLM(load_model("embedded/target", "float32")), load_model("embedded/drafter", "float32")


@pytest.fixture(scope="module")
def prompts() -> list[list[int]]:
    tokenizer = load_tokenizer("embedded/target")
    return [tokenizer(prompt.text)["input_ids"] for prompt in choose(embedded(), 6)]


def made(name: str, pair: tuple[CausalLM, Any], **settings: Any) -> Engine:
    return wanted.make(name, pair[0], pair[1] if name == "openvino_draft" else None, **settings)


@pytest.mark.parametrize("name", wanted.ENGINES)
def test_greedy_tokens_are_those_of_generate(name: str, pair: tuple[CausalLM, Any], prompts: list[list[int]]) -> None:
    peer = made(name, pair)
    eos = pair[0].model.generation_config.eos_token_id
    for limits in (Limits(32), Limits(120, eos), Limits(24, [199, 267]), Limits(1)):
        wanted_answers = Generate(pair[0].model).answer(prompts, sampler=Sampler(0.0), limits=limits)
        found = peer.answer(prompts, sampler=Sampler(0.0), limits=limits)
        assert [answer.tokens for answer in found] == [answer.tokens for answer in wanted_answers]
        assert all(0 < answer.forwards <= len(answer.tokens) and answer.wall_seconds > 0 for answer in found)
        if name in PLAIN:
            assert [answer.forwards for answer in found] == [answer.forwards for answer in wanted_answers]
        elif limits.max_new_tokens == 32:
            assert sum(answer.forwards for answer in found) < 0.8 * 32 * len(prompts)


@pytest.mark.parametrize("name", PLAIN)
def test_prompts_of_other_lengths_share_a_batch(name: str, pair: tuple[CausalLM, Any], prompts: list[list[int]]) -> None:
    together = made(name, pair, batch_size=4).answer(prompts, sampler=Sampler(0.0), limits=Limits(16))
    apart = made(name, pair).answer(prompts, sampler=Sampler(0.0), limits=Limits(16))
    assert [answer.tokens for answer in together] == [answer.tokens for answer in apart]


@pytest.mark.parametrize("name", PLAIN)
def test_what_is_sampled_has_the_targets_distribution(name: str) -> None:
    pair = toy_pair(0)
    peer = wanted.make(name, CausalLM(pair.target), batch_size=1 if name == "openvino" else 50)
    for sampling in ({"temperature": 0.7}, {"temperature": 1.0, "top_k": 2}, {"temperature": 1.2, "top_p": 0.7}):
        assert DistributionCheck(pair.prompt, 3, sampling, num_samples=1000).run(peer, pair.target, "toy").verdict == "pass"


def test_openvinos_lookup_samples_what_its_plain_decoding_does(pair: tuple[CausalLM, Any], prompts: list[list[int]]) -> None:
    sampler = Sampler(0.8, seed=5)
    plain, lookup = (made(name, pair).answer(prompts, sampler=sampler, limits=Limits(48)) for name in ("openvino", "openvino_lookup"))
    assert [answer.tokens for answer in plain] == [answer.tokens for answer in lookup]
    assert sum(answer.forwards for answer in lookup) < 48 * len(prompts)


def test_openvinos_sampled_drafts_are_still_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Why they are refused. Where this fails they may be taken again."""
    monkeypatch.setattr(wanted.ENGINES["openvino_draft"], "check_sampler", lambda *_: None)
    pair = toy_pair(0)
    peer = wanted.make("openvino_draft", CausalLM(pair.target), pair.assistant, num_tokens=2)
    assert DistributionCheck(pair.prompt, 3, {"temperature": 1.0}, num_samples=1000).run(peer, pair.target, "toy").verdict == "fail"


def test_the_conversion_is_kept(pair: tuple[CausalLM, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    made("openvino", pair)
    monkeypatch.setitem(wanted.CONVERSIONS, "openvino-genai", lambda *_: pytest.fail("it was converted again"))
    made("openvino_lookup", pair)


def test_a_prompt_beyond_the_models_positions_is_refused(pair: tuple[CausalLM, Any]) -> None:
    with pytest.raises(ValueError, match="1024"):
        made("ctranslate2", pair).answer([[1] * 1020], sampler=Sampler(0.0), limits=Limits(16))


def test_damaged_files_are_one_line(pair: tuple[CausalLM, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(wanted.Recipe, "kept", lambda *_: tmp_path)
    for name in PLAIN:
        with pytest.raises(ValueError, match="cannot serve this model") as found:
            made(name, pair)
        assert "\n" not in str(found.value)
