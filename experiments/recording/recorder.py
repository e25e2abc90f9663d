"""Writes a run's folder: append-only files that survive a crash at any byte, and know which configuration they belong to.

`records.jsonl` has a line per prompt and role (the method, the baseline it is compared with, peers), `steps.jsonl` a line per step. A prompt that is
not finished is cut off when the folder is opened again.
"""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from experiments.recording.files import append, rewrite, writing
from experiments.recording.identity import Identity, lock
from experiments.recording.record import Pair, read_pairs, read_records, read_steps


class Recorder:
    """Opens a run's folder, new or half finished.

    Raises ValueError if it holds another run, is damaged or cannot be written to, or another process is writing to it; OSError on a full disk.
    """

    def __init__(self, folder: Path, identity: Identity):
        self.folder = folder
        self.records_path, self.steps_path = folder / "records.jsonl", folder / "steps.jsonl"
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = lock(folder / ".lock")
            try:
                identity.claim(folder)
                self.pairs: dict[str, Pair] = self._repair()
            except BaseException:
                self._lock.close()
                raise

    def write(self, pairs: Sequence[Pair], steps: Iterable[dict[str, Any]]) -> None:
        """Adds finished prompts, all turns of each. Steps go to the disk first, so that a record is never there without its steps.

        Raises OSError where the disk takes no more; both files are then as they were before.
        """
        records = [record for pair in pairs for record in pair.records]
        sizes = Counter(record.conversation for record in records)
        before = {path: path.stat().st_size if path.exists() else 0 for path in (self.steps_path, self.records_path)}
        try:
            append(self.steps_path, steps)
            append(self.records_path, (asdict(replace(record, together=sizes[record.conversation])) for record in records))
        except OSError:
            for path, size in before.items():
                if path.exists():
                    os.truncate(path, size)  # takes no space, so it works on a full disk
            raise
        self.pairs |= {pair.method.prompt: pair for pair in pairs}

    def steps(self) -> list[dict[str, Any]]:
        """Every recorded step, in the order of writing."""
        return read_steps(self.steps_path)

    def recover(self) -> None:
        """Makes files and memory agree again after a write may have been interrupted."""
        self.pairs = self._repair()

    def close(self) -> None:
        self._lock.close()

    def _repair(self) -> dict[str, Pair]:
        """Drops torn lines, prompts of which a role or a turn is missing, and steps without a record; rewrites a file only if needed."""
        rows, steps = read_records(self.records_path), read_steps(self.steps_path)
        finished = {pair.method.prompt: pair for pair in read_pairs(self.records_path)}
        rewrite(self.records_path, [row for row in rows if row["prompt"] in finished])
        rewrite(self.steps_path, [step for step in steps if step["prompt"] in finished])
        return finished
