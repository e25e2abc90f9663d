"""Offline W&B runs, read back by W&B's own reader."""

import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import wandb

CLOCKS = {"_runtime", "_timestamp", "_wandb"}  # when it was written; everything else is what was written
RANDOM = ("artifact_path", "_latest_artifact_path")  # names that W&B draws anew


@dataclass(frozen=True)
class OfflineRun:
    """One run as its file holds it."""

    header: dict[str, Any]
    config: dict[str, Any]
    summary: dict[str, Any]
    history: list[dict[str, Any]]
    metrics: list[dict[str, Any]]
    artifacts: dict[str, dict[str, Path]]  # name -> path in the artifact -> file
    exit_code: int

    @property
    def told(self) -> tuple[Any, ...]:
        """All that is the same whenever the run is written again."""
        header = {name: value for name, value in self.header.items() if name not in ("start_time", "telemetry", "config")}
        files = {name: set(paths) for name, paths in self.artifacts.items()}
        return header, self.config, self.summary, self.history, self.metrics, files, self.exit_code

    def table(self) -> list[dict[str, Any]]:
        """The prompts, with what their cells refer to read in."""
        files = self.artifacts[f"run-{self.header['run_id']}-prompts"]
        held = json.loads(files["prompts.table.json"].read_text())
        rows = [dict(zip(held["columns"], row, strict=True)) for row in held["data"]]
        return [{name: files[value["path"]].read_text() if isinstance(value, dict) else value for name, value in row.items()} for row in rows]


def offline_folders(folder: Path) -> list[Path]:
    """W&B's folders of a run of ours, oldest first."""
    return sorted((folder / "wandb").glob("offline-run-*"))


def offline_run(folder: Path, index: int = -1) -> OfflineRun:
    """What one of the offline runs in a folder of ours holds, by default the newest."""
    place = offline_folders(folder)[index]
    raw = _records(place)
    (shown,) = [json.loads(_inspect(place, "--summary", "--json"))]
    of = {kind: [record[kind] for record in raw if record["type"] == kind] for kind in ("run", "history", "metric", "artifact")}
    artifacts = {item["name"]: {file["path"]: Path(file["local_path"]) for file in item["manifest"]["contents"]} for item in of["artifact"]}
    return OfflineRun(
        header=of["run"][0],
        config=_lasting(shown["config"]),
        summary=_lasting(shown["summary"]),
        history=[_lasting(row["item"]) for row in of["history"]],
        metrics=of["metric"],
        artifacts=artifacts,
        exit_code=shown["exit_code"],
    )


def _lasting(tree: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in tree.items() if name not in CLOCKS and not name.endswith(RANDOM)}
    return {name: _lasting(value) if isinstance(value, dict) else value for name, value in kept.items()}


def _records(place: Path) -> list[dict[str, Any]]:
    """All records of a run that has ended. W&B's service may still be writing when `finish` has returned, so the last one is waited for."""
    for _ in range(100):
        raw = [json.loads(line) for line in _inspect(place, "--json").splitlines()]
        if raw and raw[-1]["type"] == "exit":
            break
        time.sleep(0.1)
    return raw


def _inspect(place: Path, *flags: str) -> str:
    """`wandb leet inspect`, without the start of a second Python."""
    (file,) = place.glob("*.wandb")
    program = Path(wandb.__file__).parent / "bin" / "wandb-core"
    command = [program, "leet", "inspect", "--no-observability", *flags, "--run-file", file, place.parent]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
