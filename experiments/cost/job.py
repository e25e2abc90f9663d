"""The cost job from a configuration to `cost.json`: recorded runs or a small sweep, calibration, timing, prediction."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from experiments.cost.calibrate import Calibration, Effort, calibrate
from experiments.cost.findings import Model
from experiments.cost.forwards import Forwarded, load_runs
from experiments.cost.plan import CostSettings, check_target, plan_cells
from experiments.cost.report import report, result_of
from experiments.cost.timing import DRAFTER, TARGET, time_cells
from experiments.parts.build import Parts, build, make, prompts_of
from experiments.parts.settings import Settings, resolved
from experiments.recording.files import write_atomically
from experiments.recording.identity import config_hash
from experiments.recording.machine import circumstances, load_average
from experiments.run import job as main_job
from spec.model import CausalLM

log = logging.getLogger(__name__)
OWN = ("runs", "gammas", "measure")  # settings of this job, which the main job does not know


def execute(config: DictConfig | Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Measures, predicts, compares; writes `cost.json` into the folder and returns what is in it.

    Raises ValueError for wrong input before any work.
    """
    plain = resolved(config)
    settings, own = Settings.of(plain), CostSettings.of(plain)
    runs = load_runs([Path(path) for path in own.runs]) if own.runs else []
    torch.set_num_threads(settings.threads)
    check_target(runs, plain)
    if not runs:
        runs = own_sweep(plain, own.gammas, folder)
    parts = build(plain, settings, prompts_of(plain, settings))
    target, measure = parts.target.model, own.measure
    provenance = {"config_hash": config_hash(plain), "seed": settings.seed} | circumstances(target.device, target.dtype)
    calibrations, assistants = {}, {}
    for setup in dict.fromkeys(run.setup for run in runs):
        rivals = [run for run in runs if run.setup == setup]
        log.info("calibrating %s", rivals[0].setup_label)
        served = parts_of(parts, rivals[0])
        calibrations[setup] = calibrate_setup(served, rivals, Effort(measure.rounds, measure.tokens, seed=settings.seed))
        assistants |= assistant_of(served)
    cells = plan_cells(measure, runs, {TARGET: target, **assistants})
    log.info("timing %d kinds of forward, %d times each", len(cells), measure.repeats)
    times = time_cells({TARGET: target, **assistants}, cells, measure.repeats, settings.seed)
    provenance["load_average_after"] = load_average()
    result = result_of(Model(times, calibrations, measure.resamples, settings.seed), runs, provenance) | {"config": plain}
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "cost.json", json.dumps(result, indent=1) + "\n")
    report(result)
    print(f"results in {folder / 'cost.json'}", flush=True)
    return result


def own_sweep(config: dict[str, Any], gammas: Sequence[int], folder: Path) -> list[Forwarded]:
    """The main job at every gamma, below the folder; what is there already is not done again."""
    main, folders = {name: value for name, value in config.items() if name not in OWN}, []
    for gamma in gammas:
        changes = {"num_tokens": gamma} if "num_tokens" in main["drafter"] else {}
        folders.append(folder / "sweep" / str(gamma))
        main_job.execute(main | {"drafter": main["drafter"] | changes}, folders[-1])
    return load_runs(folders)


def parts_of(parts: Parts, run: Forwarded) -> Parts:
    """The parts of a recorded run around the target that is loaded already."""
    made = {name: make(run.config, group) for name, group in (("drafter", "drafter"), ("verifier", "verifier"), ("sampler", "sampling"))}
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
