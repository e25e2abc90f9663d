"""What a drafter that chooses its own lengths goes by, measured once: `costs.json` of a run's folder, read again when the run goes on.

With the file of another run in its folder before it begins, a run chooses as that one did.
"""

import json
from pathlib import Path

from experiments.recording.files import read_json, write_atomically
from spec.interfaces import Drafter

FILE = "costs.json"
ADVICE = "remove it, and the same command measures anew"


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


def restore(drafter: Drafter, folder: Path) -> None:
    """Takes over what the folder holds. Raises ValueError for a file that is damaged or of another drafter."""
    path = folder / FILE
    if drafter.costs is None or not path.exists():
        return
    held = read_json(path, "what steps of a run cost", ADVICE)
    try:
        drafter.costs.restore(held.get("seconds"))
        if drafter.auto is not None:
            drafter.auto.restore(held.get("counts"))
    except ValueError as error:
        raise ValueError(f"{path}: is not what steps of this run cost ({error}); {ADVICE}") from error


def settle(drafter: Drafter, folder: Path) -> None:
    """From now on the drafter chooses by what it knows; writes that down."""
    if known(drafter) or drafter.costs is None:
        return
    drafter.costs.fixed = True
    if drafter.auto is not None:
        drafter.auto.settle()
    held = {"seconds": drafter.costs.to_json(), "counts": None if drafter.auto is None else drafter.auto.start}
    write_atomically(folder / FILE, json.dumps(held, indent=2) + "\n")
