"""What is measured on one size of target; each function yields a result per piece, the most important first."""

from collections.abc import Iterator
from typing import Any

from experiments.analysis.theory import expected_tokens
from experiments.bench import slots as verification
from experiments.bench.batches import at_size
from experiments.bench.decoding import summed_up
from experiments.bench.gpu.lab import Lab
from experiments.bench.interleaved import interleave
from experiments.bench.material import PAID, Material
from experiments.bench.memory import must_hold
from experiments.bench.roles import make_roles, way_of
from experiments.bench.traffic import footprint, measure_bandwidth

BIG = 2**32  # bytes to copy on a GPU; on a CPU less


def bandwidth(lab: Lab) -> float:
    """Bytes per second, measured once."""
    if lab.bandwidth is None:
        found = measure_bandwidth(lab.target(lab.size or lab.settings.sizes[0]).device, BIG if lab.device == "cuda" else 2**26)
        lab.bandwidth = found.limit
    return lab.bandwidth


def curve(lab: Lab, size: str) -> Iterator[dict[str, Any]]:
    """The time of a forward over N slots, by N, after the first prompt length, under every runtime; one row first."""
    target, settings = lab.target(size), lab.settings
    reads, context = footprint(target.model), settings.prompt_tokens[0]
    yield {"bandwidth": bandwidth(lab), "weights": reads.weights, "kv_per_position": reads.kv_per_position, "peak_bytes": lab.peak()}
    slots = sorted({1, settings.num_tokens + 1, *settings.slots})
    for rows in settings.rows:
        counts = slots if rows == settings.rows[0] else [1, settings.num_tokens + 1]  # compiling for more shapes takes minutes
        for runtime in settings.runtimes:
            served = lab.served(size, runtime, context)
            bed = verification.Bed.make(f"{size}, {runtime}", served, rows=rows, context=context, seed=lab.config.seed, max_slots=max(slots))
            points = verification.curves([bed], counts, repeats=settings.curve_repeats, seed=lab.config.seed)[0]["points"]
            floor = 1000 * reads.forward(rows, context) / bandwidth(lab)
            held = must_hold(target.model, rows=rows, positions=context + 1 + max(counts), slots=max(counts))
            piece = {
                "runtime": served.runtime_kind,
                "rows": rows,
                "context": context,
                "ms_of_one": points[0]["ms"],
                "floor_ms": floor,
                "of_bandwidth": floor / points[0]["ms"],
                "points": points,
                "peak_bytes": lab.peak(),
                "must_hold": held,
            }
            lab.learn(size, piece)
            yield piece
            del bed


def timed_ways(lab: Lab, material: Material) -> list[dict[str, Any]]:
    """Figures of all ways of a material."""
    roles = make_roles(material)
    return summed_up(material, interleave(roles, material), roles, bandwidth(lab), examine=False)


def plain(lab: Lab, size: str) -> Iterator[dict[str, Any]]:
    """Plain decoding: ours under every runtime, the bare loop, `generate`, and `generate` compiled over a static cache."""
    for length in lab.settings.prompt_tokens:
        material = lab.material(size, length, ours=["none"], peers=lab.settings.peers)
        for way in timed_ways(lab, material):
            yield {"prompt_tokens": length, "peak_bytes": lab.peak(), **way}


def oracle(lab: Lab, size: str) -> Iterator[dict[str, Any]]:
    """A chain of set acceptance and free drafting, beside plain decoding; all rates only after the first prompt length."""
    for length in lab.settings.prompt_tokens:
        for acceptance in lab.settings.acceptances[: None if length == lab.settings.prompt_tokens[0] else 1]:
            yield from against_plain(lab, size, length, "oracle", acceptance)


def assistant(lab: Lab, size: str) -> Iterator[dict[str, Any]]:
    """The same with a random assistant whose forwards are paid for."""
    for length in lab.settings.prompt_tokens:
        for acceptance in lab.settings.acceptances[:1]:
            yield from against_plain(lab, size, length, PAID, acceptance)


def against_plain(lab: Lab, size: str, length: int, name: str, acceptance: float) -> Iterator[dict[str, Any]]:
    """A drafter and plain decoding under every runtime, interleaved; a line for each runtime."""
    ways = {way["way"]: way for way in timed_ways(lab, lab.material(size, length, ours=["none", name], acceptance=acceptance))}
    for runtime in lab.settings.runtimes:
        plain_way, drafting = ways[way_of("none", runtime)], ways[way_of(name, runtime)]
        speedup = plain_way["decode_ms_per_token"] / drafting["decode_ms_per_token"]
        cost = step_cost(lab, size, runtime) if length == lab.settings.prompt_tokens[0] else None
        promised = None if cost is None else drafting["tokens_per_forward"] / cost
        yield {
            "prompt_tokens": length,
            "runtime": runtime,
            "acceptance_set": acceptance,
            "num_tokens": lab.settings.num_tokens,
            "speedup": speedup,
            "speedup_promised": promised,  # by the cost curve, at the measured tokens per step, if drafting were free
            "of_promised": None if promised is None else speedup / promised,
            "tokens_per_step_expected": expected_tokens(acceptance, lab.settings.num_tokens),
            "plain_ms": plain_way["decode_ms_per_token"],
            "peak_bytes": lab.peak(),
            **drafting,
        }


def step_cost(lab: Lab, size: str, runtime: str) -> float | None:
    """A forward over a root and its draft in units of one over the root alone; None where no curve was measured."""
    seconds = lab.curves.get((size, runtime), {})
    return seconds[lab.settings.num_tokens + 1] / seconds[1] if {1, lab.settings.num_tokens + 1} <= set(seconds) else None


def batches(lab: Lab, size: str) -> Iterator[dict[str, Any]]:
    """Tokens per second of plain decoding and the oracle by batch size."""
    for length in reversed(lab.settings.prompt_tokens):
        material = lab.material(size, length, ours=["none", "oracle"], acceptance=lab.settings.acceptances[0])
        for rows in lab.settings.rows:
            for runtime, target in material.targets().items():
                for line in at_size(material, target, runtime, rows, rows):
                    yield {"prompt_tokens": length, "peak_bytes": lab.peak(), **line}
