"""Reads what runs left on disk: summaries, failures, the folders of a sweep, the newest sweep."""

import json
import logging
from pathlib import Path
from typing import Any

from experiments.recording.moved import renamed
from experiments.recording.record import Pair

log = logging.getLogger(__name__)


def read_summaries(paths: list[Path]) -> list[dict[str, Any]]:
    """Every `summary.json` at or below the paths, in the order of their folders. Raises ValueError if there is none or one cannot be read."""
    summaries = []
    for file in summary_files(paths):
        try:
            summary = json.loads(file.read_text(encoding="utf-8"))
            assert {"labels", "speedup", "by_category"} <= set(summary)
        except (ValueError, AssertionError, TypeError) as error:
            raise ValueError(f"{file}: is not the summary of a run; leave it out or run it again") from error
        summaries.append(renamed(summary))
    return summaries


def summary_files(paths: list[Path]) -> list[Path]:
    """Where `read_summaries` reads. Raises ValueError if there is nothing."""
    found = [file for path in paths for file in ([path] if path.is_file() else sorted(path.rglob("summary.json"), key=natural))]
    if not found:
        raise ValueError(f"no summary.json in {', '.join(map(str, paths))}; run python -m experiments.run first")
    return list(dict.fromkeys(found))


def failures(paths: list[Path]) -> list[str]:
    """Folder and error of every run below the paths that ended in one."""
    files = (file for path in paths for file in sorted(path.rglob("error.json"), key=natural))
    return [f"{file.parent}: {json.loads(file.read_text(encoding='utf-8'))['error']}" for file in files]


def newest_sweep(root: Path = Path("multirun")) -> Path:
    """The folder of the last sweep, by Hydra's dated names. Raises ValueError if there is none."""
    folders = sorted(path for path in root.glob("*/*") if any(path.rglob("summary.json")))
    if not folders:
        raise ValueError(f"no results in {root}/; name a folder, or run python -m experiments.run -m ... first")
    return folders[-1]


def natural(path: Path) -> list[tuple[int, str]]:
    """Sorts job 10 after job 9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in path.parts]


def summary_of(folder: Path, pairs: list[Pair]) -> dict[str, Any] | None:
    """The run's summary; None where there is none, or where the run has gone on since and was not summed up again."""
    path = folder / "summary.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    if found and found["num_tokens"] == sum(len(pair.method.tokens) for pair in pairs):
        return found
    log.warning("%s: %s; it is tracked as a failed run", folder, "its summary is older than its records" if found else "the run was not summed up")
    return None


def run_folders(paths: list[Path]) -> list[Path]:
    """Every folder with records at or below the paths, in their order. Raises ValueError for a path that has none."""
    found = []
    for path in paths:
        below = sorted((file.parent for file in path.rglob("records.jsonl")), key=natural)
        if not below:
            raise ValueError(f"{path}: no records.jsonl in it or below; give the folder of a run or of a sweep")
        found += below
    return list(dict.fromkeys(found))
