"""What a drafter that chooses its own lengths goes by, measured once: `costs.json` of a run's folder, read again when the run goes on.

With the file of another run in its folder before it begins, a run chooses as that one did.
"""

import json
from pathlib import Path
from typing import Any

from experiments.recording.files import read_json, write_atomically
from experiments.recording.identity import config_hash
from spec.interfaces import Drafter

FILE = "costs.json"
ADVICE = "remove it, and the same command measures anew"
BEGUN = "this folder's answers were drafted by it: put back the file as it was, or begin anew in another folder"


def known(drafter: Drafter) -> bool:
    """Whether nothing has to be measured."""
    return drafter.costs is None or drafter.costs.fixed


def forget(drafter: Drafter) -> None:
    """What was measured and learned before the run, as by the battery, does not count."""
    if drafter.costs is not None:
        drafter.costs.know({})
        drafter.costs.fixed = False
    if drafter.auto is not None:
        drafter.auto.forget()


def restore(drafter: Drafter, folder: Path, begun: bool = False) -> None:
    """Takes over what the folder holds. Raises ValueError for a file that is damaged, changed or of another drafter, and where one is missing beside
    answers (`begun`)."""
    path, advice = folder / FILE, BEGUN if begun else ADVICE
    if drafter.costs is None:
        return
    if not path.exists():
        if begun:
            raise ValueError(f"{path} is gone; {BEGUN}")
        return
    held = read_json(path, "what steps of a run cost", advice)
    try:
        kind = type(drafter).__name__
        if held.get("drafter") != kind or held.get("digest") != digest_of(held):
            raise ValueError(f"it was changed, or is of {held.get('drafter')} and not of {kind}")
        drafter.costs.restore(held.get("seconds"))
        if drafter.auto is not None:
            drafter.auto.restore(held.get("counts"))
    except ValueError as error:
        raise ValueError(f"{path}: is not what steps of this run cost ({error}); {advice}") from error


def settle(drafter: Drafter, folder: Path) -> None:
    """From now on the drafter chooses by what it knows; writes that down."""
    if known(drafter) or drafter.costs is None:
        return
    drafter.costs.fixed = True
    if drafter.auto is not None:
        drafter.auto.settle()
    held = {"drafter": type(drafter).__name__, "seconds": drafter.costs.to_json(), "counts": None if drafter.auto is None else drafter.auto.start}
    held["digest"] = digest_of(held)
    write_atomically(folder / FILE, json.dumps(held, indent=2) + "\n")


def digest_of(held: dict[str, Any]) -> str:
    """Of everything but itself."""
    return config_hash({name: value for name, value in held.items() if name != "digest"})
