"""Reads what runs left on disk: a run's folder, summaries, failures, the folders of a sweep, the newest sweep."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from yaml import YAMLError

from experiments.recording.files import read_rows
from experiments.recording.moved import renamed
from experiments.recording.record import Pair, read_pairs

Row = dict[str, Any]


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run. Every file is read once, when it is asked for; what cannot be read is a ValueError that names file and line."""

    path: Path

    @cached_property
    def raw_config(self) -> dict[str, Any]:
        """The resolved configuration as it was recorded: `_target_`s may have names that have moved since."""
        path = self.need("config.yaml")
        try:
            held: Any = OmegaConf.to_container(OmegaConf.load(path))
            return {str(key): value for key, value in held.items()}
        except (YAMLError, AttributeError, ValueError) as error:
            raise ValueError(f"{path}: is not the configuration of a run ({' '.join(str(error).split())})") from error

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved configuration under today's names."""
        return renamed(self.raw_config)

    @cached_property
    def records(self) -> list[Row]:
        """The lines of `records.jsonl`, those of unfinished prompts too."""
        return read_rows(self.path / "records.jsonl")

    @cached_property
    def pairs(self) -> list[Pair]:
        """The finished prompts, in order."""
        return read_pairs(self.path / "records.jsonl")

    @cached_property
    def steps(self) -> list[Row]:
        """The lines of `steps.jsonl`."""
        return read_rows(self.path / "steps.jsonl")

    @cached_property
    def steps_of(self) -> dict[tuple[str, str], list[Row]]:
        """(prompt, role) -> its lines of `steps.jsonl`."""
        found: dict[tuple[str, str], list[Row]] = {}
        for step in self.steps:
            found.setdefault((step["prompt"], step["role"]), []).append(step)
        return found

    @cached_property
    def summary(self) -> dict[str, Any] | None:
        """None where there is none, or where the run has gone on since and was not summed up again."""
        path = self.path / "summary.json"
        found = read_summaries([path])[0] if path.exists() else None
        return found if found and found["num_tokens"] == sum(len(pair.method.tokens) for pair in self.pairs) else None

    def need(self, name: str) -> Path:
        """The path of one of its files. Raises ValueError where it is missing."""
        if not (self.path / name).exists():
            raise ValueError(f"{self.path} holds no {name}; give a folder that python -m experiments.run has written")
        return self.path / name


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


def run_folders(paths: list[Path]) -> list[Path]:
    """Every folder with records at or below the paths, in their order. Raises ValueError for a path that has none."""
    found = []
    for path in paths:
        below = sorted((file.parent for file in path.rglob("records.jsonl")), key=natural)
        if not below:
            raise ValueError(f"{path}: no records.jsonl in it or below; give the folder of a run or of a sweep")
        found += below
    return list(dict.fromkeys(found))
