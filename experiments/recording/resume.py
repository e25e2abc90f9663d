"""`resume=true`: the same command again goes on in the folder that it was stopped in, without naming that folder.

Every run and every sweep leaves the options it was started with in `options.json`. Options that cannot change a result do not count, and neither do
those of Hydra, so that a sweep may go on with another launcher.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from experiments.recording.files import reason, write_atomically
from experiments.recording.identity import VOLATILE
from experiments.recording.typed import TEXTS

ROOTS = {"hydra.run.dir": Path("outputs"), "hydra.sweep.dir": Path("multirun")}  # where conf/config.yaml puts runs and sweeps
NAME = "options.json"


def lasting(overrides: Sequence[str]) -> list[str]:
    """The options that say what is run, in alphabetical order."""
    plain = [item for item in overrides if "=" in item and not item.startswith("-")]
    return sorted(item for item in plain if re.split(r"[=./@]", item.lstrip("+~"), maxsplit=1)[0] not in ("hydra", *VOLATILE))


def note_options(folder: Path, overrides: Sequence[str]) -> None:
    """Leaves the options in a folder that holds nothing yet."""
    if not (folder / NAME).exists() and not (folder / "manifest.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / NAME, json.dumps(lasting(overrides), indent=2) + "\n")


def newest(root: Path, overrides: Sequence[str]) -> Path | None:
    """The last of the dated folders below `root` that was started with the same options; None if there is none.

    Raises ValueError for a file of options that cannot be read: it may be the one that is looked for.
    """
    for file in sorted(root.glob(f"*/*/{NAME}"), reverse=True):
        if _noted(file) == lasting(overrides):
            return file.parent
    return None


def _noted(file: Path) -> list[str]:
    """The options in a file. Raises ValueError with one line that names the file and says what to do."""
    try:
        held = json.loads(file.read_bytes().decode())
        if not TEXTS.holds(held):
            raise ValueError(f"it holds {type(held).__name__}")
    except (OSError, ValueError, RecursionError) as error:
        advice = "remove it, and name the folder to go on in (hydra.run.dir=... or hydra.sweep.dir=...)"
        raise ValueError(f"{file}: does not say which options the folder was started with ({reason(error)}); {advice}") from error
    return held


def resumed(arguments: Sequence[str]) -> list[str]:
    """What to add to the command line so that it goes on where the same one stopped: folders, unless they are named already.

    Raises ValueError as `newest` does.
    """
    if "resume=true" not in (item.lower() for item in arguments):
        return []
    open_keys = {key: root for key, root in ROOTS.items() if not any(item.startswith(f"{key}=") for item in arguments)}
    found = {key: newest(root, arguments) for key, root in open_keys.items()}
    return [f"{key}={folder.as_posix()}" for key, folder in found.items() if folder is not None]
