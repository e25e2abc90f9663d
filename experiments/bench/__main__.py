"""The entry point. `python -m experiments.bench`; settings in `conf/bench.yaml`, modes in the modules beside this one.

Exit codes: 0 done, 2 the input or configuration is wrong, 130 stopped by Ctrl-C.
"""

import json
import logging
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from experiments.bench import batches, decoding, gpu, memory, verification
from experiments.bench.clock import signs_of_load
from experiments.bench.material import check, gather
from experiments.build import refusing, start
from experiments.exactness_page import RECORDS
from experiments.jsonl import write_atomically
from experiments.provenance import circumstances, config_hash, load_average

log = logging.getLogger(__name__)
MODES = {"decode": decoding.decoding, "batch": batches.batches, "verify": verification.verification, "memory": memory.memory}
SHOW = {"decode": decoding.show, "batch": batches.show, "verify": verification.show, "memory": memory.show}


def execute(config: DictConfig, folder: Path) -> dict[str, Any]:
    """One run of a mode, shown and written; returns the result. Raises ValueError for wrong input before any work."""
    check(config)
    torch.set_num_threads(config.threads)
    before, settings = load_average(), OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(settings, dict)
    if config.mode == "gpu":
        recorded = RECORDS / f"gpu-{config.label or 'run'}-{datetime.now(UTC):%Y-%m-%d}.jsonl"
        return gpu.run_stages(config, recorded if config.record else folder / "gpu.jsonl")
    material = gather(config)
    start, process = time.perf_counter(), time.process_time()
    result = MODES[config.mode](material)
    seconds, process_seconds = time.perf_counter() - start, time.process_time() - process
    target = material.target
    provenance = {"config_hash": config_hash({str(key): value for key, value in settings.items()}), "seed": config.seed}
    provenance |= circumstances(target.device, target.dtype) | {"load_average_before": before, "load_average_after": load_average()}
    timed = result.get("timed_seconds", seconds), result.get("timed_process_seconds", process_seconds)  # without warm-up, where others compile for us
    waiting = timed[1] / timed[0] if target.device.type == "cpu" and config.threads == 1 else None
    load = signs_of_load(before, provenance["load_average_after"], os.cpu_count() or 1, config.threads, waiting)
    prompts = {"count": len(material.prompts), "lengths": [len(prompt) for prompt in material.prompts], "random": not has_text(config)}
    head = {"mode": config.mode, "label": label(config), "provenance": provenance, "config": settings, "prompts": prompts}
    result = json.loads(json.dumps(head | {"seconds": seconds, "process_seconds": process_seconds, "under_load": load} | result))
    write(result, config, folder)
    return result


def has_text(config: DictConfig) -> bool:
    return not config.target._target_.startswith("experiments.random_target.")


def label(config: DictConfig) -> str:
    """What a record is called."""
    if config.label:
        return str(config.label)
    name = str(config.target.name).rstrip("/").split("/")[-1] if has_text(config) else f"random-{config.target.name}"
    temperature = config.sampling.temperature
    return f"{config.mode}-{name}-{config.target.dtype}-{'greedy' if not temperature else f'T{temperature:g}'}"


def write(result: dict[str, Any], config: DictConfig, folder: Path) -> None:
    """Shows a result and puts it into the run's folder, or among the records."""
    SHOW[result["mode"]](result)
    for sign in result["under_load"]:
        print(f"UNDER LOAD, timings are worth little: {sign}")
    path = RECORDS / f"bench-{result['label']}-{datetime.now(UTC):%Y-%m-%d}.json" if config.record else folder / "bench.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(result, indent=1) + "\n")
    print(f"results in {path}", flush=True)


@hydra.main(config_path="pkg://conf", config_name="bench", version_base=None)
def job(config: DictConfig) -> None:
    with refusing():
        execute(config, Path(HydraConfig.get().runtime.output_dir))


def main() -> None:
    start(job)  # pyright: ignore[reportArgumentType]  Hydra fills in the configuration


if __name__ == "__main__":
    main()
