"""The mode `gpu`: everything worth knowing about a machine in one go, the most important first, in stages that each have a share of the time.

Targets have the shapes of real models and random weights. Acceptance is set, by replaying the target's own output, and every line says so; costs
are real. Results are JSON lines, written as they come: a run that is cut off loses its current piece only. A stage that does not fit gets a line.
"""

import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from transformers.utils.logging import disable_progress_bar

from experiments.bench.gpu import work as gpu_stages
from experiments.bench.gpu.checks import checks
from experiments.bench.gpu.lab import Lab
from experiments.bench.material import check_names
from experiments.parts.random_target import SIZES
from experiments.recording.machine import circumstances, load_average
from experiments.recording.moved import recorded
from spec.runtime import KINDS

log = logging.getLogger(__name__)
Work = Callable[[], Iterator[dict[str, Any]]]
BY_SIZE = {
    "curve": gpu_stages.curve,
    "plain": gpu_stages.plain,
    "oracle": gpu_stages.oracle,
    "assistant": gpu_stages.assistant,
    "batches": gpu_stages.batches,
}


@dataclass(frozen=True)
class Stage:
    """A piece of the run, which yields a result for each of its own pieces."""

    name: str
    work: Work


class Lines:
    """A file of JSON lines, each on the disk before the next piece of work begins."""

    def __init__(self, path: Path):
        self.path, self.started, self.written = path, time.perf_counter(), []
        path.parent.mkdir(parents=True, exist_ok=True)
        earlier = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self.before: list[dict[str, Any]] = [json.loads(line) for line in earlier]  # of an earlier run, which this one goes on from

    @property
    def elapsed(self) -> float:
        return time.perf_counter() - self.started

    def write(self, line: dict[str, Any]) -> None:
        line = json.loads(json.dumps({"at_seconds": round(self.elapsed, 1), **line}))
        self.written.append(line)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
        print(shortened(line), flush=True)


def run_stages(config: DictConfig, path: Path) -> dict[str, Any]:
    """Runs the stages into `path`, to which lines are added, until the budget is spent. Raises ValueError for settings that make no sense."""
    settings = config.gpu
    check_names("gpu.stages", settings.stages, ("checks", *BY_SIZE))
    check_names("gpu.sizes", settings.sizes, SIZES)
    for name in ("runtimes", "check_runtimes"):
        check_names(f"gpu.{name}", settings[name], KINDS)
    if missing := [size for size in settings.sizes if size not in settings.assistants]:
        raise ValueError(f"gpu.assistants names no assistant for {', '.join(missing)}; give one of {', '.join(SIZES)}")
    disable_progress_bar()
    lab, lines = Lab(config), Lines(path)
    for line in lines.before:
        if str(line["stage"]).startswith("curve "):
            lab.learn(line["stage"].removeprefix("curve "), line)
    device, dtype = torch.device(lab.device), getattr(torch, settings.dtype)
    lines.write({"stage": "start", "provenance": circumstances(device, dtype), "settings": recorded(OmegaConf.to_container(settings, resolve=True))})
    for stage in stages(lab):
        ends = lines.elapsed + settings.stage_seconds[stage.name.split()[0]]
        run_stage(stage, lines, min(ends, settings.budget_seconds))
    lines.write({"stage": "end", "load_average_after": load_average()})
    print(f"results in {path}", flush=True)
    return {"lines": lines.written}


def stages(lab: Lab) -> Iterator[Stage]:
    """In order of importance: without correct tokens no timing means anything; then size by size."""
    wanted = list(lab.settings.stages)
    if "checks" in wanted:
        yield Stage("checks", lambda: checks(lab))
    for size in lab.settings.sizes:
        for name in wanted:
            if name in BY_SIZE:
                yield Stage(f"{name} {size}", lambda name=name, size=size: BY_SIZE[name](lab, size))


def run_stage(stage: Stage, lines: Lines, ends: float) -> None:
    """Writes a line per piece, and begins none after `ends` seconds.

    What fails is written down and the run goes on: machine time is dear, and the other stages do not depend on it.
    """
    if lines.elapsed > ends:
        lines.write({"stage": stage.name, "skipped": "all of it: the time is spent"})
        return
    began, pieces = lines.elapsed, stage.work()
    while True:
        try:
            piece = next(pieces, None)
        except Exception as error:
            log.exception("stage %s", stage.name)
            lines.write({"stage": stage.name, "error": f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"})
            return
        if piece is None:
            lines.write({"stage": stage.name, "seconds": round(lines.elapsed - began, 1)})
            return
        lines.write({"stage": stage.name, **piece})
        if lines.elapsed > ends:
            lines.write({"stage": stage.name, "skipped": f"the rest of it: its time is spent, {lines.elapsed - began:.0f} s"})
            return


def shortened(line: dict[str, Any]) -> str:
    """A line for people: long lists stay in the file."""
    kept = {key: value for key, value in line.items() if not isinstance(value, (list, dict))}
    return " ".join(f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in kept.items())
