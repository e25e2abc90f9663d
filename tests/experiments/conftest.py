"""Tiny models and tokenizers on disk, so that the main job is tested through the code that loads real ones."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from experiments.analysis import summary
from experiments.parts import command as compare
from experiments.run import command as run

END = "<|end|>"
CONTEXT = 256


def tokenizer(extra: int = 0) -> PreTrainedTokenizerFast:
    """Bytes as tokens; `extra` adds entries that no text holds."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {name: index for index, name in enumerate([END, *letters, *(f"<{index}>" for index in range(extra))])}
    bytes_only = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_only.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=bytes_only, eos_token=END, bos_token=END)


def save_model(folder: Path, seed: int, extra: int = 0, layers: int = 2) -> str:
    torch.manual_seed(seed)
    words = tokenizer(extra)
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return str(folder)


@pytest.fixture(autouse=True)
def clocks_do_not_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine the clocks of runs this small can say anything; one test sets the bound again."""
    monkeypatch.setattr(summary, "CLOCKS_WOBBLE", float("inf"))


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_model(tmp_path_factory.mktemp("target"), seed=1)


@pytest.fixture(scope="session")
def assistant(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_model(tmp_path_factory.mktemp("assistant"), seed=2, layers=1)


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model whose tokenizer has the target's words and five more."""
    return save_model(tmp_path_factory.mktemp("stranger"), seed=3, extra=5, layers=1)


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    rows = [f'{{"id": "p{index}", "category": "{"even" if index % 2 == 0 else "odd"}", "prompt": "text {index} abcabcabc"}}' for index in range(4)]
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture
def options(target: str, prompts: Path) -> list[str]:
    """Overrides that make any run small: four prompts, twelve tokens, exact arithmetic."""
    parts = ["target=hub", f"target.name={target}", "target.dtype=float64", "data=jsonl", f"data.path={prompts}"]
    return [*parts, "max_new_tokens=12", "warmup=1"]


@pytest.fixture
def composed(options: list[str]) -> Callable[..., DictConfig]:
    """The configuration of a small run, with further overrides."""

    def make(*overrides: str) -> DictConfig:
        with initialize_config_module("conf", version_base=None):
            return compose("config", [*options, *overrides])

    return make


@pytest.fixture
def no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """W&B without a key, an agent, or a home that is not the test's own."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "WANDB_DATA_DIR", "WANDB_RUN_ID", "WANDB_SWEEP_ID", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def command(options: list[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., int]]:
    """Calls the command line in this process and returns its exit code."""

    def call(*overrides: str) -> int:
        flags = [item for item in overrides if item.startswith("-")]  # argparse wants them before the overrides
        monkeypatch.setattr(sys, "argv", ["experiments.run", *flags, *options, *(item for item in overrides if item not in flags)])
        monkeypatch.setattr(compare, "SWEEPS", [])
        GlobalHydra.instance().clear()
        try:
            run.main()
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    yield call
    GlobalHydra.instance().clear()
