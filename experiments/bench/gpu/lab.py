"""One random target at a time, and what is measured on it: models are made once, and freed when the next size is asked for."""

import gc
from collections.abc import Sequence
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from experiments.bench.material import Material
from experiments.bench.set_acceptance import Recorded, record
from experiments.parts.build import make
from experiments.parts.random_target import load_random, random_model, random_prompts
from spec import CausalLM, Limits, Sampler
from spec.runtime import BUCKETS


class Lab:
    """Targets and assistants by size, on the GPU where there is one."""

    def __init__(self, config: DictConfig):
        self.config, self.settings = config, config.gpu
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.size: str | None = None
        self.curves: dict[tuple[str, str], dict[int, float]] = {}  # (size, runtime) -> slots -> seconds, one row, after the first prompt length
        self.bandwidth: float | None = None
        self._recorded: dict[int, Recorded] = {}  # by prompt length
        self._served: dict[tuple[int, str], CausalLM] = {}

    def target(self, size: str) -> CausalLM:
        """The target of a size; the one before is freed first."""
        if self.size != size:
            self.release()
            context = max(self.settings.prompt_tokens) + self.settings.max_new_tokens + 2 * BUCKETS[-1]
            self._target = load_random(size, self.settings.dtype, self.device, seed=self.config.seed, context=context).model
            self.size = size
        assert self._target is not None
        return self._target

    def served(self, size: str, runtime: str, prompt_tokens: int) -> CausalLM:
        """The target under a runtime, with room for prompts of a length; made once for both, since compiling takes long."""
        target = self.target(size)
        if runtime == "auto":
            return target
        if (prompt_tokens, runtime) not in self._served:
            capacity = prompt_tokens + self.settings.max_new_tokens + BUCKETS[-1]
            self._served[prompt_tokens, runtime] = CausalLM(target.model, target.context, runtime, capacity)
        return self._served[prompt_tokens, runtime]

    def learn(self, size: str, piece: dict[str, Any]) -> None:
        """Stores a result of the stage `curve`, from this run or from the earlier one that it continues."""
        if "points" in piece and piece["rows"] == self.settings.rows[0]:
            self.curves[size, piece["runtime"]] = {point["slots"]: point["ms"] / 1000 for point in piece["points"]}

    def release(self) -> None:
        """Frees every model, so that the next peak is the next size's own."""
        self.size, self._target, self._assistant, self._recorded, self._served = None, None, None, {}, {}
        gc.collect()
        if self.device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def assistant(self, size: str) -> Any:
        """The small model beside a target of this size."""
        target = self.target(size)
        if self._assistant is None:
            small = self.settings.assistants[size]
            limit = target.model.config.max_position_embeddings
            options = {"vocab_size": target.vocab_size, "context": limit, "seed": self.config.seed + 1}
            self._assistant = random_model(small, self.settings.dtype, self.device, **options)
        return self._assistant

    def material(self, size: str, prompt_tokens: int, *, ours: Sequence[str], peers: Sequence[str] = (), acceptance: float = 0.8) -> Material:
        """Prompts of one length and the ways to be measured on them, greedy; continuations are recorded where `ours` asks for them."""
        target, settings = self.target(size), self.settings
        oracle = {"acceptance": acceptance, "num_tokens": settings.num_tokens}
        chosen = {"ours": [*ours], "against": [*peers], "runtimes": settings.runtimes, "max_new_tokens": settings.max_new_tokens}
        changes = chosen | {"drafters": {"oracle": oracle, "draft_model": {"num_tokens": settings.num_tokens}}, "repeats": settings.repeats}
        changes |= {"warmup": 1, "batch": {"waves": 1, "repeats": settings.batch_repeats}}
        config: Any = OmegaConf.merge(self.config, changes)
        prompts = random_prompts(target, [prompt_tokens], settings.num_prompts, self.config.seed)
        limits = Limits(settings.max_new_tokens)
        material = Material(config, target, Sampler(0.0, seed=self.config.seed), make(config, "verifier"), limits, prompts)
        material.served = {runtime: self.served(size, runtime, prompt_tokens) for runtime in settings.runtimes}
        if {"oracle", "paid_oracle"} & {*ours}:
            if prompt_tokens not in self._recorded:
                self._recorded[prompt_tokens] = record(target, material.verifier, prompts, material.sampler, settings.max_new_tokens)
            material.recorded = self._recorded[prompt_tokens]
        if "paid_oracle" in ours:
            material.assistant = self.assistant(size)
        return material

    def peak(self) -> int | None:
        """Most bytes that the allocator of the GPU has held since this size was made."""
        return torch.cuda.max_memory_allocated() if self.device == "cuda" else None
