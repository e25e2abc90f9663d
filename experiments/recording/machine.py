"""Under what circumstances a number was measured: versions, commit, hardware, load."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

RECORDS = "experiments/records"


def circumstances(device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """What is known before the run starts; `load_average_after` is added when it ends."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": library_versions(),
        "git_commit": git_commit(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "cpu": cpu_name(),
        "cpu_count": os.cpu_count(),
        "dtype": str(dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "load_average_before": load_average(),
    }


def library_versions() -> dict[str, str | None]:
    """Versions of Python, of this package and of those that it stands on, None of one that is not installed; and of engines that are installed."""
    found = {"python": platform.python_version()} | {name: _version(name) for name in ("draftproof", "torch", "transformers", "hydra-core")}
    return found | {name: engine for name in ("openvino-genai", "ctranslate2") if (engine := _version(name)) is not None}


def load_average() -> float | None:
    """Processes that wanted to run over the last minute; None where the system does not say."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def git_commit() -> str | None:
    """The commit this file was checked out at, with `-dirty` if something was changed; None outside a checkout of ours.

    Committed records are results and change nothing that is run, so a new one beside them does not count as a change.
    """
    here = Path(__file__).resolve()
    if _git(here.parent, "ls-files", "--error-unmatch", here.name) is None:
        return None
    commit = _git(here.parent, "describe", "--always", "--abbrev=12", "--exclude=*")
    changed = _git(here.parent, "status", "--porcelain", "--untracked-files=no", "--", ":(top)", f":(top,exclude){RECORDS}")
    return f"{commit}-dirty" if commit and changed != "" else commit


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if names:
            return names[0]
    return platform.processor() or platform.machine()


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
