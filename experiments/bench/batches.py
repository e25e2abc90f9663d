"""The mode `batch`: tokens per second of our ways at every batch size, and the size beyond which drafting stops paying."""

import statistics
from collections.abc import Sequence
from typing import Any

from experiments.analysis.terminal import render
from experiments.bench.material import Material
from experiments.bench.roles import note
from experiments.bench.set_acceptance import repeated
from experiments.parts.interleave import shuffled
from experiments.recording.clock import Stopwatch, timed
from spec import CausalLM, Drafter, decode

PLAIN = "none"


def batches(material: Material) -> dict[str, Any]:
    """A line per way and batch size, and where each way stops paying. Raises ValueError where plain decoding is not among the ways."""
    settings = material.config.batch
    if PLAIN not in material.config.ours:
        raise ValueError(f"mode=batch compares with plain decoding: add {PLAIN} to ours={list(material.config.ours)}")
    found: list[dict[str, Any]] = []
    for runtime, target in material.targets().items():
        for num_rows in settings.sizes:
            found += at_size(material, target, runtime, num_rows)
    ways = list(dict.fromkeys(line["way"] for line in found if not line["plain"]))
    return {"lines": found, "pays_until": {way: pays_until([line for line in found if line["way"] == way]) for way in ways}}


def at_size(material: Material, target: CausalLM, runtime: str, num_rows: int) -> list[dict[str, Any]]:
    """Every way at one batch size, interleaved; the first round warms up."""
    config, watch = material.config, Stopwatch(target.device)
    count = num_rows * config.batch.waves
    prompts = [material.prompts[index % len(material.prompts)] for index in range(count)]
    once, recorded = material.recorded, material.recorded
    if recorded is not None:
        material.recorded = repeated(recorded, count)
    drafters = {name: material.drafter(name) for name in config.ours}
    material.recorded = once
    seconds: dict[str, list[float]] = {name: [] for name in drafters}
    kept: dict[str, dict[str, Any]] = {}
    for turn in range(config.batch.repeats + 1):
        for name in shuffled(drafters, config.seed, num_rows, turn):
            made, spent = timed(lambda name=name: run(material, target, drafters[name], prompts, num_rows), watch)
            if turn:
                seconds[name].append(spent.seconds)
            stats = made.stats
            kept[name] = {"tokens": stats.num_tokens, "tokens_per_step": stats.tokens_per_step, "acceptance_rate": stats.acceptance_rate}
    plain = statistics.median(seconds[PLAIN])
    return [
        {
            "way": name if runtime == "auto" else f"{name}, {runtime}",
            "note": note(name, material),
            "plain": name == PLAIN,
            "rows": num_rows,
            "prompts": count,
            "seconds": seconds[name],
            "tokens_per_second": kept[name]["tokens"] / statistics.median(seconds[name]),
            "speedup": plain / statistics.median(seconds[name]) * kept[name]["tokens"] / kept[PLAIN]["tokens"],
            **kept[name],
        }
        for name in drafters
    ]


def run(material: Material, target: CausalLM, drafter: Drafter, prompts: Sequence[Sequence[int]], num_rows: int) -> Any:
    return decode(
        target,
        drafter,
        material.verifier,
        prompts,
        sampler=material.sampler,
        limits=material.limits,
        allow_lossy=material.config.allow_lossy,
        batch_size=num_rows,
    )


def pays_until(lines: Sequence[dict[str, Any]]) -> int | None:
    """The largest batch size measured up to which a way was faster than plain decoding at every size; None where it never was."""
    last = None
    for line in sorted(lines, key=lambda line: line["rows"]):
        if line["speedup"] <= 1:
            break
        last = line["rows"]
    return last


def show(result: dict[str, Any]) -> None:
    """A line per batch size, tokens per second by way; speedup over plain decoding in brackets."""
    ways = list(dict.fromkeys(line["way"] for line in result["lines"]))
    rows = []
    for num_rows in dict.fromkeys(line["rows"] for line in result["lines"]):
        cells = {line["way"]: f"{line['tokens_per_second']:.0f} ({line['speedup']:.2f})" for line in result["lines"] if line["rows"] == num_rows}
        rows.append({"rows": str(num_rows), **{way: cells.get(way, "-") for way in ways}})
    render(rows, title="tokens per second by rows decoded together, prefill included; times plain decoding in brackets")
    sizes = result["config"]["batch"]["sizes"]
    for way, last in result["pays_until"].items():
        told = "never pays" if last is None else f"pays at every size up to {last}" + (", the largest measured" if last == max(sizes) else "")
        print(f"{way}: {told}")
