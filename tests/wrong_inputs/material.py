"""Files, models and run folders that are wrong in one way each, for the commands of the table."""

import json
import shutil
from pathlib import Path

import torch
from transformers import BertConfig, BertModel, T5Config

from tests.experiments.conftest import save_model, tokenizer

RUN = ("num_prompts=1", "max_new_tokens=4", "warmup=0", "check_state=false")


def make(folder: Path, run: Path) -> None:
    """Fills a folder. `run` is that of a finished run of the main job with the options `RUN`, which are copied and damaged."""
    (folder / "file").write_text("a file\n")
    (folder / "empty").mkdir()
    (folder / "question.jsonl").write_text('{"question": "What is a draft?"}\n')
    (folder / "empty.jsonl").write_text("")
    (folder / "broken.jsonl").write_text('{"question": "What\n')
    (folder / "answers.jsonl").write_text('{"prompt": "def f(x):", "response": " return x + 1"}\n')
    make_models(folder)
    make_runs(folder, run)


def make_models(folder: Path) -> None:
    """Checkpoints: one of another vocabulary, others damaged or of a kind that is not served."""
    save_model(folder / "stranger", seed=3, extra=5, layers=1)
    whole = folder / "whole"
    save_model(whole, seed=1, layers=1)
    for name in ("no_weights", "missing_weights", "cut_weights", "cut_config", "pickled", "remote_code"):
        shutil.copytree(whole, folder / name)
    (folder / "no_weights" / "model.safetensors").unlink()
    drop_weights(folder / "missing_weights" / "model.safetensors")
    shorten(folder / "cut_weights" / "model.safetensors")
    shorten(folder / "cut_config" / "config.json")
    pickled = folder / "pickled" / "model.safetensors"
    pickled.unlink()
    torch.save({}, pickled.with_name("pytorch_model.bin"))
    config = json.loads((whole / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}}
    (folder / "remote_code" / "config.json").write_text(json.dumps(config))
    (folder / "remote_code" / "own.py").write_text("raise SystemExit('code of a model was run')\n")
    T5Config(vocab_size=16, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2).save_pretrained(folder / "t5")
    BertModel(BertConfig(vocab_size=16, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)).save_pretrained(
        folder / "bert"
    )
    for name in ("t5", "bert"):
        tokenizer().save_pretrained(folder / name)


def make_runs(folder: Path, run: Path) -> None:
    """Run folders: a whole one, and copies with one damaged file each."""
    for name in (
        "run",
        "cut_summary",
        "empty_summary",
        "cut_records",
        "changed_type",
        "cut_manifest",
        "cut_config_run",
        "run_without_steps",
        "other_run",
    ):
        shutil.copytree(run, folder / name)
    shorten(folder / "cut_summary" / "summary.json")
    (folder / "empty_summary" / "summary.json").write_text("")
    torn = folder / "cut_records" / "records.jsonl"
    torn.write_text('{"half": 1\n' + torn.read_text())
    changed = folder / "changed_type" / "records.jsonl"
    lines = [json.loads(line) for line in changed.read_text().splitlines()]
    changed.write_text("\n".join(json.dumps(line | {"num_steps": "many"}) for line in lines) + "\n")
    shorten(folder / "cut_manifest" / "manifest.json")
    shorten(folder / "cut_config_run" / "config.yaml")
    (folder / "run_without_steps" / "steps.jsonl").unlink()
    (folder / "cut_verdict").mkdir()
    (folder / "cut_verdict" / "lossless.json").write_text('{"verdict": "pa')


def shorten(file: Path) -> None:
    """Leaves the first half."""
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def drop_weights(file: Path) -> None:
    """Takes the first tensor of a layer out."""
    from safetensors.torch import load_file, save_file

    held = load_file(file)
    held.pop(next(name for name in sorted(held) if "layers" in name))
    save_file(held, file, {"format": "pt"})
