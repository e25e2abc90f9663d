"""The battery from a configuration to `lossless.json`: what is judged, how hard, and the verdict."""

import inspect
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, ListConfig, OmegaConf

from experiments.analysis.summary import labels
from experiments.lossless.battery import Outcome, judge
from experiments.lossless.report import report
from experiments.lossless.subject import Effort, Subject
from experiments.parts.build import Parts, build, make
from experiments.parts.command import resolved
from experiments.parts.tasks import check_numbers, make_tasks
from experiments.parts.versions import case_of
from experiments.recording.files import write_atomically
from experiments.recording.identity import config_hash
from experiments.recording.machine import circumstances, load_average
from experiments.recording.proofs.verdict import record_of
from spec.arguments import real, whole
from spec.interfaces import Drafter

log = logging.getLogger(__name__)
MOST_TOKENS = "a whole number from 1 to 6, or null"


@dataclass(frozen=True)
class ConfiguredDrafter:
    """Makes the configured drafter: without a model the one for the target, always the same; with one a small one for a table model."""

    config: DictConfig
    own: Drafter

    def __call__(self, model: Any = None) -> Drafter:
        if model is None:
            return self.own
        config = self.config.copy()
        caps = {name: cap for name, cap in config.table.items() if config.drafter.get(name) is not None and _larger(config.drafter[name], cap)}
        settings = {**OmegaConf.to_container(config.drafter, resolve=True), **caps, "_partial_": True}  # pyright: ignore[reportGeneralTypeIssues]
        OmegaConf.set_struct(config, False)
        config.drafter = settings
        build_drafter = make(config, "drafter")
        takes_model = "model" in inspect.signature(build_drafter.func).parameters
        return build_drafter(model=model) if takes_model else build_drafter()


def _larger(value: Any, cap: Any) -> bool:
    return isinstance(value, type(cap)) and not isinstance(value, bool) and (isinstance(value, ListConfig) or value > cap)


def subject_of(config: DictConfig, parts: Parts) -> Subject:
    """What is judged. Raises ValueError for prompts that do not fit."""
    tasks = make_tasks(config, parts)
    prompts = [task.tokens[-config.prompt_tokens :] if config.prompt_tokens else task.tokens for task in tasks]
    model = parts.target.model
    small = sum(weights.numel() for weights in model.model.parameters()) <= config.max_float64
    return Subject(model, ConfiguredDrafter(config, parts.drafter), parts.verifier, parts.sampler, prompts, in_float64=small)


def execute(config: DictConfig, folder: Path) -> dict[str, Any]:
    """Runs the battery and writes `lossless.json` into the folder; returns what is in it. Raises ValueError for wrong input."""
    check_numbers(config)
    resolved(config)
    _effort(config)
    torch.set_num_threads(config.threads)
    return judge_parts(config, build(config), folder)


def judge_parts(config: DictConfig, parts: Parts, folder: Path) -> dict[str, Any]:
    """The same for parts that are built already; the drafter must be fresh."""
    plain, effort, model = resolved(config), _effort(config), parts.target.model
    subject, case = subject_of(config, parts), case_of(plain, model.device, model.dtype)
    provenance = {"config_hash": config_hash(plain), "seed": config.seed} | circumstances(model.device, model.dtype)
    verdict: Outcome = judge(subject, effort, lambda name: log.info("%s", name))
    provenance["load_average_after"] = load_average()
    result = verdict.to_json() | {"labels": labels(plain), "claims_exact": parts.verifier.exact, "provenance": provenance, "config": plain}
    result["record"] = record_of(result, case)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "lossless.json", json.dumps(result, indent=2) + "\n")
    report(result, folder)
    return result


def _effort(config: DictConfig) -> Effort:
    try:
        effort = Effort(**config.effort, long_tokens=config.max_new_tokens)
    except TypeError as error:
        raise ValueError(f"effort: {error}; see conf/effort/normal.yaml for what it takes") from error
    for name in ("samples", "looks", "batch", "long_texts", "long_batch"):
        whole(f"effort.{name}", getattr(effort, name), "a whole number of at least 1", 1)
    if effort.tokens is not None and whole("effort.tokens", effort.tokens, MOST_TOKENS, 1) > 6:
        raise ValueError(f"effort.tokens={effort.tokens}: give {MOST_TOKENS}")
    if not isinstance(effort.mutants, bool):
        raise ValueError(f"effort.mutants={effort.mutants}: give true or false")
    if config.prompt_tokens is not None:
        whole("prompt_tokens", config.prompt_tokens, "a whole number of at least 1, or null for all", 1)
    real("max_float64", config.max_float64, "a number of parameters", lambda number: number >= 0)
    for name in ("alpha", "power", "level", "long_power"):
        real(f"effort.{name}", getattr(effort, name), "a number between 0 and 1", lambda number: 0 < number < 1)
    return effort
