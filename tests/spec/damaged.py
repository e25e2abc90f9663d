"""Copies of the embedded target for tests that damage them."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from spec.loading import EMBEDDED

INDEX = "model.safetensors.index.json"


def copied(folder: Path) -> Path:
    """A copy that loads."""
    shutil.copytree(EMBEDDED / "target", folder)
    return folder


def configure(folder: Path, **changes: Any) -> None:
    """Changes entries of its config.json."""
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def reweigh(folder: Path, without: str = "", **more: torch.Tensor) -> None:
    """Leaves out the weights whose name holds `without`, and adds or replaces others; `__` in a name is a dot."""
    kept = {name: weight for name, weight in load_file(folder / "model.safetensors").items() if not without or without not in name}
    save_file(kept | {name.replace("__", "."): weight for name, weight in more.items()}, folder / "model.safetensors", metadata={"format": "pt"})


def shard(folder: Path) -> list[Path]:
    """Divides the weights over two files and an index; the files."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    files, places = [folder / f"model-0000{number}-of-00002.safetensors" for number in (1, 2)], {}
    for number, file in enumerate(files):
        part = {name: weights[name] for name in sorted(weights)[number::2]}
        save_file(part, file, metadata={"format": "pt"})
        places |= dict.fromkeys(part, file.name)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return files


def cut(file: Path, share: float = 0.5) -> None:
    """Keeps the first part of a file."""
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])


def with_own_code(folder: Path, mark: Path) -> None:
    """A file of code that writes `mark` when it is run, as models bring with them."""
    code = f"open({str(mark)!r}, 'a').close()\nfrom transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast\n"
    classes = "class Config(LlamaConfig):\n    model_type = 'own'\nclass Model(LlamaForCausalLM):\n    config_class = Config\n"
    (folder / "own.py").write_text(f"{code}{classes}class Tokenizer(PreTrainedTokenizerFast):\n    pass\n")
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(code)
