"""The main job. `draftproof run`: every prompt decoded by the method and by plain decoding, side by side, recorded as it goes.

Exit codes: 0 done; 1 a job of a sweep failed, a run failed its proof (or `certify=true` got none), or the disk is full; 2 the input or configuration
is wrong; 130 stopped by Ctrl-C. What was finished is kept, and the same command with `resume=true` goes on from there.
"""

import sys
from pathlib import Path

from omegaconf import DictConfig

from experiments.analysis.results import read_results
from experiments.analysis.tables import print_comparison, print_failures
from experiments.parts.build import check_parts
from experiments.parts.command import entry
from experiments.recording.proofs.proof import unproved
from experiments.run.job import execute


def job(config: DictConfig, folder: Path, sweep: Path | None) -> float:
    """One run; returns its objective."""
    summary = execute(config, folder, sweep.as_posix() if sweep else None)
    if sweep is None and unproved(summary):
        raise SystemExit(1)
    return summary[config.objective]


def compare(sweeps: list[Path]) -> int:
    """Prints the comparison of what was swept, as far as it got; 1 where a run has failed its proof."""
    failed = False
    for folder in sweeps:
        if any(folder.rglob("summary.json")):
            print(f"\nresults in {folder}")
            try:
                summaries = [result.document for result in read_results([folder])]
            except ValueError as error:
                print(f"error: {error}", file=sys.stderr)
                failed = True
                continue
            print_comparison(summaries)
            failed |= any(unproved(summary) for summary in summaries)
        print_failures([folder])
    return int(failed)


main = entry("config", job, compare, before=check_parts, keeps_folder=True, resumes=True)
