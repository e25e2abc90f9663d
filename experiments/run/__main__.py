"""The main job. `python -m experiments.run`: every prompt decoded by the method and by plain decoding, side by side, recorded as it goes.

Exit codes: 0 done; 1 a job of a sweep failed, a run failed its proof (or `certify=true` got none), or the disk is full; 2 the input or configuration
is wrong; 130 stopped by Ctrl-C. What was finished is kept, and the same command with `resume=true` goes on from there.
"""

import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from experiments.analysis.tables import print_comparison, print_failures
from experiments.parts.choices import check_choices
from experiments.parts.command import leaving_word, refuse, sweeps, swept_summaries
from experiments.recording.folder import read_summaries
from experiments.recording.proofs.proof import unproved
from experiments.recording.resume import resumed
from experiments.run.job import execute


def print_sweeps() -> None:
    """The comparison of what this process has swept, as far as it got."""
    for folder in sweeps():
        print(f"\nresults in {folder}")
        if any(folder.rglob("summary.json")):
            print_comparison(read_summaries([folder]))
        print_failures([folder])


@hydra.main(config_path="pkg://conf", config_name="config", version_base=None)
def job(config: DictConfig) -> float:
    """One run; returns its objective, which a sweeper may look at."""
    settings = HydraConfig.get()
    folder, swept = Path(settings.runtime.output_dir), settings.mode == RunMode.MULTIRUN
    with leaving_word(folder, swept):
        summary = execute(config, folder, Path(settings.sweep.dir).as_posix() if swept else None)
        if not swept and unproved(summary):
            raise SystemExit(1)
        return summary[config.objective]
    raise AssertionError("leaving_word lets every error pass on")


def main() -> None:
    """Entry point: checks the chosen options, hands over to Hydra, and turns what happens into an exit code."""
    if problem := check_choices(sys.argv[1:]):
        refuse(problem)
    if folders := resumed(sys.argv[1:]):
        print(f"going on: {' '.join(folders)}", file=sys.stderr)
    sys.argv += folders
    try:
        job()  # pyright: ignore[reportCallIssue]  Hydra fills in the configuration
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        print_sweeps()
    if any(unproved(summary) for summary in swept_summaries()):
        sys.exit(1)


if __name__ == "__main__":
    main()
