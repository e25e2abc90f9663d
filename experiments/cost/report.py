"""The cost model's result: one dictionary for `cost.json` (tables of rows, ready for plots) and the tables and sentences printed from it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.analysis.summary import BUSY
from experiments.analysis.terminal import number, percent, render
from experiments.cost.findings import (
    TOLERANCE,
    Model,
    Row,
    curve_rows,
    forward_rows,
    gamma_rows,
    median_error,
    missing,
    plain_curve,
    run_rows,
    theory_rows,
)
from experiments.cost.forwards import Forwarded
from experiments.cost.timing import CHAIN

SHOWN_ACCEPTANCES, SHOWN_COSTS = (0.3, 0.5, 0.7, 0.8, 0.9), (0.02, 0.1, 0.3)  # of the theory's table, in print

BRACKETS = ", in brackets the middle 95 % of draws for what is predicted, a 95 % interval for what was measured"


def result_of(model: Model, runs: Sequence[Forwarded], provenance: dict[str, Any]) -> dict[str, Any]:
    """Everything that was found, as JSON takes it. Times are seconds."""
    compared = run_rows(model, runs)
    curves, best = gamma_rows(model, runs)
    context = float(np.median(np.concatenate([run.method.context for run in runs])))
    forwards = [
        {
            "shape": str(shape),
            "batch": batch,
            "slots": curve.knots.tolist(),
            "seconds": curve.base.tolist(),
            "per_1000_cached": curve.per_cached,
            "per_slot_and_1000_cached": curve.per_slot_cached,
        }
        for (shape, batch), curve in sorted(model.costs.forward.items())
    ]
    return {
        "median_error": median_error(compared),
        "median_error_from_one_run": median_error(curves),
        "missing": missing(compared),
        "warnings": doubts(runs, provenance),
        "best": best,
        "runs": compared,
        "gamma_curve": curves,
        "forwards": forward_rows(model),
        "forward_curves": forwards,
        "step_curves": curve_rows(model, runs),
        "theory": theory_rows(plain_curve(model), context) if CHAIN in {shape for shape, _ in model.costs.forward} else [],
        "provenance": provenance,
    }


def doubts(runs: Sequence[Forwarded], provenance: dict[str, Any]) -> list[str]:
    """Reasons to read the comparison with care."""
    found = []
    loads = [provenance.get(name) or 0.0 for name in ("load_average_before", "load_average_after")]
    if provenance["device"] == "cpu" and max(loads) > max(BUSY * (provenance["cpu_count"] or 1), provenance["threads"] + BUSY):
        found.append(f"the machine was busy (load average {max(loads):.2f} on {provenance['cpu_count']} cores): times may be off")
    for run in runs:
        there = run.summary["provenance"]
        differing = [f"{name} {there.get(name)!r}" for name in ("device", "cpu", "dtype") if there.get(name) != provenance.get(name)]
        if differing:
            found.append(f"{run.folder} was recorded elsewhere ({', '.join(differing)}): its measured speedup is not this machine's")
        elif there["versions"] != provenance["versions"] or there["git_commit"] != provenance["git_commit"]:
            found.append(f"{run.folder} was recorded with other versions")
    return found


def report(result: dict[str, Any]) -> None:
    """Prints the tables and what must be read with them."""
    render(_forward_table(result), title="one forward of the target, ms (fitted)")
    print()
    render(_curve_table(result), title="outside the target's forward, ms")
    print()
    render(
        _run_table(result),
        title=f"decode-only speedup of the runs, by their own steps{BRACKETS}; ms per step predicted / recorded; "
        "pace: recorded over timed forward of plain decoding",
    )
    if result["gamma_curve"]:
        print()
        render(_gamma_table(result), title=f"decode-only speedup by gamma, from the acceptance of the longest drafts alone{BRACKETS}")
    print()
    render(_theory_table(result), title="best gamma for equal acceptance at all positions: with free verification / with the measured one")
    print("\n".join(["", *sentences(result)]), flush=True)


def sentences(result: dict[str, Any]) -> list[str]:
    """The findings in words."""
    found = []
    for row in result["best"]:
        reach = "" if row["gamma_interval"] is None else " [{}, {}]".format(*row["gamma_interval"])
        open_end = ", the longest that was recorded: record longer drafts to see more" if row["at_the_end"] else ""
        beside = "" if row["measured_gamma"] is None else f"; measured best {row['measured_gamma']} with {row['measured']:.2f}"
        verdict = f"best gamma {row['gamma']}{reach} with {row['predicted']:.2f}{open_end}" if row["gamma"] else f"drafting does not pay{reach}"
        found.append(f"{row['run']}: predicted {verdict}{beside}")
    error = result["median_error"]
    found.append(f"predicted against measured: median error {error:.1%} over {len(result['runs'])} runs by their own steps")
    if result["median_error_from_one_run"] is not None:
        found[-1] += f", {result['median_error_from_one_run']:.1%} from the acceptance of one run"
    if error > TOLERANCE:
        found.append(f"that is more than {TOLERANCE:.0%}; what is missing:")
    return found + [f"off by more than {TOLERANCE:.0%}: {text}" for text in result["missing"]] + [f"warning: {text}" for text in result["warnings"]]


def _milliseconds(seconds: float | None) -> str:
    return number(None if seconds is None else 1000 * seconds)


def _forward_table(result: dict[str, Any]) -> list[Row]:
    rows = []
    for found in result["forward_curves"]:
        chosen = [place for place, slots in enumerate(found["slots"]) if place < 3 or place % 2 == 0 or slots == found["slots"][-1]]
        curve = "  ".join(f"{found['slots'][place]:.0f}: {1000 * found['seconds'][place]:.2f}" for place in chosen)
        row = {"shape": found["shape"], "batch": str(found["batch"]), "slots: ms": curve}
        row |= {"+ per 1000 cached": _milliseconds(found["per_1000_cached"])}
        rows.append(row | {"and per slot": _milliseconds(found["per_slot_and_1000_cached"])})
    return rows


def _curve_table(result: dict[str, Any]) -> list[Row]:
    return [
        {
            "setup": row["run"],
            "draft": f"{_milliseconds(row['draft_per_step'])} + {_milliseconds(row['draft_per_token'])} per token",
            "drafter's bare forward": _milliseconds(row["drafter_forward"]),
            "rest": f"{_milliseconds(row['rest_per_step'])} + {_milliseconds(row['rest_per_token'])} per token",
            "rest, plain decoding": _milliseconds(row["plain_rest"]),
        }
        for row in result["step_curves"]
    ]


def _with_interval(value: float | None, spread: Sequence[float] | None) -> str:
    return number(value) + ("" if spread is None or value is None else f" [{spread[0]:.2f}, {spread[1]:.2f}]")


def _run_table(result: dict[str, Any]) -> list[Row]:
    rows = []
    for run in result["runs"]:
        row = {"run": run["run"], "predicted": _with_interval(run["predicted"], run["predicted_interval"])}
        row |= {"measured": _with_interval(run["measured"], run["measured_interval"]), "error": f"{run['error']:+.1%}"}
        plain = next(phase for phase in run["phases"] if (phase["role"], phase["phase"]) == ("plain", "target"))
        row["pace"] = number(plain["at_pace"] / plain["predicted"])
        for phase in run["phases"]:
            if phase["role"] == "method" or phase["phase"] == "target":
                name = phase["phase"] if phase["role"] == "method" else "plain target"
                row[f"{name}, ms"] = f"{_milliseconds(phase['predicted'])} / {_milliseconds(phase['recorded'])}"
        rows.append(row)
    return rows


def _gamma_table(result: dict[str, Any]) -> list[Row]:
    return [
        {
            "setup": row["run"],
            "gamma": str(row["gamma"]),
            "tokens/step": number(row["tokens_per_step"]),
            "predicted": _with_interval(row["predicted"], row["predicted_interval"]),
            "measured": _with_interval(row["measured"], row["measured_interval"]),
            "error": "-" if row["error"] is None else f"{row['error']:+.1%}",
        }
        for row in result["gamma_curve"]
    ]


def _theory_table(result: dict[str, Any]) -> list[Row]:
    found = {(row["acceptance"], row["draft_cost"], row["verification"]): row for row in result["theory"]}
    rows = []
    for acceptance in SHOWN_ACCEPTANCES:
        row = {"acceptance": percent(acceptance)}
        for cost in SHOWN_COSTS:
            free, measured = (found[acceptance, cost, name] for name in ("free", "measured"))
            row[f"drafter costs {cost:g}"] = f"{free['gamma']} ({free['speedup']:.2f}) / {measured['gamma']} ({measured['speedup']:.2f})"
        rows.append(row)
    return rows
