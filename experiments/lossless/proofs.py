"""`draftproof proofs [FOLDER ...]`: keeps the verdicts of batteries with the package; without a folder, lists those kept.

A folder is that of `draftproof lossless`, a sweep of it, or a run with `certify=true`. Only verdicts on the present code are kept.
Exit codes: 0 done, 1 verdicts were left out or the disk is full, 2 there is nothing to keep, or a file cannot be read or written.
"""

import sys
from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from experiments.analysis.terminal import Row, render
from experiments.parts.door.plain import plain
from experiments.recording.code import decoding_packages
from experiments.recording.proofs.code_hash import battery_hash, code_hash
from experiments.recording.proofs.lookup import COMMITTED, check_places, files_in, verdicts_in
from experiments.recording.proofs.verdict import Recorded, name_of, read, write


def execute(options: Namespace) -> int:
    """Keeps or lists; returns an exit code. Raises ValueError for what is no verdict."""
    folder = options.into or COMMITTED
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--into {folder} is a file; give a folder")
    return keep(options.paths, folder) if options.paths else show(verdicts_in([folder]))


def keep(paths: Sequence[Path], folder: Path) -> int:
    """Writes the newest verdict of every combination into the folder. Raises ValueError for a file that is not a verdict."""
    held = [read(file) for place in check_places(paths) for file in files_in(place)]
    if not held:
        raise ValueError(f"no lossless.json in {', '.join(map(str, paths))}; run draftproof lossless first")
    current = [item for item in held if holds(item)]
    for item in sorted(current, key=lambda item: str(item.record["provenance"]["date"])):
        print(f"kept: {write(item.record, folder)}")
    for item in held:
        if item not in current:
            print(f"left out: {item.file} was judged for other code ({item.record['code']}); judge again")
    return int(len(current) < len(held))


def show(held: Sequence[Recorded]) -> int:
    """A row per verdict that is kept."""
    render([row_of(item) for item in held])
    print(f"{len(held)} verdicts, {sum(map(holds, held))} of them for this code ({code_hash()})")
    return 0


def row_of(item: Recorded) -> Row:
    record = item.record
    row = {"name": name_of(record), "verdict": item.verdict} | {
        part: record["labels"][part] for part in ("target", "drafter", "verifier", "sampling")
    }
    arithmetic, battery = record["settings"]["target"], record["battery"] == battery_hash()
    row |= {"dtype": arithmetic["dtype"], "device": arithmetic["device"], "date": str(record["provenance"]["date"])[:10]}
    return row | {"this code": "yes" if holds(item) else "no", "this battery": "yes" if battery else "no", "file": item.file.name}


def holds(item: Recorded) -> bool:
    """Whether the code is still the one that was judged."""
    return item.record["code"] == code_hash(decoding_packages(item.record["settings"]))


main = partial(plain, "proofs")

if __name__ == "__main__":
    sys.exit(main())
