"""The mode `decode`: every role on the same prompts, one prompt at a time, with its ratio to every peer."""

from collections.abc import Sequence
from typing import Any

from experiments.analysis.terminal import Row, render
from experiments.bench.figures import describe, figures, gains, identity, ratios
from experiments.bench.interleaved import Rounds, interleave
from experiments.bench.material import Material
from experiments.bench.roles import make_roles
from experiments.bench.traffic import footprint, measure_bandwidth
from experiments.parts.peers.greedy import GreedyCheck
from experiments.parts.roles import Role


def decoding(material: Material) -> dict[str, Any]:
    """Figures of every role, and what all of them stand on."""
    roles = make_roles(material)
    bandwidth = measure_bandwidth(material.target.device)
    rounds = interleave(roles, material)
    spent = [run.spent for runs in rounds.runs.values() for run in runs]
    return {
        "bandwidth": {"read": bandwidth.read, "copy": bandwidth.copy},
        "timed_seconds": sum(part.seconds for part in spent),
        "timed_process_seconds": sum(part.process_seconds for part in spent),
        "graphs_compiled_late": rounds.graphs_compiled_late,
        "ways": summed_up(material, rounds, roles, bandwidth.limit),
    }


def summed_up(material: Material, rounds: Rounds, roles: Sequence[Role], limit: float, *, examine: bool = True) -> list[dict[str, Any]]:
    """Figures of every role, in their order; greedy answers are held against `generate`'s if they are to be examined, which takes a float32 copy."""
    prints = {"target": footprint(material.model)}
    if material.assistant is not None:
        prints["drafter"] = footprint(material.assistant)
    lengths = [len(prompt) for prompt in material.prompts]
    check = GreedyCheck(material.model, material.prompts, material.limits.max_new_tokens) if material.sampler.greedy and examine else None
    dtype = str(material.target.dtype).removeprefix("torch.")
    found = []
    for role in roles:
        row = figures(role, rounds, lengths, prints, limit)
        found.append(row | {"greedy": identity(check, rounds.runs[role.name], dtype) if check is not None else None})
    return [row | {"ratios": ratios(row, found)} | gains(found, row) for row in found]


def show(result: dict[str, Any]) -> None:
    """Four tables: speed, where the time went, both gains, ratios to peers."""
    ways = result["ways"]
    render([speed_row(way) for way in ways], title="speed; ms per token end to end (with the prompt's own forward), medians over prompts")
    print()
    render([phase_row(way) for way in ways if "phase_ms_per_token" in way], title="ours by phase, ms per token")
    print()
    over = f"{len(ways[0]['seconds_by_prompt'])} units (prompts)" if ways else ""
    render(gain_rows(ways), title=f"gains end to end, 95 % intervals over {over}")
    print()
    peers = [way["way"] for way in ways if not way["ours"]]
    if peers:
        render(
            [{"way": way["way"]} | {peer: describe(way["ratios"][peer]) if peer in way["ratios"] else "1" for peer in peers} for way in ways],
            title=f"times as fast as each peer, end to end, 95 % intervals over {over}",
        )


def gain_rows(ways: Sequence[dict[str, Any]]) -> list[Row]:
    """What speculation gains and what a user gains, a line per way."""
    fastest = next((way["fastest_plain"] for way in ways), None) or "none was timed"
    return [
        {
            "way": way["way"],
            "over our own plain decoding, same runtime": describe(way["over_own_plain"]),
            f"over the fastest plain decoding ({fastest})": describe(way["over_fastest_plain"]),
        }
        for way in ways
    ]


def speed_row(way: dict[str, Any]) -> Row:
    """A line of the first table."""

    def shown(key: str, form: str) -> str:
        return "-" if way[key] is None else format(way[key], form)

    greedy = way["greedy"]
    return {
        "way": way["way"] + (f" ({way['note']})" if way["note"] else ""),
        "ms/token": shown("ms_per_token", ".2f"),
        "process": shown("process_ms_per_token", ".2f"),
        "decode only": shown("decode_ms_per_token", ".2f"),
        "tokens/forward": shown("tokens_per_forward", ".2f"),
        "outside forwards": shown("outside_forwards", ".1%"),
        "of steps": shown("outside_forwards_of_steps", ".1%"),
        "MB/token": "-" if way["bytes_per_token"] is None else f"{way['bytes_per_token'] / 1e6:.1f}",
        "of bandwidth": shown("of_bandwidth", ".0%"),
        "first round, s": f"{way['warmup_seconds'][0]:.1f}" if way["warmup_seconds"] else "-",
        "as generate": "-" if greedy is None else f"{greedy['identical']}/{greedy['compared']}" + (" BUG" if greedy["unexplained"] else ""),
    }


def phase_row(way: dict[str, Any]) -> Row:
    """A line of the second table."""
    accepted = way["acceptance_rate"]
    cells = {phase: f"{spent:.3f}" for phase, spent in way["phase_ms_per_token"].items()}
    return {"way": way["way"], "accepted": "-" if accepted is None else f"{accepted:.0%}", **cells}
