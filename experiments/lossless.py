"""The battery. `python -m experiments.lossless`: does what a drafter, a verifier and a sampler put out follow the target's own law?

Takes the groups of the main job, with -m sweeps. `--holm FOLDER` judges the statistical checks of several runs anew, corrected for their number.
Exit codes: 0 passed, 1 failed, 2 the input or configuration is wrong, 130 stopped by Ctrl-C.
"""

import inspect
import json
import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf

from experiments.build import Parts, build, check_choices, make, refuse
from experiments.exactness.battery import Verdict, judge
from experiments.exactness.checks import Effort, Subject
from experiments.exactness.sweeps import SWEEPS
from experiments.jsonl import write_atomically
from experiments.lossless_report import holm_report, print_holm, report
from experiments.proofs.settings import case_of
from experiments.proofs.verdict import record_of
from experiments.provenance import circumstances, config_hash, load_average
from experiments.run import leaving_word, resolved
from experiments.summary import labels
from experiments.tasks import check_numbers, make_tasks
from spec.arguments import real, whole
from spec.interfaces import Drafter

log = logging.getLogger(__name__)
MOST_TOKENS = "a whole number from 1 to 6, or null"
VERDICTS: list[bool] = []  # of the jobs that this process has done


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
    verdict: Verdict = judge(subject, effort, lambda name: log.info("%s", name))
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


@hydra.main(config_path="pkg://conf", config_name="lossless", version_base=None)
def job(config: DictConfig) -> None:
    settings = HydraConfig.get()
    folder, swept = Path(settings.runtime.output_dir), settings.mode == RunMode.MULTIRUN
    with leaving_word(folder, swept):
        VERDICTS.append(execute(config, folder)["verdict"] == "pass")


def judge_together(folders: list[Path]) -> int:
    """Holm's correction over the statistical checks of all runs in the folders; the exit code."""
    try:
        found = holm_report(folders)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print_holm(found)
    return 0 if all(run["verdict"] == "pass" for run in found) else 1


def main() -> None:
    """Entry point: checks the chosen options, hands over to Hydra, and turns what happens into an exit code."""
    if sys.argv[1:2] == ["--holm"]:
        sys.exit(judge_together([Path(name) for name in sys.argv[2:]]))
    if problem := check_choices(sys.argv[1:]):
        refuse(problem)
    VERDICTS.clear()
    together = 0
    try:
        job()  # pyright: ignore[reportCallIssue]  Hydra fills in the configuration
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        for folder in SWEEPS:
            together = max(together, judge_together([folder]) if any(folder.rglob("lossless.json")) else 1)  # no verdict is no pass
    sys.exit(together if SWEEPS else 0 if all(VERDICTS) else 1)


if __name__ == "__main__":
    main()
