"""The battery from a configuration to `lossless.json`: settings -> parts -> subject -> checks -> verdict."""

import inspect
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from experiments.analysis.summary import labels
from experiments.lossless.battery import Outcome, judge
from experiments.lossless.report import report
from experiments.lossless.subject import Effort, Subject
from experiments.parts.build import Parts, build, make, prompts_of
from experiments.parts.settings import Settings, resolved
from experiments.parts.tasks import Encoder, make_tasks
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
class BatterySettings:
    """What the battery is told besides the settings of the main job; `conf/lossless.yaml`. Raises ValueError for values that make no sense."""

    effort: Effort
    table: Mapping[str, Any]
    prompt_tokens: int | None
    max_float64: float

    def __post_init__(self) -> None:
        effort = self.effort
        for name in ("samples", "looks", "batch", "long_texts", "long_batch"):
            whole(f"effort.{name}", getattr(effort, name), "a whole number of at least 1", 1)
        if effort.tokens is not None and whole("effort.tokens", effort.tokens, MOST_TOKENS, 1) > 6:
            raise ValueError(f"effort.tokens={effort.tokens}: give {MOST_TOKENS}")
        if not isinstance(effort.mutants, bool):
            raise ValueError(f"effort.mutants={effort.mutants}: give true or false")
        if self.prompt_tokens is not None:
            whole("prompt_tokens", self.prompt_tokens, "a whole number of at least 1, or null for all", 1)
        real("max_float64", self.max_float64, "a number of parameters", lambda number: number >= 0)
        for name in ("alpha", "power", "level", "long_power"):
            real(f"effort.{name}", getattr(effort, name), "a number between 0 and 1", lambda number: 0 < number < 1)

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "BatterySettings":
        """Those in a resolved configuration. Raises ValueError as above, and for an effort that does not exist."""
        try:
            effort = Effort(**config["effort"], long_tokens=config["max_new_tokens"])
        except TypeError as error:
            raise ValueError(f"effort: {error}; see conf/effort/normal.yaml for what it takes") from error
        return cls(effort, config["table"], config["prompt_tokens"], config["max_float64"])


@dataclass(frozen=True)
class ConfiguredDrafter:
    """Makes the configured drafter: without a model the one for the target, always the same; with one a small one for a table model."""

    config: Mapping[str, Any]
    own: Drafter
    largest: Mapping[str, Any]  # values of a small one's settings

    def __call__(self, model: Any = None) -> Drafter:
        if model is None:
            return self.own.by_nominal_costs()  # steps that are tried would take numbers that a check must not see taken
        asked = self.config["drafter"]
        caps = {name: cap for name, cap in self.largest.items() if asked.get(name) is not None and _larger(asked[name], cap)}
        build_drafter = make({**self.config, "drafter": {**asked, **caps, "_partial_": True}}, "drafter")
        takes_model = "model" in inspect.signature(build_drafter.func).parameters
        drafter: Drafter = build_drafter(model=model) if takes_model else build_drafter()
        return drafter.by_nominal_costs(self.largest.get("window" if "window" in asked else "num_tokens"))


def _larger(value: Any, cap: Any) -> bool:
    return isinstance(value, type(cap)) and not isinstance(value, bool) and (isinstance(value, list) or value > cap)


def subject_of(config: Mapping[str, Any], parts: Parts, settings: Settings, own: BatterySettings) -> Subject:
    """What is judged. Raises ValueError for prompts that do not fit."""
    tasks = make_tasks(parts.prompts, Encoder.of(settings, parts))
    prompts = [task.tokens[-own.prompt_tokens :] if own.prompt_tokens else task.tokens for task in tasks]
    model = parts.target.model
    small = sum(weights.numel() for weights in (*model.model.parameters(), *model.model.buffers())) <= own.max_float64
    return Subject(model, ConfiguredDrafter(config, parts.drafter, own.table), parts.verifier, parts.sampler, prompts, in_float64=small)


def execute(config: DictConfig | Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Runs the battery and writes `lossless.json` into the folder; returns what is in it. Raises ValueError for wrong input."""
    plain = resolved(config)
    settings = Settings.of(plain)
    BatterySettings.of(plain)  # what is wrong with them is said before any work
    torch.set_num_threads(settings.threads)
    return judge_parts(plain, build(plain, settings, prompts_of(plain, settings)), folder)


def judge_parts(config: dict[str, Any], parts: Parts, folder: Path) -> dict[str, Any]:
    """The same for parts that are built already, of a resolved configuration; the drafter must be fresh."""
    settings, own, model = Settings.of(config), BatterySettings.of(config), parts.target.model
    subject, case = subject_of(config, parts, settings, own), case_of(config, model.device, model.dtype, parts.drafter.checkpoints)
    provenance = {"config_hash": config_hash(config), "seed": settings.seed} | circumstances(model.device, model.dtype)
    verdict: Outcome = judge(subject, own.effort, lambda name: log.info("%s", name))
    provenance["load_average_after"] = load_average()
    result = verdict.to_json() | {"labels": labels(config), "claims_exact": parts.verifier.exact, "provenance": provenance, "config": config}
    result["record"] = record_of(result, case)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "lossless.json", json.dumps(result, indent=2) + "\n")
    report(result, folder)
    return result
