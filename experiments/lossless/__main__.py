"""The battery. `python -m experiments.lossless`: does what a drafter, a verifier and a sampler put out follow the target's own law?

Takes the groups of the main job, with -m sweeps. `--holm FOLDER` judges the statistical checks of several runs anew, corrected for their number.
Exit codes: 0 passed, 1 failed, 2 the input or configuration is wrong, 130 stopped by Ctrl-C.
"""

import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from experiments.lossless.job import execute
from experiments.lossless.report import holm_report, print_holm
from experiments.parts.choices import check_choices
from experiments.parts.command import leaving_word, refuse, sweeps

VERDICTS: list[bool] = []  # of the jobs that this process has done


@hydra.main(config_path="pkg://conf", config_name="lossless", version_base=None)
def job(config: DictConfig) -> None:
    settings = HydraConfig.get()
    folder, swept = Path(settings.runtime.output_dir), settings.mode == RunMode.MULTIRUN
    with leaving_word(folder, swept):
        VERDICTS.append(execute(config, folder)["verdict"] == "pass")


def judge_together(folders: list[Path]) -> int:
    """Holm's correction over the statistical checks of all runs in the folders; the exit code."""
    try:
        found = holm_report(folders)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print_holm(found)
    return 0 if all(run["verdict"] == "pass" for run in found) else 1


def main() -> None:
    """Entry point: checks the chosen options, hands over to Hydra, and turns what happens into an exit code."""
    if sys.argv[1:2] == ["--holm"]:
        sys.exit(judge_together([Path(name) for name in sys.argv[2:]]))
    if problem := check_choices(sys.argv[1:]):
        refuse(problem)
    VERDICTS.clear()
    together = 0
    try:
        job()  # pyright: ignore[reportCallIssue]  Hydra fills in the configuration
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        for folder in sweeps():
            together = max(together, judge_together([folder]) if any(folder.rglob("lossless.json")) else 1)  # no verdict is no pass
    sys.exit(together if sweeps() else 0 if all(VERDICTS) else 1)


if __name__ == "__main__":
    main()
