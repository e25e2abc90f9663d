"""Which W&B run a folder is: the same one whenever it is tracked again, so that nothing is there twice."""

import hashlib
import json
import netrc
import os
import time
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from experiments.recording.files import write_atomically
from experiments.recording.identity import read_manifest
from experiments.recording.typed import LABELS, TEXT, Fields, misfit

FILE = "tracking.json"
HOSTS = ["api.wandb.ai", "api.forge.coreweave.com"]  # of W&B's own server, by earlier and by later versions of the package
FORBIDDEN = "/\\#?%:"  # what W&B does not take in the name of a project
KEPT: Fields = {"id": TEXT, "labels": LABELS} | dict.fromkeys(("project", "entity", "group", "name"), TEXT.or_null)
LONGEST_PROJECT, LONGEST_TAG = 128, 64  # characters


def checked_project(name: Any) -> str | None:
    """The name of a project as W&B takes it; None is W&B's own choice. Raises ValueError for any other."""
    if name is None:
        return None
    told = str(name)
    if not told.strip() or len(told) > LONGEST_PROJECT or set(told) & set(FORBIDDEN):
        shown = repr(told if len(told) <= LONGEST_PROJECT else told[:20] + "...")
        raise ValueError(f"project={shown}: W&B takes 1 to {LONGEST_PROJECT} characters, none of {' '.join(FORBIDDEN)}; give another name")
    return told


def checked_tags(tags: Any) -> list[str]:
    """Tags as a list; a string or a number is one tag. Raises ValueError for a tag that W&B does not take."""
    given = [] if tags is None else list(tags) if isinstance(tags, (list, tuple)) else [tags]
    found = [str(tag) for tag in given]
    for tag, value in zip(found, given, strict=True):
        if not isinstance(value, (str, int, float)) or not 1 <= len(tag) <= LONGEST_TAG:
            raise ValueError(f"tags={tag!r}: give texts of 1 to {LONGEST_TAG} characters, as in tracking.tags=[first,second]")
    return found


@dataclass(frozen=True)
class Identity:
    """How W&B knows a run. It is kept in the run's folder as `tracking.json`."""

    id: str
    project: str | None
    entity: str | None
    group: str | None
    name: str
    labels: dict[str, str]

    @staticmethod
    def of(folder: Path, labels: dict[str, str], *, project: str | None, entity: str | None, group: str | None, name: str | None) -> "Identity":
        """The identity of a run that starts or is tracked again. Under a W&B agent the id is the agent's, else the one that the folder has already,
        else one made from its manifest. A group, once given, stays."""
        held = remembered(folder)
        by_agent = os.environ.get("WANDB_RUN_ID") if os.environ.get("WANDB_SWEEP_ID") else None
        return Identity(
            id=by_agent or held.get("id") or id_from_manifest(folder),
            project=project,
            entity=entity,
            group=group or held.get("group"),
            name=name or "-".join(labels[part] for part in ("drafter", "sampling", "target") if part in labels),
            labels=labels,
        )

    def remember(self, folder: Path) -> None:
        write_atomically(folder / FILE, json.dumps(asdict(self), indent=2) + "\n")


def remembered(folder: Path) -> dict[str, Any]:
    """What the folder was last tracked as; empty if it never was."""
    try:
        held = json.loads((folder / FILE).read_bytes().decode())
    except (OSError, ValueError, RecursionError):  # not there, or damaged: the id is then made from the manifest again
        return {}
    return {} if misfit(held, KEPT) else held


def id_from_manifest(folder: Path) -> str:
    """16 hexadecimal digits from configuration and time of creation: copies of a folder are one run, two runs of one configuration are two."""
    manifest = read_manifest(folder) if (folder / "manifest.json").exists() else {"created": folder.resolve().as_posix()}
    return hashlib.sha256(json.dumps([manifest.get("config_hash"), manifest.get("created")]).encode()).hexdigest()[:16]


def wait_for_own_folder(folder: Path, run_id: str) -> None:
    """Waits at most a second: W&B names an offline folder by second and id, and one that is tracked again at once would get the old folder's name."""
    while (folder / "wandb" / f"offline-run-{datetime.now():%Y%m%d_%H%M%S}-{run_id}").exists():
        time.sleep(0.05)


def has_key() -> bool:
    """Whether an API key for W&B's server is configured, in the environment or in the netrc file."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    own = os.environ.get("WANDB_BASE_URL")
    hosts = [urlsplit(own).netloc] if own else HOSTS
    for path in (os.environ.get("NETRC"), "~/.netrc", "~/_netrc"):
        try:
            if path and any(map(netrc.netrc(os.path.expanduser(path)).authenticators, hosts)):
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False
