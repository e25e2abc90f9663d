"""The cost job from a configuration to `cost.json`: recorded runs or a small sweep, calibration, timing, prediction."""

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf, open_dict

from experiments.cost.calibrate import Calibration, Effort, calibrate
from experiments.cost.findings import Model
from experiments.cost.forwards import Forwarded, load_runs
from experiments.cost.plan import check_settings, check_target, plan_cells
from experiments.cost.report import report, result_of
from experiments.cost.timing import DRAFTER, TARGET, time_cells
from experiments.parts.build import Parts, build, make
from experiments.parts.command import resolved
from experiments.parts.tasks import check_numbers
from experiments.recording.files import write_atomically
from experiments.recording.identity import config_hash
from experiments.recording.machine import circumstances, load_average
from experiments.run import job as main_job
from spec.model import CausalLM

log = logging.getLogger(__name__)
OWN = ("runs", "gammas", "measure")  # settings of this job, which the main job does not know


def execute(config: DictConfig, folder: Path) -> dict[str, Any]:
    """Measures, predicts, compares; writes `cost.json` into the folder and returns what is in it.

    Raises ValueError for wrong input before any work.
    """
    check_numbers(config)
    check_settings(config)
    plain, runs = resolved(config), load_runs([Path(path) for path in config.runs]) if config.runs else []
    torch.set_num_threads(config.threads)
    check_target(runs, plain)
    if not runs:
        runs = own_sweep(config, folder)
    parts = build(main_config(config))
    target = parts.target.model
    provenance = {"config_hash": config_hash(plain), "seed": config.seed} | circumstances(target.device, target.dtype)
    calibrations, assistants = {}, {}
    for setup in dict.fromkeys(run.setup for run in runs):
        rivals = [run for run in runs if run.setup == setup]
        log.info("calibrating %s", rivals[0].setup_label)
        own = parts_of(parts, rivals[0])
        calibrations[setup] = calibrate_setup(own, rivals, Effort(config.measure.rounds, config.measure.tokens, seed=config.seed))
        assistants |= assistant_of(own)
    cells = plan_cells(config.measure, runs, {TARGET: target, **assistants})
    log.info("timing %d kinds of forward, %d times each", len(cells), config.measure.repeats)
    times = time_cells({TARGET: target, **assistants}, cells, config.measure.repeats, config.seed)
    provenance["load_average_after"] = load_average()
    result = result_of(Model(times, calibrations, config.measure.resamples, config.seed), runs, provenance) | {"config": plain}
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "cost.json", json.dumps(result, indent=1) + "\n")
    report(result)
    print(f"results in {folder / 'cost.json'}", flush=True)
    return result


def main_config(config: DictConfig, **changes: Any) -> DictConfig:
    """The configuration as the main job takes it, with changed settings of the drafter."""
    made = config.copy()
    with open_dict(made):
        for name in OWN:
            made.pop(name, None)
        for name, value in changes.items():
            made.drafter[name] = value
    return made


def own_sweep(config: DictConfig, folder: Path) -> list[Forwarded]:
    """The main job at every gamma, below the folder; what is there already is not done again."""
    folders = []
    for gamma in config.gammas:
        changes = {"num_tokens": gamma} if "num_tokens" in config.drafter else {}
        folders.append(folder / "sweep" / str(gamma))
        main_job.execute(main_config(config, **changes), folders[-1])
    return load_runs(folders)


def parts_of(parts: Parts, run: Forwarded) -> Parts:
    """The parts of a recorded run around the target that is loaded already."""
    config = OmegaConf.create(run.config)
    assert isinstance(config, DictConfig)
    made = {name: make(config, group) for name, group in (("drafter", "drafter"), ("verifier", "verifier"), ("sampler", "sampling"))}
    own = replace(parts, **made)
    own.drafter.attach(own.target.model)
    return own


def calibrate_setup(parts: Parts, runs: Sequence[Forwarded], effort: Effort) -> Calibration:
    """Calibrates on the runs' own prompts at the shortest and the longest recorded length."""
    lengths = sorted({run.num_tokens or 1 for run in runs})
    return calibrate(parts, runs[0].prompts, sorted({lengths[0], lengths[-1]}), effort.at(runs[0].batch))


def assistant_of(parts: Parts) -> dict[str, CausalLM]:
    """The drafter's own models by name."""
    names = parts.drafter.checkpoints
    return {f"{DRAFTER} {names.get(role)}": model for role, model in parts.drafter.models.items()}
