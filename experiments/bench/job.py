"""A run of the benchmark: material gathered, timed by the mode that was asked for, shown and written."""

import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from experiments.bench import batches, decoding, memory, slots, storage, verifier_cost
from experiments.bench.gpu import stages
from experiments.bench.material import check, gather
from experiments.recording.clock import signs_of_load
from experiments.recording.files import write_atomically
from experiments.recording.identity import config_hash
from experiments.recording.machine import circumstances, load_average
from experiments.recording.moved import place_of, recorded
from experiments.recording.published import RECORDS, refuse_changed_code

MODES = {
    "decode": decoding.decoding,
    "batch": batches.batches,
    "verify": slots.verification,
    "verifiers": verifier_cost.verifier_cost,
    "memory": memory.memory,
    "store": storage.stores,
}
SHOW = {
    "decode": decoding.show,
    "batch": batches.show,
    "verify": slots.show,
    "verifiers": verifier_cost.show,
    "memory": memory.show,
    "store": storage.show,
}


def execute(config: DictConfig, folder: Path) -> dict[str, Any]:
    """One run of a mode, shown and written; returns the result. Raises ValueError for wrong input before any work."""
    check(config)
    if config.record:
        refuse_changed_code(RECORDS)
    torch.set_num_threads(config.threads)
    before, settings = load_average(), recorded(OmegaConf.to_container(config, resolve=True, throw_on_missing=True))
    assert isinstance(settings, dict)
    if config.mode == "gpu":
        kept = RECORDS / f"gpu-{config.label or 'run'}-{datetime.now(UTC):%Y-%m-%d}.jsonl"
        return stages.run_stages(config, kept if config.record else folder / "gpu.jsonl")
    material = gather(config)
    start, process = time.perf_counter(), time.process_time()
    result = MODES[config.mode](material)
    seconds, process_seconds = time.perf_counter() - start, time.process_time() - process
    target = material.target
    provenance = {"config_hash": config_hash({str(key): value for key, value in settings.items()}), "seed": config.seed}
    dtype = torch.float32 if config.mode == "verifiers" else target.dtype  # that mode takes nothing of the target but its device
    provenance |= circumstances(target.device, dtype) | {"load_average_before": before, "load_average_after": load_average()}
    timed = result.get("timed_seconds", seconds), result.get("timed_process_seconds", process_seconds)  # without warm-up, where others compile for us
    waiting = timed[1] / timed[0] if target.device.type == "cpu" and config.threads == 1 else None
    load = signs_of_load(before, provenance["load_average_after"], os.cpu_count() or 1, config.threads, waiting)
    prompts = {"count": len(material.prompts), "lengths": [len(prompt) for prompt in material.prompts], "random": not has_text(config)}
    head = {"mode": config.mode, "label": label(config), "provenance": provenance, "config": settings, "prompts": prompts}
    result = json.loads(json.dumps(head | {"seconds": seconds, "process_seconds": process_seconds, "under_load": load} | result))
    write(result, config, folder)
    return result


def has_text(config: DictConfig) -> bool:
    return not place_of(config.target._target_).startswith(place_of("experiments.parts.random_target."))


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
    name = "verification-cost" if config.mode == "verifiers" else f"bench-{result['label']}"  # the first is shown on a page of its own
    path = RECORDS / f"{name}-{datetime.now(UTC):%Y-%m-%d}.json" if config.record else folder / "bench.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(result, indent=1) + "\n")
    print(f"results in {path}", flush=True)
