"""Peers decode in the main job: the same prompts, interleaved, counted alike, and compared end to end."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from experiments.analysis.tables import peers_of_all, print_comparison
from experiments.parts.peers.engines import engine
from experiments.run import job
from experiments.run.job import execute

ALL = ["generate", "assisted", "prompt_lookup"]


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]


@pytest.fixture
def with_assistant(assistant: str) -> tuple[str, ...]:
    return "drafter=draft_model", f"drafter.name={assistant}", "drafter.dtype=float64", "drafter.num_tokens=3"


def test_every_peer_decodes_every_prompt_beside_ours(
    composed: Callable[..., DictConfig], tmp_path: Path, with_assistant: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    summary = execute(composed(*with_assistant, f"peers=[{','.join(ALL)}]"), tmp_path / "run")
    found = rows(tmp_path / "run")
    roles = ["method", "baseline", *ALL]
    assert [(row["prompt"], row["role"]) for row in found] == [(f"p{index}", role) for index in range(4) for role in roles]
    for prompt in range(4):
        mine = {row["role"]: row for row in found if row["prompt"] == f"p{prompt}"}
        assert sorted(row["order"] for row in mine.values()) == [0, 1, 2, 3, 4]
        assert all(row["tokens"] == mine["baseline"]["tokens"] for row in mine.values())
        assert all(len(row["tokens"]) == row["num_accepted"] + row["num_steps"] for row in mine.values())
        assert mine["generate"]["num_steps"] == len(mine["generate"]["tokens"])
        assert all(row["process_seconds"] > 0 for row in mine.values())
        assert [role for role in roles if mine[role]["prompt_ids"] is not None] == ["baseline"]
    assert len({tuple(row["order"] for row in found if row["prompt"] == f"p{prompt}") for prompt in range(4)}) > 1
    assert {json.loads(line)["role"] for line in (tmp_path / "run" / "steps.jsonl").read_text().splitlines()} == {"method", "baseline"}
    for name in ALL:
        peer = summary["peers"][name]
        assert peer["greedy_identical"] == 1.0
        assert peer["speedup_with_prefill_wins"] + peer["speedup_with_prefill_losses"] <= peer["num_units"] == 4
        mine = [row for row in found if row["role"] == name]
        method = [row for row in found if row["role"] == "method"]
        ours = sum(row["prefill_seconds"] + sum(row["seconds"].values()) for row in method)
        assert peer["speedup_with_prefill"] == pytest.approx(sum(row["seconds"]["generate"] for row in mine) / ours)
        assert summary["by_category"]["even"]["peers"][name]["num_units"] == 2
        assert name in capsys.readouterr().out or name != ALL[0]
    assert summary["peers"]["generate"]["tokens_per_step"] == 1.0
    assert [row["peer"] for row in peers_of_all([summary, summary])] == [*ALL, *ALL]
    assert summary["peers"]["assisted"]["tokens_per_step"] == pytest.approx(summary["tokens_per_step"], rel=0.35)


def test_a_run_goes_on_with_its_peers_and_drops_a_prompt_that_lacks_one(
    composed: Callable[..., DictConfig], tmp_path: Path, with_assistant: tuple[str, ...]
) -> None:
    config = composed("peers=[generate,prompt_lookup]", "sampling=sample")
    execute(config, tmp_path / "run")
    path = tmp_path / "run" / "records.jsonl"
    whole = [(row["prompt"], row["role"], row["tokens"]) for row in rows(tmp_path / "run")]
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]))  # the last prompt's last peer is missing
    (tmp_path / "run" / "summary.json").unlink()
    execute(config, tmp_path / "run")
    assert [(row["prompt"], row["role"], row["tokens"]) for row in rows(tmp_path / "run")] == whole


def test_sampled_peers_do_not_share_their_random_numbers(composed: Callable[..., DictConfig], tmp_path: Path) -> None:
    path = tmp_path / "same.jsonl"
    path.write_text('{"id": "a", "text": "abc"}\n{"id": "b", "text": "abc"}\n')
    execute(composed(f"data.path={path}", "peers=generate", "sampling=sample"), tmp_path / "run")
    texts = [row["tokens"] for row in rows(tmp_path / "run") if row["role"] == "generate"]
    assert texts[0] != texts[1]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("peers=assisted",), "peers.assisted drafts with the drafter's model, and PromptLookup has none"),
        (("peers=[generate,prompt_lookup]", "batch_size=2"), r"peers\.prompt_lookup: .*batch_size=2.*one prompt at a time"),
        (("peers=prompt_lookup", "peers.prompt_lookup.max_ngram=0"), r"peers\.prompt_lookup: .*max_ngram=0"),
        (("peers=assisted", "peers.assisted.num_tokens=0", "peers.assisted.name=x"), r"peers\.assisted: .*num_tokens=0"),
        (("peers=openvino_draft",), "peers.openvino_draft drafts with the drafter's model, and PromptLookup has none"),
        (("peers=[openvino]", "sampling=sample", "batch_size=2"), r"peers\.openvino: batch_size=2: it draws every row"),
    ],
)
def test_a_peer_that_cannot_be_is_refused_before_the_target_is_loaded(
    composed: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: tuple[str, ...], message: str
) -> None:
    monkeypatch.setattr(job, "origin", lambda *_: pytest.fail("versions were asked for, which may mean a hub and its timeouts"))
    with pytest.raises(ValueError, match=message):
        execute(composed(*overrides, "target.name=/nowhere"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("peers=assisted", "peers.assisted.name=/nothing/here"), r"peers\.assisted: "),
        (("peers=assisted", "peers.assisted.name={stranger}"), r"peers\.assisted: vocabulary sizes are 257 and 262"),
    ],
)
def test_a_missing_or_foreign_assistant_is_refused_before_any_work(
    composed: Callable[..., DictConfig], tmp_path: Path, stranger: str, overrides: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        execute(composed(*(item.format(stranger=stranger) for item in overrides)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_plain_generate_takes_batches(composed: Callable[..., DictConfig], tmp_path: Path) -> None:
    summary = execute(composed("peers=generate", "batch_size=3"), tmp_path / "run")
    assert summary["peers"]["generate"]["greedy_identical"] == 1.0
    assert summary["peers"]["generate"]["num_units"] == 2


@pytest.mark.parametrize("name", ["openvino", "ctranslate2"])
def test_an_engine_that_is_not_installed_is_one_line_before_the_target_is_loaded(
    composed: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(engine, "installed", lambda _: None)
    with pytest.raises(ValueError, match=rf'peers\.{name}: .* is not installed: pip install "draftproof\[peers\]"'):
        execute(composed(f"peers={name}", "target.name=/nowhere"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_engine_takes_float32_alone(composed: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "installed", lambda _: "1.0")
    with pytest.raises(ValueError, match=r"peers\.openvino: the target is float64 on cpu.*set target\.dtype=float32"):
        execute(composed("peers=openvino", "target.dtype=float64"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.skipif(None in map(engine.installed, ("openvino-genai", "ctranslate2")), reason="the extra peers is not installed")
def test_engines_decode_beside_ours(
    composed: Callable[..., DictConfig], tmp_path: Path, assistant: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    names = ["openvino", "openvino_draft", "openvino_lookup", "ctranslate2"]
    drafting = "drafter=draft_model", f"drafter.name={assistant}", "drafter.num_tokens=3"
    summary = execute(composed(*drafting, "target.dtype=float32", f"peers=[{','.join(names)}]"), tmp_path / "run")
    assert {name: peer["greedy_identical"] for name, peer in summary["peers"].items()} == dict.fromkeys(names, 1.0)
    assert summary["peers"]["openvino"]["tokens_per_step"] == summary["peers"]["ctranslate2"]["tokens_per_step"] == 1.0
    assert summary["peers"]["openvino_draft"]["tokens_per_step"] == pytest.approx(summary["tokens_per_step"], rel=0.35)
    assert summary["provenance"]["versions"]["ctranslate2"]
    print_comparison([summary])
    assert "peers in the same runs" in capsys.readouterr().out
