"""What the drafter of the embedded pair learns from: the target's own writing, spans said over and over, and the target's distributions on all of
it."""

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor
from transformers import LlamaForCausalLM

from drafters.none import NoDraft
from spec import CausalLM, Limits, Sampler, decode
from verifiers.recursive import Recursive

log = logging.getLogger(__name__)


def own_samples(target: LlamaForCausalLM, pools: dict[str, list[Tensor]], settings: DictConfig) -> list[Tensor]:
    """Continuations that the target itself writes after the openings of library modules and edit requests, at each temperature in turn."""
    rng, model, found, rows = random.Random(settings.seed), CausalLM(target), [], 64
    for batch in range(settings.own_samples // rows):
        documents = [rng.choice(pools["library" if row % 2 else "edits"]) for row in range(rows)]
        prompts = [document[: rng.randint(8, 160)].tolist() for document in documents]
        sampler = Sampler(settings.sample_temperatures[batch % len(settings.sample_temperatures)], seed=settings.seed)
        ids = range(batch * rows, (batch + 1) * rows)
        found += decode(model, NoDraft(), Recursive(), prompts, sampler=sampler, limits=Limits(320), sequence_ids=ids).sequences
        log.info("samples of the target's own: %d of %d", len(found), settings.own_samples)
    return found


def repeats(pool: list[Tensor], num_rows: int, seed: int) -> list[Tensor]:
    """Spans that are repeated: the simplest lesson in copying, which a drafter of two layers learns late from ordinary text."""
    rng, found = random.Random(seed), []
    for _ in range(num_rows):
        document, size = rng.choice(pool), rng.randint(10, 200)
        start = rng.randrange(max(len(document) - size, 1))
        found.append(document[start : start + size].repeat(rng.randint(2, 4)))
    return found


@dataclass(frozen=True)
class Lesson:
    """Windows and what the target says after each of their tokens: its likeliest continuations."""

    windows: Tensor  # [rows, length + 1]
    likeliest: Tensor  # [rows, length, K] token ids, int16
    logits: Tensor  # [rows, length, K] float16


@torch.no_grad()
def lesson(target: LlamaForCausalLM, windows: Tensor, num_likeliest: int) -> Lesson:
    """Asks the target once; several steps learn from the answer, because the target's forward costs more than the drafter's whole step."""
    logits, likeliest = target(input_ids=windows[:, :-1], use_cache=False).logits.float().topk(num_likeliest, -1)
    return Lesson(windows.cpu(), likeliest.to(torch.int16).cpu(), logits.half().cpu())


def distillation(model: Any, material: Lesson) -> Tensor:
    """Cross-entropy to the target's distribution over its likeliest tokens: the drafter learns the distribution that acceptance, sum of min(p, q),
    depends on."""
    device = model.device
    wanted = material.logits.to(device).float().softmax(-1)
    offered = model(input_ids=material.windows[:, :-1].to(device), use_cache=False).logits.float()
    return (offered.logsumexp(-1) - (wanted * offered.gather(-1, material.likeliest.to(device).long())).sum(-1)).mean()


def make_lessons(target: LlamaForCausalLM, settings: DictConfig, batch: Callable[[float], Tensor]) -> list[Lesson]:
    """Everything that the drafter will learn from, a step's worth each; batch(progress) gives windows [rows, length + 1]."""
    found = []
    for index in range(settings.lessons):
        found.append(lesson(target, batch(index / settings.lessons), settings.likeliest))
        if (index + 1) % 50 == 0:
            log.info("lessons: %d of %d", index + 1, settings.lessons)
    return found
