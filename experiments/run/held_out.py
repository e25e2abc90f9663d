"""`draftproof held_out [SWEEP]`: the best run of a sweep over split=dev, decoded anew on split=test, which no choice has seen.

Takes what Optuna or a plain grid has left in a sweep's folder; without one, the newest sweep. The figures to report are these, not the sweep's: the
best of many trials owes part of its lead to luck. Exit codes: 0 done, 1 the run has failed its proof or the disk is full, 2 there is nothing to go
by, 130 stopped by Ctrl-C, 143 by SIGTERM.
"""

import logging
import sys
from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import Any

from experiments.analysis.tables import gain
from experiments.analysis.terminal import number, render
from experiments.parts.door.plain import plain
from experiments.parts.settings import Settings
from experiments.recording.files import check_folder
from experiments.recording.folder import newest_sweep, read_summaries, summary_files
from experiments.recording.proofs.proof import unproved
from experiments.recording.typed import NUMBER, misfit
from experiments.run.job import execute

log = logging.getLogger(__name__)
FOLDER = "held_out"


def best_run(sweep: Path) -> dict[str, Any]:
    """The summary with the largest objective among a sweep's finished and valid runs over split=dev. Raises ValueError if there is none."""
    files = [file for file in summary_files([sweep]) if file.parent != sweep / FOLDER]
    runs = [run for file in files for run in read_summaries([file])]
    kept = [run for run in runs if Settings.of(run["config"]).split == "dev" and run["valid"] and not run["interrupted"]]
    if not kept:
        raise ValueError(f"{sweep} has no finished, valid run over split=dev, so nothing was held out; sweep with split=dev (experiment=tune)")
    for run in kept:
        if (fault := misfit(run, {Settings.of(run["config"]).objective: NUMBER})) is not None:
            raise ValueError(f"{sweep}: the summary of a run lacks its objective ({fault}); remove it and run the same command again")
    return max(kept, key=lambda run: run[Settings.of(run["config"]).objective])


def held_out_config(run: dict[str, Any], sweep: Path) -> dict[str, Any]:
    """The run's own configuration, over the other prompts; a verdict that the sweep has on it holds for them too."""
    return run["config"] | {"split": "test", "proofs": [*Settings.of(run["config"]).proofs, str(sweep)]}


def settings(run: dict[str, Any]) -> str:
    """The drafter and its settings, in one line."""
    knobs = {name: value for name, value in run["config"]["drafter"].items() if name != "_target_" and not isinstance(value, dict)}
    return f"{run['labels']['drafter']} ({', '.join(f'{name}={value}' for name, value in knobs.items())})"


def report(best: dict[str, Any], test: dict[str, Any]) -> None:
    """Both sides in one table."""
    objective = Settings.of(best["config"]).objective
    rows = []
    for side, run in (("dev, chosen on", best), ("test, held out", test)):
        value = gain(run, objective) if f"{objective}_units" in run else number(run[objective])
        rows.append({"prompts": f"{side} ({run['num_prompts']})", objective: value, "tokens/step": number(run["tokens_per_step"])})
    render(rows, title=f"\nbest: {settings(best)}")


def decode_held_out(options: Namespace) -> int:
    """Decodes the other half with the best settings; 1 if the run has failed its proof. Raises ValueError where there is nothing to go by."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sweep = options.sweep or newest_sweep()
    if not sweep.is_dir():
        raise ValueError(f"{sweep} is no folder; give that of a sweep, such as multirun/2026-01-01/10-00-00")
    best = best_run(sweep)
    check_folder(sweep / FOLDER)
    test = execute(held_out_config(best, sweep), sweep / FOLDER)
    report(best, test)
    return int(unproved(test))


main = partial(plain, "held_out")

if __name__ == "__main__":
    sys.exit(main())
