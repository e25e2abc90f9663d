"""The mode `batch`: tokens per second of our ways by the rows that are decoded together, and the number of rows beyond which drafting stops paying.

Every number of rows decodes the same prompts. They come in groups as large as the largest batch, and a group is decoded with that many rows at a
time: prompts that wait take the places of those that finish. A group is what intervals are made over.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from experiments.analysis.speedup import Timed, compare
from experiments.analysis.terminal import render
from experiments.bench.figures import describe
from experiments.bench.material import Material
from experiments.bench.roles import note, way_of
from experiments.bench.set_acceptance import repeated
from experiments.parts.interleave import shuffled
from experiments.recording.clock import Stopwatch, timed
from spec import CausalLM, Drafter, GenerationStats, decode

PLAIN = "none"


@dataclass(frozen=True)
class Group:
    """Prompts that are decoded in one call, and their places among all, which key their noise."""

    places: list[int]
    prompts: list[list[int]]


@dataclass
class Spent:
    """What one way took, [repeats] for every group: seconds to the last token, the same without the prompts' own forwards, and tokens."""

    seconds: dict[int, list[float]] = field(default_factory=dict)
    decode_seconds: dict[int, list[float]] = field(default_factory=dict)
    tokens: dict[int, int] = field(default_factory=dict)
    stats: list[GenerationStats] = field(default_factory=list)

    def add(self, group: int, seconds: float, stats: GenerationStats) -> None:
        self.seconds.setdefault(group, []).append(seconds)
        self.decode_seconds.setdefault(group, []).append(stats.decode_seconds)
        self.tokens[group] = stats.num_tokens
        self.stats.append(stats)

    def timed(self, *, end_to_end: bool) -> Timed:
        """The median over repeats for every group."""
        held = self.seconds if end_to_end else self.decode_seconds
        return Timed(np.array([np.median(held[group]) for group in sorted(held)]), np.array([self.tokens[group] for group in sorted(held)]))


def batches(material: Material) -> dict[str, Any]:
    """A line per way and number of rows, and where each way stops paying. Raises ValueError where plain decoding is not among the ways."""
    settings = material.config.batch
    if PLAIN not in material.config.ours:
        raise ValueError(f"mode=batch compares with plain decoding: add {PLAIN} to ours={list(material.config.ours)}")
    found: list[dict[str, Any]] = []
    for runtime, target in material.targets().items():
        for num_rows in settings.sizes:
            found += at_size(material, target, runtime, num_rows, max(settings.sizes))
    ways = list(dict.fromkeys(line["way"] for line in found if not line["plain"]))
    return {"lines": found, "pays_until": {way: pays_until([line for line in found if line["way"] == way]) for way in ways}}


def groups_of(prompts: Sequence[list[int]], size: int, count: int) -> list[Group]:
    """`count` groups of `size` prompts, taken in turn: the next begins where the last has ended."""
    places = [list(range(number * size, (number + 1) * size)) for number in range(count)]
    return [Group(own, [prompts[place % len(prompts)] for place in own]) for own in places]


def at_size(material: Material, target: CausalLM, runtime: str, num_rows: int, group_size: int) -> list[dict[str, Any]]:
    """Every way at one number of rows, interleaved group by group; the first round warms up."""
    config, watch = material.config, Stopwatch(target.device)
    groups = groups_of(material.prompts, group_size, config.batch.waves)
    once = material.recorded
    if once is not None:
        material.recorded = repeated(once, group_size * len(groups))
    drafters = {name: material.drafter(name) for name in config.ours}
    material.recorded = once
    spent = {name: Spent() for name in drafters}
    for turn in range(config.batch.repeats + 1):
        for number, group in enumerate(groups):
            for name in shuffled(drafters, config.seed, num_rows, turn, number):
                made, took = timed(lambda name=name: run(material, target, drafters[name], group, num_rows), watch)  # noqa: B023  called at once
                if turn:
                    spent[name].add(number, took.seconds, made.stats)
    return [line(material, name, runtime, num_rows, group_size * len(groups), spent) for name in drafters]


def line(material: Material, name: str, runtime: str, num_rows: int, num_prompts: int, spent: dict[str, Spent]) -> dict[str, Any]:
    """What is recorded of one way: seconds of every group, and speeds over plain decoding, with the prompts' own forwards and without."""
    own, plain = spent[name], spent[PLAIN]
    total = GenerationStats.merged(own.stats)
    found: dict[str, Any] = {"way": way_of(name, runtime), "note": note(name, material), "plain": name == PLAIN}
    found |= {"rows": num_rows, "prompts": num_prompts}
    for prefix, end_to_end in (("", True), ("decode_", False)):
        here = own.timed(end_to_end=end_to_end)
        over = compare(plain.timed(end_to_end=end_to_end), here)
        found[f"{prefix}seconds"] = here.seconds.tolist()
        found[f"{prefix}tokens_per_second"] = float(here.tokens.sum() / here.seconds.sum())
        found |= {f"{prefix}speedup": over.ratio, f"{prefix}interval": over.interval, f"{prefix}units": over.units}
    found["tokens"] = sum(own.tokens.values())
    found |= {"tokens_per_step": total.tokens_per_step, "acceptance_rate": total.acceptance_rate}
    return found | {"drafted_per_step": total.num_drafted / max(total.num_steps, 1), "rows_live": total.num_steps / max(len(total.steps), 1)}


def run(material: Material, target: CausalLM, drafter: Drafter, group: Group, num_rows: int) -> Any:
    return decode(
        target,
        drafter,
        material.verifier,
        group.prompts,
        sampler=material.sampler,
        limits=material.limits,
        allow_lossy=material.config.allow_lossy,
        sequence_ids=group.places,
        batch_size=num_rows,
    )


def pays_until(lines: Sequence[dict[str, Any]]) -> int | None:
    """The largest number of rows up to which a way was faster than plain decoding at every one measured, prompts included, and beyond chance where
    there are intervals; None: it never was."""
    last = None
    for found in sorted(lines, key=lambda found: found["rows"]):
        if (found.get("interval") or [found["speedup"]])[0] <= 1:
            break
        last = found["rows"]
    return last


def cell(found: dict[str, Any], prefix: str = "") -> str:
    """Tokens per second, and in brackets times our own plain decoding by the same runtime, with the interval."""
    over = {"ratio": found[f"{prefix}speedup"], "interval": found.get(f"{prefix}interval"), "units": found.get(f"{prefix}units")}
    return f"{found[f'{prefix}tokens_per_second']:.0f} ({'1' if found['plain'] else describe(over)})"


def table(lines: Sequence[dict[str, Any]], names: dict[str, str] | None = None) -> list[dict[str, str]]:
    """A line per number of rows; for every way a column end to end and, where recorded, one decode-only. `names`: other names."""
    ways = names or {found["way"]: found["way"] for found in lines}
    rows = []
    for num_rows in dict.fromkeys(found["rows"] for found in lines):
        here = {found["way"]: found for found in lines if found["rows"] == num_rows}
        row = {"rows": str(num_rows)}
        for way, name in ways.items():
            row[f"{name}, end to end"] = cell(here[way]) if way in here else "-"
            if "decode_seconds" in lines[0]:
                row[f"{name}, decode-only"] = cell(here[way], "decode_") if way in here else "-"
        rows.append(row)
    return rows


def show(result: dict[str, Any]) -> None:
    """A line per number of rows, with what each way drafted."""
    lines, sizes = result["lines"], result["config"]["batch"]["sizes"]
    told = "tokens per second by rows decoded together; times our own plain decoding by the same runtime in brackets, 95 % intervals over groups"
    render(table(lines), title=f"{told} of prompts, the units")
    drafted = [{"rows": str(size), **{each["way"]: f"{each['drafted_per_step']:.2f}" for each in lines if each["rows"] == size}} for size in sizes]
    render(drafted, title="tokens drafted per step in a row")
    for way, last in result["pays_until"].items():
        told = "never pays" if last is None else f"pays at every size up to {last}" + (", the largest measured" if last == max(sizes) else "")
        print(f"{way}: {told}")
