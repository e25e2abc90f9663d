"""The battery. `draftproof lossless`: does what a drafter, a verifier and a sampler put out follow the target's own distribution?

Takes the groups of the main job, with -m sweeps. `--holm FOLDER` judges the statistical checks of several runs anew, corrected for their number.
Exit codes: 0 passed, 1 failed, 2 the input or configuration is wrong, 130 stopped by Ctrl-C.
"""

import sys
from pathlib import Path

from omegaconf import DictConfig

from experiments.lossless.job import execute
from experiments.lossless.report import holm_report, print_holm
from experiments.parts.build import check_parts
from experiments.parts.command import entry


def job(config: DictConfig, folder: Path, sweep: Path | None) -> None:
    if execute(config, folder)["verdict"] != "pass" and sweep is None:
        raise SystemExit(1)


def judge_together(folders: list[Path]) -> int:
    """Holm's correction over the statistical checks of all runs in the folders; the exit code."""
    try:
        found = holm_report(folders)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print_holm(found)
    return 0 if all(run["verdict"] == "pass" for run in found) else 1


def judge_sweeps(sweeps: list[Path]) -> int:
    """Each sweep on its own; no verdict is no pass."""
    return max((judge_together([folder]) if any(folder.rglob("lossless.json")) else 1 for folder in sweeps), default=0)


judge = entry("lossless", job, judge_sweeps, before=check_parts, keeps_folder=True)


def main() -> None:
    if sys.argv[1:2] == ["--holm"]:
        sys.exit(judge_together([Path(name) for name in sys.argv[2:]]))
    judge()
