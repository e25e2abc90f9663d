"""What one role did with one prompt, as a line of `records.jsonl`, and reading such a file.

A prompt counts as finished once the records of all roles and turns are complete.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from experiments.recording.files import AGAIN, json_lines
from experiments.recording.typed import CLOCKS, COUNT, COUNTS, NAMED, NUMBER, SECONDS, TEXT, TRUTH, Fields, misfit

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


PHASES = ("draft", "target", "verify", "commit", "other")  # of our loop; a peer has one clock
FIELDS: Fields = {
    **dict.fromkeys(("prompt", "category", "role", "text", "ended"), TEXT),
    **dict.fromkeys(("batch", "order", "prompt_tokens", "num_steps", "num_drafted", "num_accepted"), COUNT),
    **dict.fromkeys(("tokens", "tested", "kept"), COUNTS),
    "seconds": CLOCKS,
    "prefill_seconds": SECONDS,
    "repetition": NUMBER.or_null,
    "loops": TRUTH,
}
LATER: Fields = {  # fields that earlier versions did not write
    **dict.fromkeys(("after_eos", "turn", "together"), COUNT),
    "divergence": NAMED.or_null,
    "process_seconds": SECONDS.or_null,
    "prompt_ids": COUNTS.or_null,
}
STEP: Fields = {
    **dict.fromkeys(("prompt", "role"), TEXT),
    **dict.fromkeys(("step", "drafted", "depth", "accepted", "emitted"), COUNT),
    "seconds": CLOCKS,
}
STEP_LATER: Fields = {"cut": TRUTH, "proposed": COUNTS}


def record_of(row: dict[str, Any], where: str) -> Record:
    """The record in a line. Raises ValueError that names file and line, the field that is wrong, and what to do."""
    fault = misfit(row, FIELDS, LATER) or _impossible(row)
    if fault is None and (foreign := set(row) - {part.name for part in fields(Record)}):
        fault = f"{sorted(foreign)[0]} is no field of it"
    if fault is not None:
        raise ValueError(f"{where}: is not a record of this version ({fault}); {AGAIN}")
    return Record(**row)


def _impossible(row: dict[str, Any]) -> str | None:
    """What no run can have written, although every field is of its type."""
    if not row["tokens"] or not row["num_steps"]:
        return "it holds no token" if not row["tokens"] else "num_steps is 0"
    if len(row["tested"]) != len(row["kept"]) or any(kept > tested for tested, kept in zip(row["tested"], row["kept"], strict=True)):
        return "kept does not fit tested"
    if row["role"] in (METHOD, BASELINE) and (missing := [name for name in PHASES if name not in row["seconds"]]):
        return f"seconds has no {missing[0]}"
    return None if sum(row["seconds"].values()) > 0 else "seconds add up to 0"


def read_records(path: Path) -> list[dict[str, Any]]:
    """The lines of a `records.jsonl`, those of unfinished prompts too. Raises ValueError as `record_of` does."""
    rows = json_lines(path, ours=True)
    for where, row in rows:
        record_of(row, where)
    return [row for _, row in rows]


def read_steps(path: Path) -> list[dict[str, Any]]:
    """The lines of a `steps.jsonl`; none where there is no such file. Raises ValueError that names file and line for one that is damaged."""
    rows = json_lines(path, ours=True)
    for where, row in rows:
        if (fault := misfit(row, STEP, STEP_LATER)) is not None:
            raise ValueError(f"{where}: is not a step of this version ({fault}); {AGAIN}")
    return [row for _, row in rows]


def read_pairs(path: Path) -> list[Pair]:
    """The finished prompts of a `records.jsonl`, in order. Raises ValueError naming file and line if a line other than the last is damaged."""
    found: dict[str, dict[str, Record]] = {}
    sizes: Counter[str] = Counter()
    for where, row in json_lines(path, ours=True):
        record = record_of(row, where)
        found.setdefault(record.prompt, {})[record.role] = record
        sizes[record.conversation] += 1
    whole = [roles for roles in found.values() if all(sizes[record.conversation] >= record.together for record in roles.values())]
    return [Pair(roles.pop(METHOD), roles.pop(BASELINE), roles) for roles in whole if {METHOD, BASELINE} <= set(roles)]


UNBALANCED = "steps.jsonl does not add up to the records"


def unbalanced(pairs: Iterable[Pair], steps: Iterable[Mapping[str, Any]]) -> str | None:
    """Why the steps of finished prompts do not add up to their records, in one sentence; None if they do. Of peers no steps are known."""
    found: dict[tuple[str, str], list[int]] = {}
    for step in steps:
        counts = found.setdefault((step["prompt"], step["role"]), [0, 0, 0])
        for index, value in enumerate((1, step["emitted"], step["drafted"])):
            counts[index] += value
    wrong = []
    for record in (record for pair in pairs for record in (pair.method, pair.baseline)):
        held, told = found.get((record.prompt, record.role), [0, 0, 0]), [record.num_steps, len(record.tokens), record.num_drafted]
        if held != told:
            said = "{} steps, {} tokens, {} drafted"
            wrong.append(f"prompt {record.prompt} ({record.role}) has {said.format(*held)} there and {said.format(*told)} in records.jsonl")
    return f"{UNBALANCED}: {wrong[0]}" + (f", and {len(wrong) - 1} more" if wrong[1:] else "") if wrong else None
