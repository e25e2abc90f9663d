"""`draftproof models` on made models, what a run says before it begins, and noisy copies: no network, no published weights."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from experiments.parts.build import check_parts
from experiments.parts.door.plain import plain
from experiments.parts.real_models import assistant
from experiments.parts.settings import resolved
from experiments.parts.versions import folder_version
from experiments.training.command import train_tokenizer
from spec.converted import MADE, PUBLISHED
from spec.loading import load_model
from tests.spec.converted.made import MODEL, publish, write_wheels
from tests.spec.converted.test_named import Converter
from tests.tiny import build


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("DRAFTPROOF_ACCEPT", raising=False)
    return tmp_path / "cache" / "draftproof" / "models"


def test_models_are_listed_with_their_licenses(home: Path, capsys: pytest.CaptureFixture) -> None:
    assert plain("models", []) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + len(PUBLISHED)
    for line, model in zip(lines[1:], PUBLISHED.values(), strict=False):
        for words in (model.name, "not fetched", "MB", model.license, model.terms, str(home / model.name)):
            assert words in line
    assert not home.exists()


def test_models_are_fetched_by_name(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    publish(monkeypatch, convert=Converter())
    wheels = write_wheels(tmp_path / "wheels")
    assert plain("models", ["--fetch", "made", "--wheels", str(wheels)]) == 2
    assert capsys.readouterr().err.startswith("error: made is under the Made Terms")
    assert plain("models", ["--fetch", "made", "--accept", "made", "--wheels", str(wheels)]) == 0
    assert capsys.readouterr().out == f"made: {home / 'made-v1'}\n"
    assert plain("models", []) == 0
    assert "made         there" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--fetch", "smolm2"], "unknown model 'smolm2'; did you mean 'smollm2'? Known: smollm2, gemma3_270m"),
        (["--fetch", "smollm2", "nothing"], "unknown model 'nothing'; Known: smollm2"),
        (["--fetch", "smollm2", "--accept", "apache"], "--accept apache: there are no such terms; give gemma"),
        (["--fetch", "smollm2", "--wheels", "nowhere"], "--wheels nowhere is no folder"),
        (["--fetsh", "smollm2"], "unknown option '--fetsh'"),
    ],
)
def test_wrong_options_are_one_line(arguments: list[str], words: str, capsys: pytest.CaptureFixture) -> None:
    assert plain("models", arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("where", ["target", "drafter", "peers"])
def test_a_run_says_what_its_models_lack_before_it_begins(where: str, composed, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, convert=Converter())
    settings = {
        "target": ["target.name=made"],
        "drafter": ["drafter=draft_model", "drafter.name=made"],
        "peers": ["peers=[assisted]", "peers.assisted.name=made"],
    }[where]
    with pytest.raises(ValueError, match=r"^made is under the Made Terms: .* DRAFTPROOF_ACCEPT=made"):
        check_parts(resolved(composed(*settings)))


def test_who_converted_a_model_does_not_change_what_it_is(tmp_path: Path) -> None:
    build("llama").float().save_pretrained(tmp_path)
    before = folder_version(tmp_path)
    (tmp_path / MADE).write_text("{}")
    assert folder_version(tmp_path) == before
    (tmp_path / "tokenizer.json").write_text("{}")
    assert folder_version(tmp_path) != before


def test_a_noisy_copy_is_near_the_model_and_the_same_every_time(tmp_path: Path) -> None:
    model, ids = build("llama").float(), torch.arange(12)[None]
    model.save_pretrained(tmp_path / "model")
    train_tokenizer(["def f(x):\n    return x\n"], 300).save_pretrained(tmp_path / "model")
    distances = []
    for number, noise in enumerate(("0", "0.05", "0.05", "1")):
        assert assistant.main([str(tmp_path / "model"), str(tmp_path / str(number)), "--noise", noise]) == 0
        copy = AutoModelForCausalLM.from_pretrained(tmp_path / str(number))
        with torch.inference_mode():
            distributions = [found(input_ids=ids).logits.softmax(-1) for found in (model, copy)]
        distances.append(0.5 * (distributions[0] - distributions[1]).abs().sum(-1).mean().item())
    assert distances[0] == 0
    assert 0 < distances[1] == distances[2] < distances[3]


def test_a_noisy_copy_of_nothing_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "empty").mkdir()
    assert assistant.main([str(tmp_path / "empty"), str(tmp_path / "new")]) == 2
    assert "is empty" in capsys.readouterr().err
    assert assistant.main([str(tmp_path / "empty"), str(tmp_path / "empty")]) == 2
    assert "is there already" in capsys.readouterr().err


def test_the_published_models_are_pinned() -> None:
    for model in PUBLISHED.values():
        assert len(model.sha256) == 64
        assert all("==" in part.package for part in model.parts)
        assert model.terms.startswith("https://")
        assert model.says.startswith(" ")
    assert MODEL.name not in PUBLISHED
    with pytest.raises(ValueError, match=r"read https://ai\.google\.dev/gemma/terms"):
        load_model("gemma3_270m")
