"""What one role did with one prompt, as a line of `records.jsonl`, and reading such a file.

A prompt counts as finished once the records of all roles and turns are complete.
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.recording.files import json_lines

METHOD, BASELINE = "method", "baseline"


@dataclass(frozen=True)
class Record:
    """What one role did with one prompt. Times are seconds; those of a batch are shared out over its live rows."""

    prompt: str
    category: str
    role: str  # "method", "baseline", or a peer by the stem of its YAML
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
    prefill_seconds: float  # 0 for a peer: its clock starts at the prompt, and its `seconds` has one entry, "generate"
    ended: str  # "eos" or "length"
    repetition: float | None  # share of 8-grams that stood in the answer before; None below 8 tokens
    loops: bool
    after_eos: int = 0  # tokens emitted after an EOS: must be 0
    divergence: dict[str, Any] | None = None  # greedy only: where this role left the baseline, and by what margin
    turn: int = 1  # of the conversation; the prompt of turn 2 is named "<id>/2"
    process_seconds: float | None = None  # CPU time of the whole process, all threads, from the prompt on; shared out like wall time
    prompt_ids: list[int] | None = None  # baseline only: the tokens that were continued
    together: int = 2  # records of this prompt, all roles and turns, that were written at once: fewer in the file are a torn write

    @property
    def conversation(self) -> str:
        """The id that all turns of a prompt have in common."""
        return self.prompt.removesuffix(f"/{self.turn}") if self.turn > 1 else self.prompt

    @property
    def decode_seconds(self) -> float:
        """Without the prompt's own forward. A peer whose clock runs from the prompt on (`prefill_seconds` 0) has it included."""
        return sum(self.seconds.values())

    @property
    def end_to_end_seconds(self) -> float:
        """From the prompt to the last token."""
        return self.prefill_seconds + self.decode_seconds


@dataclass(frozen=True)
class Pair:
    """The records of one prompt: the method, plain decoding, and the peers by name."""

    method: Record
    baseline: Record
    peers: dict[str, Record] = field(default_factory=dict)

    @property
    def records(self) -> list[Record]:
        """Every role's record, method and baseline first."""
        return [self.method, self.baseline, *self.peers.values()]


def read_pairs(path: Path) -> list[Pair]:
    """The finished prompts of a `records.jsonl`, in order. Raises ValueError naming file and line if a line other than the last is damaged."""
    found: dict[str, dict[str, Record]] = {}
    sizes: Counter[str] = Counter()
    for where, row in json_lines(path, ours=True):
        try:
            record = Record(**row)
        except TypeError as error:
            raise ValueError(f"{where}: is not a record of this version; choose a new output folder") from error
        found.setdefault(record.prompt, {})[record.role] = record
        sizes[record.conversation] += 1
    whole = [roles for roles in found.values() if all(sizes[record.conversation] >= record.together for record in roles.values())]
    return [Pair(roles.pop(METHOD), roles.pop(BASELINE), roles) for roles in whole if {METHOD, BASELINE} <= set(roles)]
