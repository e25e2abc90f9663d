"""`python -m experiments.run.track FOLDER ...`: writes the W&B runs of recorded runs again, from their own files, tracked before or not.

Goes through run folders or whole sweeps, finished or not. A run keeps its id, so online it replaces what W&B has of it; offline a new folder appears
beside older ones. Exit codes: 0 done, 1 W&B failed for a run, 2 a folder is not a run or is being written to.
"""

import argparse
import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from transformers import AutoTokenizer

from experiments.analysis.summary import labels
from experiments.parts.tracking.identity import remembered
from experiments.parts.tracking.wandb import WandbTracking
from experiments.recording.files import read_rows
from experiments.recording.folder import run_folders, summary_of
from experiments.recording.identity import lock
from experiments.recording.record import Pair, read_pairs
from spec.model import resolve_name

log = logging.getLogger(__name__)
KEPT = ("mode", "project", "entity", "group", "name", "tags", "job_type")  # settings of the run's own tracking that hold again


@dataclass(frozen=True)
class RecordedRun:
    """What a run's folder holds: finished prompts in order, every step, and the summary if it fits them."""

    folder: Path
    config: dict[str, Any]
    pairs: list[Pair]
    steps: list[dict[str, Any]]
    summary: dict[str, Any] | None

    @staticmethod
    def read(folder: Path) -> "RecordedRun":
        """Raises ValueError if the folder is not that of a run, or holds no finished prompt."""
        for name in ("config.yaml", "manifest.json"):
            if not (folder / name).exists():
                raise ValueError(f"{folder} holds no {name}; give a folder that python -m experiments.run has written")
        config: Any = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
        if missing := {"target", "drafter", "sampling", "data"} - set(config):
            raise ValueError(f"{folder}/config.yaml has no {', '.join(sorted(missing))}; give a folder that python -m experiments.run has written")
        pairs = read_pairs(folder / "records.jsonl")
        if not pairs:
            raise ValueError(f"{folder} holds no finished prompt yet; run it again and track it then")
        return RecordedRun(folder, config, pairs, read_rows(folder / "steps.jsonl"), summary_of(folder, pairs))

    @property
    def labels(self) -> dict[str, str]:
        """As the run itself gave them, or made again from configuration and summary."""
        if held := remembered(self.folder).get("labels"):
            return held
        device = self.summary["provenance"]["device"] if self.summary else None
        return labels(self.config) | ({"device": device if device in ("cpu", "mps") else "cuda"} if device else {})

    def tokenizer(self) -> Any:
        """The target's tokenizer; None, with a warning, where it cannot be loaded."""
        name = self.config["target"].get("name")
        try:
            return AutoTokenizer.from_pretrained(resolve_name(name))
        except (OSError, ValueError, ImportError, TypeError) as error:
            log.warning("%s: no tokenizer %r (%s); the table has no coloured text", self.folder, name, str(error).strip().split("\n")[0])
            return None


def rebuild(run: RecordedRun, changes: dict[str, Any]) -> WandbTracking:
    """Tracks a recorded run as the main job would have. `changes` are settings of `WandbTracking` that replace the run's own."""
    own = run.config.get("tracking", {})
    settings = {name: own[name] for name in KEPT if name in own and own[name] != "disabled"}
    settings |= {name: value for name, value in remembered(run.folder).items() if name in KEPT}
    tracker = WandbTracking(**(settings | changes))
    group = None if remembered(run.folder) else sweep_of(run.folder)
    tracker.start(run.config, run.folder, labels=run.labels, group=group, tokenizer=run.tokenizer())
    tracker.log_prompts(run.pairs, run.steps)
    tracker.finish(run.summary)
    return tracker


def sweep_of(folder: Path) -> str | None:
    """The folder of the Hydra sweep that a run belongs to, by the file that Hydra leaves there; None for a single run."""
    sweeps = [parent for parent in folder.parents if (parent / "multirun.yaml").exists()]
    return sweeps[0].as_posix() if sweeps else None


def track(folder: Path, changes: dict[str, Any]) -> int:
    """Rebuilds one folder and says where it went; returns an exit code."""
    try:
        with lock(folder / ".lock"):
            run = RecordedRun.read(folder)
            tracker = rebuild(run, changes)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if not tracker.failed:
        print(f"{folder}: {len(run.pairs)} prompts, {tracker.history.num_steps} steps -> {tracker.place}")
    return int(tracker.failed)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m experiments.run.track", description="Writes the W&B runs of recorded runs again.")
    parser.add_argument("paths", nargs="+", type=Path, help="folders of runs or of sweeps")
    parser.add_argument("--mode", choices=("auto", "online", "offline"), help="default: as the run was tracked, else auto")
    for name in ("project", "entity", "group"):
        parser.add_argument(f"--{name}", help="default: the run's own")
    options = vars(parser.parse_args(arguments))
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        folders = run_folders(options.pop("paths"))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return max(track(folder, {name: value for name, value in options.items() if value is not None}) for folder in folders)


if __name__ == "__main__":
    sys.exit(main())
