"""The memory of a run: append-only files that survive a crash at any byte, and know which configuration they belong to.

`records.jsonl` has a line per prompt and role (the method, or the baseline it is compared with), `steps.jsonl` a line per step. A prompt counts
as finished once the records of both roles are complete; everything else is cut off when the folder is opened again.
"""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import OmegaConf

from experiments.provenance import config_hash

try:
    import fcntl
except ImportError:  # no advisory locks on Windows
    fcntl = None

METHOD, BASELINE = "method", "baseline"


@dataclass(frozen=True)
class Record:
    """What one role did with one prompt. Times are seconds; those of a batch are shared out over its live rows."""

    prompt: str
    category: str
    role: str  # "method" or "baseline"
    batch: int  # prompts of one batch were decoded together
    order: int  # 0: this role went first
    prompt_tokens: int
    tokens: list[int]  # emitted, EOS included
    text: str
    num_steps: int  # target forwards that this row was live in
    num_drafted: int
    num_accepted: int
    tested: list[int]  # tested[k]: steps in which the draft token at depth k + 1 was judged
    kept: list[int]  # kept[k]: steps in which it was accepted
    seconds: dict[str, float]  # draft, target, verify, commit, other; their sum is the decode time
    prefill_seconds: float
    ended: str  # "eos" or "length"
    repetition: float | None  # share of 8-grams that stood in the answer before; None below 8 tokens
    loops: bool
    after_eos: int = 0  # tokens emitted after an EOS: must be 0
    divergence: dict[str, Any] | None = None  # greedy only: where the method left the baseline, and by what margin

    @property
    def decode_seconds(self) -> float:
        return sum(self.seconds.values())


class ForeignFolderError(ValueError):
    """The folder belongs to another run, which must not be touched."""


class Pair(NamedTuple):
    """The two records of one prompt."""

    method: Record
    baseline: Record


class Recorder:
    """Opens a run's folder, new or half finished. Raises ValueError if it holds another configuration or another run is writing to it."""

    def __init__(self, folder: Path, config: dict[str, Any]):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.records_path, self.steps_path = folder / "records.jsonl", folder / "steps.jsonl"
        self._lock = _lock(folder / ".lock")
        try:
            _claim(folder, config)
            self.pairs: dict[str, Pair] = self._repair()
        except BaseException:
            self._lock.close()
            raise
        self._records, self._steps = self.records_path.open("ab"), self.steps_path.open("ab")

    def write(self, pairs: Sequence[Pair], steps: Iterable[dict[str, Any]]) -> None:
        """Adds finished prompts. Steps go to the disk first, so that a record is never there without its steps."""
        _append(self._steps, steps)
        _append(self._records, (asdict(record) for pair in pairs for record in pair))
        self.pairs |= {pair.method.prompt: pair for pair in pairs}

    def steps(self) -> list[dict[str, Any]]:
        """Every recorded step, in the order of writing."""
        return _read(self.steps_path)

    def recover(self) -> None:
        """Makes files and memory agree again after a write may have been interrupted."""
        self._records.close()
        self._steps.close()
        self.pairs = self._repair()
        self._records, self._steps = self.records_path.open("ab"), self.steps_path.open("ab")

    def close(self) -> None:
        self._records.close()
        self._steps.close()
        self._lock.close()

    def _repair(self) -> dict[str, Pair]:
        """Drops torn lines, prompts of which one role is missing, and steps without a record; rewrites a file only if something was dropped."""
        pairs = read_pairs(self.records_path)
        _rewrite(self.records_path, [asdict(record) for pair in pairs for record in pair])
        finished = {pair.method.prompt: pair for pair in pairs}
        _rewrite(self.steps_path, [step for step in _read(self.steps_path) if step["prompt"] in finished])
        return finished


def read_pairs(path: Path) -> list[Pair]:
    """The finished prompts of a `records.jsonl`, in order. Raises ValueError naming file and line if a line other than the last is damaged."""
    found: dict[str, dict[str, Record]] = {}
    for number, row in enumerate(_read(path), 1):
        try:
            record = Record(**row)
        except TypeError as error:
            raise ValueError(f"{path}:{number}: is not a record of this version; choose a new output folder") from error
        found.setdefault(record.prompt, {})[record.role] = record
    return [Pair(roles[METHOD], roles[BASELINE]) for roles in found.values() if len(roles) == 2]


def _claim(folder: Path, config: dict[str, Any]) -> None:
    manifest, digest = folder / "manifest.json", config_hash(config)
    if manifest.exists():
        held = json.loads(manifest.read_text())["config_hash"]
        if held != digest:
            raise ForeignFolderError(
                f"{folder} holds the run of another configuration ({held}, this one is {digest}); see its config.yaml, "
                "and choose another folder (hydra.run.dir=...) or the same configuration to go on"
            )
        return
    if (folder / "records.jsonl").exists():
        raise ForeignFolderError(f"{folder} holds records but no manifest.json to say whose; choose another folder (hydra.run.dir=...)")
    write_atomically(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(config)))
    write_atomically(manifest, json.dumps({"config_hash": digest}, indent=2) + "\n")


def write_atomically(path: Path, text: str) -> None:
    """Either the old file or the whole new one is there, whatever happens."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _lock(path: Path) -> Any:
    file = path.open("w")
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            raise ForeignFolderError(f"another run is writing to {path.parent}; wait for it, or choose another folder (hydra.run.dir=...)") from error
    return file


def _append(file: Any, rows: Iterable[dict[str, Any]]) -> None:
    file.write("".join(json.dumps(row) + "\n" for row in rows).encode())
    file.flush()
    os.fsync(file.fileno())


def _read(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSONL file; what follows the last newline was torn by a crash and is left out."""
    if not path.exists():
        return []
    rows = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise ValueError(f"{path}:{number}: damaged record ({error}); remove the line, or choose a new output folder") from error
    return rows


def _rewrite(path: Path, rows: list[dict[str, Any]]) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if path.exists() and path.read_text(encoding="utf-8") != text:
        write_atomically(path, text)
