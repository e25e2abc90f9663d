"""Steps of training with checkpoints: token windows, optimizer and its schedule, the loop."""

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor
from transformers import LlamaForCausalLM

from experiments.training.card import CONTEXT
from experiments.training.muon import Muon32

log = logging.getLogger(__name__)


class Windows:
    """Endless batches of token windows: documents are laid end to end, from the pool that lags most behind its share of the tokens."""

    def __init__(self, pools: dict[str, list[Tensor]], shares: dict[str, float], seed: int):
        self.pools, self.shares, self.rng = pools, shares, random.Random(seed)
        self.buffer = torch.empty(0, dtype=torch.int64)
        self.used = dict.fromkeys(shares, 0)

    def batch(self, rows: int, length: int) -> Tensor:
        """Returns [rows, length + 1] token ids."""
        need = rows * (length + 1)
        parts, have = [self.buffer], len(self.buffer)
        while have < need:
            name = min(self.shares, key=lambda pool: self.used[pool] / self.shares[pool])
            document = self.rng.choice(self.pools[name])
            if name != "edits" and len(document) > 3 * CONTEXT:  # a slice, so that one long module does not fill a batch
                start = self.rng.randrange(len(document) - 2 * CONTEXT)
                document = document[start : start + 2 * CONTEXT]
            parts.append(document)
            self.used[name] += len(document)
            have += len(document)
        stream = torch.cat(parts)
        self.buffer = stream[need:]
        return stream[:need].view(rows, length + 1)


class Optimizer:
    """Muon for the matrices inside the layers, AdamW for the rest; one schedule: warm-up, constant, linear decay to zero."""

    def __init__(self, model: torch.nn.Module, settings: DictConfig, steps: int):
        self.settings, self.steps = settings, steps
        matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
        rest = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
        self.parts = [
            Muon32(matrices, lr=settings.muon_lr, weight_decay=settings.weight_decay),
            torch.optim.AdamW(rest, lr=settings.adam_lr, betas=(0.9, 0.95), weight_decay=0.0),
        ]
        self.rates = [settings.muon_lr, settings.adam_lr]

    def step(self, index: int) -> None:
        decay_steps = max(1, round(self.steps * self.settings.decay_share))
        scale = min(1.0, (index + 1) / self.settings.warmup, (self.steps - index) / decay_steps)
        for part, rate in zip(self.parts, self.rates, strict=True):
            for group in part.param_groups:
                group["lr"] = rate * scale
            part.step()
            part.zero_grad(set_to_none=True)

    def state(self) -> list[dict[str, Any]]:
        return [part.state_dict() for part in self.parts]

    def load(self, states: list[dict[str, Any]]) -> None:
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(state)


@dataclass
class Trainer:
    """Runs one model's steps with checkpoints; `loss_of(model, windows)` is cross-entropy or distillation."""

    settings: DictConfig
    device: torch.device
    folder: Path

    def run(
        self, name: str, model: LlamaForCausalLM, batches: Callable[[int], Any], loss_of: Callable[[Any, Any], Tensor], rng: random.Random
    ) -> None:
        """`batches(step)` makes the material of a step, drawing from `rng`, whose state is kept with the checkpoints."""
        steps = self.settings[name].steps
        checkpoint = self.folder / f"{name}.checkpoint.pt"
        optimizer, start = Optimizer(model, self.settings.optimizer, steps), 0
        if checkpoint.exists():
            saved = torch.load(checkpoint, map_location=self.device, weights_only=False)
            model.load_state_dict(saved["model"])
            optimizer.load(saved["optimizer"])
            rng.setstate(saved["rng"])
            start = saved["step"]
            log.info("%s: going on from step %d", name, start)
        forward = torch.compile(model, dynamic=False) if self.settings.compile else model
        mean = 0.0
        for index in range(start, steps):
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.use_bf16()):
                loss = loss_of(forward, batches(index))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step(index)
            mean = loss.item() if index == start else 0.95 * mean + 0.05 * loss.item()
            if (index + 1) % 10 == 0:
                log.info("%s step %d/%d loss %.4f", name, index + 1, steps, mean)
            if (index + 1) % self.settings.save_every == 0 or index + 1 == steps:
                state = {"model": model.state_dict(), "optimizer": optimizer.state(), "rng": rng.getstate(), "step": index + 1}
                partial = checkpoint.with_suffix(".partial")
                torch.save(state, partial)
                partial.replace(checkpoint)

    def batch(self, name: str, windows: Windows, progress: float) -> Tensor:
        """Token windows for one step of a model, as long as its phases say; [rows, length + 1]."""
        part = self.settings[name]
        length = length_at(part.phases, progress)
        return windows.batch(part.tokens_per_step // length, length).to(self.device)

    def use_bf16(self) -> bool:
        if self.settings.autocast != "auto":
            return bool(self.settings.autocast)
        return self.device.type == "cuda" or torch.cpu.get_capabilities().get("avx512_bf16", False)


def length_at(phases: Any, progress: float) -> int:
    """Window length after the share `progress` of the steps."""
    for phase in phases:
        progress -= phase.share
        if progress < 0:
            return phase.length
    return phases[-1].length
