"""The command lines: a run is recorded, scored and replayed; every mistake is one line and exit code 2."""

import json
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from experiments.replay import command as replay_command
from experiments.replay import distributions as replay_distributions
from experiments.replay import job as replay
from experiments.replay.distributions import load
from experiments.replay.texts import read_run
from experiments.run import job as run

LENGTHS = [1, 3, 10]


@pytest.fixture
def recorded(composed: Callable[..., Any], tmp_path: Path) -> Callable[..., Path]:
    """Runs the main job on the tiny models and returns its folder."""

    def make(*overrides: str) -> Path:
        run.execute(composed("warmup=0", "num_prompts=3", *overrides), tmp_path / "run")
        return tmp_path / "run"

    return make


@lru_cache
def composed_once(name: str, *choices: str) -> Any:
    with initialize_config_module("conf", version_base=None):
        return compose(name, list(choices))


def configured(name: str, *overrides: str) -> Any:
    """The configuration with options chosen (once each, for composing takes its time) and values set."""
    choices = [item for item in overrides if item.partition("=")[0] in ("drafter", "sampling", "target")]
    values = OmegaConf.from_dotlist([item for item in overrides if item not in choices])
    return OmegaConf.merge(composed_once(name, *choices), values)


def replayed(*overrides: str) -> list[Any]:
    return replay.execute(configured("replay", *overrides))


def figures(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


def test_a_greedy_run_replayed_has_the_counts_of_the_run(recorded: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = recorded("drafter=prompt_lookup")
    capsys.readouterr()
    outcomes = replayed(f"recorded={folder}", f"lengths={LENGTHS}", f"output={tmp_path / 'out.jsonl'}", "cost.draft=0.1", "categories=true")
    rows = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    live = {row["prompt"]: (len(row["tokens"]), row["num_steps"], row["num_drafted"], row["num_accepted"]) for row in rows if row["role"] == "method"}
    found = {one.text: one.counts for one in outcomes if (one.kind, one.length) == ("replayed", 10)}
    assert {name: (counts.tokens, counts.steps, counts.drafted, counts.accepted) for name, counts in found.items()} == live
    best = {one.text: one.counts for one in outcomes if one.kind == "best lengths"}
    for one in outcomes:
        assert best[one.text].cost <= one.counts.cost + 1e-9
        assert one.ceiling is not None
        assert one.ceiling.tokens_per_step >= one.counts.tokens_per_step
    table = figures(capsys)
    assert "counts are those of a live run" in table
    assert (
        f"the run itself, with this drafter: {sum(one[0] for one in live.values()) / sum(one[1] for one in live.values()):.2f} tokens/step" in table
    )
    head, *lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert head["config"]["lengths"] == LENGTHS
    assert sum("total" not in line for line in lines) == len(outcomes) == 3 * (len(LENGTHS) + 1)
    assert {line["category"] for line in lines if "total" in line} == {"all", "even", "odd"}


def test_a_sampled_run_is_conditional_on_its_text_and_distributions_give_the_expectation(
    recorded: Callable[..., Path], assistant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = recorded("drafter=draft_model", f"drafter.name={assistant}", "sampling=sample")
    chosen = [f"recorded={folder}", "drafter=draft_model", f"drafter.name={assistant}", "lengths=[1,3]"]
    outcomes = replayed(*chosen)
    assert {one.kind for one in outcomes} == {"replayed", "best lengths"}
    assert "conditional on the recorded text" in (table := figures(capsys))
    assert "needs the target's distributions" in table
    replay_distributions.execute(configured("replay_distributions", f"recorded={folder}", "top_k=5"))
    capsys.readouterr()
    few = next(one for one in replayed(*chosen) if one.kind == "best lengths")
    assert "expected acceptance, the mean sum of min(p, q)" in figures(capsys)
    replay_distributions.execute(configured("replay_distributions", f"recorded={folder}", "top_k=1000"))
    outcomes = replayed(*chosen)
    whole = next(one for one in outcomes if one.kind == "best lengths" and one.text == few.text)
    assert few.overlap is not None
    assert whole.overlap is not None
    assert few.overlap[0] < whole.overlap[0] == pytest.approx(whole.overlap[1], abs=1e-4)
    assert few.overlap[0] <= whole.overlap[0] <= few.overlap[1] + 1e-4
    expected = [one for one in outcomes if one.kind == "expected" and one.length == 3]
    assert len(expected) == 3
    for one in expected:
        assert one.counts.tokens == pytest.approx(one.counts.steps + one.counts.accepted)


def test_distributions_are_those_of_the_model_along_the_text(recorded: Callable[..., Path], composed: Callable[..., Any]) -> None:
    folder = recorded("sampling=sample", "sampling.top_k=20", "sampling.repetition_penalty=1.3")
    path = replay_distributions.execute(configured("replay_distributions", f"recorded={folder}", "top_k=4"))
    recording = read_run(folder)
    assert recording.config is not None
    sampling = {key: value for key, value in recording.config["sampling"].items() if key not in ("_target_", "seed")}
    distributions = load(path, recording.texts, sampling)
    config = composed("sampling=sample", "sampling.top_k=20", "sampling.repetition_penalty=1.3")
    target, sampler = replay_distributions.make(config, "target"), replay_distributions.make(config, "sampling")
    text = recording.texts[1]
    for index in (0, 5, len(text.tokens) - 1):
        before = [*text.prompt, *text.tokens[:index]]
        with torch.inference_mode():
            logits = target.model.model(input_ids=torch.tensor([before]), use_cache=False).logits[:, -1:]
        distribution = sampler.distribution(logits, lambda _row, _slot, before=before: before)[0, 0]
        best = distribution.topk(4)
        assert distributions[text.id].tokens[index].tolist() == best.indices.tolist()
        assert distributions[text.id].probs[index] == pytest.approx(best.values.float().numpy())
        assert distributions[text.id].chosen[index] == pytest.approx(distribution[text.tokens[index]].item())
    with pytest.raises(ValueError, match=r"holds distributions of .*make them again"):
        load(path, recording.texts, sampling | {"top_k": None})
    other = [type(text)(text.id, text.category, text.prompt, [*text.tokens[:-1], 7])]
    with pytest.raises(ValueError, match=f"holds no distributions of the answer {text.id} as it is recorded"):
        load(path, other, sampling)
    np.savez(folder / "other.npz", a=np.zeros(3))
    with pytest.raises(ValueError, match="is not a file of distributions"):
        load(folder / "other.npz", recording.texts, sampling)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    path = tmp_path / "x.jsonl"
    path.write_text('{"question": "what is it?", "answer": "it is what it is"}\n')
    return path


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["recorded=nowhere.jsonl"], "nowhere.jsonl: cannot be read"),
        (["lengths=[0,2]"], "lengths=[0, 2]: give whole numbers of at least 1"),
        (["oracle='no'"], "oracle=no: give true or false"),
        (["categories='no'"], "categories=no: give true or false"),
        (["lengths=[2]", "drafter=draft_tree"], "lengths sets num_tokens, which drafter=draft_tree does not have"),
        (["drafter.num_tokens=auto"], "drafter=prompt_lookup chooses its length by what steps cost (auto), and no model is run here; give a number"),
        (["cost.draft=-1"], "cost.draft=-1"),
        (["drafter=lookahead"], "Lookahead cannot be replayed: it needs the target's scores"),
        (["drafter=oracle"], "Oracle cannot be replayed: it needs the target's scores"),
        (["drafter=jacobi"], "Jacobi cannot be replayed: it needs the target's scores"),
        (["output=no/such/folder/x.jsonl"], "output=no/such/folder/x.jsonl: give a file in a folder that exists"),
        (["num_texts=0"], "num_texts=0: give a whole number of at least 1"),
        (["tokenizer=embedded/targt"], "unknown embedded model 'embedded/targt'; did you mean 'embedded/target'?"),
        (["recorded=."], ". holds no records.jsonl and config.yaml"),
        (["distributions=none.npz"], "none.npz: is not a file of distributions"),
    ],
)
def test_mistakes_are_said(overrides: list[str], message: str, plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(plain.parent)
    with pytest.raises(ValueError) as error:  # noqa: PT011  the message is compared as it is
        replayed(f"recorded={plain}", *overrides)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("job", "override", "message"),
    [
        (replay_command.main, "drafter=promt_lookup", 'error: unknown drafter "promt_lookup"; did you mean "prompt_lookup"?'),
        (replay_command.main, "drafter=jacobi", "error: Jacobi cannot be replayed: it needs the target's scores"),
        (replay_distributions.main, "top_k=0", "error: top_k=0: give a whole number of at least 1"),
    ],
)
def test_on_the_command_line_a_mistake_is_one_line(
    job: Any, override: str, message: str, plain: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(plain.parent)
    monkeypatch.setattr(sys, "argv", ["experiments.replay", f"recorded={plain}", override])
    GlobalHydra.instance().clear()
    with pytest.raises(SystemExit) as end:
        job()
    GlobalHydra.instance().clear()
    assert end.value.code == 2
    assert (error := capsys.readouterr().err).startswith(message)
    assert error.count("\n") == 1
    assert [path.name for path in plain.parent.iterdir()] == ["x.jsonl"]  # no log beside the recordings


def test_plain_texts_are_replayed_and_named_as_such(tmp_path: Path, target: str, assistant: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"question": "abcabc", "answer": "abcabcabcabcab"}\n{"question": "abcabc", "answer": "' + 300 * "x" + '"}\n')
    outcomes = replayed(f"recorded={path}", f"tokenizer={target}", "lengths=[4]", "num_texts=1")
    assert [one.counts.steps for one in outcomes] == [5, 5]  # a, bca, bca, bcabc, ab: the blank line is copied at first, and once more behind bc
    assert "plain texts: how they were decoded is not known" in figures(capsys)
    small = ["drafter=draft_model", f"drafter.name={assistant}", f"tokenizer={target}", f"recorded={path}"]
    with pytest.raises(ValueError, match="1 of 2 texts do not fit the drafter's context of 256 tokens; set skip_too_long=true"):
        replayed(*small)
    assert {one.text for one in replayed(*small, "skip_too_long=true")} == {"0"}
    with pytest.raises(ValueError, match="the tokenizers differ: id 257 is 'ĠĠ' in the target's and unknown"):
        replayed(f"recorded={path}", "drafter=draft_model", f"drafter.name={assistant}")


def test_distributions_need_a_sampled_run_and_a_target(recorded: Callable[..., Path], tmp_path: Path) -> None:
    folder = recorded()
    with pytest.raises(ValueError, match="at temperature 0 every distribution is certain of its token"):
        replay_distributions.execute(configured("replay_distributions", f"recorded={folder}"))
    with pytest.raises(ValueError, match="top_k=0"):
        replay_distributions.execute(configured("replay_distributions", f"recorded={folder}", "top_k=0"))
    path = tmp_path / "x.jsonl"
    path.write_text('{"answer": "abc"}\n')
    with pytest.raises(ValueError, match="target must be given for plain texts"):
        replay_distributions.execute(configured("replay_distributions", f"recorded={path}"))
    with pytest.raises(ValueError, match=r"output must be given for plain texts: a .npz file"):
        replay_distributions.execute(configured("replay_distributions", f"recorded={path}", "target=embedded", "sampling=sample"))
    with pytest.raises(ValueError, match=r"the run was recorded with .*leave sampling out"):
        replayed(f"recorded={folder}", "sampling=sample")
