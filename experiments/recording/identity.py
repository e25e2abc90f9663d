"""Which run a folder belongs to: `manifest.json` keeps out another configuration, another version of the code, and a second process."""

import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from experiments.recording.files import read_json, reason, write_atomically
from experiments.recording.folder import RunFolder
from experiments.recording.machine import git_commit
from experiments.recording.typed import LIST, NAMED, TEXT, Fields, misfit

try:
    import fcntl
except ImportError:  # no advisory locks on Windows
    fcntl = None

VOLATILE = (
    "tracking",
    "resume",
    "allow_code_change",
    "check_state",
    "objective",
    "certify",
    "battery",
    "proofs",
)  # say where results go or what is done with them, not what they are


class ForeignFolderError(ValueError):
    """The folder belongs to another run, which must not be touched."""


@dataclass(frozen=True)
class Identity:
    """What makes a run this run: its resolved configuration, and the versions of code, models and data that it is made with (`origin`).

    `allow_code_change`: a folder that was begun with other code goes on all the same, and holds a note of it.
    """

    config: dict[str, Any]
    origin: dict[str, Any] = field(default_factory=dict)
    allow_code_change: bool = False

    def claim(self, folder: Path) -> None:
        """Writes which run the folder belongs to, or checks that it is this one. Raises ForeignFolderError if it is another run."""
        manifest, identity = folder / "manifest.json", self._held()
        if manifest.exists():
            self.check(folder)
            return
        if (folder / "records.jsonl").exists():
            raise ForeignFolderError(f"{folder} holds records but no manifest.json to say whose; choose another folder (hydra.run.dir=...)")
        self._write_config(folder)
        created = datetime.now(UTC).isoformat()  # tells runs of one configuration apart, wherever their folders go
        about = {"key": run_key(identity), "git_commit": git_commit(), "created": created}
        write_atomically(manifest, json.dumps(identity | about, indent=2) + "\n")

    def check(self, folder: Path) -> None:
        """Raises ForeignFolderError if a folder with a manifest holds another run than this one; a change of code that is allowed is noted there."""
        held, identity = read_manifest(folder), self._held()
        changed = differing(held, identity)
        if "config_hash" in changed and _hash_today(folder) == identity["config_hash"]:
            changed.remove("config_hash")  # the same configuration, recorded when its parts had other names
            held["config_hash"] = identity["config_hash"]
        if "config_hash" in changed:
            raise ForeignFolderError(
                f"{folder} holds the run of another configuration ({held['config_hash']}, this one is {identity['config_hash']}); see its "
                "config.yaml, and choose another folder (hydra.run.dir=...) or the same configuration to go on"
            )
        if "code" in changed and self.allow_code_change:
            held["code_changes"] = [*held.get("code_changes", []), {"from": held["code"], "to": identity["code"]}]
            held |= {"code": identity["code"], "key": run_key(identity), "git_commit": git_commit()}
            write_atomically(folder / "manifest.json", json.dumps(held, indent=2) + "\n")
            changed.remove("code")
        if changed:
            advice = " (allow_code_change=true goes on all the same, and records it)" if changed == ["code"] else ""
            raise ForeignFolderError(
                f"{folder} was begun with another version of {' and '.join(changed)}: {_said(held, changed)}; now {_said(identity, changed)}. "
                f"Results of two versions do not mix: choose another folder (hydra.run.dir=..., hydra.sweep.dir=...){advice}"
            )
        if _hash_today(folder) != identity["config_hash"]:  # damaged or gone; the manifest says that this is what it held
            self._write_config(folder)

    def _write_config(self, folder: Path) -> None:
        write_atomically(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(self.config)))

    def _held(self) -> dict[str, Any]:
        return {"config_hash": config_hash(self.config), **self.origin}


MANIFEST: Fields = {"config_hash": TEXT}
MANIFEST_LATER: Fields = {"code": NAMED, "models": NAMED, "created": TEXT, "code_changes": LIST}


def read_manifest(folder: Path) -> dict[str, Any]:
    """The `manifest.json` of a folder. Raises ForeignFolderError naming the file and what to do where it cannot say whose the folder is."""
    path, advice = folder / "manifest.json", "choose another folder (hydra.run.dir=...), or put back the file that was there"
    try:
        held = read_json(path, "the manifest of a run", advice)
    except ValueError as error:
        raise ForeignFolderError(f"{path}: cannot be read ({reason(error.__cause__ or error)}); {advice}") from error
    fault = misfit(held, MANIFEST, MANIFEST_LATER)
    if fault is None and not all(isinstance(change, dict) and isinstance(change.get("from"), dict) for change in held.get("code_changes", [])):
        fault = "code_changes holds what is no change of code"
    if fault is not None:
        raise ForeignFolderError(f"{path}: cannot be read as the manifest of a run ({fault}); {advice}")
    return held


def _hash_today(folder: Path) -> str | None:
    """The hash of a folder's configuration under today's names; None where it cannot be read."""
    try:
        return config_hash(RunFolder(folder).config)
    except (OSError, ValueError):
        return None


def run_key(identity: dict[str, Any]) -> str:
    """One hash over the configuration's and the versions of code, models and data; 12 hex digits."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]


def differing(held: dict[str, Any], identity: dict[str, Any]) -> list[str]:
    """Parts of a manifest that are not what they were; a part that only one side knows is no difference."""
    return [name for name in identity if name in held and held[name] != identity[name]]


def _said(manifest: dict[str, Any], names: list[str]) -> str:
    return ", ".join(json.dumps(manifest[name]) for name in names)


def lock(path: Path) -> Any:
    """An open file that holds the folder's lock until it is closed. Raises ForeignFolderError if another process has it."""
    file = path.open("w")
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            raise ForeignFolderError(f"another run is writing to {path.parent}; wait for it, or choose another folder (hydra.run.dir=...)") from error
    return file


def config_hash(config: dict[str, Any]) -> str:
    """Identity of a resolved configuration, without the parts that cannot change a result; 12 hex digits."""
    lasting = {key: value for key, value in config.items() if key not in VOLATILE}
    return hashlib.sha256(json.dumps(lasting, sort_keys=True).encode()).hexdigest()[:12]
