"""No code of a model is run, whatever its files say and whatever stands on stdin, and no pickle is read."""

import io
import json
import pickle
import sys
from pathlib import Path

import pytest
import torch

from spec.loading import load_model, load_tokenizer
from tests.spec.damaged import configure, copied, with_own_code

MODEL = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A copy with code of its own, while "y" is answered to every question."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 99))
    made = copied(tmp_path / "model")
    with_own_code(made, tmp_path / "it_ran")
    return made


@pytest.mark.parametrize("kind", ["own", "vit"])
def test_code_of_a_model_is_refused(folder, kind):
    configure(folder, model_type=kind, auto_map=MODEL)
    with pytest.raises(ValueError, match=r"code that comes with a model is never run; take a model that transformers itself knows$"):
        load_model(folder)
    assert not (folder.parent / "it_ran").exists()
    assert sys.stdin.read().count("y") == 99  # nothing was asked


def test_where_transformers_knows_the_model_its_own_code_is_used(folder):
    configure(folder, auto_map=MODEL)
    assert type(load_model(folder)).__module__.startswith("transformers.")
    load_tokenizer(folder)
    assert not (folder.parent / "it_ran").exists()


TOKENIZERS = {
    "a class of its own": {"tokenizer_class": "Tokenizer", "auto_map": {"AutoTokenizer": [None, "own.Tokenizer"]}},
    "the old form": {"auto_map": ["own.Tokenizer", None]},
    "a class that loads models": {"tokenizer_class": "AutoModelForMaskedLM"},
}


@pytest.mark.parametrize("words", TOKENIZERS)
def test_code_of_a_tokenizer_is_refused(folder, words):
    configure(folder, auto_map={"AutoModelForMaskedLM": "own.Model"})
    (folder / "tokenizer_config.json").write_text(json.dumps(TOKENIZERS[words]))
    with pytest.raises(ValueError, match=r"code that comes with a model is never run|is no tokenizer") as caught:
        load_tokenizer(folder)
    assert "\n" not in str(caught.value)
    assert not (folder.parent / "it_ran").exists()
    assert sys.stdin.read().count("y") == 99


class Runs:
    """Its pickle writes a file when it is read."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("file", ["pytorch_model.bin", "model.pt", "adapter_model.bin"])
def test_pickled_weights_are_never_read(folder, file):
    (folder / "model.safetensors").unlink()
    (folder / file).write_bytes(pickle.dumps(Runs(folder.parent / "it_ran")))
    with pytest.raises(ValueError, match="pickled files, which are never loaded because reading them can run code; take a copy") as caught:
        load_model(folder)
    assert "torch.load" not in str(caught.value)
    configure(folder, transformers_weights=file)
    with pytest.raises(ValueError, match=r"only \.safetensors files"):
        load_model(folder)
    assert not (folder.parent / "it_ran").exists()


def test_distributed_checkpoints_do_not_take_the_place_of_the_weights(folder):
    (folder / "shard-00001-model-00001-of-00001.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="is a distributed checkpoint, which is not loaded"):
        load_model(folder)


@pytest.mark.parametrize("file", ["pytorch_model.bin", "model.safetensors"])
def test_the_files_of_a_downloaded_model_are_looked_at_too(folder, tmp_path, monkeypatch, file):
    """A hub id whose files lie in the download cache, and an index that names a pickle."""
    snapshot = tmp_path / "models--own--model" / "snapshots" / ("0" * 40)
    snapshot.parent.mkdir(parents=True)
    (tmp_path / "models--own--model" / "refs").mkdir()
    (tmp_path / "models--own--model" / "refs" / "main").write_text("0" * 40)
    folder.rename(snapshot)
    names = dict.fromkeys(load_model("embedded/target").state_dict(), file)
    if file != "model.safetensors":
        (snapshot / "model.safetensors").unlink()
        torch.save({}, snapshot / file)
        (snapshot / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("transformers.utils.hub.TRANSFORMERS_CACHE", str(tmp_path), raising=False)
    if file == "model.safetensors":
        assert load_model("own/model").config.vocab_size == 2048
        assert len(load_tokenizer("own/model")) == len(load_tokenizer("embedded/target"))
    else:
        with pytest.raises(ValueError, match=r"names 'pytorch_model.bin' as weights; only \.safetensors"):
            load_model("own/model")
