"""What the engines have in common: which targets and settings they take, how their time is taken, and the trial of a converted model."""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch

from experiments.parts.peers.transformers_generate import ended, settings_of
from experiments.parts.roles import Answer, Peer
from spec.lean import Lean, NotLean
from spec.sampling import Sampler
from spec.state import Limits

TRIAL, FAR = 256, 1e-4  # tokens of the trial, and how far logits may be off, as a share of the largest


@dataclass
class Engine(Peer):
    """Another engine's decoding of the target's weights, `batch_size` prompts at once, by as many threads as torch has.

    It works in this process: between its calls its threads sleep, so it does not disturb what is timed beside it, and its processor time is counted.
    """

    engine = "engine"  # name of the installed package
    takes = frozenset({"do_sample", "temperature", "top_k", "top_p"})  # of `settings_of`
    context: int = 0  # longest sequence that every model of the peer can follow
    steps_apart = False

    @property
    def sites(self) -> list[Any]:
        """Its forwards cannot be watched."""
        return []

    @property
    def runtime(self) -> str:
        return f"{self.engine} {installed(self.engine)}"

    def answer(self, prompts: Sequence[Sequence[int]], *, sampler: Sampler, limits: Limits, ids: Sequence[int] | None = None) -> list[Answer]:
        """Continues the prompts; every batch of them gets a seed of its own."""
        rows = [list(prompt) for prompt in prompts]
        self.check(rows, sampler, limits)
        found: list[Answer] = []
        for start in range(0, len(rows), self.batch_size):
            part = rows[start : start + self.batch_size]
            began = time.perf_counter()
            made = self.run(part, sampler, limits, (sampler.seed * 1_000_003 + start) % 2**31)
            spent = (time.perf_counter() - began) / len(part)
            found += [Answer(text := ended(tokens, limits), min(forwards, len(text)), spent) for tokens, forwards in made]
        return found

    def run(self, rows: list[list[int]], sampler: Sampler, limits: Limits, seed: int) -> list[tuple[list[int], int]]:
        """New tokens of each row, and the target forwards that they took."""
        raise NotImplementedError

    def check(self, rows: list[list[int]], sampler: Sampler, limits: Limits) -> None:
        """Raises ValueError for what cannot be honoured."""
        self.check_sampler(sampler, self.batch_size)
        if not rows or not all(rows):
            raise ValueError("a prompt is empty or none was given; give at least one token in each")
        if limits.criteria or limits.padding:
            raise ValueError(f"stopping criteria and padding are not passed on to {self.engine}; use max_new_tokens and eos_token_id")
        limits.check(rows, self.context)

    @classmethod
    def check_sampler(cls, sampler: Sampler, batch_size: int = 1) -> None:
        """Raises ValueError for sampling whose distribution would not be the target's."""
        if odd := sorted(settings_of(sampler).keys() - cls.takes):
            taken = ", ".join(sorted(cls.takes - {"do_sample"}))
            raise ValueError(f"{cls.engine} is not asked for {', '.join(odd)}: of sampling it takes {taken}; leave the peer out")


def installed(package: str) -> str | None:
    """The version of an installed package; None if it is not there. Nothing is imported."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def require(package: str) -> str:
    """The version of an engine. Raises ValueError, with what to do, where it is not installed."""
    found = installed(package)
    if found is None:
        raise ValueError(f'{package} is not installed: pip install "draftproof[peers]"')
    return found


def imported(module: str) -> Any:
    """A module of an engine's, imported. Raises ValueError where it is there and cannot be imported."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ValueError(f'{module} cannot be imported ({error}): pip install --force-reinstall "draftproof[peers]"') from error


def check_served(model: Any, what: str) -> Lean:
    """The parts of a model that an engine can take: float32, on the CPU, of Llama's shape. Raises ValueError for others; `what` is "target", say."""
    dtype = str(model.dtype).removeprefix("torch.")
    if model.device.type != "cpu" or dtype != "float32":
        raise ValueError(
            f"the {what} is {dtype} on {model.device}, and engines are compared in float32 on the CPU; set target.dtype=float32 target.device=cpu"
        )
    try:
        return Lean(model)
    except NotLean as error:
        raise ValueError(f"the {what} is not of Llama's shape, which is all that is converted: {error}") from error


def shell_of(model: Any) -> Any:
    """A copy of a model that may be changed, over the same weights."""
    return copy.deepcopy(model, {id(weight): weight for weight in (*model.parameters(), *model.buffers())})


def trial_tokens(model: Any) -> torch.Tensor:
    """Ids [1, N] of the trial, up to as many as the model has positions."""
    config = model.config.get_text_config()
    count = min(TRIAL, getattr(config, "max_position_embeddings", None) or TRIAL)
    return torch.randint(config.vocab_size, (1, count), generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
def check_trial(model: Any, found: np.ndarray, engine: str) -> None:
    """Raises ValueError where logits [1, N, V] of `trial_tokens` by a converted model are not the model's own."""
    wanted = model(input_ids=trial_tokens(model)).logits.numpy()
    off = float(np.abs(found - wanted).max() / np.abs(wanted).max()) if found.shape == wanted.shape else float("inf")
    if not off <= FAR:
        raise ValueError(f"{engine} makes other logits of this model than transformers does (off by {off:.1e} of the largest); leave this peer out")
