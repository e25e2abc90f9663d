"""`draftproof track FOLDER ...`: writes the W&B runs of recorded runs again, from their own files, tracked before or not.

Goes through run folders or whole sweeps, finished or not; into runs below a folder that is neither it writes with `--recursive` only. A run keeps
its id, so online it replaces what W&B has of it; offline a new folder appears beside older ones. Exit codes: 0 done, 1 W&B failed for a run, 2 a
folder is not a run or is being written to, 130 stopped by Ctrl-C, 143 by SIGTERM.
"""

import logging
import sys
from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import Any

from experiments.analysis.summary import labels
from experiments.parts.door.plain import plain
from experiments.parts.tracking.identity import checked_project, remembered
from experiments.parts.tracking.wandb import WandbTracking
from experiments.recording.files import writing
from experiments.recording.folder import RunFolder, run_folders
from experiments.recording.identity import lock, read_manifest
from experiments.recording.resume import NAME as OPTIONS
from experiments.recording.typed import TEXT
from spec.loading import load_tokenizer

log = logging.getLogger(__name__)
KEPT = ("mode", "project", "entity", "group", "name", "tags", "job_type", "notes")  # settings of the run's own tracking that hold again


def read(folder: Path) -> RunFolder:
    """Raises ValueError if the folder is not that of a run, or holds no finished prompt."""
    run = RunFolder(folder)
    for name in ("config.yaml", "manifest.json"):
        run.need(name)
    if missing := {"target", "drafter", "sampling", "data"} - set(run.raw_config):
        raise ValueError(f"{folder}/config.yaml has no {', '.join(sorted(missing))}; give a folder that draftproof run has written")
    if not run.pairs:
        raise ValueError(f"{folder} holds no finished prompt yet; run it again and track it then")
    read_manifest(folder)
    for name in ("target", "sampling", "data"):
        run.part(name)
    for name in ("drafter", "verifier"):  # their classes are in the labels
        run.part(name, {"_target_": TEXT})
    if run.summary is None:
        why = "its summary is older than its records" if (folder / "summary.json").exists() else "the run was not summed up"
        log.warning("%s: %s; it is tracked as a failed run", folder, why)
    return run


def labels_of(run: RunFolder) -> dict[str, str]:
    """As the run itself gave them, or made again from configuration and summary."""
    if held := remembered(run.path).get("labels"):
        return held
    device = run.summary["provenance"]["device"] if run.summary else None
    return labels(run.raw_config) | ({"device": device if device in ("cpu", "mps") else "cuda"} if device else {})


def tokenizer_of(run: RunFolder) -> Any:
    """The target's tokenizer; None, with a warning, where it cannot be loaded."""
    name = run.raw_config["target"].get("name")
    try:
        return load_tokenizer(name)
    except ValueError as error:
        log.warning("%s: no tokenizer %r (%s); the table has no coloured text", run.path, name, error)
        return None


def rebuild(run: RunFolder, changes: dict[str, Any]) -> WandbTracking:
    """Tracks a recorded run as the main job would have. `changes` are settings of `WandbTracking` that replace the run's own."""
    own = run.raw_config.get("tracking", {})
    settings = {name: own[name] for name in KEPT if name in own and own[name] != "disabled"}
    settings |= {name: value for name, value in remembered(run.path).items() if name in KEPT}
    tracker = WandbTracking(**(settings | changes))
    group = None if remembered(run.path) else sweep_of(run.path)
    tracker.start(run.raw_config, run.path, labels=labels_of(run), group=group, tokenizer=tokenizer_of(run))
    tracker.log_prompts(run.pairs, run.steps)
    tracker.finish(run.summary)
    return tracker


def sweep_of(folder: Path) -> str | None:
    """The folder of the sweep that a run belongs to; None for a single run."""
    sweeps = [parent for parent in folder.parents if is_sweep(parent)]
    return sweeps[0].as_posix() if sweeps else None


def is_sweep(folder: Path) -> bool:
    """Whether a sweep was started here, by the files that Hydra, Optuna and `note_options` leave."""
    if any((folder / name).exists() for name in ("multirun.yaml", "optimization_results.yaml")):
        return True
    return (folder / OPTIONS).exists() and not any((folder / name).exists() for name in ("manifest.json", "records.jsonl"))


def given(path: Path, recursive: bool) -> list[Path]:
    """The run folders that are meant by a path: itself, the jobs of a sweep, or, where they are asked for, all below it.

    Raises ValueError for a path without a run, and for one with several runs that are not the jobs of one sweep.
    """
    found = run_folders([path])
    jobs = is_sweep(path) and all(sweep_of(folder) == path.as_posix() for folder in found if folder != path)
    if recursive or jobs or len(found) == 1:
        return found
    if path in found:
        return [path]
    raise ValueError(f"{path}: holds {len(found)} runs and is no sweep; name those that are meant, or give --recursive to write into all of them")


def track(folder: Path, changes: dict[str, Any]) -> int:
    """Rebuilds one folder and says where it went; returns an exit code."""
    try:
        with writing(folder), lock(folder / ".lock"):
            run = read(folder)
            tracker = rebuild(run, changes)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if not tracker.failed:
        print(f"{folder}: {len(run.pairs)} prompts, {tracker.history.num_steps} steps -> {tracker.place}")
    return int(tracker.failed)


def execute(options: Namespace) -> int:
    """Tracks what was asked for; returns an exit code. Raises ValueError for a project's name that W&B forbids and for folders without a run."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    changes = {name: value for name in ("mode", "project", "entity", "group") if (value := getattr(options, name)) is not None}
    checked_project(changes.get("project"))
    folders = list(dict.fromkeys(folder for path in options.paths for folder in given(path, options.recursive)))
    return max(track(folder, changes) for folder in folders)


main = partial(plain, "track")

if __name__ == "__main__":
    sys.exit(main())
