"""The settings of the cost job, checked, and the forwards that it therefore has to time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.cost.forwards import Forwarded
from experiments.cost.timing import CHAIN, TARGET, Cell, Shape
from experiments.recording.moved import renamed
from spec.model import CausalLM

EVERY_SLOT, GROWTH = 6, 1.35  # up to 6 slots each number is a knot, beyond that each knot is GROWTH times the last
LEAST = {"repeats": 1, "rounds": 1, "tokens": 2, "resamples": 0}


@dataclass(frozen=True)
class Measure:
    """What is timed and how often; what each is for stands in `conf/cost.yaml`."""

    repeats: int
    rounds: int
    tokens: int
    resamples: int
    slots: Sequence[int] | None = None
    contexts: Sequence[int] | None = None
    batches: Sequence[int] | None = None

    def __post_init__(self) -> None:
        for name, least in LEAST.items():
            _whole(f"measure.{name}", getattr(self, name), least)
        for name in ("slots", "contexts", "batches"):
            for value in getattr(self, name) or []:
                _whole(f"measure.{name}", value, 1)


@dataclass(frozen=True)
class CostSettings:
    """What this job is told besides the settings of the main job."""

    runs: Sequence[str] | None
    gammas: Sequence[int]
    measure: Measure

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "CostSettings":
        """Those in a resolved configuration. Raises ValueError for what makes no sense, or does not go with the drafter."""
        measure = Measure(**{part.name: config["measure"][part.name] for part in fields(Measure)})
        runs, gammas, drafter = config["runs"], config["gammas"], config["drafter"]
        if runs is not None and not isinstance(runs, list):
            raise ValueError(f"runs={runs}: give a list of run or sweep folders, 'runs=[multirun/2026-01-31/12-00-00]'")
        if not runs:
            if not isinstance(gammas, list) or not gammas:
                raise ValueError(f"gammas={gammas}: give a list of at least one length, 'gammas=[1,2,4,8]', or recorded runs (runs=[...])")
            for value in gammas:
                _whole("gammas", value, 1)
            if "num_tokens" not in drafter and len(gammas) > 1:
                raise ValueError(
                    f"{drafter['_target_']} has no num_tokens that could vary; give 'gammas=[1]' to predict and measure it as it is set, "
                    "or recorded runs (runs=[...])"
                )
        return cls(runs, gammas, measure)


def _whole(name: str, value: Any, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name}={value}: give whole numbers of at least {least}")


def check_target(runs: Sequence[Forwarded], config: dict[str, Any]) -> None:
    """Raises ValueError where a run's target, or how it was run, is not what is measured here."""
    asked = renamed(config["target"]) | {"threads": config["threads"]}
    for run in runs:
        held = run.config["target"] | {"threads": run.config["threads"]}
        differing = [name for name in sorted({*held, *asked}) if held.get(name) != asked.get(name)]
        if differing:
            there, here = (", ".join(f"{name}={side.get(name)}" for name in differing) for side in (held, asked))
            raise ValueError(f"{run.folder} is a run of another target ({there}; here {here}); give this job the same target settings and threads")


def plan_cells(measure: Measure, runs: Sequence[Forwarded], models: dict[str, CausalLM]) -> list[Cell]:
    """What to time: the runs' shapes and batches at the slots and contexts that occurred in them, or at those that `measure` asks for."""
    deepest: dict[tuple[Shape, int], int] = {}  # what must be scored besides root and scratch
    for run in runs:
        longest = max(int(run.method.drafted.max()), 0 if run.shape.tree else run.num_tokens or 0)
        for batch in {run.batch, *(measure.batches or [])}:
            for shape, drafted in ((CHAIN, 0), (run.shape, longest)):  # plain decoding drafts nothing
                deepest[shape, batch] = max(deepest.get((shape, batch), 0), drafted)
    contexts = list(measure.contexts or spread_of(np.concatenate([part.context for run in runs for part in (run.method, run.baseline)])))
    cells: set[Cell] = set()
    for (shape, batch), drafted in deepest.items():
        slots = {shape.scratch + number for number in (1, *(measure.slots or knots_up_to(1 + drafted)))}
        for context in contexts:
            cells |= {Cell(TARGET, shape, batch, _inside(context, number, models[TARGET], measure), number) for number in slots}
            cells |= {Cell(name, CHAIN, batch, _inside(context, 1, model, measure), 1) for name, model in models.items() if name != TARGET}
    return sorted(cells)


def _inside(context: int, slots: int, model: CausalLM, measure: Measure) -> int:
    """A context from a run, lowered until `slots` fit after it; one that was asked for in the settings stays, and is refused if it does not fit."""
    return context if measure.contexts else max(1, min(context, model.context - slots))


def knots_up_to(most: int) -> list[int]:
    """Numbers of slots: all small ones, then growing steps, the largest included."""
    found = list(range(1, min(most, EVERY_SLOT) + 1))
    while found[-1] < most:
        found.append(min(most, max(found[-1] + 1, round(found[-1] * GROWTH))))
    return found


def spread_of(contexts: NDArray) -> list[int]:
    """A short, a middling and a long context of those that occurred, at least 1."""
    return sorted({max(1, int(value)) for value in np.quantile(contexts, [0.05, 0.5, 0.95])})
